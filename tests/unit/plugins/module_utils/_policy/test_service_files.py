# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import plistlib

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import service_files
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.service_files import Command, Settings


def test_a_plist_of_install_sh(fixtures_dir: pathlib.Path) -> None:
    content = plistlib.loads((fixtures_dir / "installation" / "synthetic_script.plist").read_bytes())
    command = service_files.plist_command(content)
    assert command is not None
    assert command.program == "/Users/synthetic/.local/bin/gpustack"
    assert command.arguments[:3] == ("start", "--server-url", "http://10.0.0.1")
    assert command.working_directory == "/"
    assert set(service_files.plist_environment(content)) == {"HF_TOKEN", "GGML_METAL_NO_RESIDENCY"}


def test_the_plist_of_the_desktop_package(captures_dir: pathlib.Path) -> None:
    content = plistlib.loads((captures_dir / "launchctl" / "ai.gpustack.plist_desktop_0.7.1.xml").read_bytes())
    command = service_files.plist_command(content)
    assert command is not None
    assert command.program == "/Applications/GPUStack.app/Contents/MacOS/gpustack"
    environment = service_files.plist_environment(content)
    assert list(environment) == ["HOME"]
    folder = "/Library/Application Support/GPUStack"
    assert service_files.settings(command, environment, {}) == Settings(folder, f"{folder}/bin", f"{folder}/config.yaml", None)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, None),
        ({"ProgramArguments": []}, None),
        ({"ProgramArguments": "/bin/gpustack start"}, None),
        ({"ProgramArguments": ["/bin/gpustack", 1, "start"]}, Command("/bin/gpustack", ("start",))),
        ({"Program": "/bin/gpustack", "ProgramArguments": ["shown-name", "start"]}, Command("/bin/gpustack", ("start",))),
        ({"Program": "/bin/gpustack"}, Command("/bin/gpustack")),
        ({"Program": "/bin/gpustack", "WorkingDirectory": "/srv"}, Command("/bin/gpustack", (), "/srv")),
        ({"Program": "/bin/gpustack", "WorkingDirectory": 1}, Command("/bin/gpustack")),
    ],
)
def test_plist_command(content: dict[str, object], expected: Command | None) -> None:
    assert service_files.plist_command(content) == expected


def test_an_environment_that_is_none() -> None:
    assert service_files.plist_environment({"EnvironmentVariables": ["A=1"]}) == {}
    assert service_files.plist_environment({"EnvironmentVariables": {"A": 1, "B": "2"}}) == {"B": "2"}


def test_bare_ampersands_are_named_and_escaped(fixtures_dir: pathlib.Path) -> None:
    data = (fixtures_dir / "installation" / "synthetic_script_bare_ampersand.plist").read_bytes()
    assert service_files.bare_ampersand_lines(data) == [12, 18]
    content = plistlib.loads(service_files.escape_ampersands(data))
    assert content["EnvironmentVariables"]["HF_TOKEN"] == "a&b"


def test_escaped_ampersands_stay() -> None:
    data = b"&amp; &lt; &gt; &quot; &apos; &#38; &#x26;"
    assert service_files.escape_ampersands(data) == data
    assert service_files.bare_ampersand_lines(data) == []
    assert service_files.escape_ampersands(b"&nbsp; & &#; x&y") == b"&amp;nbsp; &amp; &amp;#; x&amp;y"


def test_a_unit_of_install_sh(fixtures_dir: pathlib.Path) -> None:
    texts = [(fixtures_dir / "installation" / "synthetic_gpustack.service").read_text()]
    command = service_files.unit_command(texts, "gpustack.service")
    assert command is not None
    assert command.program == "/root/.local/bin/gpustack"
    assert service_files.option(command.arguments, "data-dir") == "/srv/gpu stack"
    assert "it's one" in command.arguments
    assert service_files.settings(command, {}, {}) == Settings("/srv/gpu stack", "/srv/gpu stack/bin", None, 10150)
    assert service_files.unit_environment_files(texts, "gpustack.service") == ["/etc/default/gpustack"]
    assert service_files.unit_environment_files(texts, "gpu-b.service") == ["/etc/default/gpu-b"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], None),
        (["[Service]\nType=simple\n"], None),
        (["[Unit]\nExecStart=/bin/a\n"], None),
        (["[Service]\n# ExecStart=/bin/a\n; ExecStart=/bin/a\n"], None),
        (["[Service]\nExecStart=/bin/a \\\n# a comment in between\n  --port \\\n 1\n"], Command("/bin/a", ("--port", "1"))),
        (["[Service]\nExecStart='/opt/my gpustack' a\\x20b \"c d\"\n"], Command("/opt/my gpustack", ("a b", "c d"))),
        (["[Service]\nExecStart=/bin/a x\\"], Command("/bin/a", ("x",))),
        # Two backslashes are one character and no continuation.
        (["[Service]\nExecStart=/bin/a b \\\\\nWorkingDirectory=/srv\n"], Command("/bin/a", ("b", "\\"), "/srv")),
        # No line ends for systemd: form feed, Unicode's line separator. But NUL and a lone carriage return are.
        (["[Service]\nExecStart=/bin/a x\fy\u2028z\n"], Command("/bin/a", ("x\fy\u2028z",))),
        (["[Service]\rExecStart=/bin/a x\0WorkingDirectory=/srv\n\r"], Command("/bin/a", ("x",), "/srv")),
        (["\ufeff[Service]\n ExecStart = /bin/a x\n"], Command("/bin/a", ("x",))),
        (["[ Service ]\nExecStart=/bin/a x\n"], None),
        (["[Service]\nExecStart=/bin/a\n", "[Service]\nExecStart=\nExecStart=/bin/b x\n"], Command("/bin/b", ("x",))),
        (["[Service]\nExecStart=/bin/a\n", "[Service]\nExecStart=\n"], None),
        (["[Service]\nExecStart=-!/bin/a x\n"], Command("/bin/a", ("x",))),
        (["[Service]\nExecStart=@/bin/a shown-name x\n"], Command("/bin/a", ("x",))),
        (["[Service]\nExecStart=/opt/%p/%N/%n 100%%\n"], Command("/opt/gpustack/gpustack@b/gpustack@b.service", ("100%",))),
        (["[Service]\nExecStart=/bin/a\nWorkingDirectory=-/srv/%p\n"], Command("/bin/a", (), "/srv/gpustack")),
        (["[Service]\nExecStart=/bin/a\nWorkingDirectory=~\n"], Command("/bin/a")),
        (["[Service]\nExecStart=/bin/a\nWorkingDirectory=X/srv\n"], Command("/bin/a")),
    ],
)
def test_unit_command(texts: list[str], expected: Command | None) -> None:
    assert service_files.unit_command(texts, "gpustack@b.service") == expected


@pytest.mark.parametrize(
    ("unit_name", "expected"),
    [("gpu.b.service", "gpu.b gpu.b"), ("gpu.b@c.service", "gpu.b@c gpu.b"), ("gpu@b@c.service", "gpu@b@c gpu")],
)
def test_the_names_of_a_unit(unit_name: str, expected: str) -> None:
    command = service_files.unit_command(["[Service]\nExecStart=/bin/a %N %p\n"], unit_name)
    assert command is not None
    assert " ".join(command.arguments) == expected


def test_only_a_dash_is_no_part_of_the_path_of_an_environment_file() -> None:
    texts = ["[Service]\nEnvironmentFile=-/etc/a\nEnvironmentFile=X/etc/b\n"]
    assert service_files.unit_environment_files(texts, "gpustack.service") == ["/etc/a", "X/etc/b"]


def test_the_environment_of_a_unit() -> None:
    texts = ['[Service]\nEnvironment=A=1 "B=two words" nonsense\nEnvironment=\n', "[Service]\nEnvironment='C=%N' D=x=y\n"]
    assert service_files.unit_environment(texts, "gpustack.service") == {"C": "gpustack", "D": "x=y"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], None),
        (["start", "--data-dir", "/a"], "/a"),
        (["--data-dir=/a", "--data-dir", "/b"], "/b"),
        (["--data-dir="], ""),
        (["--data-dir"], None),
        (["--data-d", "/a"], "/a"),
        (["--data", "/a"], None),
        (["--database-url", "/a"], None),
        (["-data-dir", "/a"], None),
        (["data-dir", "/a"], None),
    ],
)
def test_option(arguments: list[str], expected: str | None) -> None:
    assert service_files.option(arguments, "data-dir") == expected


def test_config_values(fixtures_dir: pathlib.Path) -> None:
    text = (fixtures_dir / "installation" / "synthetic_config.yaml").read_text()
    values, unclear = service_files.config_values(text)
    assert values == {"data_dir": "/Volumes/fast/gpustack", "bin_dir": "/Volumes/fast/bin", "port": "8080"}
    assert unclear == []


@pytest.mark.parametrize(
    ("text", "values", "unclear"),
    [
        ("data_dir: /a # b\n", {"data_dir": "/a"}, []),
        ("data_dir: /a#b\n", {"data_dir": "/a#b"}, []),
        ('"data_dir" : /a\n', {"data_dir": "/a"}, []),
        ("data_dir:\ndata_dir: ~\ndata_dir: null\ndata_dir: # nothing\n", {}, []),
        ("data_dir:/a\n", {}, []),
        ("data_dir: |\n  /a\nbin_dir: *x\n", {}, ["data_dir", "bin_dir"]),
        ("data_dir: Xserve/a\n", {"data_dir": "Xserve/a"}, []),
        ("data_dir: '/a\n", {}, ["data_dir"]),
        ("data_dir: ''\n", {"data_dir": ""}, []),
        ('data_dir: "/a" # not "/b"\n', {"data_dir": "/a"}, []),
        ('data_dir: "\\x41"\n', {}, ["data_dir"]),
    ],
)
def test_config_values_that_are_not_plain(text: str, values: dict[str, str], unclear: list[str]) -> None:
    assert service_files.config_values(text) == (values, unclear)


def test_config_lines() -> None:
    text = "# MY_VAR: 1\nenv:\n  MY_VAR: 1\n  OTHER_MY_VAR: 1\nx: y # MY_VAR\nlist: [MY_VAR=1]\n"
    assert service_files.config_lines(text, "MY_VAR") == [3, 6]


@pytest.mark.parametrize(
    ("arguments", "environment", "config", "port"),
    [
        (("start", "--worker-port", "1"), {"GPUSTACK_WORKER_PORT": "2"}, {"worker_port": "3"}, 1),
        (("start", "--worker-p=1"), {"GPUSTACK_WORKER_PORT": "2"}, {"worker_port": "3"}, 1),
        (("start", "--worker-", "1", "--port", "4"), {"GPUSTACK_WORKER_PORT": "2"}, {"worker_port": "3"}, 2),
        (("start",), {"GPUSTACK_PORT": "2"}, {"port": "4", "worker_port": "3"}, 3),
        (("start",), {}, {"port": "4"}, None),
    ],
)
def test_the_port_of_the_worker(arguments: tuple[str, ...], environment: dict[str, str], config: dict[str, str], port: int | None) -> None:
    assert service_files.settings(Command("/bin/gpustack", arguments), environment, config).worker_port == port
    text = "".join(f"{key}: {value}\n" for key, value in config.items())
    assert service_files.config_values(text) == (config, [])


def test_settings_by_rank() -> None:
    environment = {"GPUSTACK_DATA_DIR": "/env", "GPUSTACK_PORT": "81", "GPUSTACK_CONFIG_FILE": "conf.yaml"}
    config = {"data_dir": "/yaml", "bin_dir": "/yaml/bin", "port": "82"}
    command = Command("/bin/gpustack", ("start", "--data-dir=/cli/../cli", "--port", "80"), "/srv")
    assert service_files.settings(command, environment, config) == Settings("/cli", "/yaml/bin", "/srv/conf.yaml", 80)
    bare = Command("/bin/gpustack", (), "/srv")
    assert service_files.settings(bare, environment, config) == Settings("/env", "/yaml/bin", "/srv/conf.yaml", 81)
    assert service_files.settings(bare, {"GPUSTACK_BIN_DIR": "rel"}, {"port": "many"}) == Settings(
        "/var/lib/gpustack", "/srv/rel", None, None
    )
    assert service_files.settings(Command("/bin/gpustack", ("--config=/a.yaml",)), {}, {}).config_file == "/a.yaml"
