# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read of a server, by how many calls, and what is refused before anything is changed."""

from __future__ import annotations

import collections
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, GpustackError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import errors
from ansible_collections.metalfleet.gpustack.tests.unit.memory_gpustack import MemoryGpustack
from ansible_collections.metalfleet.gpustack.tests.unit.model_runs import IN_ORDER, SECRET, Runs, on, state_of
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import Reply
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import GIB, Json, linux, mac
from ansible_collections.metalfleet.gpustack.tests.unit.whole_nodes import VERSION, lock_of

NEW: Json = {"name": "new", "source": "local_path", "local_path": "/models/new.gguf"}
LISTS = ["GET /version", "GET /v1/workers", "GET /v1/models", "GET /v1/model-instances"]


@pytest.fixture
def server() -> MemoryGpustack:
    return MemoryGpustack()


@pytest.fixture
def runs(server: MemoryGpustack, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return on(server, monkeypatch)


def refused(runs: Runs, *wanted: Json, kind: type[GpustackError] = BadInputError, **options: t.Any) -> str:
    """What a run says that must not change anything."""
    before = state_of(runs.server)
    with pytest.raises(kind) as caught:
        runs.start(*wanted, **options)
    assert (runs.server.writes, state_of(runs.server)) == ([], before)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# How often the server is asked.


def test_a_run_that_changes_nothing_reads_each_list_once(runs: Runs, server: MemoryGpustack) -> None:
    server.add(replicas=2, **IN_ORDER)
    run = runs.finished({"name": "chat", "replicas": 2, **IN_ORDER})
    assert (run.result["changed"], run.result["diff"], server.asked, run.progress) == (False, [], LISTS, [])


def test_a_large_fleet_is_read_by_a_call_for_each_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemoryGpustack(workers=[mac(number) for number in range(1, 61)])
    for number in range(300):
        server.add(f"model-{number}", replicas=0, **IN_ORDER)
    run = on(server, monkeypatch).finished(*({"name": f"model-{number}", "replicas": 0} for number in range(150)))
    assert run.result["changed"] is False
    assert len(run.result["models"]) == 300
    assert collections.Counter(server.asked) == {LISTS[0]: 1, LISTS[1]: 1, LISTS[2]: 3, LISTS[3]: 1}


def test_models_to_come_are_evaluated_in_one_call(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    runs.start(NEW, {**NEW, "name": "newer"}, {"name": "chat", **IN_ORDER}, {"name": "gone", "state": "absent"}, check_mode=True)
    evaluations = [seen for seen in server.calls if seen.method == "POST"]
    assert [[spec["name"] for spec in seen.body["model_specs"]] for seen in evaluations] == [["new", "newer"]]
    # As they will be created.
    assert evaluations[0].body["model_specs"][0] == {**NEW, "backend_parameters": ["--no-mmap"]}


# Which models.


def test_all_models_or_those_of_the_list(runs: Runs, server: MemoryGpustack) -> None:
    for name in ("a", "b"):
        server.add(name, backend_parameters=[])
    some = runs.finished({"name": "b"}, all_models=False, check_mode=True)
    assert [model["name"] for model in some.result["models"]] == ["b"]
    every = runs.finished({"name": "a"}, check_mode=True)
    # Those of the list first, in its order.
    assert [model["name"] for model in every.result["models"]] == ["a", "b"]
    assert runs.finished(all_models=False).result["models"] == []


def test_a_model_that_is_neither_there_nor_described(runs: Runs) -> None:
    assert refused(runs, {"name": "chät 1"}) == (
        "the server has no model chät 1, and to create it its source is needed; add source and what belongs to it"
    )


# What is refused.


def test_a_server_that_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemoryGpustack("2.0.1")
    message = refused(on(server, monkeypatch), NEW, kind=errors.UnsupportedServerError)
    assert message.startswith("https://gpustack.example.com: GPUStack 2.0.1 is not supported")
    assert server.asked == ["GET /version"]


def test_a_server_of_a_release_candidate_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = on(MemoryGpustack("0.7.1rc1"), monkeypatch)
    (warning,) = runs.finished().warnings
    assert warning.startswith("https://gpustack.example.com: GPUStack 0.7.1rc1 is not a plain release")


def test_a_model_that_gpustack_would_not_run(runs: Runs, server: MemoryGpustack) -> None:
    message = "The model file path you specified does not exist on the server."
    server.evaluation = lambda _spec: {"compatible": False, "compatibility_messages": [message], "resource_claim": None}
    assert refused(runs, NEW) == (
        "GPUStack would not run the model new: The model file path you specified does not exist on the server; "
        "mend that, or say force: true"
    )
    assert runs.finished({**NEW, "force": True}).model("new")["action"] == "create"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"error_message": "boom"}, "boom"),
        ({"compatibility_messages": ["No worker."], "scheduling_messages": ["- Too\n  large.", None]}, "No worker; - Too large"),
        ({"compatibility_messages": None, "scheduling_messages": []}, "it does not say why"),
    ],
)
def test_why_gpustack_would_not_run_it(runs: Runs, server: MemoryGpustack, result: Json, words: str) -> None:
    server.evaluation = lambda _spec: {"compatible": False, **result}
    assert f"would not run the model new: {words}; mend that" in refused(runs, NEW)


def test_a_model_that_no_worker_can_hold(runs: Runs, server: MemoryGpustack) -> None:
    server.evaluation = lambda _spec: {"compatible": True, "resource_claim": {"ram": GIB, "vram": 2000 * GIB}}
    message = refused(runs, NEW)
    assert message.startswith("the model new needs 2001.0 GiB or more, and the 2 workers that it may be put on have together")
    assert message.endswith(", or say force: true")
    run = runs.finished({**NEW, "force": True})
    assert (run.model("new")["action"], run.model("new")["decision"]["refusal"].startswith("the model new needs")) == ("create", True)


def test_the_claim_of_the_evaluation_is_what_the_policy_goes_by(runs: Runs, server: MemoryGpustack) -> None:
    server.evaluation = lambda spec: {"compatible": True, "resource_claim": {"ram": 0, "vram": (400 if spec["name"] == "new" else 1) * GIB}}
    run = runs.start(NEW, {**NEW, "name": "newer"}, check_mode=True)
    rules = [run.model(name)["decision"]["rule"] for name in ("new", "newer")]
    assert rules == ["beyond_working_set", "within_working_set"]


def test_weights_bytes_say_what_the_server_does_not(runs: Runs, server: MemoryGpustack) -> None:
    server.evaluation = lambda _spec: {"compatible": True, "resource_claim": None}
    assert "needs 2000.0 GiB or more" in refused(runs, {**NEW, "weights_bytes": 2000 * GIB})


def test_a_model_that_does_not_fit_and_is_there_is_only_reported(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    server.models[1]["meta"] = {"size": 2000 * GIB}
    run = runs.finished()
    assert (run.result["changed"], len(run.warnings)) == (False, 1)
    assert run.warnings[0].startswith("the model chat needs 2001.1 GiB or more")


def test_mmap_that_the_policy_forbids(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    message = refused(runs, {"name": "chat", "backend_parameters": ["--mmap"]})
    assert message.startswith("backend_parameters of the model chat ask for mmap, and the rule unknown says --no-mmap")


# What else a run is told.

OVERRIDE: Json = {"mmap": "mmap", "model": "chat", "reason": "it is ours"}


def test_overrides_and_strict(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    assert "strict: the override by model name chat for the model chat is a risk" in refused(runs, overrides=[OVERRIDE], strict=True)
    run = runs.finished(overrides=[OVERRIDE])
    assert server.running_with() == [["--mmap", "--ctx-size=4096"]]
    assert (run.model()["decision"]["rule"], "--mmap against the rule" in run.warnings[0]) == ("override", True)
    assert run.warnings[0].endswith("(overridden for this reason: it is ours)")


def test_an_override_for_a_model_that_nobody_knows_is_said(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    run = runs.start(
        {**NEW, "name": "newer"}, overrides=[{**OVERRIDE, "model": name} for name in ("chatt", "chat", "newer")], check_mode=True
    )
    said = "override 1 is for the model chatt, which neither the server nor the list of models has: correct its name"
    assert [warning for warning in run.warnings if "neither" in warning] == [said]


def test_labels_are_what_overrides_go_by(runs: Runs, server: MemoryGpustack) -> None:
    override = {"mmap": "mmap", "labels": {"use": "rare"}}
    run = runs.start({**NEW, "labels": {"use": "rare"}}, {**NEW, "name": "newer"}, overrides=[override], check_mode=True)
    assert [run.model(name)["decision"]["flag"] for name in ("new", "newer")] == ["--mmap", "--no-mmap"]


def test_an_override_that_covers_nothing_is_warned_of(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    overrides: list[Json] = [
        {"mmap": "mmap", "model": "chatt"},
        {"mmap": "mmap", "labels": {"use": "raer"}},
        {"mmap": "no-mmap", "model": "chat"},
    ]
    named = "override 1 is for the model chatt, which neither the server nor the list of models has: correct its name"
    run = runs.finished(overrides=overrides)
    assert run.warnings == (named, "override 2 is for models with the labels use=raer, which none in the list of models has: correct them")
    assert run.result["changed"] is False
    # A list of some models says nothing of the labels of others.
    assert runs.finished(overrides=overrides, all_models=False).warnings == (named,)
    some = runs.finished({"name": "chatt", "state": "absent"}, overrides=overrides[:1])
    assert some.warnings == ()
    labelled = runs.finished({"name": "chat", "labels": {"use": "raer"}}, overrides=[{**overrides[1], "mmap": "no-mmap"}])
    assert labelled.warnings == ()


def test_can_upgrade_llama_box(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemoryGpustack(workers=[mac(1)])
    server.add(distributed_inference_across_workers=False, **IN_ORDER)
    server.models[1]["meta"] = {"size": 300 * GIB}
    node = {"name": "mac-1", "node": {"llama_box": [{"slot": "builtin", "version": "v0.0.117"}]}}
    runs = on(server, monkeypatch)
    may, may_not = (runs.finished(nodes=[node], can_upgrade_llama_box=can, check_mode=True).model()["decision"] for can in (True, False))
    assert (may["flag"], may_not["flag"], may_not["rule"]) == ("--no-mmap", "--mmap", "old_llama_box")


def test_spread_on_060(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemoryGpustack("0.6.0")
    server.add(**IN_ORDER)
    server.models[1]["meta"] = {"size": 664 * GIB}
    runs = on(server, monkeypatch)
    assert runs.finished(check_mode=True).model()["fields"] == {}
    run = runs.finished(spread_on_060=True)
    assert run.model()["fields"] == {"gpu_ids": ["mac-1:mps:0", "mac-2:mps:0"]}
    assert any("cannot be told that the model is not mapped" in warning for warning in run.warnings)
    assert server.model()["gpu_selector"] == {"gpu_ids": ["mac-1:mps:0", "mac-2:mps:0"]}


def test_a_version_that_is_not_locked(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    message = refused(runs, {"name": "chat", "backend_version": "v0.0.140"}, lock=lock_of("Darwin"))
    assert message.startswith(f"backend_version v0.0.140 of the model chat is not in the lock file, which has {VERSION}")
    run = runs.finished({"name": "chat", "backend_version": VERSION}, lock=lock_of("Darwin"), check_mode=True)
    assert run.model()["fields"] == {"backend_version": VERSION}
    # An empty lock is one, too.
    empty = {"format": 1, "releases": {}}
    assert "lock file, which has nothing" in refused(runs, {"name": "chat", "backend_version": VERSION}, lock=empty)
    assert "lock: releases.x is not a version" in refused(runs, lock={"format": 1, "releases": {"x": {}}})


def test_a_version_that_workers_lack(runs: Runs, server: MemoryGpustack) -> None:
    server.add(**IN_ORDER)
    wanted = {"name": "chat", "backend_version": "v0.0.139"}

    def node(name: str, *pins: str) -> Json:
        slots = [{"slot": "pinned", "pin": pin} for pin in pins]
        return {"name": name, "node": {"gpustack_version": "0.6.2", "installation": {"kind": "script"}, "llama_box": slots}}

    message = refused(runs, wanted, nodes=[node("mac-1", "v0.0.139"), node("studio-2.example.com")])
    assert message.startswith("backend_version v0.0.139 of the model chat is not on mac-2, where GPUStack would download it unverified")
    # What is selected matters alone, and what is no worker is no matter.
    selected = {**wanted, "worker_selector": {"worker-name": "mac-1"}}
    run = runs.finished(selected, nodes=[node("mac-1", "v0.0.139"), node("elsewhere")], check_mode=True)
    assert run.warnings == ()
    unknown = runs.finished(wanted, check_mode=True)
    assert "whether mac-2, mac-1 has llama-box v0.0.139 is not known" in unknown.warnings[0]


def test_what_is_said_of_several_models_is_said_once(runs: Runs, monkeypatch: pytest.MonkeyPatch, server: MemoryGpustack) -> None:
    server.add(backend_parameters=["--no-mmap", "--ctx-size=abc"])
    run = runs.finished()
    (warning,) = run.warnings
    assert warning.startswith("the model chat: --ctx-size=abc: GPUStack's estimator refuses it")
    assert (run.model()["warnings"], len(set(run.warnings))) == ([warning], len(run.warnings))


def test_models_on_linux_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemoryGpustack(workers=[linux(1)])
    server.add(backend_parameters=["--mmap"])
    run = on(server, monkeypatch).finished()
    assert (run.model()["action"], run.model()["decision"]["flag"]) == ("none", None)


# What servers say instead.


@pytest.mark.parametrize("path", ["/version", "/v1/workers", "/v1/models", "/v1/model-instances", "/v1/model-evaluations"])
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply({"code": 500, "reason": "InternalServerError", "message": "database is locked"}, 500), "status "),
        (Reply(b"<html>It works!</html>", 200, "text/html"), "with an HTML page instead of JSON"),
        (Reply(b"<html>", 503, "text/html"), "status 503 from something that stands before GPUStack's server"),
    ],
)
def test_a_server_that_cannot_be_read(runs: Runs, server: MemoryGpustack, path: str, reply: Reply, words: str) -> None:
    server.before = lambda seen: reply if seen.path == path else None
    message = refused(runs, NEW, kind=errors.ServerError)
    assert message.startswith("https://gpustack.example.com")
    assert words in message


def test_an_evaluation_that_is_refused_shows_no_secret(runs: Runs, server: MemoryGpustack) -> None:
    def invalid(seen: t.Any) -> t.Optional[Reply]:
        if seen.path != "/v1/model-evaluations":
            return None
        said = f"1 validation errors:\n  {{'type': 'x', 'loc': ('body', 'model_specs', 0), 'msg': 'no', 'input': {seen.body}}}\n"
        return Reply({"code": 422, "reason": "Invalid", "message": said}, 422)

    server.before = invalid
    with pytest.raises(errors.ApiError) as caught:
        runs.start({**NEW, "secret_env": {"HF_TOKEN": SECRET}})
    assert SECRET not in str(caught.value) + caught.value.answer + caught.value.server_message
    assert "body.model_specs.0: no (status 422, Invalid)" in str(caught.value)
