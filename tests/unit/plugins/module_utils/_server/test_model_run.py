# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes of models, and which instances are started anew for them, on a GPUStack in memory."""

from __future__ import annotations

import itertools
import re
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.instance_age import MARK, unmarked
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import ApiError, ServerError, UnreachableError
from ansible_collections.metalfleet.gpustack.tests.unit.memory_gpustack import MemoryGpustack
from ansible_collections.metalfleet.gpustack.tests.unit.memory_world import NO_WORKER, RUNS, downloading, failing
from ansible_collections.metalfleet.gpustack.tests.unit.model_runs import IN_ORDER, OTHER, Runs, on, state_of
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import Reply, Seen
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import Json

NEW: Json = {"name": "chat", "source": "local_path", "local_path": "/models/chat.gguf"}
WANTED: Json = {"name": "chat", "backend_parameters": ["--ctx-size=8192"]}


@pytest.fixture
def server() -> MemoryGpustack:
    return MemoryGpustack()


@pytest.fixture
def runs(server: MemoryGpustack, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return on(server, monkeypatch)


def bad_with(parameter: str, steps: t.Any = None) -> t.Callable[[Json], t.Any]:
    """Instances fail with a parameter, and run without it."""
    return lambda model: (steps or failing(restarts=2)) if parameter in model["backend_parameters"] else RUNS


# Creating and deleting.


def test_a_model_is_created_with_the_flag_and_runs(runs: Runs, server: MemoryGpustack) -> None:
    run = runs.finished({**NEW, "replicas": 2})
    assert (run.model()["action"], run.model()["changed"], run.model()["restarted"]) == ("create", True, [])
    assert server.model()["backend_parameters"] == ["--no-mmap"]
    assert server.running_with() == [["--no-mmap"], ["--no-mmap"]]
    assert run.progress[0] == "chat: created"
    assert run.progress[-1] == "chat: 2 of 2 running"
    assert server.writes == ["POST /v1/models"]
    assert runs.finished({**NEW, "replicas": 2}).result["changed"] is False


def test_a_model_is_deleted_with_its_instances(runs: Runs, server: MemoryGpustack) -> None:
    server.add(replicas=2)
    run = runs.finished({"name": "chat", "state": "absent"})
    assert (run.model()["action"], run.model()["changed"], server.models, server.instances) == ("delete", True, {}, {})
    assert run.progress == ["chat: deleted, with its instances (2)"]
    again = runs.finished({"name": "chat", "state": "absent"})
    assert (again.model()["action"], again.result["changed"], server.writes) == ("none", False, ["DELETE /v1/models/1"])


def test_deleting_waits_until_the_instances_are_gone(runs: Runs, server: MemoryGpustack) -> None:
    server.add()
    (instance,) = server.of()
    looks = itertools.count()

    def lingers(seen: Seen) -> t.Optional[Reply]:
        gone = {"name": "other", "id": 7, "model_id": 1, "model_name": "other"}
        if seen.path == "/v1/model-instances" and "model_id" in seen.query and next(looks) < 3:
            items = [instance, gone]
            return Reply({"items": items, "pagination": {"page": 1, "perPage": 100, "total": len(items), "totalPage": 1}})
        return None

    server.before = lingers
    before = server.clock.now
    runs.finished({"name": "chat", "state": "absent"})
    assert (next(looks), server.clock.now - before) == (4, 3.0)


def test_instances_that_stay_after_deleting_are_an_error(runs: Runs, server: MemoryGpustack) -> None:
    server.add()
    items = server.of()
    page = {"items": items, "pagination": {"page": 1, "perPage": 100, "total": 1, "totalPage": 1}}
    server.before = lambda seen: Reply(page) if seen.path == "/v1/model-instances" and seen.query.get("model_id") else None
    run = runs.start({"name": "chat", "state": "absent"}, wait_timeout_seconds=5)
    assert run.message == f"the model chat is deleted, and {items[0]['name']} is still there after 5 seconds"


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        (failing("exit 1", restarts=2), "chat-{} on mac-1: exit 1"),
        (NO_WORKER, "GPUStack finds no worker for chat-{}: No suitable workers. Details: - it is too large"),
        (("analyzing", "scheduled", "initializing", "starting"), "after 30 seconds: 0 of 1 running, chat-{} starting on mac-1"),
    ],
)
def test_a_new_model_that_does_not_run_is_deleted_again(runs: Runs, server: MemoryGpustack, steps: t.Any, why: str) -> None:
    server.lives = lambda _model: steps
    options = {"wait_timeout_seconds": 30} if "30" in why else {}
    run = runs.start(NEW, **options)
    (name,) = [name for name, _started in server.ended]
    words = why.format(name.rpartition("-")[2])
    assert re.sub("after 3. seconds", "after 30 seconds", run.message).startswith(f"the model chat does not run: {words}")
    assert run.message.endswith("; it was deleted again, so that the server is as before")
    assert (server.models, server.writes) == ({}, ["POST /v1/models", "DELETE /v1/models/1"])
    # That it was changed is said, though it was changed back.
    assert (run.model()["changed"], run.result["changed"]) == (True, True)


def test_a_new_model_that_is_being_fetched_at_the_limit_is_left(runs: Runs, server: MemoryGpustack) -> None:
    server.lives = lambda _model: downloading(0.0, 34.25)
    run = runs.start(NEW, wait_timeout_seconds=60)
    assert run.message.endswith(
        "; it was left as it is, since its files are still being fetched: run again later, or with a longer wait_timeout_seconds"
    )
    assert "downloading 34.2 % on mac-1" in run.message
    assert (len(server.models), server.writes) == (1, ["POST /v1/models"])
    assert run.progress[-1].endswith("downloading 34.2 % on mac-1")


def test_a_model_whose_name_somebody_took_meanwhile(runs: Runs, server: MemoryGpustack) -> None:
    server.before = lambda seen: server.add() and None if seen.method == "POST" and seen.path == "/v1/models" else None
    run = runs.start(NEW)
    assert isinstance(run.error, ApiError)
    assert (run.error.status, run.error.reason, run.result["changed"]) == (409, "AlreadyExists", False)


# Changing.


def test_a_change_starts_exactly_the_instances_of_its_model_anew(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    server.add("other", **IN_ORDER)
    chat, other = server.names(), server.names("other")
    run = runs.finished(WANTED)
    assert run.model()["restarted"] == chat
    assert (run.model()["fields"], run.model()["changed"]) == ({"backend_parameters": ["--no-mmap", "--ctx-size=8192"]}, True)
    assert server.running_with() == [["--no-mmap", "--ctx-size=8192"]]
    assert (server.names("other"), server.names() == chat) == (other, False)
    assert server.writes == ["PUT /v1/models/1", "DELETE /v1/model-instances/1"]
    assert runs.finished(WANTED).result["changed"] is False


def test_the_policy_is_applied_to_models_that_nobody_speaks_of(runs: Runs, server: MemoryGpustack) -> None:
    server.add(backend_parameters=["--mmap"])
    server.add("vllm", backend="vllm", local_path="/models/vllm", cpu_offloading=False)
    run = runs.finished()
    assert (server.running_with(), run.model("vllm")["action"]) == ([["--no-mmap"]], "none")
    assert runs.finished().result["changed"] is False


def test_fields_that_no_instance_reads_restart_nothing(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    names = server.names()
    fields = {"description": "for people", "placement_strategy": "binpack", "restart_on_error": False}
    run = runs.finished({"name": "chat", **fields})
    assert (run.model()["restarted"], server.names(), {field: server.model()[field] for field in fields}) == ([], names, fields)
    assert (server.writes, MARK in (server.model()["env"] or {})) == (["PUT /v1/models/1"], False)


def test_more_replicas_are_waited_for_and_fewer_are_not(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    (first,) = server.names()
    run = runs.finished({"name": "chat", "replicas": 3})
    assert (run.progress[-1], run.model()["restarted"], first in server.names()) == ("chat: 3 of 3 running", [], True)
    run = runs.finished({"name": "chat", "replicas": 1})
    assert (len(server.names()), run.model()["restarted"]) == (1, [])


def test_a_model_that_was_renamed(runs: Runs, server: MemoryGpustack) -> None:
    server.add(replicas=2, **IN_ORDER)
    names = sorted(server.names())
    server.model()["name"] = "new name"
    server.settle()
    server.running["new name"] = [2]
    run = runs.finished({"name": "new name", **OTHER})
    assert (run.model("new name")["restarted"], server.running["new name"]) == (names, [2, 1, 2, 1, 2])
    assert server.clock.now < 200


@pytest.mark.parametrize("lazy", [False, True])
def test_one_after_the_other(runs: Runs, server: MemoryGpustack, lazy: bool) -> None:
    server.lazy = lazy
    server.add(replicas=3, **IN_ORDER)
    before = server.names()
    server.running["chat"] = [3]
    run = runs.finished(WANTED)
    assert sorted(run.model()["restarted"]) == sorted(before)
    # Never more than one is down.
    assert server.running["chat"] == [3, 2, 3, 2, 3, 2, 3]
    assert server.running_with() == [["--no-mmap", "--ctx-size=8192"]] * 3


def test_all_together(runs: Runs, server: MemoryGpustack) -> None:
    server.add(replicas=3, **IN_ORDER)
    server.add("other", backend_parameters=[])
    server.running["chat"] = [3]
    run = runs.finished(WANTED, restart="together")
    # None is waited for before the next is ended.
    assert server.running["chat"][:4] == [3, 2, 1, 0]
    assert server.running_with() == [["--no-mmap", "--ctx-size=8192"]] * 3
    assert server.running_with("other") == [["--no-mmap"]]
    deletes = [write for write in server.writes if write.startswith("DELETE")]
    assert (len(deletes), len(run.model()["restarted"])) == (4, 3)
    # Both models are written to before the first instance is ended.
    assert server.writes[:2] == ["PUT /v1/models/1", "PUT /v1/models/2"]


@pytest.mark.parametrize("bad", [False, True])
def test_all_together_gets_no_successor_too_many(runs: Runs, server: MemoryGpustack, bad: bool) -> None:
    server.lazy = True
    server.add(replicas=3, **IN_ORDER)
    server.lives = bad_with("--ctx-size=8192") if bad else lambda _model: RUNS
    runs.start(WANTED, restart="together")
    # The old ones, and where they are put back the new ones, too.
    assert len(server.ended) == (6 if bad else 3)


def test_one_by_one_begins_a_model_when_the_one_before_is_done(runs: Runs, server: MemoryGpustack) -> None:
    server.add(backend_parameters=[])
    server.add("other", backend_parameters=[])
    runs.finished()
    one, other = (["PUT /v1/models/1", "DELETE /v1/model-instances/1"], ["PUT /v1/models/2", "DELETE /v1/model-instances/2"])
    assert server.writes in ([*one, *other], [*other, *one])
    assert server.running["chat"][-2:] == server.running["other"][-2:] == [0, 1]


def test_never_reports_what_is_pending_until_a_run_restarts_it(runs: Runs, server: MemoryGpustack) -> None:
    server.add(replicas=2, **IN_ORDER)
    names = sorted(server.names())
    first = runs.finished(WANTED, restart="never")
    assert (first.model()["restart_pending"], first.model()["restarted"], first.model()["changed"]) == (names, [], True)
    writes = len(server.writes)
    for _ in range(2):
        again = runs.finished(WANTED, restart="never")
        assert (again.model()["restart_pending"], again.result["changed"]) == (names, False)
    assert len(server.writes) == writes
    last = runs.finished(WANTED)
    assert (last.model()["restart_pending"], last.model()["restarted"], last.model()["changed"]) == ([], names, True)
    assert server.running_with() == [["--no-mmap", "--ctx-size=8192"]] * 2
    assert runs.finished(WANTED).result["changed"] is False


def test_never_with_more_replicas(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    names = server.names()
    run = runs.finished({"name": "chat", "replicas": 2, **OTHER}, restart="never")
    assert (run.model()["restart_pending"], run.progress[-1]) == (names, "chat: 1 of 1 running")
    assert server.running_with() == [IN_ORDER["backend_parameters"], OTHER["backend_parameters"]]


def test_never_without_waiting(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    names = server.names()
    run = runs.finished(WANTED, restart="never", wait=False)
    assert (run.model()["restart_pending"], run.model()["restarted"], server.names()) == (names, [], names)


@pytest.mark.parametrize(
    "fields",
    [
        {"env": {"A": "2"}},
        {"worker_selector": {"worker-name": "mac-2"}},
        {"gpu_ids": ["mac-2:mps:0"]},
        {"cpu_offloading": False},
        {"distributed_inference_across_workers": False},
        {"categories": ["reranker"]},
        {"backend_version": "v0.0.139"},
        {"source": "local_path", "local_path": "/models/other.gguf"},
    ],
)
def test_a_pending_restart_that_no_command_line_shows(runs: Runs, server: MemoryGpustack, fields: Json) -> None:
    server.add(env={"A": "1"}, **IN_ORDER)
    names = server.names()
    wanted = {"name": "chat", **fields}
    assert runs.finished(wanted, restart="never").model()["restart_pending"] == names
    assert runs.finished(wanted, restart="never").model()["restart_pending"] == names
    assert runs.finished(wanted).model()["restarted"] == names
    assert runs.finished(wanted).result["changed"] is False


def test_a_second_change_before_the_restart_of_the_first(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    names = server.names()
    runs.finished(WANTED, restart="never")
    assert runs.finished({"name": "chat", "env": {"A": "1"}}, restart="never").model()["restart_pending"] == names
    assert runs.finished({"name": "chat", "env": {"A": "1"}}).model()["restarted"] == names


def test_without_waiting(runs: Runs, server: MemoryGpustack) -> None:
    server.add(replicas=2, **IN_ORDER)
    server.lives = lambda _model: NO_WORKER
    before = server.clock.now
    run = runs.finished(WANTED, {"name": "new", "source": "local_path", "local_path": "/m.gguf"}, wait=False)
    assert (len(run.model()["restarted"]), run.model("new")["action"]) == (2, "create")
    assert server.clock.now - before < 30
    runs.finished({"name": "new", "state": "absent"}, wait=False)
    assert [model["name"] for model in server.models.values()] == ["chat"]


def test_fewer_replicas_and_other_parameters_in_one(runs: Runs, server: MemoryGpustack) -> None:
    for lazy in (False, True):
        server.lazy = lazy
        server.add(str(lazy), replicas=3, **IN_ORDER)
        run = runs.finished({"name": str(lazy), "replicas": 1, **OTHER}, wait_timeout_seconds=60)
        assert server.running_with(str(lazy)) == [OTHER["backend_parameters"]]
        # What the server itself took away was not restarted by us.
        assert (run.model(str(lazy))["restart_pending"], len(run.model(str(lazy))["restarted"]) >= 1) == ([], True)


def test_more_replicas_and_other_parameters_in_one(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    run = runs.finished({"name": "chat", "replicas": 3, **OTHER})
    assert (server.running_with(), len(run.model()["restarted"])) == ([OTHER["backend_parameters"]] * 3, 1)


def test_no_replicas_are_no_wait(runs: Runs, server: MemoryGpustack) -> None:
    server.add(replicas=0)
    before = server.clock.now
    run = runs.finished(WANTED)
    assert (run.model()["changed"], server.clock.now, server.writes) == (True, before, ["PUT /v1/models/1"])


# What was sick.


def test_a_model_that_did_not_run_before_keeps_its_new_parameters(runs: Runs, server: MemoryGpustack) -> None:
    server.lives = lambda _model: failing("exit 1", restarts=2)
    server.add(**IN_ORDER)
    run = runs.start(WANTED)
    assert run.message.startswith("the model chat does not run: chat-")
    assert run.message.endswith("exit 1; it did not run before either, so its new parameters were left")
    assert server.model()["backend_parameters"] == ["--no-mmap", "--ctx-size=8192"]
    assert server.writes == ["PUT /v1/models/1", "DELETE /v1/model-instances/1"]


@pytest.mark.parametrize("restart", ["one_by_one", "together"])
@pytest.mark.parametrize("sick", [NO_WORKER, failing(restarts=2)])
@pytest.mark.parametrize("count", [1, 2])
def test_some_that_were_sick_are_no_reason_to_go_back(runs: Runs, server: MemoryGpustack, restart: str, sick: t.Any, count: int) -> None:
    # Those in between, and they stay so, long before the others run.
    slow = (*RUNS[:-1], *["starting"] * 60, "running")
    first = iter([RUNS, *[sick] * count, RUNS])
    server.lives = lambda _model: next(first)
    server.add(replicas=2 + count, **IN_ORDER)
    names = {one["name"] for one in server.of() if one["state"] != "running"}

    def lives(_model: Json) -> t.Any:
        (new,) = set(server.names()) - known
        known.add(new)
        if server.ended[-1][0] in names:
            names.add(new)
        return sick if new in names else slow

    known = set(server.names())
    server.lives = lives
    run = runs.finished(WANTED, restart=restart)
    assert (len(run.model()["restarted"]), server.running_with()) == (2 + count, [["--no-mmap", "--ctx-size=8192"]] * 2)
    assert "chat: 2 of 2 running" in run.progress[-1]


# All versions.


@pytest.mark.parametrize("version", ["0.6.0", "0.6.2", "0.7.1"])
def test_the_whole_story_on_each_version(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    server = MemoryGpustack(version)
    runs = on(server, monkeypatch)
    runs.finished(NEW)
    # The form of 0.7 leaves it null.
    assert server.model()["env"] == (None if version == "0.7.1" else {})
    runs.finished(WANTED)
    server.settle()
    server.lives = bad_with("--bad")
    run = runs.start({"name": "chat", "backend_parameters": ["--bad"], "env": {"A": "1"}})
    assert run.message.endswith("; its parameters were put back, and it runs with them again")
    assert (server.running_with(), unmarked(server.model()["env"])) == ([["--no-mmap", "--ctx-size=8192"]], {})
    server.settle()
    server.change(backend_parameters=["--mmap"])
    server.clock.pause(60)
    assert len(runs.finished().model()["restarted"]) == 1
    assert server.running_with() == [["--no-mmap"]]
    last = runs.finished()
    assert (last.result["changed"], last.warnings) == (False, ())


# Going back.


@pytest.mark.parametrize("restart", ["one_by_one", "together"])
@pytest.mark.parametrize("replicas", [1, 3])
def test_previous_parameters_are_put_back(runs: Runs, server: MemoryGpustack, restart: str, replicas: int) -> None:
    secret = {"HF_TOKEN": "hf_secret_value", "A": "1"}
    server.add(replicas=replicas, env=secret, **IN_ORDER)
    server.lives = bad_with("--bad")
    wanted = {"name": "chat", "backend_parameters": ["--bad"], "env": {"B": "2"}, "worker_selector": {"os": "darwin"}}
    run = runs.start(wanted, restart=restart)
    assert run.message.startswith("the model chat does not run: chat-")
    assert run.message.endswith("; its parameters were put back, and it runs with them again")
    assert server.running_with() == [IN_ORDER["backend_parameters"]] * replicas
    assert (unmarked(server.model()["env"]), server.model()["worker_selector"]) == (secret, {})
    assert {server.started[name]["env"]["HF_TOKEN"] for name in server.names()} == {"hf_secret_value"}
    assert "chat: its parameters are put back" in run.progress
    # One after the other, the others have not been touched.
    assert len([name for name, _ in server.ended]) == (2 if restart == "one_by_one" else 2 * replicas)
    # And nothing is taken for old afterwards.
    assert runs.finished({"name": "chat", **IN_ORDER}, restart="never").model()["restart_pending"] == []


def test_what_runs_neither_before_nor_after_is_said(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    server.lives = lambda _model: failing("broken", restarts=2)
    run = runs.start(WANTED)
    assert "; its parameters were put back, and it does not run with them either: chat-" in run.message
    assert server.model()["backend_parameters"] == IN_ORDER["backend_parameters"]


def test_more_replicas_that_do_not_run_are_taken_back(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    names = server.names()
    server.lives = lambda _model: NO_WORKER
    run = runs.start({"name": "chat", "replicas": 2})
    assert run.message.endswith("; its parameters were put back, and it runs with them again")
    assert (server.names(), server.model()["replicas"]) == (names, 1)


def test_more_replicas_and_bad_parameters_are_taken_back_together(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    server.lives = bad_with("--bad")
    run = runs.start({"name": "chat", "replicas": 3, "backend_parameters": ["--bad"]})
    assert run.message.endswith("; its parameters were put back, and it runs with them again")
    server.settle()
    assert (server.running_with(), server.model()["replicas"]) == ([IN_ORDER["backend_parameters"]], 1)
    # The old one, three new ones, and not the one that came at last.
    assert len(server.ended) == 4


def test_a_restart_that_an_earlier_run_left_has_nothing_to_go_back_to(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    runs.finished(WANTED, restart="never")
    server.lives = lambda _model: failing(restarts=2)
    # With a word for people besides, which no instance reads.
    run = runs.start({**WANTED, "description": "a word"})
    assert run.message.endswith("; its parameters were not changed in this run")
    assert (server.model()["description"], server.model()["backend_parameters"]) == ("a word", ["--no-mmap", "--ctx-size=8192"])


def test_what_somebody_changed_while_we_waited_is_not_put_back(runs: Runs, server: MemoryGpustack) -> None:
    server.add(env={"A": "1"}, **IN_ORDER)

    def lives(model: Json) -> t.Any:
        if "--bad" in model["backend_parameters"]:
            server.change(env={**model["env"], "B": "by hand"}, cpu_offloading=False)
            return failing(restarts=2)
        return RUNS

    server.lives = lives
    run = runs.start({"name": "chat", "backend_parameters": ["--bad"], "cpu_offloading": True})
    assert run.message.endswith("it runs with them again")
    assert unmarked(server.model()["env"]) == {"A": "1", "B": "by hand"}
    assert server.running_with() == [IN_ORDER["backend_parameters"]]


def test_one_model_that_fails_ends_a_run_one_by_one(runs: Runs, server: MemoryGpustack) -> None:
    server.add("a", backend_parameters=[])
    server.add("b", backend_parameters=["--mmap"])
    server.lives = lambda model: failing(restarts=2) if model["name"] == "a" else RUNS
    run = runs.start({"name": "a"})
    assert "the model a does not run" in run.message
    assert (server.model("b")["backend_parameters"], run.model("b")["changed"], run.model("b")["restart_pending"]) == (
        ["--mmap"],
        False,
        [],
    )


def test_models_that_were_begun_together_are_finished(runs: Runs, server: MemoryGpustack) -> None:
    for name in "abcd":
        server.add(name, backend_parameters=[])
    server.lives = lambda model: failing(f"{model['name']} is broken", restarts=2) if model["name"] in "ac" else RUNS
    run = runs.start(restart="together")
    assert "the model a does not run" in run.message
    assert "the model c does not run" in run.message
    assert server.running_with("b") == server.running_with("d") == [["--no-mmap"]]


def test_a_model_that_cannot_be_begun_does_not_keep_others_from_being_finished(runs: Runs, server: MemoryGpustack) -> None:
    for name in "ab":
        server.add(name, backend_parameters=[])
    refused = Reply({"code": 400, "reason": "BadRequest", "message": "no"}, 400)
    server.before = lambda seen: refused if (seen.method, seen.path) == ("PUT", "/v1/models/2") else None
    run = runs.start({"name": "a"}, {"name": "b"}, restart="together")
    assert isinstance(run.error, ApiError)
    assert run.message == "https://gpustack.example.com: PUT /v1/models/2: no (status 400, BadRequest)"
    assert (server.running_with("a"), server.running_with("b")) == ([["--no-mmap"]], [[]])
    assert (run.model("a")["changed"], run.model("b")["changed"], run.model("b")["restart_pending"]) == (True, False, [])


def test_a_server_that_is_gone_is_not_asked_for_each_model(runs: Runs, server: MemoryGpustack) -> None:
    for name in "abc":
        server.add(name, backend_parameters=[])

    def down(seen: Seen) -> t.Optional[Reply]:
        is_down = any(write.startswith("DELETE") for write in server.writes)
        return Reply(b"<html>", 503, "text/html") if is_down else None

    server.after = down
    run = runs.start(restart="together")
    assert isinstance(run.error, UnreachableError)
    assert len([write for write in server.writes if write.startswith("DELETE")]) == 1
    assert [run.model(name)["changed"] for name in "abc"] == [True, True, True]


# Others.


@pytest.mark.parametrize("moment", ["GET /v1/model-instances", "GET /v1/models/1", "PUT /v1/models/1"])
def test_what_others_change_elsewhere_survives(runs: Runs, server: MemoryGpustack, moment: str) -> None:
    server.add(description="old", replicas=1, env={"A": "1"}, **IN_ORDER)
    done: t.List[str] = []

    def other(seen: Seen) -> None:
        # After the survey.
        if not done and len(server.calls) > 4 and f"{seen.method} {seen.path}" == moment:
            done.append(moment)
            fields = {
                "description": "new",
                "replicas": 2,
                "placement_strategy": "binpack",
                "restart_on_error": False,
                "categories": ["llm"],
            }
            server.change(**fields, **({} if seen.method == "PUT" else {"env": {"A": "1", "B": "2"}, "cpu_offloading": False}))

    server.before = other
    runs.finished(WANTED)
    after = server.model()
    assert done == [moment]
    assert (after["description"], after["replicas"], after["placement_strategy"], after["restart_on_error"]) == ("new", 2, "binpack", False)
    if moment != "PUT /v1/models/1":
        assert (unmarked(after["env"]), after["cpu_offloading"]) == ({"A": "1", "B": "2"}, False)
    assert server.running_with()[0] == ["--no-mmap", "--ctx-size=8192"]


def test_what_others_change_of_the_same_field_right_after_us_is_an_error(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)

    def other(seen: Seen) -> None:
        if seen.method == "PUT":
            server.change(backend_parameters=["--theirs"])

    server.after = other
    run = runs.start(WANTED)
    assert run.message == (
        "https://gpustack.example.com: model chat: backend_parameters is not what was sent just before, so somebody else changes this "
        "model; find out who, then run again"
    )
    # It was changed, by us first.
    assert (run.model()["changed"], run.model()["restart_pending"]) == (True, server.names())


def test_what_others_do_for_us_is_not_done_again(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    server.before = lambda seen: server.change(**OTHER) if seen.path == "/v1/models/1" else None
    run = runs.finished({"name": "chat", **OTHER})
    assert (server.writes, run.model()["changed"], run.model()["restarted"]) == ([], False, [])


def test_a_policy_that_others_make_impossible_meanwhile(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    server.before = lambda seen: server.change(gpu_selector={"gpu_ids": ["nonsense"]}) if seen.path == "/v1/models/1" else None
    run = runs.start(WANTED)
    assert "'nonsense' is no GPU" in run.message
    assert (server.writes, run.model()["changed"]) == ([], False)


@pytest.mark.parametrize("wanted", [WANTED, {"name": "chat", "state": "absent"}])
def test_another_model_with_the_id_of_one_that_is_gone_is_not_touched(runs: Runs, server: MemoryGpustack, wanted: Json) -> None:
    server.add(**IN_ORDER)
    done: t.List[int] = []

    def other(seen: Seen) -> None:
        if not done and (seen.path == "/v1/models/1" or (len(server.calls) > 4 and "model_id" in seen.query)):
            done.append(1)
            del server.models[1]
            server.instances.clear()
            server.add("theirs", **IN_ORDER)

    server.before = other
    run = runs.start(wanted)
    assert ([model["name"] for model in server.models.values()], server.model("theirs")["id"], server.writes) == (["theirs"], 1, [])
    if wanted is WANTED:
        assert run.message == "the model chat was deleted or renamed since the server was read; find out by whom, then run again"
        assert (run.model()["changed"], len(server.names("theirs"))) == (False, 1)


def test_a_model_that_is_gone_meanwhile(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)

    def other(seen: Seen) -> None:
        if seen.path == "/v1/models/1" and 1 in server.models:
            server.instances.clear()
            del server.models[1]

    server.before = other
    assert "Model not found" in runs.start(WANTED).message
    server.before = lambda _seen: None
    assert server.writes == []


def test_an_instance_that_is_replaced_meanwhile_is_not_ended_twice(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    (old,) = server.names()
    done: t.List[int] = []

    def other(seen: Seen) -> None:
        if seen.path == "/v1/model-instances/1" and not done:
            done.append(1)
            server.worker_is(server.of()[0]["worker_id"], "not_ready")

    server.before = other
    run = runs.finished(WANTED)
    # Its id is that of its successor now.
    assert (run.model()["restarted"], [name for name, _ in server.ended], server.of()[0]["id"]) == ([], [old], 1)
    assert server.running_with() == [["--no-mmap", "--ctx-size=8192"]]


def test_a_model_that_somebody_deletes_while_we_wait(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)

    def other(seen: Seen) -> None:
        if seen.path == "/v1/model-instances" and server.of() and server.of()[0]["state"] == "initializing":
            server.instances.clear()
            server.models.clear()

    server.before = other
    run = runs.start(WANTED)
    assert run.message == "https://gpustack.example.com: GET /v1/models/1: Model not found (status 404, NotFound)"
    assert server.clock.now < 120


def test_a_worker_that_is_away_for_a_moment(runs: Runs, server: MemoryGpustack) -> None:
    server.add(replicas=2, **IN_ORDER)
    lives = iter([RUNS, downloading(0, 50, 60, 70, 80, 90, 100)])
    server.lives = lambda _model: next(lives)

    def away(seen: Seen) -> None:
        percents = [one["download_progress"] for one in server.of() if one["state"] == "downloading"]
        if seen.path == "/v1/model-instances" and percents in ([60], [80]):
            for number in (1, 2):
                server.worker_is(number, "unreachable" if percents == [60] else "ready")

    server.before = away
    run = runs.finished(WANTED, restart="together")
    assert any(re.search(r"unreachable on mac-\d, since its worker does not answer", line) for line in run.progress)
    assert run.progress[-1] == "chat: 2 of 2 running"
    assert server.running_with() == [["--no-mmap", "--ctx-size=8192"]] * 2


def test_a_worker_that_vanishes_while_waiting(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    looks = itertools.count()
    server.lives = lambda model: NO_WORKER if next(looks) else ("analyzing", "scheduled", "initializing", "starting")

    def vanishes(seen: Seen) -> None:
        if seen.path == "/v1/model-instances" and server.of()[0]["state"] == "starting" and server.of()[0]["worker_id"]:
            server.worker_is(server.of()[0]["worker_id"], "not_ready")

    server.before = vanishes
    run = runs.start(WANTED)
    assert "GPUStack finds no worker for chat-" in run.message
    assert "its parameters were put back, and it does not run with them either" in run.message
    assert server.model()["backend_parameters"] == IN_ORDER["backend_parameters"]


# The server.


def restart_of(server: MemoryGpustack, *answers: Reply, after: str) -> t.Callable[[Seen], t.Optional[Reply]]:
    """So many answers like these once something was written."""
    left = list(answers)
    return lambda seen: left.pop(0) if left and any(write.startswith(after) for write in server.writes) and seen.method == "GET" else None


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_server_that_restarts_while_we_wait(runs: Runs, server: MemoryGpustack, status: int) -> None:
    server.add(**IN_ORDER)
    server.before = restart_of(server, *[Reply(b"<html>busy</html>", status, "text/html")] * 5, after="DELETE")
    runs.finished(WANTED)
    assert server.running_with() == [["--no-mmap", "--ctx-size=8192"]]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply({"code": 500, "reason": "InternalServerError", "message": "database is locked"}, 500), "database is locked (status 500"),
        (Reply(b"<html>It works!</html>", 200, "text/html"), "status 200 with an HTML page instead of JSON"),
        (Reply({"code": 401, "reason": "Unauthorized", "message": "no"}, 401), "the server does not accept the password of user admin"),
        (Reply({"detail": "Not Found"}, 404), "the server has no such path"),
    ],
)
@pytest.mark.parametrize("after", ["PUT", "DELETE"])
def test_a_run_that_a_strange_answer_ends_is_finished_by_the_next(
    runs: Runs, server: MemoryGpustack, reply: Reply, words: str, after: str
) -> None:
    server.add(**IN_ORDER)
    server.before = restart_of(server, reply, after=after)
    run = runs.start(WANTED)
    assert isinstance(run.error, ServerError)
    assert words in run.message
    assert "\n" not in run.message
    assert run.model()["changed"] is True
    server.before = lambda _seen: None
    runs.finished(WANTED)
    server.settle()
    assert server.running_with() == [["--no-mmap", "--ctx-size=8192"]]


def test_a_change_that_the_server_refuses_changes_nothing(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    before, names = state_of(server), server.names()
    refused = Reply({"code": 500, "reason": "InternalServerError", "message": "Failed to update model: locked"}, 500)
    server.before = lambda seen: refused if seen.method == "PUT" else None
    run = runs.start(WANTED)
    assert "Failed to update model: locked (status 500, InternalServerError)" in run.message
    assert (state_of(server), server.names()) == (before, names)


def test_going_back_that_fails_says_both(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    server.lives = bad_with("--bad")
    refused = Reply({"code": 500, "reason": "InternalServerError", "message": "disk full"}, 500)
    server.before = lambda seen: refused if seen.method == "PUT" and len(server.writes) > 2 else None
    run = runs.start({"name": "chat", "backend_parameters": ["--bad"]})
    assert run.message.startswith("the model chat does not run: chat-")
    assert "; and to put back what it was failed: https://gpustack.example.com: PUT /v1/models/1: disk full" in run.message
    assert "disk full" in t.cast(ServerError, run.error).answer


def test_a_model_without_an_id(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    server.models[1]["id"] = "one"
    assert runs.start(WANTED).message == "GPUStack gave the model chat without an id; look for a proxy in between"
