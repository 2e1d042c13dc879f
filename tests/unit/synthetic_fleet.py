# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Workers, models and instances as GPUStack's API says them, and a server that lists them. Made up after the schemas of 0.6 and 0.7."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import placement, placement_case
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.fleet_nodes import parse_nodes
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap import Override
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import parse_instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import parse_model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import parse_worker
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import FakeServer, Reply, Seen

Json = t.Dict[str, t.Any]
URL = "https://gpustack.example.com"


def mac(number: int = 1, **changes: t.Any) -> Json:
    """A Mac Studio with an M3 Ultra and 512 GiB, 384 of them for the GPU: mac-1, mac-2 …"""
    return {
        "id": number,
        "name": f"mac-{number}",
        "hostname": f"studio-{number}.example.com",
        "ip": f"10.0.0.{number}",
        "port": 10150,
        "labels": {"os": "darwin", "arch": "arm64", "worker-name": f"mac-{number}"},
        "system_reserved": {"ram": 2 * GIB, "vram": GIB},
        "state": "ready",
        "state_message": None,
        "heartbeat_time": "2026-11-22T11:37:02Z",
        "status": {
            "cpu": {"total": 32},
            "memory": {"total": 512 * GIB, "used": 8 * GIB, "allocated": 0, "is_unified_memory": True},
            "os": {"name": "macOS", "version": "15.5"},
            "kernel": {"name": "Darwin", "architecture": ""},
            "gpu_devices": [gpu()],
            "rpc_servers": {"0": {"pid": 76, "port": 40064, "gpu_index": 0}},
        },
        **changes,
    }


def gpu(gib: float = 384, used_gib: t.Optional[float] = None, name: str = "Apple M3 Ultra", kind: str = "mps", index: int = 0) -> Json:
    """A GPU."""
    used = None if used_gib is None else int(used_gib * GIB)
    memory = {"total": int(gib * GIB), "used": used, "allocated": 0, "is_unified_memory": kind == "mps"}
    return {"index": index, "name": name, "vendor": name.split(maxsplit=1)[0], "type": kind, "memory": memory}


def with_status(worker: Json, **changes: t.Any) -> Json:
    """A worker that reports otherwise."""
    return {**worker, "status": {**worker["status"], **changes}}


def linux(number: int, *gpus: Json) -> Json:
    """A Linux machine with 64 GiB."""
    worker = mac(number, name=f"linux-{number}", labels={"os": "linux", "arch": "amd64"})
    memory = {"total": 64 * GIB, "is_unified_memory": False}
    return with_status(worker, kernel={"name": "Linux"}, os={"name": "Debian"}, memory=memory, gpu_devices=list(gpus))


def model(number: int = 1, weights_gib: t.Optional[float] = None, **changes: t.Any) -> Json:
    """A model: model-1, model-2 …"""
    return {
        "id": number,
        "name": f"model-{number}",
        "source": "local_path",
        "local_path": f"/models/{number}.gguf",
        "meta": {"n_ctx": 8192} if weights_gib is None else {"size": int(weights_gib * GIB)},
        "replicas": 1,
        "ready_replicas": 1,
        "categories": ["llm"],
        "cpu_offloading": True,
        "distributed_inference_across_workers": True,
        "worker_selector": {},
        "gpu_selector": None,
        "backend": "llama-box",
        "backend_version": None,
        "backend_parameters": [],
        "env": {},
        **changes,
    }


def claim(ram_gib: float, *gpu_gib: float, offload: t.Optional[int] = 62, total: t.Optional[int] = 62, unified: bool = True) -> Json:
    """What the scheduler claims, of GPU 0, 1 …"""
    return {
        "is_unified_memory": unified,
        "offload_layers": offload,
        "total_layers": total,
        "ram": int(ram_gib * GIB),
        "vram": {str(index): int(gib * GIB) for index, gib in enumerate(gpu_gib)},
    }


def instance(of: int = 1, on: t.Optional[int] = 1, what: t.Optional[Json] = None, others: t.Any = (), **changes: t.Any) -> Json:
    """An instance of a model on a Mac. others: pairs of a Mac and its claim, as 0.6 says them."""
    rpc_servers = [{"worker_id": number, "gpu_index": 0, "computed_resource_claim": part} for number, part in others]
    return {
        "id": of,
        "name": f"model-{of}-a",
        "model_id": of,
        "model_name": f"model-{of}",
        "worker_id": on,
        "worker_name": None if on is None else f"mac-{on}",
        "state": "running",
        "state_message": "",
        "download_progress": 100.0,
        "restart_count": 0,
        "computed_resource_claim": what,
        "gpu_indexes": [0],
        "distributed_servers": {"rpc_servers": rpc_servers or None, "ray_actors": None},
        **changes,
    }


def survey(
    workers: t.Sequence[Json],
    models: t.Sequence[Json],
    instances: t.Sequence[Json],
    version: t.Optional[str] = "0.6.2",
    nodes: t.Sequence[Json] = (),
    weights_bytes: t.Optional[t.Mapping[str, int]] = None,
    overrides: t.Sequence[Override] = (),
    labels: t.Optional[t.Mapping[str, t.Mapping[str, str]]] = None,
) -> t.Tuple[t.Tuple[placement_case.Case, ...], placement_case.Around]:
    """The cases of a server."""
    names = {one["id"]: one["name"] for one in workers}
    return placement_case.survey(
        [parse_worker(one) for one in workers],
        [parse_model(one) for one in models],
        [parse_instance(one, names) for one in instances],
        parse_nodes(list(nodes)),
        version,
        URL,
        weights_bytes or {},
        overrides,
        labels or {},
    )


def judge(*arguments: t.Any, **options: t.Any) -> t.List[placement.Report]:
    """What the rules say of all models."""
    cases, around = survey(*arguments, **options)
    return [placement.judge(case, around) for case in cases]


def serve(
    server: FakeServer, version: str, workers: t.Sequence[Json], models: t.Sequence[Json] = (), instances: t.Sequence[Json] = ()
) -> None:
    """Let a server be a GPUStack that has these, and refuses to change anything."""
    lists = {"/v1/workers": workers, "/v1/models": models, "/v1/model-instances": instances}

    def answer(seen: Seen) -> Reply:
        assert seen.method == "GET"
        if seen.path == "/version":
            return Reply({"version": f"v{version}", "git_commit": "0123456"})
        items, page, size = lists[seen.path], int(seen.query["page"]), int(seen.query["perPage"])
        pagination = {"page": page, "perPage": size, "total": len(items), "totalPage": -(-len(items) // size)}
        return Reply({"items": list(items[(page - 1) * size : page * size]), "pagination": pagination})

    server.answer = answer
