# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a transaction; what runs make of it is in test_transaction and test_fault_points."""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import journal as journals
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.journal import Journal, read_journal, read_previous
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import PendingRestart
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import WriteFile
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.health import Health
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost

FOLDER = "/var/db/metalfleet"
PATH = f"{FOLDER}/journal.json"
HEALTH = Health(True, ("worker",), 2, "é")
PENDING = PendingRestart(12, "then", ("a reason",), ("A",), stopping=True, replaced=True)
NEW = Journal(1_700_000_000, HEALTH, PENDING, needs_restart=True, rolls_back=5)
FULL = dataclasses.replace(
    NEW, restarting=True, undoing="why", records=({"path": "/a", "kind": "file", "backup": "/b", "folders": []}, {}), left={"/a": "file:1"}
)


def test_it_is_kept_as_it_was_given_and_for_its_owner_only() -> None:
    modes = {}

    class Recorder(MemoryHost):
        def make_folder(self, path: str, mode: int) -> None:
            modes[path] = mode
            super().make_folder(path, mode)

    host = Recorder()
    assert read_journal(host) is None  # type: ignore[arg-type]
    assert journals.begin(host, NEW) == NEW  # type: ignore[arg-type]
    assert read_journal(host) == NEW  # type: ignore[arg-type]
    assert modes == {FOLDER: 0o700, f"{FOLDER}/undo-1700000000": 0o700}
    assert journals.journal_path(host) == PATH  # type: ignore[arg-type]
    assert host.files[PATH].mode == 0o600
    facts = {field.name: getattr(FULL, field.name) for field in dataclasses.fields(FULL)}
    assert journals.note(host, NEW, **facts) == FULL  # type: ignore[arg-type]
    assert read_journal(host) == FULL  # type: ignore[arg-type]
    assert read_previous(host) is None  # type: ignore[arg-type]


def test_what_is_noted_already_is_not_written_again() -> None:
    host = MemoryHost()
    journal = journals.begin(host, NEW)  # type: ignore[arg-type]
    assert journals.note(host, journal, needs_restart=True, rolls_back=5) == NEW  # type: ignore[arg-type]
    assert host.writes == [PATH]


def test_one_that_cannot_be_written_down_leaves_nothing() -> None:
    host = MemoryHost(unreadable=[PATH])
    with pytest.raises(HostError, match="cannot be written"):
        journals.begin(host, NEW)  # type: ignore[arg-type]
    assert host.names(FOLDER) == []


def test_two_in_one_second_have_folders_of_their_own() -> None:
    host = MemoryHost()
    first = journals.begin(host, NEW)  # type: ignore[arg-type]
    second = journals.begin(host, NEW)  # type: ignore[arg-type]
    assert (first.started, second.started) == (1_700_000_000, 1_700_000_001)


def _without(field: str) -> bytes:
    content = {**dataclasses.asdict(FULL), "health": FULL.health.as_dict()}
    del content[field]
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"1",
        b"\xff",
        b"{}",
        *[_without(field.name) for field in dataclasses.fields(FULL)],
        json.dumps({**dataclasses.asdict(NEW), "records": [1]}).encode(),
        json.dumps({**dataclasses.asdict(NEW), "health": 1}).encode(),
        json.dumps({**dataclasses.asdict(NEW), "pending": {}}).encode(),
        json.dumps({**dataclasses.asdict(NEW), "started": "then"}).encode(),
        json.dumps({**dataclasses.asdict(NEW), "left": []}).encode(),
    ],
)
def test_what_cannot_be_understood_is_none(data: bytes) -> None:
    assert read_journal(MemoryHost(files={PATH: data})) is None  # type: ignore[arg-type]


def test_what_a_run_that_died_has_remembered_but_not_written_down_is_remembered_anew() -> None:
    host = MemoryHost(files={"/etc/a": b"now", f"{FOLDER}/undo-1700000000/0": b"then"})
    host.make_folder(FOLDER, 0o700)
    journal = journals.remember(host, NEW, WriteFile("/etc/a", b"new"))  # type: ignore[arg-type]
    assert journal.records == ({"path": "/etc/a", "kind": "file", "backup": f"{FOLDER}/undo-1700000000/0", "folders": []},)
    assert host.files[f"{FOLDER}/undo-1700000000/0"].content == b"now"
    assert host.files["/etc/a"].content == b"now"
    assert read_journal(host) == journal  # type: ignore[arg-type]


def test_of_several_changes_of_one_path_the_first_counts() -> None:
    records: t.Tuple[t.Dict[str, t.Any], ...] = (
        {"path": "/a", "n": 1},
        {},
        {"path": "/b", "n": 2},
        {"path": "/a", "n": 3},
        {"argv": ["x"]},
    )
    assert journals.oldest(dataclasses.replace(NEW, records=records)) == {"/a": records[0], "/b": records[2]}


def test_after_success_it_becomes_the_previous_one_and_the_rest_is_tidied_up() -> None:
    host = MemoryHost(files={"/etc/a": b"old", f"{FOLDER}/undo-1/0": b"stray", f"{FOLDER}/other": b""})
    journal = journals.begin(host, dataclasses.replace(NEW, rolls_back=0))  # type: ignore[arg-type]
    journal = journals.remember(host, journal, WriteFile("/etc/a", b"new"))  # type: ignore[arg-type]
    host.write("/etc/a", b"new", 0o644)
    journals.commit(host, journal)  # type: ignore[arg-type]
    previous = read_previous(host)  # type: ignore[arg-type]
    assert previous is not None
    assert previous.left == {"/etc/a": "file:644:0:0:11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"}
    assert dataclasses.replace(previous, left={}) == journal
    assert sorted(path for path in host.files if path.startswith(FOLDER)) == [
        f"{FOLDER}/other",
        f"{FOLDER}/previous.json",
        f"{FOLDER}/undo-1700000000/0",
    ]


def test_a_run_that_died_while_it_tidied_up_leaves_nothing_for_ever() -> None:
    left = (f"{FOLDER}/.undo-1700000000.99999999999.metalfleet/0", f"{FOLDER}/.undo-3.99999999999.old.metalfleet/0")
    kept = f"{FOLDER}/.receipt.99999999999.metalfleet"
    host = MemoryHost(files=dict.fromkeys((*left, kept), b"secret"))
    journals.tidy(host)  # type: ignore[arg-type]
    assert sorted(host.files) == [kept]


def test_who_goes_on_removes_what_the_dead_run_was_making() -> None:
    left = ("/etc/.a.99999999999.metalfleet", "/srv/.b.99999999999.old.metalfleet/c")
    host = MemoryHost(files=dict.fromkeys((*left, "/srv/.c.1.metalfleet"), b"half"))
    records: t.Tuple[t.Dict[str, t.Any], ...] = ({"path": "/etc/a"}, {"argv": ["x"]}, {"path": "/srv/b"})
    journals.clean(host, dataclasses.replace(NEW, records=records))  # type: ignore[arg-type]
    assert sorted(host.files) == ["/srv/.c.1.metalfleet"]


@pytest.mark.parametrize("rolls_back", [0, 5])
def test_one_without_changes_leaves_the_previous_one_unless_it_took_it_back(rolls_back: int) -> None:
    host = MemoryHost()
    old = journals.begin(host, dataclasses.replace(NEW, rolls_back=0, started=5))  # type: ignore[arg-type]
    journals.commit(host, journals.remember(host, old, WriteFile("/etc/none", b"")))  # type: ignore[arg-type]
    journals.commit(host, journals.begin(host, dataclasses.replace(NEW, rolls_back=rolls_back)))  # type: ignore[arg-type]
    assert (read_previous(host) is None) is bool(rolls_back)  # type: ignore[arg-type]
    assert read_journal(host) is None  # type: ignore[arg-type]
    assert {folder for folder in host.folders if "undo-" in folder} == (set() if rolls_back else {f"{FOLDER}/undo-5"})
