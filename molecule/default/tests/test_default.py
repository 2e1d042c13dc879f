# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fault of gpustack#1907 is gone, at the price of one restart."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host


def test_file_no_longer_sets_the_variable(host: Host) -> None:
    assert seen.read(host, seen.ENVIRONMENT_FILE) == b""


def test_no_process_has_the_variable(host: Host) -> None:
    found = seen.processes(host)
    assert len(found) == 3
    assert all(seen.VARIABLE not in environment for _name, environment in found)


def test_service_was_started_by_its_installation_and_restarted_once(host: Host) -> None:
    assert seen.starts(host) == 2
