# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that were brought to their state by one task or by three; files are compared in converge.yml."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host


def test_llama_box_after_one_more_start(host: Host) -> None:
    build = "darwin-arm64-metal" if host.backend.get_hostname().startswith("mac") else "dl-linux-amd64-cpu"
    seen.assert_llama_box(host, "v0.0.168", build, starts=2)


def test_processes_have_what_was_asked_for_and_not_the_variable(host: Host) -> None:
    found = seen.processes(host)
    assert len(found) == 3
    for _name, environment in found:
        assert seen.VARIABLE not in environment
        assert (environment["HF_ENDPOINT"], environment["HF_TOKEN"]) == ("https://hub.example.com", "canary-secret-1")


def test_wired_limit_and_launchd(host: Host) -> None:
    if host.backend.get_hostname().startswith("mac"):
        assert seen.sysctl(host, "iogpu.wired_limit_mb") == 475136
        assert not host.run("launchctl getenv %s", seen.VARIABLE).stdout
