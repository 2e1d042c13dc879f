# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Linux host on which there is nothing to do."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://clean"]


def test_manager_no_longer_gives_the_variable(host: Host) -> None:
    assert seen.VARIABLE not in host.check_output("systemctl show-environment")


def test_untouched_host_has_no_file_and_no_restart(host: Host) -> None:
    assert seen.read(host, seen.ENVIRONMENT_FILE) is None
    assert seen.starts(host) == 1
