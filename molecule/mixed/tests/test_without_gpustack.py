# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts without GPUStack, for which nothing was asked."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://future", "ansible://bare"]


def test_no_file_was_made(host: Host) -> None:
    assert seen.read(host, seen.ENVIRONMENT_FILE) is None


def test_nothing_runs(host: Host) -> None:
    assert seen.processes(host) == []
