# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap_facts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import Hardware
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import ModelFacts, WorkerFacts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB

GARBAGE: list[t.Any] = [None, 0, -1, True, 1.5, "", "x", [], [None], [[]], {}, {"x": None}, {"name": []}]


def api_worker(**changes: t.Any) -> dict[str, t.Any]:
    """A Mac as GPUStack's server lists it."""
    worker: dict[str, t.Any] = {
        "name": "mac-1",
        "labels": {"os": "darwin", "arch": "arm64", "worker-name": "mac-1"},
        "system_reserved": {"ram": 2 * GIB, "vram": GIB},
        "state": "ready",
        "status": {
            "memory": {"total": 512 * GIB, "is_unified_memory": True},
            "os": {"name": "macOS", "version": "15.5"},
            "kernel": {"name": "Darwin", "architecture": "arm64"},
            "gpu_devices": [{"name": "Apple M3 Ultra", "vendor": "Apple", "index": 0, "memory": {"total": 384 * GIB}, "type": "mps"}],
        },
    }
    return {**worker, **changes}


def with_status(**changes: t.Any) -> dict[str, t.Any]:
    return api_worker(status={**api_worker()["status"], **changes})


MAC = WorkerFacts(
    name="mac-1",
    os="Darwin",
    is_apple_silicon=True,
    is_virtual=False,
    is_translated=False,
    chip="Apple M3 Ultra",
    memory_bytes=512 * GIB,
    reserve_bytes=3 * GIB,
    working_set_bytes=384 * GIB,
    working_set_source="server",
    labels={"os": "darwin", "arch": "arm64", "worker-name": "mac-1"},
    gpus=("mac-1:mps:0",),
)


def test_a_mac_of_the_servers_list() -> None:
    assert mmap_facts.worker_from_api(api_worker()) == MAC


def changed(**changes: t.Any) -> WorkerFacts:
    return WorkerFacts(**{**{name: getattr(MAC, name) for name in MAC.__dataclass_fields__}, **changes})


NO_GPU: dict[str, t.Any] = {
    "is_virtual": None,
    "is_translated": None,
    "chip": None,
    "working_set_bytes": None,
    "working_set_source": None,
    "gpus": (),
}


def device(**changes: t.Any) -> dict[str, t.Any]:
    return {**api_worker()["status"]["gpu_devices"][0], **changes}


@pytest.mark.parametrize(
    ("worker", "facts"),
    [
        (api_worker(name=""), MAC),
        (api_worker(name=7), MAC),
        # Under Rosetta, GPUStack calls itself an Intel program; on the stand-ins of our tests it runs on Linux.
        (api_worker(labels={"os": "darwin", "arch": "amd64"}), changed(is_translated=True, labels={"os": "darwin", "arch": "amd64"})),
        (api_worker(labels={"os": "linux", "arch": "amd64"}), changed(is_translated=None, labels={"os": "linux", "arch": "amd64"})),
        (api_worker(labels={"os": 1, "a": "b"}), changed(is_translated=None, labels={"a": "b"})),
        (api_worker(system_reserved={"ram": 5 * GIB, "vram": 0}), changed(reserve_bytes=5 * GIB)),
        (api_worker(system_reserved={"vram": GIB, "ram": "2"}), changed(reserve_bytes=GIB)),
        (api_worker(system_reserved={}), changed(reserve_bytes=0)),
        (api_worker(system_reserved=None), MAC),
        (with_status(kernel={"name": "darwin"}), MAC),
        (with_status(kernel={"name": ""}), MAC),
        (with_status(kernel={"name": "Linux"}), changed(os="Linux")),
        (with_status(memory={"total": 0}), changed(memory_bytes=None)),
        (
            with_status(gpu_devices=[device(name="NVIDIA H100", type="cuda"), device(index=1)]),
            changed(gpus=("mac-1:cuda:0", "mac-1:mps:1")),
        ),
        (with_status(gpu_devices=[device(name="Apple Paravirtual device")]), changed(chip="Apple Paravirtual device", is_virtual=True)),
        (with_status(gpu_devices=[device(name="Apple M1 (Virtual)")]), changed(chip="Apple M1 (Virtual)", is_virtual=True)),
        (with_status(gpu_devices=[device(name="Apple X9")]), changed(chip="Apple X9", is_virtual=None)),
        (with_status(gpu_devices=[device(memory=None)]), changed(working_set_bytes=None, working_set_source=None)),
        (with_status(gpu_devices=[]), changed(**NO_GPU)),
        (
            {**with_status(gpu_devices=[]), "labels": {"os": "darwin", "arch": "amd64"}},
            changed(**{**NO_GPU, "is_apple_silicon": False, "labels": {"os": "darwin", "arch": "amd64"}}),
        ),
        (
            {**with_status(gpu_devices=None), "labels": {"os": "darwin"}},
            changed(**{**NO_GPU, "is_apple_silicon": None, "labels": {"os": "darwin"}}),
        ),
        ({"name": "new"}, WorkerFacts("new")),
        ({"name": "new", "labels": {"os": "darwin"}}, WorkerFacts("new", os="Darwin", labels={"os": "darwin"})),
        ({"name": "new", "labels": {"os": "linux"}}, WorkerFacts("new", os="linux", is_apple_silicon=False, labels={"os": "linux"})),
    ],
)
def test_workers_of_the_servers_list(worker: dict[str, t.Any], facts: WorkerFacts) -> None:
    assert mmap_facts.worker_from_api(worker) == facts


@pytest.mark.parametrize("worker", [{}, None, [], {"name": None, "labels": {"worker-name": ""}}])
def test_a_worker_without_a_name_is_refused(worker: t.Any) -> None:
    with pytest.raises(BadInputError) as caught:
        mmap_facts.worker_from_api(worker)
    assert str(caught.value) == "a worker has no name: give each the name that GPUStack's server knows it by"


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_a_worker_is_unknown(garbage: t.Any) -> None:
    for field in ("labels", "system_reserved", "status", "apple_silicon", "llama_box_version", "gpustack_version", "reserve_bytes"):
        assert mmap_facts.worker_from_mapping(api_worker(**{field: garbage})).name == "mac-1"
    for field in ("memory", "kernel", "gpu_devices"):
        assert mmap_facts.worker_from_api(with_status(**{field: garbage})).name == "mac-1"
    for field in Hardware().as_dict():
        assert mmap_facts.worker_with_probe(MAC, {field: garbage}).name == "mac-1"


PROBE = {
    **Hardware().as_dict(),
    "is_apple_silicon": True,
    "chip": "Apple M3 Ultra",
    "macos_version": "15.5",
    "memory_bytes": 256 * GIB,
    "working_set_bytes": 200 * GIB,
    "working_set_source": "wired_limit",
    "is_virtual": False,
    "is_translated": False,
}


def test_what_the_node_says_is_believed() -> None:
    assert mmap_facts.worker_with_probe(MAC, PROBE) == changed(
        memory_bytes=256 * GIB, working_set_bytes=200 * GIB, working_set_source="wired_limit", chip="Apple M3 Ultra"
    )
    assert mmap_facts.worker_with_probe(WorkerFacts("mac-1"), PROBE) == WorkerFacts(
        name="mac-1",
        os="Darwin",
        is_apple_silicon=True,
        is_virtual=False,
        chip="Apple M3 Ultra",
        memory_bytes=256 * GIB,
        working_set_bytes=200 * GIB,
        working_set_source="wired_limit",
    )


@pytest.mark.parametrize(
    ("source", "known", "size"),
    [
        ("measured", 384, 200),
        ("wired_limit", 384, 200),
        ("estimated", 384, 384),
        ("estimated", None, 200),
        (None, 384, 384),
        (None, None, 200),
    ],
)
def test_an_estimate_does_not_replace_what_metal_reported(source: str | None, known: int | None, size: int) -> None:
    worker = changed(working_set_bytes=known and known * GIB, working_set_source=known and "server")
    seen = mmap_facts.worker_with_probe(worker, {**PROBE, "working_set_source": source})
    assert seen.working_set_bytes == size * GIB
    assert seen.working_set_source == ("server" if size == 384 else source)


def test_a_working_set_that_the_node_does_not_know_stays() -> None:
    assert mmap_facts.worker_with_probe(MAC, {"working_set_bytes": None, "working_set_source": "measured"}) == MAC


@pytest.mark.parametrize(
    ("facts", "system"),
    [
        ({"is_apple_silicon": False, "warnings": ["x"], "chip": None}, "other"),
        ({"is_apple_silicon": False, "memory_bytes": 5}, "Darwin"),
        ({"is_apple_silicon": True}, "Darwin"),
        ({"macos_version": "15.5"}, "Darwin"),
        ({"is_apple_silicon": None, "warnings": []}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_probe_tells_a_mac_from_other_machines(facts: t.Any, system: str | None) -> None:
    assert mmap_facts.worker_with_probe(WorkerFacts("x"), facts).os == system


def test_a_translated_probe_is_told_and_a_native_one_proves_nothing() -> None:
    assert mmap_facts.worker_with_probe(MAC, {"is_translated": True}).is_translated is True
    assert mmap_facts.worker_with_probe(changed(is_translated=True), {"is_translated": False}).is_translated is True


def test_a_worker_of_a_play() -> None:
    entry = api_worker(apple_silicon=PROBE, llama_box_version="v0.0.162", gpustack_version="0.7.0", reserve_bytes=7 * GIB)
    assert mmap_facts.worker_from_mapping(entry, "0.6.2") == changed(
        memory_bytes=256 * GIB,
        working_set_bytes=200 * GIB,
        working_set_source="wired_limit",
        llama_box_version="v0.0.162",
        gpustack_version="0.7.0",
        reserve_bytes=7 * GIB,
    )
    assert mmap_facts.worker_from_mapping(api_worker(), "0.6.2") == changed(llama_box_version="v0.0.154", gpustack_version="0.6.2")
    assert mmap_facts.worker_from_mapping(api_worker(gpustack_version="0.6.1")) == changed(
        llama_box_version="v0.0.144", gpustack_version="0.6.1"
    )
    assert mmap_facts.worker_from_mapping(api_worker()) == MAC


@pytest.mark.parametrize(
    ("facts", "usable"),
    [
        (MAC, 509 * GIB),
        (changed(memory_bytes=2 * GIB), 0),
        (changed(memory_bytes=3 * GIB + 1), 1),
        (changed(memory_bytes=None), None),
        (changed(os="linux"), None),
        (changed(os=None), None),
    ],
)
def test_memory_that_models_may_have(facts: WorkerFacts, usable: int | None) -> None:
    assert facts.usable_bytes() == usable


@pytest.mark.parametrize(("value", "told"), [(True, True), (False, False), (1, None), ("true", None), (None, None)])
def test_only_booleans_are_flags(value: t.Any, told: bool | None) -> None:
    assert mmap_facts.flag(value) is told


def test_a_model_with_nothing_but_a_name() -> None:
    assert mmap_facts.model_from_api({"name": "m"}) == ModelFacts(name="m", backend=None, lora=False)


def test_a_model_of_the_api() -> None:
    fields = {
        "name": "m",
        "labels": {"tier": "x", "n": 1},
        "backend": "llama-box",
        "backend_version": "v0.0.139",
        "backend_parameters": ["--lora=a.gguf", "--mmap=true"],
        "categories": ["llm", "image"],
        "worker_selector": {"os": "darwin"},
        "gpu_selector": {"gpu_ids": ["mac-1:mps:0"]},
        "distributed_inference_across_workers": False,
    }
    assert mmap_facts.model_from_api(fields, Need(5)) == ModelFacts(
        name="m",
        labels={"tier": "x"},
        need=Need(5),
        distributed=False,
        may_distribute=False,
        lora=True,
        wants_mmap=True,
        backend="llama-box",
        backend_version="v0.0.139",
        categories=("llm", "image"),
        worker_selector={"os": "darwin"},
        gpu_ids=("mac-1:mps:0",),
    )


@pytest.mark.parametrize(
    ("parameters", "lora", "wants_mmap"),
    [
        (None, False, False),
        (["--lora", "a.gguf"], True, False),
        (["--lora-scaled=a=b.gguf"], True, False),
        (["--lora-init-without-apply", "--mmap"], False, True),
        (["--mmap", "--no-mmap"], False, False),
    ],
)
def test_what_its_parameters_say(parameters: list[str] | None, lora: bool, wants_mmap: bool) -> None:
    facts = mmap_facts.model_from_api({"name": "m", "backend_parameters": parameters})
    assert (facts.lora, facts.wants_mmap) == (lora, wants_mmap)


SPREAD_06 = {"distributed_servers": {"rpc_servers": [{"worker_id": 2}], "ray_actors": None}}
SPREAD_07 = {"distributed_servers": {"mode": "delegated", "subordinate_workers": [{"worker_id": 2}]}}
ALONE = {"distributed_servers": {"rpc_servers": None}}


@pytest.mark.parametrize(
    ("allowed", "instances", "distributed"),
    [
        (True, [], None),
        (None, [ALONE], None),
        (True, [ALONE, SPREAD_06], True),
        (True, [SPREAD_07], True),
        (False, [], False),
        (False, [SPREAD_06], True),
    ],
)
def test_an_instance_that_is_spread_proves_it(allowed: bool | None, instances: list[t.Any], distributed: bool | None) -> None:
    facts = mmap_facts.model_from_api({"name": "m", "distributed_inference_across_workers": allowed}, None, instances)
    assert facts.distributed is distributed
    assert facts.may_distribute is (allowed is not False)


@pytest.mark.parametrize("model", [{}, None, [], {"name": ""}, {"name": 5}])
def test_a_model_without_a_name_is_refused(model: t.Any) -> None:
    with pytest.raises(BadInputError) as caught:
        mmap_facts.model_from_api(model)
    assert str(caught.value) == "a model has no name: the mmap policy decides by name, so set it"


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_a_model_is_unknown(garbage: t.Any) -> None:
    fields = (
        "labels",
        "backend",
        "backend_version",
        "categories",
        "worker_selector",
        "gpu_selector",
        "distributed_inference_across_workers",
    )
    for field in fields:
        assert mmap_facts.model_from_api({"name": "m", field: garbage}).name == "m"
    assert mmap_facts.model_from_api({"name": "m", "gpu_selector": {"gpu_ids": garbage}}, None, [garbage]).name == "m"


@pytest.mark.parametrize("recording", ["gpustack-api/062-basic.json", "gpustack-api/071-basic.json"])
def test_recorded_workers(captures_dir: pathlib.Path, recording: str) -> None:
    workers = json.loads((captures_dir / recording).read_text("utf-8"))["workers"][1]["items"]
    facts = sorted((mmap_facts.worker_from_api(worker) for worker in workers), key=lambda worker: worker.name)
    assert facts == [
        WorkerFacts(
            name=name,
            os="Darwin",
            is_apple_silicon=True,
            is_virtual=False,
            chip="Apple M3 Max",
            memory_bytes=64 * GIB,
            reserve_bytes=3 * GIB,
            working_set_bytes=48 * GIB,
            working_set_source="server",
            labels={"os": "linux", "arch": "amd64", "worker-name": name},
            gpus=(f"{name}:mps:0",),
        )
        for name in ("mac-1", "mac-2")
    ]
