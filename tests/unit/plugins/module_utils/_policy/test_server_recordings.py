# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our shapes over what real servers of 0.6.0, 0.6.2 and 0.7.1 said."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import versions
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_answers import Refusal, parse_refusal
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import parse_instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import (
    FORCED_FLAGS,
    MODEL_FIELDS,
    SERVER_FIELDS,
    model_put_body,
    parse_model,
    put_differences,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_pages import parse_page
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import parse_worker

BOTH = ["062", "071"]
GIB = 1 << 30


@pytest.fixture(scope="module")
def load(captures_dir) -> t.Callable[[str], t.Any]:
    def read(name: str) -> t.Any:
        return json.loads(pathlib.Path(captures_dir, name).read_text("utf-8"))

    return read


@pytest.mark.parametrize("version", BOTH)
def test_lists_are_pages(load, version):
    basic = load(f"gpustack-api/{version}-basic.json")
    for name, count in (("workers", 2), ("gpu_devices", 2), ("models_empty", 0), ("apikey_list", 1)):
        page = parse_page(basic[name][1])
        assert page is not None
        assert (page.number, page.total, len(page.items)) == (1, count, count)


@pytest.mark.parametrize("version", BOTH)
def test_workers(load, version):
    basic = load(f"gpustack-api/{version}-basic.json")
    workers = [parse_worker(item) for item in basic["workers"][1]["items"]]
    assert [worker.problems for worker in workers] == [(), ()]
    assert [gpu.gpu_id for worker in workers for gpu in worker.gpus or ()] == [item["id"] for item in basic["gpu_devices"][1]["items"]]
    worker = workers[1]
    assert (worker.id, worker.name, worker.ip, worker.state, worker.unreachable) == (1, "mac-1", "127.0.0.1", "ready", False)
    assert (worker.os_name, worker.os_version, worker.kernel_name, worker.cpu_count) == ("macOS", "15.5", "Darwin", 16)
    assert (worker.memory_total_bytes, worker.unified_memory, worker.reserved_memory_bytes) == (64 * GIB, True, 2 * GIB)
    assert [server.gpu_index for server in worker.rpc_servers] == [0]
    assert [(gpu.name, gpu.type, gpu.memory_total_bytes) for gpu in worker.gpus or ()] == [("Apple M3 Max", "mps", 48 * GIB)]
    assert (worker.uuid is not None) is (version == "071")


@pytest.mark.parametrize("version", BOTH)
def test_models_and_what_put_made_of_them(load, version):
    recorded = load(f"gpustack-api/{version}-models.json")
    model = parse_model(recorded["model_get"][1])
    assert model.problems == ()
    assert (model.name, model.replicas, model.ready_replicas, model.categories) == ("tiny", 1, 1, ("llm",))
    assert (model.backend_parameters, model.env, model.serving_backend) == (("--no-mmap",), {"FOO": "bar"}, "llama-box")
    assert set(model.raw) <= {*MODEL_FIELDS, *SERVER_FIELDS}
    # The recorded PUT had name, source, local_path and backend_parameters alone, and reset just the two flags.
    after = recorded["put_min"][1]
    reset = {field for field in model.raw if model.raw[field] != after[field]} - {"backend_parameters", "updated_at"}
    assert reset == set(FORCED_FLAGS)
    body = model_put_body(model.raw, {"backend_parameters": after["backend_parameters"]})
    assert set(body) == {"name", "source", "local_path", "backend_parameters", *FORCED_FLAGS}
    assert put_differences(body, after) == FORCED_FLAGS


@pytest.mark.parametrize("version", BOTH)
def test_refusals(load, version):
    basic = load(f"gpustack-api/{version}-basic.json")
    models = load(f"gpustack-api/{version}-models.json")

    def refusal(recorded: t.Any) -> Refusal | None:
        return parse_refusal(json.dumps(recorded[1]))

    for name in ("401", "bad_basic", "bad_bearer"):
        assert refusal(basic[name]) == Refusal("Unauthorized", "Invalid authentication credentials")
    assert refusal(basic["404_model"]) == refusal(models["put_404"]) == Refusal("NotFound", "Model not found")
    assert refusal(basic["404_path"]) == Refusal("", "Not Found")
    assert refusal(basic["422_create"]) == Refusal("Invalid", "body.source: Field required")
    assert refusal(models["put_partial_422"]) == Refusal("Invalid", "body.source: Field required; body.name: Field required")
    hugging_face = "body: Value error, huggingface_filename must be provided when source is 'huggingface'"
    assert refusal(basic["422_create_hf"]) == Refusal("Invalid", hugging_face)
    taken = "Model 'tiny' already exists. Please choose a different name or check the existing model."
    assert refusal(models["create_dup"]) == Refusal("AlreadyExists", taken)
    assert refusal(basic["400_gpu_sel"]) == Refusal("BadRequest", "Worker nope not found")


@pytest.mark.parametrize("version", BOTH)
def test_versions(load, version):
    said = load(f"gpustack-api/{version}-basic.json")["version"][1]
    assert versions.support(said["version"]).supported is True


@pytest.mark.parametrize("version", BOTH)
def test_a_distributed_instance_has_one_shape(load, version):
    instance = parse_instance(load(f"gpustack-api/{version}-distributed-instance.json")[0], {1: "mac-1", 2: "mac-2"})
    assert instance.problems == ()
    assert (instance.state, instance.state_message, instance.download_percent) == ("running", None, 100.0)
    assert (instance.worker_ids, instance.distributed) == ((1, 2), True)
    (part,) = instance.subordinates
    assert (part.worker_name, part.gpu_indexes) == ("mac-2", (0,))
    assert part.claim is not None
    assert (part.claim.gpu_memory_bytes, part.claim.offload_layers, part.claim.memory_bytes) == ({0: 30 * GIB}, 2, 0)
    assert instance.claim is not None
    assert (instance.claim.gpu_memory_bytes, instance.claim.total_layers) == ({0: 30 * GIB}, 5)
    assert instance.claim.tensor_split_bytes == (47 * GIB, 47 * GIB)


def test_variants_of_0_6_0(load):
    for name, recorded in load("gpustack-api/060-variants.json").items():
        model, instance = parse_model(recorded["model"]), parse_instance(recorded["instance"])
        assert model.problems == instance.problems == ()
        assert (instance.state == "error") is (name in ("null-params", "missing-version"))
        assert (model.backend_parameters is None) is (name == "null-params")
        assert (instance.state_message is None) is (instance.state == "running")


@pytest.mark.parametrize(
    ("name", "workers", "claimed"),
    [
        ("0.6.0-a-default", 1, [38]),
        ("0.6.0-b-no-mmap", 1, [38]),
        ("0.6.0-b2-pinned-two", 2, [18, 355]),
        ("0.6.2-c-default", 2, [345, 355]),
        ("0.6.2-d-mmap", 1, [38]),
        ("0.7.1-e-default", 2, [345, 355]),
        ("0.7.1-e2-mmap", 1, [38]),
    ],
)
def test_placements_of_1907(load, name, workers, claimed):
    recorded = load(f"gpustack-1907/{name}.json")
    model = parse_model(recorded["model"])
    instance = parse_instance(recorded["instances"][0])
    assert model.problems == instance.problems == ()
    assert model.uses_llama_box
    assert len(instance.worker_ids) == workers
    claims = [instance.claim, *(part.claim for part in instance.subordinates)]
    assert [sum(claim.gpu_memory_bytes.values()) // GIB for claim in claims if claim] == claimed
