# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every option of the module, with a server on the loopback interface."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.modules import model_info
from ansible_collections.metalfleet.gpustack.tests.unit import server_modules
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import FakeServer, Reply, running
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import GIB, Json, claim, instance, mac, model, serve

WHY = "argument --mmap/--no-mmap: ignored explicit argument 'true'"
REFUSED = f"GPUStack's estimator refuses it ({WHY}) and then ignores all parameters of the model"
MACS = [mac(1), mac(2)]
FULL = model(
    1,
    weights_gib=664,
    description="a text",
    source="huggingface",
    local_path=None,
    huggingface_repo_id="o/r",
    huggingface_filename="m-*.gguf",
    backend_version="v0.0.139",
    backend_parameters=["--mmap=true", "--ctx-size=8192"],
    env={"HF_TOKEN": "hidden-value", "GGML_METAL_NO_RESIDENCY": "0"},
    worker_selector={"zone": "studio"},
    gpu_selector={"gpu_ids": ["mac-1:mps:0", "mac-2:mps:0"]},
    placement_strategy="spread",
    restart_on_error=True,
    distributable=True,
    created_at="2026-11-22T13:07:03Z",
    updated_at="2026-11-22T13:07:10Z",
)
SPREAD = instance(
    1,
    1,
    claim(1, 19),
    others=[(2, claim(0, 356, offload=31))],
    state="downloading",
    state_message="slow",
    download_progress=41.5,
    restart_count=3,
    last_restart_time="2026-11-22T13:07:05Z",
    created_at="2026-11-22T13:07:03Z",
    updated_at="2026-11-22T13:07:10Z",
)
BARE = model(2, local_path="/m/model", source="local_path", backend=None, backend_parameters=None, env=None, distributable=None)


@pytest.fixture(name="server")
def a_server() -> t.Iterator[FakeServer]:
    with running(FakeServer()) as server:
        serve(server, "0.6.2", MACS, [FULL, BARE], [SPREAD, instance(2, None, name="model-2-a", state="pending")])
        yield server


@pytest.fixture
def run(monkeypatch, server) -> t.Callable[..., Json]:
    return lambda **options: server_modules.run_module(monkeypatch, model_info, **{"server_url": server.url, **options})


def test_a_model_with_all_that_it_can_have(run, server):
    result = run()
    assert (result["changed"], result["gpustack_version"], result["missing"], result["warned"]) == (False, "0.6.2", [], [])
    found = result["models"][0]
    assert found == {
        "name": "model-1",
        "id": 1,
        "description": "a text",
        "source": "huggingface",
        "source_fields": {"huggingface_repo_id": "o/r", "huggingface_filename": "m-*.gguf"},
        "categories": ["llm"],
        "replicas": 1,
        "ready_replicas": 1,
        "backend": "llama-box",
        "serving_backend": "llama-box",
        "backend_version": "v0.0.139",
        "backend_parameters": ["--mmap=true", "--ctx-size=8192"],
        "mmap": {
            "engine_uses_mmap": True,
            "estimator_assumes_mmap": False,
            "refused": [
                {
                    "parameter": "--mmap=true",
                    "reason": REFUSED,
                }
            ],
        },
        "env_names": ["GGML_METAL_NO_RESIDENCY", "HF_TOKEN"],
        "residency_variable_in_env": True,
        "weights_bytes": 664 * GIB,
        "placement_strategy": "spread",
        "cpu_offloading": True,
        "distributed_inference_across_workers": True,
        "distributable": True,
        "worker_selector": {"zone": "studio"},
        "gpu_ids": ["mac-1:mps:0", "mac-2:mps:0"],
        "restart_on_error": True,
        "created_at": "2026-11-22T13:07:03Z",
        "updated_at": "2026-11-22T13:07:10Z",
        "problems": [],
        "instances": [
            {
                "name": "model-1-a",
                "id": 1,
                "state": "downloading",
                "state_message": "slow",
                "download_percent": 41.5,
                "restart_count": 3,
                "last_restart_time": "2026-11-22T13:07:05Z",
                "created_at": "2026-11-22T13:07:03Z",
                "updated_at": "2026-11-22T13:07:10Z",
                "distributed": True,
                "workers": [
                    {
                        "name": "mac-1",
                        "main": True,
                        "claim_bytes": 20 * GIB,
                        "ram_claim_bytes": GIB,
                        "gpu_claim_bytes": 19 * GIB,
                        "gpu_ids": ["mac-1:mps:0"],
                    },
                    {
                        "name": "mac-2",
                        "main": False,
                        "claim_bytes": 356 * GIB,
                        "ram_claim_bytes": 0,
                        "gpu_claim_bytes": 356 * GIB,
                        "gpu_ids": ["mac-2:mps:0"],
                    },
                ],
            }
        ],
    }
    assert "hidden-value" not in str(result)
    assert [seen.path for seen in server.seen] == ["/version", "/v1/workers", "/v1/models", "/v1/model-instances"]


def test_a_model_with_little(run):
    found = run()["models"][1]
    assert (found["backend"], found["serving_backend"], found["mmap"], found["backend_parameters"]) == (None, "vllm", None, None)
    assert (found["env_names"], found["residency_variable_in_env"], found["weights_bytes"], found["gpu_ids"]) == ([], False, None, None)
    assert found["source_fields"] == {"local_path": "/m/model"}
    assert [(one["name"], one["state"], one["workers"], one["distributed"]) for one in found["instances"]] == [
        ("model-2-a", "pending", [], False)
    ]


def test_mmap_is_read_as_the_server_reads_it(run, server):
    parameters = model(1, backend_parameters=["--no-mmap"])
    for version, assumed in (("0.6.0", True), ("0.6.2", False)):
        serve(server, version, MACS, [parameters])
        assert run()["models"][0]["mmap"] == {"engine_uses_mmap": False, "estimator_assumes_mmap": assumed, "refused": []}
        assert run()["models"][0]["instances"] == []


def test_a_claim_that_is_not_made_yet_and_a_worker_that_is_gone(run, server):
    serve(server, "0.6.2", [], [model(1), model(2)], [instance(1, 1, None), instance(2, 2, claim(1, 5))])
    first, second = (one["instances"][0]["workers"][0] for one in run()["models"])
    assert (first["claim_bytes"], first["ram_claim_bytes"], first["gpu_claim_bytes"], first["gpu_ids"]) == (None, None, None, [])
    assert (second["name"], second["gpu_claim_bytes"], second["gpu_ids"]) == ("mac-2", 5 * GIB, [])


def test_an_instance_of_07_has_the_same_shape(run, server):
    before = run(names=["model-1"])["models"][0]["instances"]
    part = SPREAD["distributed_servers"]["rpc_servers"][0]["computed_resource_claim"]
    other = {"worker_id": 2, "worker_name": "mac-2", "gpu_indexes": [0], "computed_resource_claim": part}
    newer = {**SPREAD, "distributed_servers": {"mode": "delegated", "subordinate_workers": [other]}}
    serve(server, "0.7.1", MACS, [FULL], [newer])
    assert run()["models"][0]["instances"] == before


@pytest.mark.parametrize(
    ("names", "found", "missing"),
    [([], ["model-1", "model-2"], []), (["model-2"], ["model-2"], []), (["z", "model-1", "a", "z"], ["model-1"], ["a", "z"])],
)
def test_names(run, names: t.List[str], found: t.List[str], missing: t.List[str]):
    result = run(names=names)
    assert ([one["name"] for one in result["models"]], result["missing"]) == (found, missing)


def test_check_mode_is_the_same(run):
    assert run(_ansible_check_mode=True) == run()


def test_problems_of_a_model_and_its_instances(run, server):
    serve(server, "0.6.2", MACS, [model(1, replicas="one"), model(2)], [instance(1, 1, claim(1, 1), state=7), instance(2, 1, claim(1, 1))])
    assert [one["problems"] for one in run()["models"]] == [
        ["model model-1: replicas is text, not a whole number", "instance model-1-a: state is a number, not text"],
        [],
    ]


def test_an_odd_version_is_warned_of(run, server):
    serve(server, "0.6.2rc1", MACS)
    assert run()["warned"] == [f"{server.url}: GPUStack 0.6.2rc1 is not a plain release; it is treated like the release it belongs to"]


def test_failures(run, server):
    assert run(retries=-1)["msg"] == "retries: -1 is too small; the least is 0"
    server.answer = lambda seen: Reply(b"<html>login</html>", 200, "text/html")
    result = run(retries=0, _ansible_verbosity=3)
    assert result["failed"] is True
    assert "<html>login</html>" in result["api_answer"]


def test_documents_say_what_is_so(run):
    assert server_modules.documented_options(model_info) == server_modules.specified_options(model_info)
    assert server_modules.undocumented(model_info, run()) == []


@pytest.mark.parametrize("version", ["062", "071"])
def test_recorded_models(run, server, captures_dir, version: str):
    folder = pathlib.Path(captures_dir, "gpustack-api")
    workers = json.loads((folder / f"{version}-basic.json").read_text("utf-8"))["workers"][1]["items"]
    (spread,) = json.loads((folder / f"{version}-distributed-instance.json").read_text("utf-8"))
    known = json.loads((folder / f"{version}-models.json").read_text("utf-8"))["model_get"][1]
    serve(server, f"{version[0]}.{version[1]}.{version[2]}", workers, [known], [spread])
    result = run()
    assert server_modules.undocumented(model_info, result) == []
    (found,) = result["models"]
    assert (found["name"], found["env_names"], found["backend_parameters"], found["problems"]) == ("tiny", ["FOO"], ["--no-mmap"], [])
    assert [one["name"] for one in found["instances"][0]["workers"]] == ["mac-1", "mac-2"]
    assert [one["gpu_ids"] for one in found["instances"][0]["workers"]] == [["mac-1:mps:0"], ["mac-2:mps:0"]]
