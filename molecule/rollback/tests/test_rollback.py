# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""After the rollback; that all files are as before is compared in back.yml."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host

OWN = {"mac": "v0.0.136", "linux": "v0.0.171"}


def test_the_service_runs_what_it_ran_before_and_was_started_three_times(host: Host) -> None:
    found = seen.look(host)
    builtin = found["llama_box"]["builtin"]
    assert builtin["version"] == OWN[host.backend.get_hostname()]
    assert [one["sha256"] for one in found["rpc"]["running"]] == [builtin["sha256"]]
    assert found["llama_box"]["pinned"] == {}
    # The installation, the run, the way back.
    assert found["starts"] == 3
    assert len(found["processes"]) == 3
    assert all(seen.VARIABLE in process["environment"] for process in found["processes"])


def test_what_is_no_file_is_as_before(host: Host) -> None:
    if host.backend.get_hostname() == "mac":
        assert seen.sysctl(host, "iogpu.wired_limit_mb") == 0
        assert host.check_output("launchctl getenv %s", seen.VARIABLE) == "1"
    else:
        assert f"{seen.VARIABLE}=1" in host.check_output("systemctl show-environment")
