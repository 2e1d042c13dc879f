# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a Mac as it is to what has to change: live values, and the daemon that sets them at boot."""

from __future__ import annotations

import plistlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit import (
    COLLECTOR_NAME,
    LIMIT_BYTES_NAME,
    LIMIT_MIB_NAME,
    Wanted,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit_plan import (
    LABEL,
    PLIST_PATH,
    Plan,
    PlistFile,
    Seen,
    Setting,
    as_result,
    find_plist_problem,
    make_plan,
    mentions_limit,
    plist_bytes,
)

LIMIT = {LIMIT_MIB_NAME: 475136}
OURS = PlistFile(plist_bytes(LIMIT))
BOTH = {**LIMIT, COLLECTOR_NAME: 1}
GIVE_UP = Wanted(True, "given up")


def wanted(**values: int) -> Wanted:
    """limit and collector by their short names."""
    names = {"limit": LIMIT_MIB_NAME, "collector": COLLECTOR_NAME}
    return Wanted(True, "because", {names[name]: value for name, value in values.items()})


def definition(**more: t.Any) -> dict[str, t.Any]:
    return {**plistlib.loads(plist_bytes(LIMIT)), **more}


def plist(content: t.Any, **status: int) -> PlistFile:
    return PlistFile(plistlib.dumps(content), **status)


# The property list.


def test_the_property_list() -> None:
    assert (LABEL, PLIST_PATH) == ("org.metalfleet.wired-limit", "/Library/LaunchDaemons/org.metalfleet.wired-limit.plist")
    assert plistlib.loads(plist_bytes(BOTH)) == {
        "Label": "org.metalfleet.wired-limit",
        "ProgramArguments": ["/usr/sbin/sysctl", "iogpu.wired_limit_mb=475136", "iogpu.disable_wired_collector=1"],
        "RunAtLoad": True,
    }


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (None, "does not exist"),
        (PlistFile(None), "is not a regular file"),
        (PlistFile(OURS.data, uid=501), "belongs to 501:0 instead of root and wheel"),
        (PlistFile(OURS.data, gid=80), "belongs to 0:80 instead of root and wheel"),
        (PlistFile(OURS.data, mode=0o666), "has the mode 0666 instead of 0644"),
        (PlistFile(OURS.data, mode=0o44), "has the mode 0044 instead of 0644"),
        (PlistFile(b"<plist"), "says something else"),
        (plist(definition(RunAtLoad=False)), "says something else"),
        (plist(definition(KeepAlive=True)), "says something else"),
        (PlistFile(plist_bytes({LIMIT_MIB_NAME: 475135})), "says something else"),
        (PlistFile(plist_bytes(BOTH)), "says something else"),
        (OURS, ""),
        (PlistFile(plistlib.dumps(definition(), fmt=plistlib.FMT_BINARY)), ""),
        (PlistFile(OURS.data.replace(b"\t", b"  ") if OURS.data else b""), ""),
    ],
)
def test_what_is_wrong_with_a_property_list(file: t.Optional[PlistFile], problem: str) -> None:
    assert find_plist_problem(file, LIMIT) == problem
    assert make_plan(wanted(limit=475136), Seen(LIMIT, file)).plist_problem == problem


@pytest.mark.parametrize("form", [plistlib.FMT_XML, plistlib.FMT_BINARY])
@pytest.mark.parametrize(
    ("argument", "expected"), [("iogpu.wired_limit_mb=1", True), ("debug.iogpu.wired_limit=1", True), ("iogpu.dynamic_lwm=1", False)]
)
def test_daemons_of_others(form: plistlib.PlistFormat, argument: str, expected: bool) -> None:
    content = {"Label": "com.example.é", "ProgramArguments": ["/bin/sh", "-c", f"sleep 5; sysctl {argument}"]}
    assert mentions_limit(plistlib.dumps(content, fmt=form)) is expected


# Plans.


def test_a_new_limit() -> None:
    plan = make_plan(wanted(limit=475136), Seen({LIMIT_MIB_NAME: 0, COLLECTOR_NAME: 0}))
    assert plan == Plan(LIMIT, (Setting(LIMIT_MIB_NAME, 0, 475136),), LIMIT, "does not exist", False, False, False, (), "")
    assert plan.changes() == (
        {"resource": "sysctl", "where": "iogpu.wired_limit_mb", "action": "set", "before": 0, "after": 475136},
        {"resource": "boot_daemon", "where": PLIST_PATH, "action": "written", "before": None, "after": None},
    )
    assert plan.diffs() == (
        {
            "before_header": "sysctl",
            "after_header": "sysctl",
            "before": "iogpu.wired_limit_mb: 0\n",
            "after": "iogpu.wired_limit_mb: 475136\n",
        },
        {"before_header": PLIST_PATH, "after_header": PLIST_PATH, "before": "", "after": plist_bytes(LIMIT).decode()},
    )


def test_nothing_to_do() -> None:
    plan = make_plan(wanted(limit=475136), Seen(LIMIT, OURS))
    assert (plan.changes(), plan.diffs(), plan.warnings, plan.replace_plist) == ((), (), (), False)
    assert (plan.live, plan.at_boot) == (LIMIT, LIMIT)


def test_the_default_needs_no_daemon() -> None:
    plan = make_plan(wanted(limit=0), Seen({LIMIT_MIB_NAME: 13926}, OURS))
    assert (plan.at_boot, plan.plist_problem, plan.remove_plist) == ({}, "", True)
    assert plan.settings == (Setting(LIMIT_MIB_NAME, 13926, 0),)
    assert [change["action"] for change in plan.changes()] == ["set", "removed"]
    assert plan.changes()[1] == {"resource": "boot_daemon", "where": PLIST_PATH, "action": "removed", "before": None, "after": None}
    assert plan.diffs()[1] == {
        "before_header": PLIST_PATH,
        "after_header": PLIST_PATH,
        "before": plist_bytes(LIMIT).decode(),
        "after": "",
    }
    assert make_plan(wanted(limit=0), Seen({LIMIT_MIB_NAME: 0})).changes() == ()


def test_the_collector_alone_needs_the_daemon() -> None:
    plan = make_plan(wanted(limit=0, collector=1), Seen({LIMIT_MIB_NAME: 0, COLLECTOR_NAME: 0}))
    assert plan.at_boot == {COLLECTOR_NAME: 1}
    assert plan.settings == (Setting(COLLECTOR_NAME, 0, 1),)


def test_both_at_once() -> None:
    plan = make_plan(wanted(limit=2, collector=0), Seen({LIMIT_MIB_NAME: 1, COLLECTOR_NAME: 1}))
    assert plan.diffs()[0]["before"] == "iogpu.wired_limit_mb: 1\niogpu.disable_wired_collector: 1\n"
    assert plan.diffs()[0]["after"] == "iogpu.wired_limit_mb: 2\niogpu.disable_wired_collector: 0\n"
    assert plan.at_boot == {LIMIT_MIB_NAME: 2}


@pytest.mark.parametrize(("live", "settings"), [(1, (Setting(COLLECTOR_NAME, 1, 0),)), (0, ()), (2, ())])
def test_what_our_daemon_had_set_is_taken_back(live: int, settings: tuple[Setting, ...]) -> None:
    plan = make_plan(wanted(limit=475136), Seen({**LIMIT, COLLECTOR_NAME: live}, PlistFile(plist_bytes(BOTH))))
    assert (plan.settings, plan.plist_problem) == (settings, "says something else")


def test_a_collector_that_somebody_else_has_set_stays() -> None:
    assert make_plan(wanted(limit=475136), Seen(BOTH, OURS)).changes() == ()


def test_giving_up() -> None:
    plan = make_plan(GIVE_UP, Seen(BOTH, PlistFile(plist_bytes(BOTH))))
    assert plan.settings == (Setting(LIMIT_MIB_NAME, 475136, 0), Setting(COLLECTOR_NAME, 1, 0))
    assert (plan.remove_plist, plan.live) == (True, {LIMIT_MIB_NAME: 0, COLLECTOR_NAME: 0})


def test_giving_up_leaves_what_somebody_has_set_since() -> None:
    plan = make_plan(GIVE_UP, Seen({LIMIT_MIB_NAME: 480000}, OURS))
    assert (plan.settings, plan.remove_plist) == ((), True)
    assert make_plan(GIVE_UP, Seen(LIMIT)).changes() == ()


def test_giving_up_after_an_upgrade_of_macos() -> None:
    plan = make_plan(GIVE_UP, Seen({LIMIT_MIB_NAME: 0}, PlistFile(plist_bytes({LIMIT_BYTES_NAME: 62277025792}))))
    assert (plan.settings, plan.remove_plist) == ((), True)


@pytest.mark.parametrize(
    "content",
    [
        definition(ProgramArguments="iogpu.wired_limit_mb=475136"),
        definition(ProgramArguments=[7, "iogpu.wired_limit_mb=x", "iogpu.wired_limit_mb=475136 ", "kern.maxproc=475136"]),
        {},
        [],
    ],
)
def test_a_property_list_that_says_nothing_of_ours(content: t.Any) -> None:
    plan = make_plan(GIVE_UP, Seen({**LIMIT, "kern.maxproc": 475136}, plist(content)))
    assert (plan.settings, plan.remove_plist, plan.live) == ((), True, {})
    assert plan.diffs()[0]["before"] == "(not what this module writes)\n"


@pytest.mark.parametrize("file", [PlistFile(None), PlistFile(b"garbage")])
def test_what_is_no_property_list_goes(file: PlistFile) -> None:
    plan = make_plan(GIVE_UP, Seen(LIMIT, file))
    assert (plan.settings, plan.remove_plist, plan.replace_plist, plan.shown_plist) == ((), True, False, "(not what this module writes)\n")


@pytest.mark.parametrize(
    ("file", "replace"),
    [
        (None, False),
        (OURS, False),
        (PlistFile(None), True),
        (PlistFile(b"", uid=501), True),
        (PlistFile(b"", gid=80), True),
        (PlistFile(b""), False),
    ],
)
def test_what_has_to_make_room(file: t.Optional[PlistFile], replace: bool) -> None:
    assert make_plan(wanted(limit=475136), Seen(LIMIT, file)).replace_plist is replace


@pytest.mark.parametrize(
    ("status", "line"),
    [({"mode": 0o666}, "(mode 0666, 0:0)\n"), ({"uid": 501}, "(mode 0644, 501:0)\n"), ({"gid": 80}, "(mode 0644, 0:80)\n"), ({}, "")],
)
def test_owner_and_mode_in_a_diff(status: dict[str, int], line: str) -> None:
    plan = make_plan(wanted(limit=1), Seen(LIMIT, PlistFile(OURS.data, **status)))
    assert plan.diffs()[1]["before"] == line + plist_bytes(LIMIT).decode()


def test_a_disabled_daemon_is_enabled() -> None:
    plan = make_plan(wanted(limit=475136), Seen(LIMIT, OURS, is_disabled=True))
    assert plan.changes() == ({"resource": "boot_daemon", "where": LABEL, "action": "enabled", "before": None, "after": None},)
    header = "launchd's org.metalfleet.wired-limit"
    assert plan.diffs() == ({"before_header": header, "after_header": header, "before": "disabled\n", "after": "enabled\n"},)
    assert not make_plan(GIVE_UP, Seen(LIMIT, OURS, is_disabled=True)).enable


def test_warnings() -> None:
    plan = make_plan(Wanted(True, "because", LIMIT, ("first",)), Seen(LIMIT, OURS, other_daemons=("/a.plist", "/b.plist")))
    advice = (
        "sets the wired limit at each boot, too, so what holds after a reboot is not decided here:"
        " remove it, or leave the limit to it with state: absent"
    )
    assert plan.warnings == ("first", f"/a.plist {advice}", f"/b.plist {advice}")


# Afterwards.


def test_no_problems() -> None:
    plan = make_plan(wanted(limit=475136), Seen({LIMIT_MIB_NAME: 0, COLLECTOR_NAME: 0}))
    assert plan.problems(Seen({**LIMIT, COLLECTOR_NAME: 1}, OURS)) == ()
    assert make_plan(GIVE_UP, Seen(LIMIT, OURS)).problems(Seen({LIMIT_MIB_NAME: 0})) == ()


def test_problems() -> None:
    plan = make_plan(wanted(limit=475136, collector=1), Seen({LIMIT_MIB_NAME: 0, COLLECTOR_NAME: 0}))
    assert plan.problems(Seen({LIMIT_MIB_NAME: 7}, is_disabled=True)) == (
        "iogpu.wired_limit_mb is 7 and not 475136",
        "iogpu.disable_wired_collector is unknown and not 1",
        "/Library/LaunchDaemons/org.metalfleet.wired-limit.plist does not exist",
        "launchd still has org.metalfleet.wired-limit disabled",
    )
    given_up = make_plan(GIVE_UP, Seen(LIMIT, OURS))
    assert given_up.problems(Seen(LIMIT, OURS, is_disabled=True)) == (
        "iogpu.wired_limit_mb is 475136 and not 0",
        "/Library/LaunchDaemons/org.metalfleet.wired-limit.plist is still there",
    )


# The result.


def test_the_result() -> None:
    seen = Seen({LIMIT_MIB_NAME: 7, COLLECTOR_NAME: 0})
    asked = wanted(limit=475136, collector=1)
    assert as_result(asked, seen, make_plan(asked, seen)) == {
        "applies": True,
        "reason": "because",
        "limit_mib_before": 7,
        "limit_mib": 475136,
        "boot_daemon": True,
        "wired_collector_disabled": True,
    }
    left = as_result(GIVE_UP, seen, make_plan(GIVE_UP, seen))
    assert (left["limit_mib"], left["boot_daemon"], left["wired_collector_disabled"]) == (7, False, False)


def test_the_result_where_nothing_is_governed() -> None:
    assert as_result(Wanted(False, "no"), Seen(), None) == {
        "applies": False,
        "reason": "no",
        "limit_mib_before": None,
        "limit_mib": None,
        "boot_daemon": None,
        "wired_collector_disabled": None,
    }
