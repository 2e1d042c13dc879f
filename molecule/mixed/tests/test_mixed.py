# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Six hosts with GPUStack, of all kinds, after the role has run twice."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host

# Starts: one by the installation, one more where the service ran with the variable.
EXPECTED_STARTS = {"ultra": 2, "mini": 2, "max": 2, "paravirtual": 1, "rosetta": 1, "debian": 2}

testinfra_hosts = [f"ansible://{name}" for name in EXPECTED_STARTS]


def test_variable_is_alive_only_where_it_may_be(host: Host) -> None:
    allowed = host.backend.get_hostname() == "paravirtual"
    assert [seen.VARIABLE in environment for _name, environment in seen.processes(host)] == [allowed, allowed]


def test_starts(host: Host) -> None:
    assert seen.starts(host) == EXPECTED_STARTS[host.backend.get_hostname()]
