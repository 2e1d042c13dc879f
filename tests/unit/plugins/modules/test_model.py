# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module for one model. What it shares with the module for all of them is tested there."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import model_options
from ansible_collections.metalfleet.gpustack.plugins.modules import model, models
from ansible_collections.metalfleet.gpustack.tests.unit import server_modules
from ansible_collections.metalfleet.gpustack.tests.unit.memory_gpustack import PASSWORD, MemoryGpustack
from ansible_collections.metalfleet.gpustack.tests.unit.memory_world import failing
from ansible_collections.metalfleet.gpustack.tests.unit.model_runs import IN_ORDER, OTHER, SECRET
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import FakeServer, running
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import GIB, Json

ALL: Json = {
    "name": "a chät",
    "source": "huggingface",
    "huggingface_repo_id": "o/r",
    "huggingface_filename": "m*.gguf",
    "description": "for people",
    "replicas": 2,
    "categories": ["llm"],
    "placement_strategy": "binpack",
    "cpu_offloading": False,
    "distributed_inference_across_workers": False,
    "worker_selector": {"os": "darwin"},
    "gpu_ids": ["mac-1:mps:0"],
    "backend": "llama-box",
    "backend_version": "v0.0.139",
    "backend_parameters": ["--ctx-size=1"],
    "env": {"A": "1"},
    "secret_env": {"B": SECRET},
    "restart_on_error": False,
    "weights_bytes": GIB,
    "labels": {"use": "rare"},
    "force": True,
}
SENT: Json = {
    **{field: value for field, value in ALL.items() if field not in ("gpu_ids", "secret_env", "weights_bytes", "labels", "force")},
    "gpu_selector": {"gpu_ids": ["mac-1:mps:0"]},
    "backend_parameters": ["--no-mmap", "--ctx-size=1"],
    "env": {"A": "1", "B": SECRET},
}


@pytest.fixture
def gpustack() -> MemoryGpustack:
    return MemoryGpustack()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, gpustack: MemoryGpustack) -> t.Iterator[t.Callable[..., Json]]:
    with running(FakeServer()) as server:
        server.answer = gpustack.answer
        monkeypatch.setattr(model_options, "Clock", lambda: gpustack.clock)
        connection = {"server_url": server.url, "username": "admin", "password": PASSWORD}
        yield lambda **options: server_modules.run_module(monkeypatch, model, **{**connection, **options})


def test_a_model_with_all_that_it_can_have(run, gpustack: MemoryGpustack) -> None:
    gpustack.evaluation = lambda _spec: {"compatible": False}
    result = run(**ALL)
    assert (result["changed"], result["models"][0]["action"], result["progress"][-1]) == (
        "force" in ALL,
        "create",
        "a chät: 2 of 2 running",
    )
    assert {field: gpustack.model("a chät")[field] for field in SENT} == SENT
    assert SECRET not in str(result)
    again = run(**ALL)
    assert (again["changed"], [model["name"] for model in again["models"]]) == (False, ["a chät"])
    assert server_modules.undocumented(model, {**result, "api_error": {"status": 1, "reason": "", "message": ""}}) == ["diff"]


def test_weights_and_labels_are_what_the_policy_goes_by(run, gpustack: MemoryGpustack) -> None:
    new = {"name": "new", "source": "local_path", "local_path": "/m.gguf", "_ansible_check_mode": True}
    overrides = [{"mmap": "mmap", "labels": {"use": "rare"}}]
    assert run(**new, overrides=overrides)["models"][0]["decision"]["flag"] == "--no-mmap"
    assert run(**new, overrides=overrides, labels={"use": "rare"})["models"][0]["decision"]["flag"] == "--mmap"
    gpustack.evaluation = lambda _spec: {"compatible": True, "resource_claim": None}
    assert "needs 2000.0 GiB or more" in run(**new, weights_bytes=2000 * GIB)["msg"]
    gpustack.evaluation = lambda _spec: {"compatible": False, "compatibility_messages": ["no"]}
    assert run(**new)["msg"] == "GPUStack would not run the model new: no; mend that, or say force: true"


def test_other_models_are_left_alone(run, gpustack: MemoryGpustack) -> None:
    gpustack.add("other", backend_parameters=["--mmap"])
    gpustack.add(**IN_ORDER)
    result = run(name="chat", **OTHER)
    assert [model["name"] for model in result["models"]] == ["chat"]
    assert (gpustack.running_with(), gpustack.running_with("other")) == ([OTHER["backend_parameters"]], [["--mmap"]])


def test_absent(run, gpustack: MemoryGpustack) -> None:
    gpustack.add(**IN_ORDER)
    assert run(name="chat", state="absent")["changed"] is True
    assert (gpustack.models, run(name="chat", state="absent")["changed"]) == ({}, False)


def test_a_model_that_does_not_run_is_a_failure(run, gpustack: MemoryGpustack) -> None:
    gpustack.lives = lambda _model: failing("exit 1")
    result = run(name="new", source="local_path", local_path="/m.gguf", restart_on_error=False)
    assert result["msg"].endswith("exit 1; it was deleted again, so that the server is as before")
    assert (result["failed"], gpustack.models) == (True, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "missing required arguments: name"),
        ({"name": " "}, "name of a model is empty"),
        ({"name": "a", "replicas": -1}, "replicas of the model a is -1; the least is 0"),
        ({"name": "a", "wait_timeout_seconds": 0}, "wait_timeout_seconds: 0 is too small"),
        ({"name": "a", "models": []}, "Unsupported parameters for "),
    ],
)
def test_bad_input(run, gpustack: MemoryGpustack, options: Json, message: str) -> None:
    assert run(**options)["msg"].startswith(message)
    assert gpustack.writes == []


def test_a_user_without_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    result = server_modules.run_module(monkeypatch, model, server_url="http://127.0.0.1:9", name="a", username="b")
    assert result["msg"] == "parameters are required together: username, password"


def test_documents_say_what_is_so() -> None:
    assert server_modules.documented_options(model) == server_modules.specified_options(model)


def test_both_modules_say_the_same_of_a_model() -> None:
    one, all_of_them = (yaml.safe_load(module.DOCUMENTATION)["options"] for module in (model, models))
    suboptions = all_of_them["models"]["suboptions"]
    assert list(one) == list(suboptions)
    for name, option in one.items():
        words = str(option["description"]).replace("O(secret_env)", "O(models[].secret_env)")
        assert " ".join(words.split()) == " ".join(str(suboptions[name]["description"]).split()), name
    assert set(yaml.safe_load(model.RETURN)) == set(yaml.safe_load(models.RETURN))
