# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which instances run with old parameters, as whole runs on a GPUStack in memory find it out."""

from __future__ import annotations

import itertools
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.transport import UnansweredError
from ansible_collections.metalfleet.gpustack.tests.unit.memory_gpustack import MemoryGpustack, MemoryTransport
from ansible_collections.metalfleet.gpustack.tests.unit.memory_world import downloading
from ansible_collections.metalfleet.gpustack.tests.unit.model_runs import IN_ORDER, OTHER, Runs, on
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import Reply, Seen


@pytest.fixture
def server() -> MemoryGpustack:
    return MemoryGpustack()


@pytest.fixture
def runs(server: MemoryGpustack, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return on(server, monkeypatch)


def logs_read(server: MemoryGpustack) -> list[str]:
    return [seen.path for seen in server.calls if seen.path.endswith("/logs")]


def test_parameters_that_somebody_changed_without_a_restart(runs: Runs, server: MemoryGpustack) -> None:
    server.add(replicas=2, **IN_ORDER)
    server.add("other", **IN_ORDER)
    names = sorted(server.names())
    server.change(**OTHER)
    server.clock.pause(60)
    pending = runs.finished(restart="never")
    assert (pending.model()["action"], pending.model()["restart_pending"], pending.result["changed"]) == ("none", names, False)
    # Two calls for two suspects, none for the model to which nothing has happened.
    assert len(logs_read(server)) == 2
    run = runs.finished()
    assert (run.model()["restarted"], run.model()["changed"]) == (names, True)
    assert server.running_with() == [OTHER["backend_parameters"]] * 2
    assert server.writes == ["DELETE /v1/model-instances/2", "DELETE /v1/model-instances/1"]
    assert run.model("other")["restarted"] == []


def test_a_change_that_was_taken_back_by_hand(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    server.change(**OTHER)
    server.clock.pause(60)
    server.change(**IN_ORDER)
    run = runs.finished()
    assert (run.result["changed"], run.warnings, len(logs_read(server))) == (False, (), 1)


def test_a_restart_that_somebody_did_by_hand(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    server.change(**OTHER)
    server.worker_is(server.of()[0]["worker_id"], "not_ready")
    server.settle()
    assert (runs.finished().result["changed"], logs_read(server)) == (False, [])


def test_the_log_is_asked_for_from_its_beginning(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    server.change(description="for people")
    server.clock.pause(60)
    assert runs.finished().result["changed"] is False
    (seen,) = [seen for seen in server.calls if seen.path.endswith("/logs")]
    assert (seen.path, seen.query) == ("/v1/model-instances/1/logs", {"follow": "true"})


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (
            Reply(b"Error fetching serving logs: Cannot connect to host 10.0.0.1\n", 500, "text/plain"),
            "status 500 with something instead of",
        ),
        (Reply({"code": 404, "reason": "NotFound", "message": "Model instance's worker not found"}, 404), "worker not found (status 404"),
        (Reply(b"<html>", 502, "text/html"), "status 502 from something that stands before GPUStack's server"),
        ("", "its log does not begin with the command line of llama-box"),
        ("srv: GET /health 200\n", "its log does not begin with the command line of llama-box"),
    ],
)
def test_a_log_that_cannot_be_read_is_a_warning_and_no_restart(runs: Runs, server: MemoryGpustack, log: t.Any, why: str) -> None:
    server.add(**IN_ORDER)
    (name,) = server.names()
    server.change(**OTHER)
    server.clock.pause(60)
    server.logs[name] = log
    run = runs.finished()
    (warning,) = run.warnings
    assert warning.startswith(f"whether the instance {name} runs with the parameters of its model cannot be told, so it is left alone (")
    assert why in warning
    assert warning.endswith("); delete it in GPUStack, which starts it anew, if in doubt")
    assert (run.result["changed"], server.names(), server.writes) == (False, [name], [])


def test_a_log_that_the_network_keeps_is_a_warning_too(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    server.change(**OTHER)
    server.clock.pause(60)

    def cut(seen: Seen) -> None:
        if seen.path.endswith("/logs"):
            raise UnansweredError("no answer (timed out)")

    server.before = cut
    assert "no answer (timed out)" in runs.finished().warnings[0]


def test_a_log_that_cannot_be_read_of_one_is_no_matter_to_another(runs: Runs, server: MemoryGpustack) -> None:
    server.add(replicas=2, **IN_ORDER)
    first, second = server.names()
    server.change(**OTHER)
    server.clock.pause(60)
    server.logs[second] = ""
    run = runs.finished()
    assert (run.model()["restarted"], len(run.warnings)) == ([first], 1)


def test_what_is_on_its_way_may_say_it_later(runs: Runs, server: MemoryGpustack) -> None:
    server.lives = lambda _model: downloading(1.0)
    server.add(**IN_ORDER)
    server.change(**OTHER)
    server.clock.pause(60)
    run = runs.finished()
    assert (run.warnings, run.result["changed"], len(logs_read(server))) == ((), False, 1)


def test_what_is_started_anew_anyhow_is_not_asked(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    server.change(**OTHER)
    server.clock.pause(60)
    assert runs.finished({"name": "chat", "backend_parameters": ["--ctx-size=1"]}).model()["restarted"] != []
    assert logs_read(server) == []


def test_what_the_collection_marked_is_believed_without_a_log(runs: Runs, server: MemoryGpustack) -> None:
    server.add(replicas=2, **IN_ORDER)
    names = sorted(server.names())
    runs.finished({"name": "chat", "env": {"A": "1"}}, restart="never")
    server.logs = dict.fromkeys(names, "")
    run = runs.finished({"name": "chat", "env": {"A": "1"}})
    assert (run.model()["restarted"], run.warnings, logs_read(server)) == (names, (), [])


def test_the_head_of_a_long_log_is_enough(runs: Runs, server: MemoryGpustack, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add(**IN_ORDER)
    (name,) = server.names()
    server.change(**OTHER)
    server.clock.pause(60)
    limits: list[int] = []
    line = t.cast(str, server.logs[name]).splitlines(keepends=True)[1]
    asked: list[bool] = []

    class Watched(MemoryTransport):
        def beginning(self, path: str, timeout_seconds: float, most_bytes: int, enough: t.Callable[[str], bool]) -> t.Any:
            limits.append(most_bytes)
            # A line is believed when it is whole.
            asked.extend(enough(text) for text in ("", line[:-20], line[:-1], line, f"Preparing\n{line}more"))
            return super().beginning(path, timeout_seconds, most_bytes, enough)

    monkeypatch.setattr(client, "Transport", lambda connection, _clock: Watched(server, connection))
    runs.finished()
    assert (limits, asked) == ([256 * 1024], [False, False, False, True, True])


def test_a_worker_that_comes_back_makes_no_suspect(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    for state in ("unreachable", "ready"):
        server.clock.pause(60)
        server.worker_is(server.of()[0]["worker_id"], state)
        server.settle()
        assert runs.finished(restart="never").model()["restart_pending"] == []
    assert len(logs_read(server)) <= 2


def test_other_backends_are_not_asked(runs: Runs, server: MemoryGpustack) -> None:
    counter = itertools.count()
    server.add("vllm", backend="vllm", local_path="/models/vllm", cpu_offloading=False, worker_selector={"os": "darwin"})
    server.change("vllm", backend_parameters=[f"--x={next(counter)}"])
    server.clock.pause(60)
    assert (runs.finished().result["changed"], logs_read(server)) == (False, [])
