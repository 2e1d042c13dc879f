# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs that die at each of their calls, before the server hears of it and after it has done it, and the run after them."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.instance_age import unmarked
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import ServerError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.transport import UnansweredError
from ansible_collections.metalfleet.gpustack.tests.unit.memory_gpustack import MemoryGpustack
from ansible_collections.metalfleet.gpustack.tests.unit.memory_world import RUNS, failing
from ansible_collections.metalfleet.gpustack.tests.unit.model_runs import IN_ORDER, DeathError, Runs, on
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import Reply, Seen
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import Json

PARAMETERS: Json = {"name": "chat", "backend_parameters": ["--ctx-size=8192"]}
# No command line shows it.
ENV: Json = {"name": "chat", "env": {"B": "2"}}
BOTH: Json = {"name": "chat", "backend_parameters": ["--ctx-size=8192"], "env": {"B": "2"}, "description": "new"}


def prepared(monkeypatch: pytest.MonkeyPatch, lazy: bool, replicas: int = 2) -> t.Tuple[MemoryGpustack, Runs]:
    server = MemoryGpustack()
    server.lazy = lazy
    server.add(replicas=replicas, env={"A": "1"}, **IN_ORDER)
    server.running["chat"] = [replicas]
    return server, on(server, monkeypatch)


def counts(server: MemoryGpustack, wanted: Json, **options: t.Any) -> int:
    """How many calls a run makes that nothing disturbs."""
    before = len(server.calls)
    with pytest.MonkeyPatch.context() as patched:
        on(server, patched).finished(wanted, **options)
    return len(server.calls) - before


def at(server: MemoryGpustack, number: int, after: bool, do: t.Callable[[], t.Optional[Reply]]) -> None:
    """At the call of that number, before or after it is carried out."""
    last = len(server.calls) + number

    def hook(_seen: Seen) -> t.Optional[Reply]:
        return do() if len(server.calls) == last else None

    server.before, server.after = (lambda _seen: None, hook) if after else (hook, lambda _seen: None)


def undisturbed(server: MemoryGpustack) -> None:
    server.before = server.after = lambda _seen: None


def die() -> t.Optional[Reply]:
    raise DeathError


def has(started: t.Optional[Json], wanted: Json) -> bool:
    """Whether a process was started with what is wanted."""
    parameters = wanted.get("backend_parameters", ["--ctx-size=4096"])
    env = wanted.get("env", {"A": "1"})
    return started is not None and started["backend_parameters"][-1:] == parameters and unmarked(started["env"]) == env


@pytest.mark.parametrize(
    ("lazy", "restart", "wanted", "later"),
    [
        (False, "one_by_one", PARAMETERS, 0),
        (True, "one_by_one", ENV, 0),
        (False, "one_by_one", BOTH, 3600),
        (True, "together", BOTH, 0),
        (False, "together", ENV, 3600),
    ],
    ids=["parameters", "env", "both later", "together", "together later"],
)
def test_the_run_after_one_that_died_finishes(
    monkeypatch: pytest.MonkeyPatch, lazy: bool, restart: str, wanted: Json, later: float
) -> None:
    calls = counts(prepared(monkeypatch, lazy)[0], wanted, restart=restart)
    assert calls > 15
    for number in range(1, calls + 1):
        for after in (False, True):
            server, runs = prepared(monkeypatch, lazy)
            at(server, number, after, die)
            with pytest.raises(DeathError):
                runs.start(wanted, restart=restart)
            undisturbed(server)
            if later:
                server.settle()
                server.clock.pause(later)
            where = f"died at call {number} ({server.asked[-1]}), after it was done: {after}"
            announced = runs.finished(wanted, restart=restart, check_mode=True)
            run = runs.finished(wanted, restart=restart)
            if later:
                # Nothing happened in between.
                assert (announced.result["changed"], announced.model()) == (run.result["changed"], run.model()), where
            if run.result["changed"]:
                assert [one["state"] for one in server.of()] == ["running", "running"], where
            server.settle()
            assert [has(server.started[name], wanted) for name in server.names()] == [True, True], where
            assert [one["state"] for one in server.of()] == ["running", "running"], where
            # No instance is ended that has what is wanted.
            assert [name for name, started in server.ended if has(started, wanted)] == [], where
            assert len(server.ended) == 2, where
            if restart == "one_by_one":
                assert min(server.running["chat"]) == 1, where
            last = runs.finished(wanted, restart=restart)
            assert (last.result["changed"], last.model()["restart_pending"], last.warnings) == (False, [], ()), where


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("answer", ["cut", "502", "500"])
def test_the_run_after_one_whose_call_failed_finishes(monkeypatch: pytest.MonkeyPatch, after: bool, answer: str) -> None:
    def fail() -> t.Optional[Reply]:
        if answer == "cut":
            raise UnansweredError("no answer (the connection was cut)")
        return Reply(b"<html>", 502, "text/html") if answer == "502" else Reply({"code": 500, "reason": "x", "message": "locked"}, 500)

    calls = counts(prepared(monkeypatch, False)[0], BOTH)
    for number in range(1, calls + 1):
        server, runs = prepared(monkeypatch, False)
        at(server, number, after, fail)
        try:
            first = runs.start(BOTH)
        except ServerError:
            # Before anything was begun.
            assert server.writes == []
        else:
            if server.calls[-1].method == "GET" and answer != "500":
                assert first.error is None
        undisturbed(server)
        runs.finished(BOTH)
        server.settle()
        where = f"failed at call {number}"
        assert [has(server.started[name], BOTH) for name in server.names()] == [True, True], where
        assert ([name for name, started in server.ended if has(started, BOTH)], len(server.ended)) == ([], 2), where
        assert runs.finished(BOTH).result["changed"] is False, where


@pytest.mark.parametrize("wanted", [{"name": "new", "source": "local_path", "local_path": "/m.gguf"}, {"name": "chat", "state": "absent"}])
def test_the_run_after_one_that_died_has_created_or_deleted(monkeypatch: pytest.MonkeyPatch, wanted: Json) -> None:
    calls = counts(prepared(monkeypatch, False)[0], wanted)
    for number in range(1, calls + 1):
        for after in (False, True):
            server, runs = prepared(monkeypatch, False)
            at(server, number, after, die)
            with pytest.raises(DeathError):
                runs.start(wanted)
            undisturbed(server)
            runs.finished(wanted)
            server.settle()
            names = [model["name"] for model in server.models.values()]
            assert names == (["chat", "new"] if wanted["name"] == "new" else [])
            assert len(server.instances) == (3 if names else 0)


def test_a_run_that_dies_while_it_puts_parameters_back(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = {"name": "chat", "backend_parameters": ["--bad"]}

    def sick(server: MemoryGpustack) -> None:
        server.lives = lambda model: failing(restarts=2) if "--bad" in model["backend_parameters"] else RUNS

    server, runs = prepared(monkeypatch, False)
    sick(server)
    before = len(server.calls)
    runs.start(bad)
    calls = len(server.calls) - before
    for number in range(1, calls + 1):
        for after in (False, True):
            server, runs = prepared(monkeypatch, False)
            sick(server)
            at(server, number, after, die)
            with pytest.raises(DeathError):
                runs.start(bad)
            undisturbed(server)
            # Whoever wants what was there gets it, from wherever.
            good = {"name": "chat", **IN_ORDER}
            runs.finished(good)
            server.settle()
            where = f"died at call {number}, {after}"
            assert server.running_with() == [IN_ORDER["backend_parameters"]] * 2, where
            assert runs.finished(good).result["changed"] is False, where
