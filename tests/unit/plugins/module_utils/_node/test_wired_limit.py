# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wired limit as a resource, on a Mac in memory whose kernel and launchd keep what they are told."""

from __future__ import annotations

import dataclasses
import plistlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import undo
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.wired_limit import WiredLimit
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import CommandMissingError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import Hardware
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit import NAMES, Request
from ansible_collections.metalfleet.gpustack.tests.unit.fake_kernel import COLLECTOR, FOLDER, LABEL, LIMIT, PLIST, KernelMac
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost

M3_ULTRA = Hardware(is_apple_silicon=True, is_virtual=False, memory_bytes=512 * 1024**3, macos_version="26.1")
AUTO = 475136
ASK = ("/usr/sbin/sysctl", *NAMES)


def limit_of(mac: MemoryHost, hardware: Hardware = M3_ULTRA, **request: t.Any) -> WiredLimit:
    return WiredLimit(mac, hardware, Request(**request))


def carry_out(mac: MemoryHost, resource: WiredLimit) -> tuple[Planned, tuple[str, ...]]:
    """Plan, make the steps, check."""
    planned = resource.plan()
    resource.prepare()
    for step in planned.steps:
        step.apply(mac)
    return planned, resource.check()


def arguments(mac: MemoryHost) -> list[str]:
    content = plistlib.loads(mac.files[PLIST].content)
    assert set(content) == {"Label", "ProgramArguments", "RunAtLoad"}
    found = content["ProgramArguments"]
    assert isinstance(found, list)
    return found


def test_the_limit_is_set_now_and_at_boot_and_then_nothing_is_left_to_do() -> None:
    mac = KernelMac()
    planned, problems = carry_out(mac, limit_of(mac))
    assert (mac.kernel[LIMIT], problems) == (AUTO, ())
    assert arguments(mac) == ["/usr/sbin/sysctl", "iogpu.wired_limit_mb=475136"]
    assert (mac.files[PLIST].mode, mac.files[PLIST].uid) == (0o644, 0)
    assert (planned.restart_reasons, planned.blocked, planned.reloads, planned.warnings) == ((), (), False, ())
    assert planned.result == {
        "applies": True,
        "reason": "auto leaves macOS 49152 of 524288 MiB",
        "limit_mib_before": 0,
        "limit_mib": AUTO,
        "boot_daemon": True,
        "wired_collector_disabled": False,
    }
    again = limit_of(mac).plan()
    assert (again.steps, again.changes, again.diffs) == ((), (), ())
    assert again.result == {**planned.result, "limit_mib_before": AUTO}


def test_planning_changes_nothing_and_asks_sysctl_once() -> None:
    mac = KernelMac()
    limit_of(mac).plan()
    assert (mac.kernel[LIMIT], mac.writes) == (0, [])
    assert [call for call in mac.calls if call[0].endswith("sysctl")] == [ASK]


def test_only_what_differs_is_done() -> None:
    mac = KernelMac()
    carry_out(mac, limit_of(mac))
    mac.kernel[LIMIT] = 519168
    writes = list(mac.writes)
    planned, _problems = carry_out(mac, limit_of(mac))
    assert [change["where"] for change in planned.changes] == [LIMIT]
    assert (mac.kernel[LIMIT], mac.writes) == (AUTO, writes)
    mac.files[PLIST].mode = 0o600
    planned, problems = carry_out(mac, limit_of(mac))
    assert [change["where"] for change in planned.changes] == [PLIST]
    assert (mac.files[PLIST].mode, problems) == (0o644, ())


def test_the_collector_goes_into_the_same_daemon_and_out_again() -> None:
    mac = KernelMac()
    carry_out(mac, limit_of(mac, disable_collector=True))
    assert (mac.kernel[COLLECTOR], arguments(mac)[1:]) == (1, ["iogpu.wired_limit_mb=475136", "iogpu.disable_wired_collector=1"])
    carry_out(mac, limit_of(mac))
    assert (mac.kernel[COLLECTOR], arguments(mac)[1:]) == (0, ["iogpu.wired_limit_mb=475136"])


def test_macos_13() -> None:
    mac = KernelMac({"debug.iogpu.wired_limit": 0})
    planned, problems = carry_out(mac, limit_of(mac, dataclasses.replace(M3_ULTRA, macos_version="13.6.1")))
    assert (mac.kernel, problems) == ({"debug.iogpu.wired_limit": 498216206336}, ())
    assert arguments(mac)[1:] == ["debug.iogpu.wired_limit=498216206336"]
    assert (planned.result["limit_mib"], planned.result["wired_collector_disabled"]) == (AUTO, None)


@pytest.mark.parametrize("request_", [{"present": False}, {"limit_mib": 0}])
@pytest.mark.parametrize("code", [0, 3, 36, 113])
def test_the_daemon_goes(request_: dict[str, t.Any], code: int) -> None:
    mac = KernelMac()
    carry_out(mac, limit_of(mac, disable_collector=True))
    mac.bootout_code = code
    planned, problems = carry_out(mac, limit_of(mac, **request_))
    assert (mac.kernel, PLIST in mac.files, problems) == ({LIMIT: 0, COLLECTOR: 0}, False, ())
    assert ("launchctl", "bootout", f"system/{LABEL}") in mac.calls
    assert (planned.result["limit_mib"], planned.result["boot_daemon"]) == (0, False)
    assert limit_of(mac, **request_).plan().steps == ()


def test_a_bootout_that_fails() -> None:
    mac = KernelMac()
    carry_out(mac, limit_of(mac))
    mac.bootout_code = 150
    with pytest.raises(HostError, match=rf"^launchctl bootout system/{LABEL} failed: rc 150: it was told to$"):
        carry_out(mac, limit_of(mac, present=False))
    assert PLIST in mac.files


def test_giving_up_leaves_what_is_not_ours() -> None:
    mac = KernelMac()
    carry_out(mac, limit_of(mac))
    mac.kernel[LIMIT] = 500000
    carry_out(mac, limit_of(mac, present=False))
    assert (mac.kernel[LIMIT], PLIST in mac.files) == (500000, False)


@pytest.mark.parametrize("step", range(4))
def test_giving_up_that_was_cut_short_is_finished_by_the_next_run(step: int) -> None:
    """The property list says what is ours, so it goes last."""
    mac = KernelMac()
    carry_out(mac, limit_of(mac, disable_collector=True))
    steps = limit_of(mac, present=False).plan().steps
    assert len(steps) == 4
    for made in steps[:step]:
        made.apply(mac)
    carry_out(mac, limit_of(mac, present=False))
    assert (mac.kernel, PLIST in mac.files) == ({LIMIT: 0, COLLECTOR: 0}, False)


@pytest.mark.parametrize("plant", ["link", "folder", "owner"])
def test_what_cannot_be_written_over_makes_room(plant: str) -> None:
    mac = KernelMac()
    carry_out(mac, limit_of(mac))
    data = mac.files.pop(PLIST).content
    if plant == "link":
        mac._put("/elsewhere.plist", MemoryFile(data))
        mac.link(PLIST, "/elsewhere.plist")
    elif plant == "folder":
        mac.make_folder(PLIST, 0o755)
    else:
        mac._put(PLIST, MemoryFile(data, uid=501))
    planned, problems = carry_out(mac, limit_of(mac))
    assert ([change["action"] for change in planned.changes], problems) == (["written"], ())
    assert (mac.files[PLIST].content, mac.files[PLIST].target, mac.files[PLIST].uid) == (data, None, 0)
    assert plant != "link" or mac.files["/elsewhere.plist"].content == data


def test_every_step_can_be_undone() -> None:
    mac = KernelMac({LIMIT: 13926, COLLECTOR: 0})
    mac._put(PLIST, MemoryFile(b"garbage", mode=0o600))
    mac.disabled = True
    mac.make_folder("/backup", 0o700)
    before = (dict(mac.kernel), mac.files[PLIST].content)
    steps = limit_of(mac, disable_collector=True).plan().steps
    records = []
    for number, step in enumerate(steps):
        records.append(step.save(mac, f"/backup/{number}"))
        step.apply(mac)
    assert (mac.kernel, mac.disabled) == ({LIMIT: AUTO, COLLECTOR: 1}, False)
    for record in reversed(records):
        undo(mac, record)
    assert ((mac.kernel, mac.files[PLIST].content), mac.files[PLIST].mode, mac.disabled) == (before, 0o600, True)


def test_a_disabled_daemon_is_enabled() -> None:
    mac = KernelMac()
    carry_out(mac, limit_of(mac))
    mac.disabled = True
    planned, problems = carry_out(mac, limit_of(mac))
    assert ([change["action"] for change in planned.changes], mac.disabled, problems) == (["enabled"], False, ())


@pytest.mark.parametrize("reply", [CommandResult(0, "garbage", ""), CommandMissingError("launchctl does not exist on this host")])
def test_a_launchd_that_does_not_tell_is_believed_to_load_it(reply: t.Any) -> None:
    mac = KernelMac()
    mac.commands["launchctl", "print-disabled", "system"] = reply
    planned, problems = carry_out(mac, limit_of(mac))
    assert ([change["action"] for change in planned.changes], problems) == (["set", "written"], ())


def test_launchd_is_not_asked_where_no_daemon_is_wanted() -> None:
    mac = KernelMac()
    carry_out(mac, limit_of(mac, limit_mib=0))
    assert [call[0] for call in mac.calls if call[0] == "launchctl"] == []


def test_a_kernel_that_does_not_take_the_value_is_found() -> None:
    mac = KernelMac()
    mac.stuck = True
    _planned, problems = carry_out(mac, limit_of(mac))
    assert problems == ("iogpu.wired_limit_mb is 0 and not 475136",)


def test_a_sysctl_that_refuses() -> None:
    mac = KernelMac(uid=501)
    with pytest.raises(HostError) as caught:
        carry_out(mac, limit_of(mac))
    assert str(caught.value) == (
        "/usr/sbin/sysctl iogpu.wired_limit_mb=475136 failed: rc 1: sysctl: iogpu.wired_limit_mb: Operation not permitted"
    )
    assert PLIST not in mac.files


def test_a_sysctl_that_cannot_be_asked() -> None:
    mac = KernelMac()
    mac.commands[ASK] = CommandResult(64, "", "usage: sysctl\n")
    with pytest.raises(HostError) as caught:
        limit_of(mac).plan()
    assert str(caught.value) == "/usr/sbin/sysctl cannot be asked for the wired limit: rc 64: usage: sysctl"


def test_other_daemons_are_pointed_out() -> None:
    mac = KernelMac()
    carry_out(mac, limit_of(mac))
    content = plistlib.dumps({"Label": "x", "ProgramArguments": ["/usr/sbin/sysctl", "iogpu.wired_limit_mb=1"]}, fmt=plistlib.FMT_BINARY)
    mac._put(f"{FOLDER}/com.example.wired.plist", MemoryFile(content))
    mac._put(f"{FOLDER}/com.example.wired.plist.bak", MemoryFile(content))
    mac._put(f"{FOLDER}/com.example.other.plist", MemoryFile(plistlib.dumps({"Label": "y"})))
    mac._put(f"{FOLDER}/com.example.secret.plist", MemoryFile(content))
    mac.link(f"{FOLDER}/com.example.gone.plist", "/nowhere")
    mac.unreadable.add(f"{FOLDER}/com.example.secret.plist")
    planned = limit_of(mac).plan()
    assert planned.changes == ()
    other, unknown = planned.warnings
    assert other.startswith(f"{FOLDER}/com.example.wired.plist sets the wired limit at each boot, too, ")
    assert (
        unknown
        == f"{FOLDER}/com.example.secret.plist cannot be read: Permission denied, so it is not known whether it sets the wired limit"
    )
    assert limit_of(mac, present=False).plan().warnings == ()


@pytest.mark.parametrize("present", [True, False])
def test_linux_is_not_asked_anything(present: bool) -> None:
    host = MemoryHost(system="Linux")
    planned, problems = carry_out(host, limit_of(host, Hardware(is_apple_silicon=False), present=present, disable_collector=True))
    assert (planned.steps, problems, host.calls) == ((), (), [])
    assert (planned.result["applies"], planned.result["reason"]) == (False, "only a Mac with an Apple chip has a wired limit")


def test_a_virtual_mac_is_left_alone_but_gives_up_what_an_image_brought() -> None:
    mac = KernelMac()
    carry_out(mac, limit_of(mac))
    virtual = dataclasses.replace(M3_ULTRA, is_virtual=True)
    planned, problems = carry_out(mac, limit_of(mac, virtual, limit_mib=1))
    assert (planned.steps, problems, mac.kernel[LIMIT], PLIST in mac.files) == ((), (), AUTO, True)
    assert (planned.result["limit_mib_before"], planned.result["limit_mib"], planned.result["boot_daemon"]) == (AUTO, AUTO, None)
    carry_out(mac, limit_of(mac, virtual, present=False))
    assert (mac.kernel[LIMIT], PLIST in mac.files) == (0, False)


def test_name_and_finish() -> None:
    assert (WiredLimit.name, limit_of(KernelMac()).finish()) == ("wired_limit", ())
