# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import io
import json

import pytest
import yaml
from ansible.module_utils import basic
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import SYSCTL_NAMES
from ansible_collections.metalfleet.gpustack.plugins.modules import apple_silicon_facts
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost

LOG = b"ggml_metal_init: recommendedMaxWorkingSetSize  = 24000.00 MB\n"


class Host(MemoryHost):
    """A Mac whose files were written after its boot at second 0, and whose commands note their time limit."""

    time_limits: tuple[float | None, ...] = ()

    def run(self, argv, timeout_seconds=None):
        self.time_limits = (*self.time_limits, timeout_seconds)
        return super().run(argv)

    def status(self, path):
        status = super().status(path)
        return status and status._replace(mtime_ns=10**9)


@pytest.fixture
def host(fixtures_dir, monkeypatch):
    folder = fixtures_dir / "hardware" / "synthetic_m5_32gb"
    sysctl = (folder / "sysctl.txt").read_text("utf-8").replace("sec = 1750000000,", "sec = 0,")
    profiler = ("/usr/sbin/system_profiler", "-json", "SPHardwareDataType", "SPDisplaysDataType")
    host = Host(
        commands={
            ("/usr/sbin/sysctl", *SYSCTL_NAMES): CommandResult(1, sysctl, ""),
            profiler: CommandResult(0, (folder / "system_profiler.json").read_text("utf-8"), ""),
            ("/usr/bin/sw_vers", "-productVersion"): CommandResult(0, "26.5.2\n", ""),
        },
        uid=501,
    )
    monkeypatch.setattr(apple_silicon_facts, "Host", lambda: host)
    return host


@pytest.fixture
def run(monkeypatch):
    def run_module(**options):
        arguments = {"ANSIBLE_MODULE_ARGS": {"_ansible_remote_tmp": "/tmp", "_ansible_keep_remote_files": False, **options}}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(arguments).encode())
        # From ansible-core 2.19 on, arguments come with the name of their serialization.
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        output = io.StringIO()
        with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as ended:
            apple_silicon_facts.main()
        result = json.loads(output.getvalue())
        assert bool(ended.value.code) is bool(result.get("failed"))
        return result

    return run_module


EXPECTED = {
    "is_apple_silicon": True,
    "chip": "Apple M5",
    "family": "M5",
    "generation": 5,
    "tier": "base",
    "model_identifier": "Mac17,2",
    "core_levels": [{"name": "Super", "cores": 4}, {"name": "Efficiency", "cores": 6}],
    "performance_cores": 4,
    "efficiency_cores": 6,
    "gpu_cores": 10,
    "memory_bytes": 32 * 1024**3,
    "working_set_bytes": 26113409024,
    "working_set_source": "estimated",
    "wired_limit_mib": 0,
    "metal": "metal4",
    "macos_version": "26.5.2",
    "is_virtual": False,
    "is_translated": False,
    "warnings": [],
}


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.usefixtures("host")
def test_only_facts_are_returned_in_check_mode_too(run, check_mode):
    result = run(_ansible_check_mode=check_mode)
    # ansible-core before 2.21 adds what it was called with.
    result.pop("invocation", None)
    assert result == {"changed": False, "ansible_facts": {"apple_silicon": EXPECTED}}


def test_log_paths_are_where_logs_are_looked_for(run, host):
    host._put("/data/log/serve/1.log", MemoryFile(LOG))
    assert facts(run())["working_set_source"] == "estimated"
    measured = facts(run(log_paths=["/data/log"]))
    assert (measured["working_set_source"], measured["working_set_bytes"]) == ("measured", 24000004096)


@pytest.mark.parametrize("folder", ["/var/lib/gpustack/log", "/Library/Application Support/GPUStack/log"])
def test_the_defaults_of_log_paths(run, host, folder):
    host._put(f"{folder}/rpc_server/gpu-0.log", MemoryFile(LOG))
    assert facts(run())["working_set_source"] == "measured"
    assert facts(run(log_paths=[]))["working_set_source"] == "estimated"


def test_gather_timeout_seconds_limits_every_command(run, host):
    run(gather_timeout_seconds=2.5)
    run()
    assert host.time_limits == (2.5,) * 3 + (30.0,) * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gather_timeout_seconds": 0}, "gather_timeout_seconds is 0, and it must be more than 0"),
        ({"log_paths": ["log"]}, "log_paths has the relative path 'log', and only absolute ones name the same file in every run"),
    ],
)
@pytest.mark.usefixtures("host")
def test_bad_input_is_a_failure_with_its_reason(run, options, message):
    result = run(**options)
    assert (result["failed"], result["msg"]) == (True, message)


def test_linux_is_no_failure(run, monkeypatch):
    monkeypatch.setattr(apple_silicon_facts, "Host", lambda: MemoryHost(system="Linux", machine="x86_64"))
    linux = facts(run())
    assert linux.pop("warnings") == ["this host runs Linux; Apple hardware is looked for on macOS only"]
    assert linux.pop("is_apple_silicon") is False
    assert set(linux.values()) == {None}


def test_every_fact_is_documented_with_its_type():
    documented = yaml.safe_load(apple_silicon_facts.RETURN)["ansible_facts"]["contains"]["apple_silicon"]["contains"]
    assert list(documented) == list(EXPECTED)
    types = {"bool": bool, "str": str, "int": int, "list": list}
    for name, value in EXPECTED.items():
        # Not isinstance(): a bool is an int, too.
        found = {value.__class__, documented[name]["sample"].__class__}
        assert found == {types[documented[name]["type"]]}, name
        assert documented[name]["description"]


def facts(result):
    return result["ansible_facts"]["apple_silicon"]
