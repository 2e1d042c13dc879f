# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation, find_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.systemd import PROPERTIES
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import CommandTimeoutError
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost
from ansible_collections.metalfleet.gpustack.tests.unit.installations import (
    APPLICATION,
    DESKTOP_PLIST,
    PLIST,
    SECRETS,
    SHOW,
    UNIT,
    fixture,
    script_mac,
    shown,
    shy,
    systemd_linux,
    venv_files,
)

MAC_VENV = "/Users/synthetic/.local/pipx/venvs/gpustack"
MAC_SITE = f"{MAC_VENV}/lib/python3.11/site-packages"
LINUX_VENV = "/root/.local/pipx/venvs/gpustack"
LINUX_SITE = f"{LINUX_VENV}/lib/python3.11/site-packages"


def test_a_script_installation_on_macos() -> None:
    assert find_installation(script_mac()) == Installation(
        kind="script",
        service_manager="launchd",
        label_or_unit="ai.gpustack",
        plist_path=PLIST,
        plist_file=PLIST,
        program="/Users/synthetic/.local/bin/gpustack",
        venv=MAC_VENV,
        site_packages=MAC_SITE,
        third_party_bin=f"{MAC_SITE}/gpustack/third_party/bin",
        gpustack_version="0.6.2",
        data_dir="/var/lib/gpustack",
        bin_dir="/var/lib/gpustack/bin",
        environment_file="/etc/default/gpustack",
    )


def desktop_mac(plist: bytes) -> MemoryHost:
    host = MemoryHost(files={DESKTOP_PLIST: plist, f"{APPLICATION}/Contents/Frameworks/gpustack/third_party/bin/versions.json": b"{}"})
    host.link(PLIST, DESKTOP_PLIST)
    return host


def test_the_desktop_package(captures_dir: pathlib.Path) -> None:
    plist = (captures_dir / "launchctl" / "ai.gpustack.plist_desktop_0.7.1.xml").read_bytes()
    host = desktop_mac(plist)
    config = "/Library/Application Support/GPUStack/config.yaml"
    host.files[config] = MemoryFile(b"data_dir: /elsewhere\nport: 9999\n")
    found = find_installation(host)
    assert (found.kind, found.plist_path, found.plist_file) == ("desktop", PLIST, DESKTOP_PLIST)
    assert found.program == f"{APPLICATION}/Contents/MacOS/gpustack"
    # The command line wins over the YAML file, which still gives what the command line does not.
    assert (found.data_dir, found.config_file, found.port) == ("/Library/Application Support/GPUStack", config, 9999)
    assert found.third_party_bin == f"{APPLICATION}/Contents/Frameworks/gpustack/third_party/bin"


def test_a_link_that_leads_elsewhere_is_no_desktop_package() -> None:
    host = MemoryHost(files={"/opt/dotfiles/ai.gpustack.plist": fixture("synthetic_script.plist")})
    host.link(PLIST, "/opt/dotfiles/ai.gpustack.plist")
    assert find_installation(host).kind == "script"


def test_a_dead_link() -> None:
    host = MemoryHost()
    host.link(PLIST, DESKTOP_PLIST)
    found = find_installation(host)
    assert (found.kind, found.program) == ("desktop", None)
    assert found.warnings == (f"{PLIST} is a link to {DESKTOP_PLIST}, which does not exist: GPUStack cannot start",)


def test_an_application_that_was_never_started() -> None:
    host = MemoryHost(files={f"{APPLICATION}/Contents/Frameworks/gpustack/third_party/x": b""})
    found = find_installation(host)
    assert (found.kind, found.plist_path) == ("desktop", None)
    assert found.third_party_bin is not None
    assert "has never made its service" in found.warnings[0]
    assert find_installation(host, "ai.gpustack-b").kind == "none"


def test_both_kinds_at_once() -> None:
    host = script_mac()
    host.folders.add(APPLICATION)
    found = find_installation(host)
    assert found.kind == "script"
    assert "remove one" in found.warnings[0]


def test_nothing_installed() -> None:
    mac = find_installation(MemoryHost())
    assert mac == Installation("none", "launchd", "ai.gpustack")
    linux = find_installation(MemoryHost(system="Linux"))
    assert linux == Installation("none", None, "gpustack.service", unit_name="gpustack.service")


def test_another_label() -> None:
    plist = fixture("synthetic_script.plist").replace(b"<string>ai.gpustack<", b"<string>ai.gpustack-b<")
    host = MemoryHost(files={**venv_files("/Users/synthetic", "0.7.1"), "/Library/LaunchDaemons/ai.gpustack-b.plist": plist})
    assert find_installation(host).kind == "none"
    found = find_installation(host, "ai.gpustack-b")
    assert (found.kind, found.label_or_unit, found.warnings) == ("script", "ai.gpustack-b", ())


def test_a_wrong_label_in_the_list() -> None:
    found = find_installation(script_mac(plist=fixture("synthetic_script.plist").replace(b"<string>ai.gpustack<", b"<string>other<")))
    assert found.warnings == (f"{PLIST} has the label 'other', not 'ai.gpustack': launchd loads it under that name",)


def test_an_unescaped_ampersand_is_said_and_read_all_the_same() -> None:
    found = find_installation(script_mac(plist=fixture("synthetic_script_bare_ampersand.plist")))
    assert (found.kind, found.gpustack_version) == ("script", "0.6.2")
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith(f"{PLIST} is not valid XML: line 12, 18 holds an `&` that install.sh did not escape")
    assert found.warnings[0].endswith("write `&amp;` there")


@pytest.mark.parametrize("plist", [b"", b"garbage", b"bplist00", b"<plist><string>x</string></plist>", b"\xff\xfe", b"<plist><dict><key>"])
def test_a_list_that_is_garbage(plist: bytes) -> None:
    found = find_installation(script_mac(plist=plist))
    assert (found.kind, found.program) == ("script", None)
    assert len(found.warnings) == 1


def test_garbage_with_an_ampersand() -> None:
    found = find_installation(script_mac(plist=b"<plist><dict><key>&"))
    assert len(found.warnings) == 2
    assert found.warnings[1].startswith("besides the `&`: ")


def test_a_list_without_a_program() -> None:
    plist = b"<plist version='1.0'><dict><key>Label</key><string>ai.gpustack</string></dict></plist>"
    assert find_installation(script_mac(plist=plist)).warnings == (f"{PLIST} names no program, so launchd has nothing to start",)


def test_a_list_that_may_not_be_read() -> None:
    host = script_mac()
    host.unreadable.add(PLIST)
    found = find_installation(host)
    assert (found.kind, found.warnings) == ("script", (f"{PLIST} cannot be read: Permission denied",))


def test_a_folder_that_may_not_be_looked_at() -> None:
    found = find_installation(shy(script_mac(), "/Library/LaunchDaemons"))
    assert found.kind == "none"
    assert found.warnings == (f"{PLIST} cannot be examined: Permission denied",)


def test_what_may_not_be_looked_at_is_not_said_to_be_gone() -> None:
    host = MemoryHost(files={DESKTOP_PLIST: b""})
    host.link(PLIST, DESKTOP_PLIST)
    warnings = find_installation(shy(host, "/Library/Application Support")).warnings
    assert warnings
    assert not any("does not exist" in warning for warning in warnings)
    linux = systemd_linux(unit=b"[Service]\nExecStart=/root/.local/bin/gpustack start --config-file /srv/c.yaml\n")
    assert not any("does not exist" in warning for warning in find_installation(shy(linux, "/srv")).warnings)


def test_a_systemd_installation() -> None:
    host = systemd_linux()
    host.commands[SHOW] = CommandResult(0, shown().stdout + "EnvironmentFiles=/etc/default/gpustack (ignore_errors=yes)\n", "")
    assert find_installation(host) == Installation(
        kind="systemd",
        service_manager="systemd",
        label_or_unit="gpustack.service",
        unit_name="gpustack.service",
        unit_path=UNIT,
        environment_files=("/etc/default/gpustack",),
        program="/root/.local/bin/gpustack",
        venv=LINUX_VENV,
        site_packages=LINUX_SITE,
        third_party_bin=f"{LINUX_SITE}/gpustack/third_party/bin",
        gpustack_version="0.6.2",
        data_dir="/srv/gpu stack",
        bin_dir="/srv/gpu stack/bin",
        port=10150,
    )


def test_the_environment_file_can_move_the_folders() -> None:
    host = systemd_linux(
        unit=b"[Service]\nEnvironment=GPUSTACK_PORT=81\nEnvironmentFile=-/etc/default/%N\nExecStart=/root/.local/bin/gpustack start\n"
    )
    host.files["/etc/default/gpustack"] = MemoryFile(b"GPUSTACK_BIN_DIR='/srv/b'\nGPUSTACK_DISABLE_DYNAMIC_LINK_LLAMA_BOX=1\n")
    found = find_installation(host)
    assert (found.data_dir, found.bin_dir, found.port, found.static_llama_box) == ("/var/lib/gpustack", "/srv/b", 81, True)
    host.unreadable.add("/etc/default/gpustack")
    assert find_installation(host).warnings == ("/etc/default/gpustack cannot be read: Permission denied",)


def test_drop_ins_change_what_is_started() -> None:
    drop_in = f"{UNIT}.d/10-local.conf"
    host = systemd_linux(DropInPaths=drop_in)
    host.files[drop_in] = MemoryFile(
        b"[Service]\nExecStart=\nExecStart=/root/.local/bin/gpustack start --bin-dir=/srv/c\nEnvironmentFile=/etc/gpustack.env\n"
    )
    found = find_installation(host)
    assert (found.bin_dir, found.drop_in_paths) == ("/srv/c", (drop_in,))
    assert found.environment_files == ("/etc/default/gpustack", "/etc/gpustack.env")


def test_an_environment_file_that_the_unit_does_not_read() -> None:
    found = find_installation(systemd_linux(), environment_file="/etc/gpustack.env")
    assert found.environment_file == "/etc/gpustack.env"
    assert found.warnings == ("gpustack.service does not read /etc/gpustack.env: it has no EnvironmentFile= line for it",)


@pytest.mark.parametrize(
    ("pattern", "path", "is_read"),
    [
        ("/etc/default/gpu*", "/etc/default/gpustack", True),
        ("/etc/default/gpustac[kx]", "/etc/default/gpustack", True),
        ("/etc/default/gpu?tack", "/etc/default/gpustack", True),
        ("/etc/default/*.env", "/etc/default/gpustack", False),
        ("/etc/gpu*", "/etc/default/gpustack", False),
        ("/etc/default/gpustack", "/etc/default/gpustack2", False),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_an_environment_file_that_a_pattern_names(pattern: str, path: str, is_read: bool, exists: bool) -> None:
    unit = f"[Service]\nEnvironmentFile=-{pattern}\nExecStart=/root/.local/bin/gpustack start\n"
    host = systemd_linux(unit=unit.encode())
    if exists:
        host._put(path, MemoryFile(b""))
    warning = f"gpustack.service does not read {path}: it has no EnvironmentFile= line for it"
    assert (warning not in find_installation(host, environment_file=path).warnings) == is_read


def test_what_files_that_a_pattern_names_set_counts() -> None:
    host = systemd_linux(unit=b"[Service]\nEnvironmentFile=/etc/default/gpu*\nExecStart=/root/.local/bin/gpustack start\n")
    host._put("/etc/default/gpustack", MemoryFile(b"GPUSTACK_BIN_DIR=/srv/b\n"))
    assert find_installation(host).bin_dir == "/srv/b"
    host.unreadable.add("/etc/default")
    found = find_installation(host)
    assert (found.bin_dir, found.warnings) == ("/var/lib/gpustack/bin", ("/etc/default cannot be listed: Permission denied",))


def test_another_unit() -> None:
    unit = b"[Service]\nEnvironmentFile=/etc/default/gpustack\nExecStart=/root/.local/bin/gpustack start\n"
    path = "/etc/systemd/system/gpu-b.service"
    host = MemoryHost(system="Linux", files={**venv_files("/root", "0.7.1"), path: unit})
    host.commands[("systemctl", "--no-pager", "show", "gpu-b.service", "-p", PROPERTIES)] = shown(FragmentPath=path)
    for name in ("gpu-b", "gpu-b.service"):
        found = find_installation(host, name)
        assert (found.kind, found.label_or_unit, found.unit_path) == ("systemd", "gpu-b.service", path)


def test_a_unit_without_a_program() -> None:
    found = find_installation(systemd_linux(unit=b"[Service]\nEnvironmentFile=/etc/default/gpustack\n"))
    assert (found.kind, found.program) == ("systemd", None)
    assert found.warnings == (f"{UNIT} names no program in ExecStart=, so systemd has nothing to start",)


def test_a_masked_unit() -> None:
    host = MemoryHost(system="Linux", commands={SHOW: shown(LoadState="masked")})
    host.link(UNIT, "/dev/null")
    found = find_installation(host)
    assert (found.kind, found.unit_path) == ("systemd", UNIT)
    assert found.warnings == ("gpustack.service is masked, so it cannot be started; run `systemctl unmask gpustack.service`",)


def test_no_unit() -> None:
    host = MemoryHost(system="Linux", commands={SHOW: shown(LoadState="not-found", FragmentPath="")})
    assert find_installation(host) == Installation("none", "systemd", "gpustack.service", unit_name="gpustack.service")
    # A drop-in for every service makes no unit of this one.
    drop_in = "/etc/systemd/system/service.d/all.conf"
    host.files[drop_in] = MemoryFile(b"")
    host.commands[SHOW] = shown(LoadState="not-found", FragmentPath="", DropInPaths=drop_in)
    assert find_installation(host).kind == "none"


@pytest.mark.parametrize(
    ("answer", "warning"),
    [
        (CommandTimeoutError("systemctl did not end within 30 seconds and was killed"), f"{UNIT} is there, but systemctl did not end"),
        (CommandResult(1, "", "System has not been booted with systemd\n"), f"{UNIT} is there, but systemctl show gpustack.service failed"),
        (shown(LoadState="not-found", FragmentPath=""), "run `systemctl daemon-reload`"),
    ],
)
def test_systemd_that_does_not_know(answer: CommandResult | Exception, warning: str) -> None:
    host = systemd_linux()
    drop_in = f"{UNIT}.d/10-local.conf"
    host._put(drop_in, MemoryFile(b"[Service]\nEnvironment=GPUSTACK_PORT=1\n"))
    host.commands[SHOW] = answer
    found = find_installation(host)
    assert (found.kind, found.unit_path, found.drop_in_paths) == ("systemd", UNIT, (drop_in,))
    assert warning in found.warnings[0]


def test_systemd_that_does_not_answer_and_no_file() -> None:
    host = MemoryHost(system="Linux", commands={SHOW: CommandTimeoutError("systemctl hung")})
    found = find_installation(host)
    assert (found.kind, found.service_manager, found.warnings) == ("none", "systemd", ("systemctl hung",))


@pytest.mark.parametrize(
    ("data", "warning"),
    [
        (None, "/c.yaml, named by --config-file, does not exist: GPUStack cannot start"),
        (b"bin_dir: |\n  /x\n", "/c.yaml: the value of bin_dir is not a plain one-line text"),
    ],
)
def test_a_config_file_that_is_missing_or_not_plain(data: bytes | None, warning: str) -> None:
    host = systemd_linux(
        unit=b"[Service]\nEnvironmentFile=/etc/default/gpustack\nExecStart=/root/.local/bin/gpustack start --config-file /c.yaml\n"
    )
    if data is not None:
        host.files["/c.yaml"] = MemoryFile(data)
    found = find_installation(host)
    assert found.config_file == "/c.yaml"
    assert warning in found.warnings[0]


@pytest.mark.parametrize("host", [script_mac(), systemd_linux()])
def test_nothing_secret_is_returned(host: MemoryHost) -> None:
    text = repr(find_installation(host).as_dict())
    assert not any(secret in text for secret in SECRETS)


def test_as_dict_holds_plain_values() -> None:
    values = find_installation(systemd_linux(DropInPaths="")).as_dict()
    assert values["environment_files"] == ["/etc/default/gpustack"]
    assert {type(value).__name__ for value in values.values()} == {"str", "list", "int", "bool", "NoneType"}
