# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run says of models that it has not come to. The rest is tested with the runs and with the modules."""

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.tests.unit.memory_gpustack import MemoryGpustack
from ansible_collections.metalfleet.gpustack.tests.unit.memory_world import RUNS, failing
from ansible_collections.metalfleet.gpustack.tests.unit.model_runs import IN_ORDER, OTHER, Runs, on


@pytest.fixture
def server() -> MemoryGpustack:
    return MemoryGpustack()


@pytest.fixture
def runs(server: MemoryGpustack, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return on(server, monkeypatch)


def test_models_that_a_failed_run_has_not_come_to(runs: Runs, server: MemoryGpustack) -> None:
    for name in ("chat", "later", "stale", "same"):
        server.add(name, replicas=2, **IN_ORDER)
    runs.finished({"name": "stale", **OTHER}, restart="never")
    server.lives = lambda model: failing(restarts=2) if model["name"] == "chat" else RUNS
    run = runs.start({"name": "chat", **OTHER}, {"name": "later", **OTHER}, {"name": "stale", **OTHER}, {"name": "same"})
    said = {name: (model["action"], model["changed"], model["restarted"]) for name in server.running for model in [run.model(name)]}
    assert said["chat"][:2] == ("update", True)
    assert (said["later"], said["stale"], said["same"]) == (("update", False, []), ("none", False, []), ("none", False, []))
    # What is still to be started anew is that of which a run before left the parameters behind.
    pending = {name: run.model(name)["restart_pending"] for name in ("later", "stale", "same")}
    assert pending == {"later": [], "stale": sorted(server.names("stale")), "same": []}
    assert [diff["before_header"] for diff in run.result["diff"]] == ["model chat"]
    assert run.result["applied"] is True


def test_a_failed_run_says_what_is_old_still(runs: Runs, server: MemoryGpustack) -> None:
    server.add(replicas=3, **IN_ORDER)
    names = server.names()
    server.before = lambda seen: server.ended and seen.method == "GET" and 1 / 0
    with pytest.raises(ZeroDivisionError):
        runs.start({"name": "chat", **OTHER})
    server.before = lambda _seen: None
    (ended,) = [name for name, _started in server.ended]
    assert runs.finished({"name": "chat"}, restart="never").model()["restart_pending"] == sorted(set(names) - {ended})
