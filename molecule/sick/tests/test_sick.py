# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""After a release that crashes was taken back, and a sick node was configured; files are compared in converge.yml."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host

OWN = {"mac": "v0.0.154", "linux": "v0.0.171"}


def test_what_was_worse_runs_as_before(host: Host) -> None:
    name = host.backend.get_hostname()
    if name not in OWN:
        seen.assert_llama_box(host, "v0.0.139", "linux-amd64-avx2", starts=3)
        return
    found = seen.look(host)
    builtin = found["llama_box"]["builtin"]
    assert builtin["version"] == OWN[name]
    assert [one["sha256"] for one in found["rpc"]["running"]] == [builtin["sha256"]]
    # The installation, the start just before the role, the release that crashes, the way back.
    assert found["starts"] == 4
    assert len(found["processes"]) == 3
    assert all(seen.VARIABLE in process["environment"] for process in found["processes"])


def test_the_wired_limit_went_back_too(host: Host) -> None:
    if host.backend.get_hostname() == "mac":
        assert seen.sysctl(host, "iogpu.wired_limit_mb") == 0
        assert not host.file("/Library/LaunchDaemons/org.metalfleet.wired-limit.plist").exists
