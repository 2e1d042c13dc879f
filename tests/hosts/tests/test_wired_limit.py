# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""The sysctls of the wired limit: who may set them, who sees them, how long they last."""

from __future__ import annotations

import plistlib
import struct
import typing as t

import pytest
from conftest import DAEMONS, Host, until

LIMIT, COLLECTOR, BYTES = "iogpu.wired_limit_mb", "iogpu.disable_wired_collector", "debug.iogpu.wired_limit"
LABEL = "org.metalfleet.wired-limit"
PLIST = f"{DAEMONS}/{LABEL}.plist"


@pytest.fixture
def wired(mac: Host) -> t.Iterator[Host]:
    """The Mac with no limit set and no daemon for it, before and after."""
    yield mac
    mac.sh(f"launchctl bootout system/{LABEL}; rm -f {PLIST}")


def daemon(*settings: str) -> str:
    """What the module wired_limit writes."""
    return plistlib.dumps({"Label": LABEL, "ProgramArguments": ["/usr/sbin/sysctl", *settings], "RunAtLoad": True}).decode()


def reboot(mac: Host) -> None:
    before = mac.out("sysctl -n kern.boottime")
    mac.sh("nohup shutdown -r now >/dev/null 2>&1 &")
    assert until(lambda: mac.sh("sysctl -n kern.boottime").stdout not in ("", before), 30.0)


def test_every_reader_sees_what_was_set(wired: Host) -> None:
    assert wired.out(f"sysctl {LIMIT}=475136") == f"{LIMIT}: 0 -> 475136\n"
    assert wired.out(f"sysctl {LIMIT}; sysctl -n {LIMIT}", user="fleet") == f"{LIMIT}: 475136\n475136\n"
    assert f"{LIMIT}: 475136\n" in wired.out("sysctl -a")
    assert f"{LIMIT}: 475136\n" in wired.out("sysctl iogpu")
    assert wired.out(f"sysctl -w {LIMIT}=475136") == f"{LIMIT}: 475136 -> 475136\n"
    assert wired.out(f"sysctl -n {LIMIT}=0") == "475136 -> 0\n"


def test_only_root_sets_and_the_value_stays(wired: Host) -> None:
    refused = wired.sh(f"sysctl {LIMIT}=475136", user="fleet")
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, f"{LIMIT}: 0\n", f"sysctl: {LIMIT}: Operation not permitted\n")
    assert wired.out(f"sysctl -n {LIMIT}") == "0\n"


def test_one_unknown_name_does_not_hold_up_the_others(wired: Host) -> None:
    done = wired.sh(f"sysctl {LIMIT}=5000 iogpu.none=1 {COLLECTOR}=1")
    assert (done.returncode, done.stdout) == (1, f"{LIMIT}: 0 -> 5000\n{COLLECTOR}: 0 -> 1\n")
    assert done.stderr == "sysctl: unknown oid 'iogpu.none'\n"
    assert wired.out(f"sysctl -n {LIMIT} {COLLECTOR}") == "5000\n1\n"


def test_setting_is_recorded(wired: Host) -> None:
    before = len(wired.lines("calls.jsonl"))
    wired.sh(f"sysctl {LIMIT}=5000")
    wired.sh(f"sysctl {LIMIT}=6000", user="fleet")
    found = [(call["program"], call["argv"], call["rc"], call["uid"]) for call in wired.lines("calls.jsonl")[before:]]
    assert found == [("sysctl", [f"{LIMIT}=5000"], 0, 0), ("sysctl", [f"{LIMIT}=6000"], 1, 501)]


def test_macos_13_counts_bytes(by_profile: t.Callable[[str], Host]) -> None:
    mac = by_profile("m1_max_macos13")
    asked = mac.sh(f"sysctl {LIMIT} {BYTES} {COLLECTOR}")
    assert (asked.returncode, asked.stdout) == (1, f"{BYTES}: 0\n")
    assert asked.stderr == f"sysctl: unknown oid '{LIMIT}'\nsysctl: unknown oid '{COLLECTOR}'\n"
    assert mac.sh(f"sysctl {LIMIT}=1").returncode == 1
    assert mac.out(f"sysctl {BYTES}=62277025792") == f"{BYTES}: 0 -> 62277025792\n"
    assert mac.out(f"sysctl -b {BYTES} | od -An -tu8").split() == ["62277025792"]
    assert mac.out(f"sysctl {BYTES}=0") == f"{BYTES}: 62277025792 -> 0\n"
    assert "iogpu.wired" not in mac.out("sysctl -a | grep -v ^debug")


def test_the_other_numbers_are_as_wide_as_they_were(wired: Host) -> None:
    wired.sh(f"sysctl {LIMIT}=475136", check=True)
    assert wired.out(f"sysctl -b {LIMIT} | od -An -td4").split() == ["475136"]
    assert wired.out("sysctl -b hw.memsize | wc -c").strip() == str(struct.calcsize("<q"))


def test_a_reboot_clears_what_no_daemon_sets_again(wired: Host) -> None:
    wired.sh(f"sysctl {LIMIT}=5000 {COLLECTOR}=1", check=True)
    reboot(wired)
    assert wired.out(f"sysctl -n {LIMIT} {COLLECTOR}") == "0\n0\n"


def test_the_daemon_sets_it_again_at_boot(wired: Host) -> None:
    wired.put(PLIST, daemon(f"{LIMIT}=5000", f"{COLLECTOR}=1"))
    reboot(wired)
    assert until(lambda: wired.out(f"sysctl -n {LIMIT} {COLLECTOR}") == "5000\n1\n")
    printed = wired.out(f"launchctl print system/{LABEL}")
    assert until(lambda: "\tstate = not running\n" in wired.out(f"launchctl print system/{LABEL}")), printed
    wired.sh(f"launchctl bootout system/{LABEL}", check=True)
    assert wired.sh(f"launchctl print system/{LABEL}").returncode == 113


def test_a_disabled_daemon_sets_nothing(wired: Host) -> None:
    wired.put(PLIST, daemon(f"{LIMIT}=5000"))
    wired.sh(f"launchctl disable system/{LABEL}", check=True)
    reboot(wired)
    assert wired.sh(f"launchctl print system/{LABEL}").returncode == 113
    assert wired.out(f"sysctl -n {LIMIT}; launchctl enable system/{LABEL}") == "0\n"
