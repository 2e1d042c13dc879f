# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A virtual Mac, whose paravirtual GPU may need the variable, after the role has run twice."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://virtual"]


def test_virtual_mac_keeps_the_variable_and_is_never_restarted(host: Host) -> None:
    assert seen.read(host, seen.ENVIRONMENT_FILE) == b"GGML_METAL_NO_RESIDENCY=1\n"
    assert [environment[seen.VARIABLE] for _name, environment in seen.processes(host)] == ["1", "1", "1"]
    assert seen.starts(host) == 1
