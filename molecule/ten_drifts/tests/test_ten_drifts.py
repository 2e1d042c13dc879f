# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""After ten kinds of drift and one restart; files are compared in converge.yml."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host

BUILDS = {"mac": "darwin-arm64-metal", "linux": "linux-amd64-avx2", "untouched": "linux-amd64-avx2"}
# The installation and the first run; the drift itself, and the way back.
STARTS = {"mac": 4, "linux": 4, "untouched": 2}


def test_llama_box_is_the_release_everywhere(host: Host) -> None:
    name = host.backend.get_hostname()
    seen.assert_llama_box(host, "v0.0.139", BUILDS[name], starts=STARTS[name])


def test_no_process_has_the_variable_and_all_have_ours(host: Host) -> None:
    found = seen.processes(host)
    assert len(found) == 3
    for _name, environment in found:
        assert seen.VARIABLE not in environment
        assert environment["HF_ENDPOINT"] == "https://hub.example.com"


def test_what_is_no_file(host: Host) -> None:
    if host.backend.get_hostname() == "mac":
        assert seen.sysctl(host, "iogpu.wired_limit_mb") == 475136
        assert not host.run("launchctl getenv %s", seen.VARIABLE).stdout
        assert seen.VARIABLE not in seen.loaded_job(host)
        assert seen.plist_environment(host) == {"HF_ENDPOINT": "https://hub.example.com"}
    else:
        assert seen.VARIABLE not in host.check_output("systemctl show-environment")
