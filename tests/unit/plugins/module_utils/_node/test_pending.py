# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a restart that is still due."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import (
    PendingRestart,
    clear_pending,
    pending_of,
    read_pending,
    state_folder,
    write_pending,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceState
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost

PENDING = PendingRestart(12, "Sun Nov 22", ("a reason", "é"))


@pytest.mark.parametrize(("system", "folder"), [("Darwin", "/var/db/metalfleet"), ("Linux", "/var/lib/metalfleet")])
def test_the_record_is_kept_where_the_system_keeps_such_things(system: str, folder: str) -> None:
    host = MemoryHost(system=system)
    assert state_folder(host) == folder  # type: ignore[arg-type]
    write_pending(host, PENDING)  # type: ignore[arg-type]
    assert list(host.files) == [f"{folder}/pending-restart.json"]
    assert host.files[f"{folder}/pending-restart.json"].mode == 0o600
    assert read_pending(host) == PENDING  # type: ignore[arg-type]
    clear_pending(host)  # type: ignore[arg-type]
    assert host.files == {}
    assert read_pending(host) is None  # type: ignore[arg-type]
    clear_pending(host)  # type: ignore[arg-type]


def test_only_the_owner_may_look_into_the_folder() -> None:
    modes = {}

    class Recorder(MemoryHost):
        def make_folder(self, path: str, mode: int) -> None:
            modes[path] = mode
            super().make_folder(path, mode)

    write_pending(Recorder(), PENDING)  # type: ignore[arg-type]
    assert modes == {"/var/db/metalfleet": 0o700}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"1",
        b'"x"',
        b"\xff",
        b"{}",
        b'{"pid": 1, "started": ""}',
        b'{"pid": 1, "reasons": []}',
        b'{"pid": 1, "started": "", "reasons": 5}',
    ],
)
def test_a_record_that_cannot_be_understood_is_none(data: bytes) -> None:
    assert read_pending(MemoryHost(files={"/var/db/metalfleet/pending-restart.json": data})) is None  # type: ignore[arg-type]


STATE = ServiceState(True, True, 12, "Sun Nov 22")
OTHER = ServiceState(True, True, 13, "Sun Nov 22")
STOPPED = ServiceState(False, False)


@pytest.mark.parametrize(
    ("pid", "started", "due"),
    [(12, "Sun Nov 22", True), (13, "Sun Nov 22", False), (12, "Sun Nov 23", False), (12, None, False), (None, "Sun Nov 22", False)],
)
def test_where_the_environment_cannot_be_seen_a_restart_is_due_for_the_same_process(
    pid: t.Optional[int], started: t.Optional[str], due: bool
) -> None:
    assert PENDING.is_due(ServiceState(True, True, pid, started), None) is due


@pytest.mark.parametrize("state", [STATE, OTHER])
def test_where_it_can_be_seen_a_restart_is_due_while_something_is_there_that_is_no_longer_wanted(state: ServiceState) -> None:
    pending = PendingRestart(12, "Sun Nov 22", ("a reason",), gone=("A", "B"))
    assert pending.is_due(state, {"B": "", "C": "1"})
    assert not pending.is_due(state, {"C": "1"})
    assert not PENDING.is_due(state, {"C": "1"})


def test_a_service_that_we_stopped_has_to_come_back() -> None:
    stopping = PendingRestart(12, "Sun Nov 22", ("a reason",), stopping=True)
    assert stopping.is_due(STOPPED, None)
    assert stopping.is_due(STATE, None)
    assert not stopping.is_due(OTHER, None)
    assert not PENDING.is_due(STOPPED, None)


def test_a_job_that_we_stopped_and_that_was_idle_has_to_be_known_again() -> None:
    stopping = PendingRestart(12, "Sun Nov 22", ("a reason",), stopping=True, was_idle=True)
    assert stopping.is_due(STOPPED, None)
    assert not stopping.is_due(ServiceState(True, False), {})


def test_a_program_that_was_replaced_is_so_until_its_process_has_gone() -> None:
    replaced = PendingRestart(12, "Sun Nov 22", ("a reason",), replaced=True)
    assert replaced.is_due(STATE, {"A": "1"})
    assert replaced.is_due(STATE, None)
    assert not replaced.is_due(OTHER, {"A": "1"})
    assert not replaced.is_due(OTHER, None)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(PendingRestart)])
def test_a_record_of_which_something_is_missing_is_none(field: str) -> None:
    content = dataclasses.asdict(PENDING)
    assert pending_of(content) == PENDING
    del content[field]
    with pytest.raises(KeyError):
        pending_of(content)


@pytest.mark.parametrize("field", ["stopping", "replaced", "was_idle"])
def test_the_record_keeps_all_that_it_was_given(field: str) -> None:
    host = MemoryHost()
    pending = PendingRestart(12, None, ("a reason",), gone=("A",), futile="abc", **{field: True})  # type: ignore[arg-type]
    write_pending(host, pending)  # type: ignore[arg-type]
    assert read_pending(host) == pending  # type: ignore[arg-type]
