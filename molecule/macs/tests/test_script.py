# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Mac with install.sh's installation, the variable planted everywhere, after the role has run twice."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://script"]

OURS = (
    b"# BEGIN managed by metalfleet.gpustack\n"
    b"# Set gpustack_node_environment in the inventory instead of editing these lines.\n"
    b"HF_ENDPOINT=https://hub.example.com\n"
    b"HF_TOKEN=canary-secret-1\n"
    b"# END managed by metalfleet.gpustack\n"
)


def test_file_keeps_foreign_lines_and_holds_ours(host: Host) -> None:
    assert seen.read(host, seen.ENVIRONMENT_FILE) == b"# keep me\nKEPT='a b'\n" + OURS


def test_property_list_of_install_sh(host: Host) -> None:
    assert seen.plist_environment(host) == {"HF_ENDPOINT": "https://hub.example.com", "HF_TOKEN": "canary-secret-1"}


def test_neither_job_nor_process_nor_launchd_has_the_variable(host: Host) -> None:
    assert seen.VARIABLE not in seen.loaded_job(host)
    assert not host.run("launchctl getenv GGML_METAL_NO_RESIDENCY").stdout
    found = seen.processes(host)
    assert len(found) == 3
    assert all(seen.VARIABLE not in environment for _name, environment in found)


def test_processes_have_what_was_asked_for(host: Host) -> None:
    for _name, environment in seen.processes(host):
        assert environment["HF_ENDPOINT"] == "https://hub.example.com"
        assert environment["HF_TOKEN"] == "canary-secret-1"


def test_one_restart(host: Host) -> None:
    assert seen.starts(host) == 2
