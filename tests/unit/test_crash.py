# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What reads a trace, judges a host and writes the page of the crash tests, and that page itself. `make crash` runs the tests."""

from __future__ import annotations

import copy
import json
import pathlib
import sys
import typing as t

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "crash"))

import crash_report  # noqa: E402
import judge  # noqa: E402
from crash_rows import FINISHED, WRONG, Row, merged, read_rows, write_rows  # noqa: E402
from points import bare, died_at, points_of, spread  # noqa: E402

SYNTHETIC_TRACE = r"""
openat(AT_FDCWD, "/etc/default/.gpustack.71.metalfleet", O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600) = 5
write(5, "A=\"b\"\n", 6)                = 6
fchmod(5, 0600)                         = 0
fsync(5)                                = 0
close(5)                                = 0
rename("/etc/default/.gpustack.71.metalfleet", "/etc/default/gpustack") = 0
openat(AT_FDCWD, "/none", O_RDONLY) = -1 ENOENT (No such file or directory)
access("/@command/systemctl show gpustack", F_OK) = -1 ENOENT (No such file or directory)
access("/etc/hosts", F_OK)              = 0
access("/@command/systemctl restart gpustack", F_OK) = -1 ENOENT (No such file or directory)
write(1, "{}", 2)                       = 2
link("/etc/a", "/var/lib/metalfleet/undo-1700000000/0") = 0
rename("/var/lib/metalfleet/undo-1", "/var/lib/metalfleet/.undo-1.71.metalfleet") = 0
rename("/etc/default/.gpustack.71.metalfleet", "/etc/default/gpustack") = ?
+++ killed by SIGKILL +++
"""


def test_points_are_named_without_what_differs_from_run_to_run() -> None:
    found = points_of(SYNTHETIC_TRACE)
    rename = "rename /etc/default/.gpustack.PID.metalfleet -> /etc/default/gpustack"
    assert [point.name for point in found] == [
        "write /etc/default/.gpustack.PID.metalfleet",
        "fchmod /etc/default/.gpustack.PID.metalfleet",
        "fsync /etc/default/.gpustack.PID.metalfleet",
        rename,
        "before systemctl restart gpustack",
        "during systemctl restart gpustack",
        "link /etc/a -> /var/lib/metalfleet/undo-N/0",
        "rename /var/lib/metalfleet/undo-N -> /var/lib/metalfleet/.undo-N.PID.metalfleet",
        f"{rename} (2)",
    ]
    assert found[3].kill == {"call": "rename", "number": 1}
    assert found[5].kill == {"command": "systemctl restart gpustack", "number": 1, "when": "during"}
    assert found[8].kill == {"call": "rename", "number": 3}
    assert died_at(SYNTHETIC_TRACE) == bare(found[8].name) == rename


def test_what_goes_to_a_pipe_is_counted_and_is_no_point() -> None:
    later = points_of(SYNTHETIC_TRACE + 'openat(AT_FDCWD, "/x", O_WRONLY|O_CREAT, 0600) = 3\nwrite(3, "", 0) = 0\n')[-1]
    assert (later.name, later.kill) == ("write /x", {"call": "write", "number": 3})


def test_of_few_points_those_that_names_show_come_first() -> None:
    found = points_of(SYNTHETIC_TRACE)
    assert spread(found, 0) == spread(found, 99) == found
    assert [point.name.split()[0] for point in spread(found, 6)] == ["rename", "before", "during", "link", "rename", "rename"]
    assert [point.name.split()[0] for point in spread(found, 2)] == ["rename", "link"]


OLD: t.Dict[str, t.Any] = {
    "files": {"/etc/a": ["0o100644", 0, 0, "old"], "/etc/gone": ["0o100644", 0, 0, "x"]},
    "notes": {},
    "live": {"running": True, "environment": {"A": "1"}, "program": "1", "manager": "1", "sysctls": {"limit": "0"}},
    "state": "/var/lib/metalfleet",
    "answers": True,
    "journal": False,
    "records": [],
}
NEW: t.Dict[str, t.Any] = {
    **OLD,
    "files": {"/etc/a": ["0o100600", 0, 0, "new"], "/etc/made": ["0o40755", 0, 0, "folder"]},
    "notes": {"/llama-box.json": ["0o100644", 0, 0]},
    "live": {"running": True, "environment": {}, "program": "2", "manager": "", "sysctls": {"limit": "5"}},
}


def look(base: t.Mapping[str, t.Any], **other: t.Any) -> t.Dict[str, t.Any]:
    return {**copy.deepcopy(dict(base)), **other}


def test_outcomes() -> None:
    half = {**OLD["files"], "/etc/made": NEW["files"]["/etc/made"]}
    temporary = {
        **OLD["files"],
        "/etc/.a.71.metalfleet": ["0o100600", 0, 0, "half"],
        "/etc/.b.71.old.metalfleet/c": ["0o100600", 0, 0, "half"],
    }
    assert judge.outcome(OLD, NEW, look(OLD)) == (judge.BEFORE, [])
    assert judge.outcome(OLD, NEW, look(OLD, files=temporary)) == (judge.BEFORE, [])
    assert judge.outcome(OLD, NEW, look(NEW)) == (judge.AFTER, [])
    assert judge.outcome(OLD, NEW, look(OLD, files=half, journal=True)) == (judge.JOURNALLED, [])
    assert judge.outcome(OLD, NEW, look(OLD, files=half))[0] == judge.OTHER


@pytest.mark.parametrize(
    "live",
    [{"running": False}, {"environment": {"A": "2"}}, {"manager": ""}, {"sysctls": {"limit": "5"}}],
    ids=lambda live: next(iter(live)),
)
def test_old_files_alone_are_not_the_state_before(live: t.Dict[str, t.Any]) -> None:
    assert judge.outcome(OLD, NEW, look(OLD, live={**OLD["live"], **live}))[0] == judge.OTHER


@pytest.mark.parametrize(
    "described", [["0o100644", 0, 0, "new"], ["0o100600", 0, 0, "old"], ["0o100600", 0, 0, "ne"], ["0o100600", 1, 0, "new"], None]
)
def test_no_journal_excuses_a_file_that_is_neither_old_nor_new(described: t.Optional[t.List[t.Any]]) -> None:
    files = {**NEW["files"], "/etc/a": described}
    found, wrong = judge.outcome(OLD, NEW, look(NEW, files=files, journal=True))
    assert (found, len(wrong), "/etc/a is" in wrong[0]) == (judge.OTHER, 1, True)


def test_a_file_that_nobody_was_to_make_is_other() -> None:
    assert judge.outcome(OLD, NEW, look(OLD, files={**OLD["files"], "/etc/stray": ["0o100600", 0, 0, "x"]}, journal=True))[0] == judge.OTHER


def test_the_end_must_be_the_same_in_everything() -> None:
    assert judge.differences(NEW, look(NEW)) == []
    assert judge.differences(NEW, look(NEW, journal=True)) == ["a journal is left"]
    assert judge.differences(NEW, look(NEW, answers=False)) == ["the service does not answer"]
    for part, key in (("files", "/etc/.a.71.metalfleet"), ("notes", "/.undo-1.71.metalfleet"), ("live", "program")):
        (wrong,) = judge.differences(NEW, look(NEW, **{part: {**NEW[part], key: "x"}}))
        assert wrong.startswith(f"{part}: {key} is x and not ")


def test_changes_that_are_left() -> None:
    changes = [
        {"resource": "environment_file", "where": "/etc/a"},
        {"resource": "llama_box", "where": "/var/lib/metalfleet/llama-box.json"},
        {"resource": "sysctl", "where": "limit"},
        {"resource": "manager_environment", "where": "the service manager"},
    ]
    every = [(one["resource"], one["where"]) for one in changes]
    assert judge.changes_left(changes, NEW, OLD) == every
    assert judge.changes_left(changes, NEW, NEW) == []
    assert judge.changes_left(changes, NEW, look(OLD, files=NEW["files"])) == every[1:]
    assert judge.changes_left(changes, NEW, look(OLD, notes=NEW["notes"])) == [every[0], *every[2:]]


UNDONE = [
    {"resource": "previous", "action": "undone", "where": "launchctl", "name": "A"},
    {"resource": "previous", "action": "restored", "where": "/etc/a", "name": "file"},
    {"resource": "previous", "action": "undone", "where": "/usr/sbin/sysctl", "name": "limit"},
]
MANAGER, FILE, SYSCTL = [(one["resource"], one["where"]) for one in UNDONE]
MADE = {
    MANAGER: {"live": {**OLD["live"], "manager": ""}},
    FILE: {"files": NEW["files"]},
    SYSCTL: {"live": {**OLD["live"], "manager": "", "sysctls": NEW["live"]["sysctls"]}},
}


@pytest.mark.parametrize(
    ("made", "records", "left"),
    [
        # Where the run may have died before its command or after it, the host does not matter: the next one gives it once more.
        ([], "C", [MANAGER, FILE, SYSCTL]),
        ([MANAGER], "C", [MANAGER, FILE, SYSCTL]),
        ([MANAGER, FILE], "CNPC", [SYSCTL]),
        ([MANAGER, FILE, SYSCTL], "CNPC", [SYSCTL]),
        # A note is to be believed if the host says so too.
        ([MANAGER], "CN", [FILE, SYSCTL]),
        ([], "CN", [MANAGER, FILE, SYSCTL]),
        ([MANAGER, FILE, SYSCTL], "CNPCN", []),
        # One that was never written excuses nothing: a run that gives this command again says too much.
        ([MANAGER], "CP", [FILE, SYSCTL]),
        ([MANAGER, FILE], "CPC", [SYSCTL]),
        ([MANAGER, FILE, SYSCTL], "CPC", [SYSCTL]),
    ],
)
def test_a_command_that_a_rollback_undoes_is_left_only_while_its_note_is_about_to_be_written(
    made: t.Sequence[t.Tuple[str, str]], records: str, left: t.Sequence[t.Tuple[str, str]]
) -> None:
    kinds = {"C": "command", "N": "note", "P": "path"}
    found = look(OLD, journal=True, records=[kinds[letter] for letter in records])
    for one in made:
        found.update(MADE[one])
    assert judge.changes_left(UNDONE, NEW, found) == left


def test_without_a_journal_the_host_alone_says_what_a_rollback_has_left() -> None:
    assert judge.changes_left(UNDONE, NEW, OLD) == [MANAGER, FILE, SYSCTL]
    assert judge.changes_left(UNDONE, NEW, NEW) == []


ROWS = [Row("mac", "node", "b", judge.AFTER, "changed nothing"), Row("linux", "node", "a", judge.JOURNALLED, FINISHED)]


def test_rows_have_exactly_the_keys_that_were_agreed_upon(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "rows.json"
    assert read_rows(path) == []
    write_rows(path, ROWS)
    assert {frozenset(row) for row in json.loads(path.read_text())} == {
        frozenset(("host_kind", "resource", "point", "outcome", "next_run"))
    }
    assert read_rows(path) == sorted(ROWS)
    again = Row("mac", "node", "b", judge.OTHER, WRONG)
    assert merged(ROWS, [again]) == [ROWS[1], again]


def test_the_page_is_made_of_the_rows() -> None:
    text = "x\n<!-- figures: outcomes -->\nold\n<!-- end of figures -->\ny\n<!-- figures: next_runs -->\n<!-- end of figures -->\n"
    made = crash_report.page(text, ROWS)
    assert "| simulated Mac | node | 1 | 0 | 1 | 0 | 0 |\n|  | all | 2 | 0 | 1 | 1 | 0 |\n" in made
    assert "| finished | 0 | 0 | 1 | 0 |\n" in made
    assert "old" not in made
    assert crash_report.page(made, ROWS) == made


def test_the_page_says_what_the_rows_say() -> None:
    page = (crash_report.DOCS / "crash-points.md").read_text()
    assert crash_report.page(page, read_rows(crash_report.DOCS / "crash-points.json")) == page


def test_the_rows_are_enough_and_none_is_bad() -> None:
    rows = read_rows(crash_report.DOCS / "crash-points.json")
    assert len({row.key for row in rows}) == len(rows) >= 200
    assert {row.host_kind for row in rows} == {"linux", "mac"}
    assert [row for row in rows if row.outcome not in judge.OUTCOMES[:3] or row.next_run == WRONG] == []
