# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a restart that is still due."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import (
    PendingRestart,
    clear_pending,
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


@pytest.mark.parametrize(
    ("pid", "started", "due"),
    [(12, "Sun Nov 22", True), (13, "Sun Nov 22", False), (12, "Sun Nov 23", False), (12, None, False), (None, "Sun Nov 22", False)],
)
def test_a_restart_is_due_for_the_same_process_only(pid: t.Optional[int], started: t.Optional[str], due: bool) -> None:
    assert PENDING.is_due_for(ServiceState(True, True, pid, started)) is due


@pytest.mark.parametrize(
    ("runs_then", "runs_now", "due"),
    [(1, 2, True), (3, 4, True), (1, 1, False), (3, 1, False), (None, 2, False), (1, None, False)],
)
def test_a_job_that_launchd_started_again_has_its_old_environment(runs_then: int | None, runs_now: int | None, due: bool) -> None:
    pending = PendingRestart.of(ServiceState(True, True, 12, "Sun Nov 22", runs=runs_then), ("a reason",))
    assert pending.is_due_for(ServiceState(True, True, 99, "Sun Nov 29", runs=runs_now)) is due
    assert pending.is_due_for(ServiceState(True, False, None, None, runs=runs_now)) is due


def test_the_record_keeps_the_number_of_runs_and_whether_a_restart_was_futile() -> None:
    host = MemoryHost()
    pending = PendingRestart.of(ServiceState(True, True, 12, "Sun Nov 22", runs=3), ("a reason",), futile=True)
    write_pending(host, pending)  # type: ignore[arg-type]
    assert read_pending(host) == pending == PendingRestart(12, "Sun Nov 22", ("a reason",), True, 3)  # type: ignore[arg-type]
