# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""After wrong archives were refused, the right ones were brought."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host

BUILDS = {"mac": "darwin-arm64-metal", "linux": "dl-linux-amd64-cpu", "shared": "linux-amd64-avx2"}


def test_the_slots_and_the_rpc_server_are_the_release_after_one_more_start(host: Host) -> None:
    name = host.backend.get_hostname()
    if name in BUILDS:
        seen.assert_llama_box(host, "v0.0.168", BUILDS[name], starts=2)
        return
    found = seen.look(host)
    assert found["llama_box"]["builtin"]["version"] == "v0.0.171"
    assert found["llama_box"]["pinned"]["v0.0.168"]["files"] == seen.locked("v0.0.168", "dl-darwin-arm64-metal")
    # The pinned slot needs no restart.
    assert found["starts"] == 1


def test_nothing_is_left_of_what_was_pushed(host: Host) -> None:
    assert host.run("find / -xdev -name '*.zip' -not -path '/srv/*' 2>/dev/null | grep .").rc == 1
