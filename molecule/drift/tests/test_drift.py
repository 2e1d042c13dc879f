# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""After all kinds of drift and as many runs, the host is as after the first."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host


def test_nothing_of_the_drift_is_left_but_the_foreign_line(host: Host) -> None:
    assert seen.read(host, seen.ENVIRONMENT_FILE) == (
        b"UNRELATED=1\n"
        b"# BEGIN managed by metalfleet.gpustack\n"
        b"# Set gpustack_node_environment in the inventory instead of editing these lines.\n"
        b"HF_ENDPOINT=https://hub.example.com\n"
        b"HF_TOKEN=canary-secret-1\n"
        b"# END managed by metalfleet.gpustack\n"
    )


def test_processes_are_as_wanted(host: Host) -> None:
    found = seen.processes(host)
    assert len(found) == 3
    for _name, environment in found:
        assert seen.VARIABLE not in environment
        assert environment["HF_ENDPOINT"] == "https://hub.example.com"
