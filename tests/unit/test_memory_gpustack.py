# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""That GPUStack in memory does as real ones did when they were recorded."""

from __future__ import annotations

import json
import pathlib
import re
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.instance_age import command_line, runs_with
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import parse_model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.connection import Connection
from ansible_collections.metalfleet.gpustack.tests.unit.memory_gpustack import PASSWORD, MemoryGpustack, MemoryTransport
from ansible_collections.metalfleet.gpustack.tests.unit.memory_world import failing

SPEC = {"name": "tiny", "source": "local_path", "local_path": "/lab/models/tiny.gguf", "backend": "llama-box"}
FORM = {
    **SPEC,
    "cpu_offloading": False,
    "distributed_inference_across_workers": False,
    "backend_parameters": ["--no-mmap"],
    "env": {"FOO": "bar"},
}


@pytest.fixture
def server() -> MemoryGpustack:
    return MemoryGpustack()


@pytest.fixture
def ask(server: MemoryGpustack) -> t.Callable[..., tuple[int, t.Any]]:
    def request(method: str, path: str, body: t.Any = None) -> tuple[int, t.Any]:
        transport = MemoryTransport(server, Connection("", username="admin", password=PASSWORD))
        answer = transport.exchange(method, path, body, 1)
        return answer.status, json.loads(answer.body)

    return request


def recorded(captures: pathlib.Path, name: str, what: str) -> t.Any:
    return json.loads((captures / "gpustack-api" / f"{name}.json").read_text("utf-8"))[what]


@pytest.mark.parametrize("version", ["0.6.2", "0.7.1"])
def test_models_and_instances_have_the_fields_of_real_ones(captures_dir: pathlib.Path, version: str) -> None:
    server = MemoryGpustack(version)
    server.add("tiny")
    name = f"{version.replace('.', '')}-models"
    real_model, real_instance = recorded(captures_dir, name, "model_get")[1], recorded(captures_dir, name, "instances_recreated")[0]
    assert set(server.model("tiny")) == set(real_model)
    # What nobody here reads.
    assert set(real_instance) - set(server.of("tiny")[0]) <= {"ports", "gpu_addresses"}
    assert set(server.of("tiny")[0]) <= set(real_instance)
    assert set(server.of("tiny")[0]["distributed_servers"]) <= set(real_instance["distributed_servers"])


def test_a_put_of_what_it_forces_resets_what_it_resets(server, ask, captures_dir: pathlib.Path) -> None:
    server.add(**FORM)
    status, model = ask("PUT", "/v1/models/1", {**SPEC, "backend_parameters": ["--no-mmap", "--ctx-size=4096"]})
    real = recorded(captures_dir, "062-models", "put_min")[1]
    fields = ("cpu_offloading", "distributed_inference_across_workers", "backend_parameters", "env", "meta", "ready_replicas")
    assert (status, {field: model[field] for field in fields if field != "meta"}) == (
        200,
        {field: real[field] for field in fields if field != "meta"},
    )
    # Neither in memory nor in the recording does a running instance notice.
    assert server.running_with("tiny") == [["--no-mmap"]]


@pytest.mark.parametrize(
    ("name", "what", "request_"),
    [
        ("062-basic", "404_model", ("GET", "/v1/models/9", None)),
        ("062-basic", "404_path", ("GET", "/v1/nonsense", None)),
        ("062-basic", "422_create", ("POST", "/v1/models", {"name": "x"})),
        ("062-basic", "422_create_hf", ("POST", "/v1/models", {**SPEC, "source": "huggingface", "huggingface_repo_id": "a/b"})),
        ("062-basic", "400_gpu_sel", ("POST", "/v1/models", {**SPEC, "name": "other", "gpu_selector": {"gpu_ids": ["nope:cuda:0"]}})),
        ("062-models", "create_dup", ("POST", "/v1/models", SPEC)),
        ("062-models", "put_partial_422", ("PUT", "/v1/models/1", {"backend_parameters": []})),
        ("062-models", "delete", ("DELETE", "/v1/models/1", None)),
    ],
)
def test_answers_are_those_of_a_real_one(server, ask, captures_dir, name: str, what: str, request_: t.Any) -> None:
    if "create" not in what or what == "create_dup":
        server.add(**SPEC)
    # The body that is repeated differs.
    said, real = (
        [answer[0], re.sub(r"'input': .*", "", json.dumps(answer[1]))] for answer in (ask(*request_), recorded(captures_dir, name, what))
    )
    assert said == real


def test_wrong_credentials(server: MemoryGpustack, captures_dir: pathlib.Path) -> None:
    answer = MemoryTransport(server, Connection("", username="admin", password="wrong")).exchange("GET", "/v1/models", None, 1)
    assert [answer.status, json.loads(answer.body)] == recorded(captures_dir, "062-basic", "bad_basic")


def test_an_instance_that_is_ended_has_a_successor_with_its_id(server, ask) -> None:
    server.add(**SPEC)
    (before,) = server.of("tiny")
    assert ask("DELETE", f"/v1/model-instances/{before['id']}") == (200, None)
    (after,) = server.of("tiny")
    assert (after["id"], after["state"], server.model("tiny")["ready_replicas"]) == (before["id"], "pending", 0)
    assert after["name"] != before["name"]
    assert re.fullmatch(r"tiny-[0-9A-Za-z]{5}", after["name"])
    server.settle()
    assert (server.of("tiny")[0]["state"], server.model("tiny")["ready_replicas"]) == ("running", 1)


@pytest.mark.parametrize("version", ["0.6.0", "0.6.2", "0.7.1"])
def test_logs_say_with_what_an_instance_was_started(version: str) -> None:
    server = MemoryGpustack(version)
    server.add("a chät", backend_parameters=["--ctx-size=1", "--mmap"])
    name = server.names("a chät")[0]
    arguments = command_line(t.cast(str, server.logs[name]))
    assert arguments is not None
    server.change("a chät", backend_parameters=["--ctx-size=2"])
    assert runs_with(arguments, parse_model(server.started[name]))
    assert not runs_with(arguments, parse_model(server.model("a chät")))


def test_a_failed_instance_is_started_again_as_another_process(server: MemoryGpustack) -> None:
    pids = []
    server.lives = lambda _model: (*failing(restarts=1), {"state": "error", "state_message": "at last"})
    server.add("tiny", replicas=1)
    pids.append(server.of("tiny")[0]["pid"])
    assert (server.of("tiny")[0]["restart_count"], pids) == (1, [102])


def test_what_is_not_changed_has_no_new_time(server, ask) -> None:
    server.add(**SPEC)
    before = server.model("tiny")["updated_at"]
    ask("PUT", "/v1/models/1", {**SPEC, "description": None})
    assert server.model("tiny")["updated_at"] == before
    ask("PUT", "/v1/models/1", {**SPEC, "description": "other"})
    assert server.model("tiny")["updated_at"] > before


def test_fewer_replicas_end_what_does_not_run_first(server, ask) -> None:
    server.add("tiny", replicas=2)
    server.lives = lambda _model: failing()
    ask("PUT", "/v1/models/1", {**SPEC, "local_path": "/models/tiny.gguf", "replicas": 3})
    server.settle()
    sick = next(one["name"] for one in server.of("tiny") if one["state"] == "error")
    ask("PUT", "/v1/models/1", {**SPEC, "local_path": "/models/tiny.gguf", "replicas": 2})
    assert [name for name, _started in server.ended] == [sick]
