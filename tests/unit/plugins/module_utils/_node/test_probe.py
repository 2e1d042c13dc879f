# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.probe import (
    DEFAULT_LOG_PATHS,
    read_hardware,
    read_is_virtual,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import (
    BadInputError,
    CommandMissingError,
    CommandTimeoutError,
    HostError,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import SYSCTL_NAMES, VIRTUAL_NAMES, Hardware
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost

SYSCTL = ("/usr/sbin/sysctl", *SYSCTL_NAMES)
SYSTEM_PROFILER = ("/usr/sbin/system_profiler", "-json", "SPHardwareDataType", "SPDisplaysDataType")
SW_VERS = ("/usr/bin/sw_vers", "-productVersion")
BOOT_SECONDS = 1_750_000_000
SERVE_LOG = "/var/lib/gpustack/log/serve/1.log"
RPC_LOG = "/var/lib/gpustack/log/rpc_server/gpu-0.log"
DESKTOP_LOG = "/Library/Application Support/GPUStack/log/rpc_server/gpu-0.log"


class Mac(MemoryHost):
    """A Mac from a folder of fixtures, whose files have a time and whose commands note their time limit."""

    def __init__(self, folder, **more):
        system, machine = (folder / "uname.txt").read_text("utf-8").split()
        super().__init__(
            system=system,
            machine=machine,
            commands={
                SYSCTL: CommandResult(1, (folder / "sysctl.txt").read_text("utf-8"), "sysctl: unknown oid 'hw.perflevel2.name'\n"),
                SYSTEM_PROFILER: CommandResult(0, (folder / "system_profiler.json").read_text("utf-8"), "noise\n"),
                SW_VERS: CommandResult(0, (folder / "sw_vers.txt").read_text("utf-8"), ""),
            },
            **more,
        )
        self.modified = {}
        self.sizes = {}
        self.refused = set()
        self.time_limits = []
        self.reads = []

    def run(self, argv, timeout_seconds=None):
        self.time_limits.append(timeout_seconds)
        return super().run(argv)

    def write_log(self, path, megabytes, modified_seconds=BOOT_SECONDS + 100):
        self._put(path, MemoryFile(f"ggml_metal_init: recommendedMaxWorkingSetSize  = {megabytes} MB\n".encode()))
        self.modified[path] = modified_seconds

    def status(self, path):
        if path in self.refused:
            raise HostError(f"{path} cannot be examined: Permission denied")
        status = super().status(path)
        if status is None:
            return None
        size_bytes = self.sizes.get(path, status.size_bytes)
        return status._replace(mtime_ns=int(self.modified.get(path, 0) * 1e9), size_bytes=size_bytes)

    def read(self, path, limit_bytes=None):
        self.reads.append((path, limit_bytes))
        return super().read(path)


@pytest.fixture
def mac(fixtures_dir):
    """32 GiB, no wired limit: the working set may come from a log."""
    return Mac(fixtures_dir / "hardware" / "synthetic_m5_32gb")


ESTIMATED = (26113409024, "estimated")
LOGGED_MEGABYTES = 24000
MEASURED = (24000004096, "measured")


def working_set(hardware):
    return hardware.working_set_bytes, hardware.working_set_source


def test_each_tool_is_run_once_and_by_its_full_path(mac):
    hardware = read_hardware(mac)
    assert mac.calls == [SYSCTL, SYSTEM_PROFILER, SW_VERS]
    assert (hardware.chip, hardware.gpu_cores, hardware.macos_version, hardware.warnings) == ("Apple M5", 10, "26.5.2", ())


@pytest.mark.parametrize("missing", [(), (SYSCTL,), (SYSTEM_PROFILER,), (SW_VERS,), (SYSCTL, SYSTEM_PROFILER, SW_VERS)])
@pytest.mark.parametrize("error", [CommandMissingError("it does not exist"), CommandTimeoutError("it hangs"), CommandResult(1, "", "")])
@pytest.mark.parametrize("has_log", [True, False])
def test_no_tool_is_run_twice_whatever_fails(mac, missing, error, has_log):
    if has_log:
        mac.write_log(SERVE_LOG, LOGGED_MEGABYTES)
    for argv in missing:
        mac.commands[argv] = error
    read_hardware(mac)
    assert [argv[0] for argv in mac.calls] == ["/usr/sbin/sysctl", "/usr/sbin/system_profiler", "/usr/bin/sw_vers"]


def test_the_architecture_of_the_process_is_used(fixtures_dir):
    assert read_hardware(Mac(fixtures_dir / "hardware" / "synthetic_m1_rosetta_16gb")).is_translated is True


def test_nothing_is_run_outside_macos():
    host = MemoryHost(system="Linux", machine="aarch64")
    warning = "this host runs Linux; Apple hardware is looked for on macOS only"
    assert read_hardware(host) == Hardware(is_apple_silicon=False, warnings=(warning,))
    assert host.calls == []


def test_time_limits(mac):
    read_hardware(mac, timeout_seconds=7.5)
    read_hardware(mac)
    assert mac.time_limits == [7.5] * 3 + [30.0] * 3


@pytest.mark.parametrize(
    ("argv", "lost"),
    [
        (SYSCTL, ["core_levels", "efficiency_cores", "performance_cores", "wired_limit_mib"]),
        (SYSTEM_PROFILER, ["gpu_cores", "metal"]),
        (SW_VERS, []),
    ],
)
@pytest.mark.parametrize("error", [CommandMissingError("it does not exist"), CommandTimeoutError("it hangs"), HostError("no")])
def test_a_tool_that_fails_is_a_warning(mac, argv, lost, error):
    mac.commands[argv] = error
    hardware = read_hardware(mac)
    assert hardware.warnings[0] == str(error)
    assert sorted(field for field, value in hardware.as_dict().items() if value is None) == sorted(lost)
    assert hardware.macos_version == "26.5.2"


@pytest.mark.parametrize(
    ("argv", "rc", "warnings"),
    [
        (SYSCTL, 0, ()),
        (SYSCTL, 1, ()),
        (SYSCTL, 2, ("/usr/sbin/sysctl ended with status 2",)),
        (SYSTEM_PROFILER, 1, ("/usr/sbin/system_profiler ended with status 1",)),
        (SW_VERS, 1, ("/usr/bin/sw_vers ended with status 1",)),
    ],
)
def test_a_status_is_a_warning_and_what_was_printed_is_used(mac, argv, rc, warnings):
    mac.commands[argv] = mac.commands[argv]._replace(rc=rc)
    hardware = read_hardware(mac)
    assert hardware.warnings == warnings
    assert (hardware.chip, hardware.gpu_cores, hardware.macos_version) == ("Apple M5", 10, "26.5.2")


class TestLogs:
    @pytest.mark.parametrize("path", [SERVE_LOG, RPC_LOG, DESKTOP_LOG, "/var/lib/gpustack/log/some.log"])
    def test_the_default_places(self, mac, path):
        mac.write_log(path, LOGGED_MEGABYTES)
        hardware = read_hardware(mac)
        assert working_set(hardware) == MEASURED
        assert hardware.warnings == ()

    def test_other_places(self, mac):
        mac.write_log("/data/log/serve/1.log", LOGGED_MEGABYTES)
        assert working_set(read_hardware(mac)) == ESTIMATED
        assert working_set(read_hardware(mac, ["/nowhere", "/data/log"])) == MEASURED
        assert working_set(read_hardware(mac, ["/data/log/serve"])) == MEASURED

    def test_a_path_may_be_a_file_of_any_name(self, mac):
        mac.write_log("/data/output", LOGGED_MEGABYTES)
        assert working_set(read_hardware(mac, ["/data/output"])) == MEASURED

    def test_a_path_may_be_a_link(self, mac):
        mac.write_log("/data/log/1.log", LOGGED_MEGABYTES)
        mac.link("/var/log/gpustack", "/data/log")
        assert working_set(read_hardware(mac, ["/var/log/gpustack"])) == MEASURED

    @pytest.mark.parametrize("path", ["/data/log/1.txt", "/data/log/serve/1.txt", "/data/log/serve/old/1.log"])
    def test_of_a_folder_only_logs_and_only_one_level_down(self, mac, path):
        mac.write_log(path, LOGGED_MEGABYTES)
        assert working_set(read_hardware(mac, ["/data/log"])) == ESTIMATED

    def test_links_inside_are_not_followed(self, mac):
        mac.write_log("/elsewhere/1.log", LOGGED_MEGABYTES)
        mac.link("/data/log/1.log", "/elsewhere/1.log")
        assert working_set(read_hardware(mac, ["/data/log"])) == ESTIMATED

    def test_no_place_at_all(self, mac):
        mac.write_log(SERVE_LOG, LOGGED_MEGABYTES)
        assert working_set(read_hardware(mac, [])) == ESTIMATED

    def test_the_newest_log_with_the_line_counts(self, mac):
        mac.write_log(SERVE_LOG, 22000, BOOT_SECONDS + 10)
        mac.write_log(RPC_LOG, LOGGED_MEGABYTES, BOOT_SECONDS + 20)
        mac.write_log("/var/lib/gpustack/log/serve/2.log", 23000, BOOT_SECONDS + 5)
        mac.write_log("/var/lib/gpustack/log/serve/3.log", "no", BOOT_SECONDS + 30)
        assert working_set(read_hardware(mac)) == MEASURED
        assert [path for path, _limit in mac.reads] == ["/var/lib/gpustack/log/serve/3.log", RPC_LOG]

    @pytest.mark.parametrize(("seconds", "expected"), [(0, ESTIMATED), (0.5, MEASURED)])
    def test_a_log_from_before_the_boot_is_told_and_not_used(self, mac, seconds, expected):
        mac.write_log(RPC_LOG, LOGGED_MEGABYTES, BOOT_SECONDS + seconds)
        hardware = read_hardware(mac)
        assert working_set(hardware) == expected
        stale = f"the working set in {RPC_LOG} is not used: the log is older than this boot"
        assert hardware.warnings == ((stale,) if expected == ESTIMATED else ())

    def test_none_is_read_where_a_limit_is_set(self, fixtures_dir):
        mac = Mac(fixtures_dir / "hardware" / "synthetic_m3_ultra_512gb_wired")
        mac.write_log(RPC_LOG, 400000)
        assert working_set(read_hardware(mac)) == (498216206336, "wired_limit")
        assert mac.reads == []

    def test_none_is_read_on_intel(self, fixtures_dir):
        mac = Mac(fixtures_dir / "hardware" / "synthetic_intel_imac_32gb")
        mac.write_log(RPC_LOG, LOGGED_MEGABYTES)
        assert working_set(read_hardware(mac)) == (None, None)
        assert mac.reads == []

    @pytest.mark.parametrize("excess_bytes", [0, 1])
    def test_a_log_too_large_to_search_is_told(self, mac, excess_bytes):
        mac.write_log(RPC_LOG, LOGGED_MEGABYTES)
        mac.sizes[RPC_LOG] = 16 * 1024**2 + excess_bytes
        hardware = read_hardware(mac)
        too_large = f"{RPC_LOG} is not searched for the working set: it has more than 16777216 bytes"
        assert working_set(hardware) == (ESTIMATED if excess_bytes else MEASURED)
        assert hardware.warnings == ((too_large,) if excess_bytes else ())
        assert mac.reads == ([] if excess_bytes else [(RPC_LOG, 16 * 1024**2)])

    def test_what_may_not_be_read_is_told_and_the_next_one_is_tried(self, mac):
        mac.write_log(RPC_LOG, 22000, BOOT_SECONDS + 20)
        mac.write_log(SERVE_LOG, LOGGED_MEGABYTES, BOOT_SECONDS + 10)
        mac.unreadable.add(RPC_LOG)
        hardware = read_hardware(mac)
        assert working_set(hardware) == MEASURED
        assert hardware.warnings == (f"{RPC_LOG} cannot be read: Permission denied",)

    @pytest.mark.parametrize("folder", ["/var/lib/gpustack/log", "/var/lib/gpustack/log/rpc_server"])
    def test_what_may_not_be_listed_is_told(self, mac, folder):
        mac.write_log(RPC_LOG, LOGGED_MEGABYTES)
        mac.unreadable.add(folder)
        hardware = read_hardware(mac)
        assert working_set(hardware) == ESTIMATED
        assert hardware.warnings == (f"{folder} cannot be listed: Permission denied",)

    def test_what_may_not_be_looked_at_is_told(self, mac):
        mac.write_log(RPC_LOG, 22000)
        mac.write_log(SERVE_LOG, LOGGED_MEGABYTES)
        mac.refused.add(RPC_LOG)
        hardware = read_hardware(mac)
        assert working_set(hardware) == MEASURED
        assert hardware.warnings == (f"{RPC_LOG} cannot be examined: Permission denied",)

    def test_a_log_that_vanishes_while_we_look_is_none(self, mac, monkeypatch):
        mac.write_log(RPC_LOG, LOGGED_MEGABYTES)
        monkeypatch.setattr(mac, "read", lambda *_arguments: None)
        assert working_set(read_hardware(mac)) == ESTIMATED

    def test_bytes_that_are_no_text_are_no_failure(self, mac):
        mac.write_log(RPC_LOG, LOGGED_MEGABYTES)
        mac.files[RPC_LOG].content = b"\xff\xfe\n" + mac.files[RPC_LOG].content
        assert working_set(read_hardware(mac)) == MEASURED

    def test_the_default_places_are_those_of_script_and_desktop(self):
        assert DEFAULT_LOG_PATHS == ("/var/lib/gpustack/log", "/Library/Application Support/GPUStack/log")


@pytest.mark.parametrize("timeout_seconds", [0, -1, float("nan")])
def test_a_time_limit_must_be_positive(mac, timeout_seconds):
    with pytest.raises(BadInputError, match=r"^gather_timeout_seconds is \S+, and it must be more than 0$"):
        read_hardware(mac, timeout_seconds=timeout_seconds)
    assert mac.calls == []


@pytest.mark.parametrize("system", ["Darwin", "Linux"])
def test_a_relative_log_path_is_refused(system):
    host = MemoryHost(system=system)
    with pytest.raises(BadInputError, match=r"^log_paths has the relative path 'log', and only absolute ones"):
        read_hardware(host, ["/var/log", "log"])
    assert host.calls == []


IS_VIRTUAL = ("/usr/sbin/sysctl", *VIRTUAL_NAMES)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (CommandResult(0, "kern.hv_vmm_present: 1\n", ""), True),
        (CommandResult(0, "kern.hv_vmm_present: 0\n", ""), False),
        (CommandResult(1, "kern.hv_vmm_present: 0\nhw.model: VirtualMac2,1\n", ""), True),
        (CommandResult(1, "hw.model: Mac15,14\n", "sysctl: unknown oid 'kern.hv_vmm_present'\n"), False),
        (CommandResult(1, "", "sysctl: unknown oid 'kern.hv_vmm_present'\n"), None),
        (CommandMissingError("no sysctl"), None),
        (CommandTimeoutError("it hangs"), None),
    ],
)
def test_is_virtual_by_one_sysctl(reply, expected):
    host = MemoryHost(commands={IS_VIRTUAL: reply})
    assert read_is_virtual(host) is expected
    assert host.calls == [IS_VIRTUAL]


def test_is_virtual_by_the_recording(captures_dir):
    text = (captures_dir / "apple" / "sysctl_vm_guest_hv.txt").read_text("utf-8")
    assert read_is_virtual(MemoryHost(commands={IS_VIRTUAL: CommandResult(0, text, "")})) is True


def test_is_virtual_is_not_asked_outside_macos():
    host = MemoryHost(system="Linux", commands={IS_VIRTUAL: CommandResult(0, "kern.hv_vmm_present: 1\n", "")})
    assert read_is_virtual(host) is False
    assert host.calls == []


def test_is_virtual_has_a_time_limit(mac):
    read_is_virtual(mac, timeout_seconds=2.5)
    read_is_virtual(mac)
    assert mac.time_limits == [2.5, 30.0]
