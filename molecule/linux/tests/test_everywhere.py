# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Linux host with the variable planted everywhere, after the role has run twice."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://everywhere"]


def test_file_keeps_foreign_lines_and_holds_ours(host: Host) -> None:
    assert seen.read(host, seen.ENVIRONMENT_FILE) == (
        b"# keep me\nKEPT='a b'\n"
        b"# BEGIN managed by metalfleet.gpustack\n"
        b"# Set gpustack_node_environment in the inventory instead of editing these lines.\n"
        b"HF_ENDPOINT=https://hub.example.com\n"
        b"HF_TOKEN=canary-secret-1\n"
        b"# END managed by metalfleet.gpustack\n"
    )


def test_drop_in_keeps_its_other_assignments(host: Host) -> None:
    drop_in = seen.read(host, "/etc/systemd/system/gpustack.service.d/tuning.conf")
    assert drop_in == b'[Service]\nEnvironment="KEPT=a b" ALSO_KEPT=2\n'


def test_manager_no_longer_gives_the_variable(host: Host) -> None:
    assert seen.VARIABLE not in host.check_output("systemctl show-environment")


def test_processes_have_what_was_asked_for_and_not_the_variable(host: Host) -> None:
    found = seen.processes(host)
    assert len(found) == 3
    for _name, environment in found:
        assert seen.VARIABLE not in environment
        assert environment["HF_TOKEN"] == "canary-secret-1"
        assert environment["ALSO_KEPT"] == "2"


def test_one_restart(host: Host) -> None:
    assert seen.starts(host) == 2
