# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers of a server: lists, refusals, streams. Most are true ones with parts replaced, since bytes at random are no JSON."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import (
    fleet_nodes,
    instance_age,
    mmap_facts,
    model_need,
    proof_listen,
    proof_whole,
    server_answers,
    server_pages,
    urls,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_request import Limits
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import parse_lock
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import parse_instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import parse_model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import parse_worker
from shapes import CANARY, Target, reshaped, text_of

_SHA = "0" * 64
_CLAIM = {"is_unified_memory": True, "offload_layers": 62, "total_layers": 62, "ram": 1 << 30, "vram": {"0": 1 << 38}}
_MODEL = {
    "id": 1,
    "name": "model-1",
    "source": "local_path",
    "local_path": "/m/1.gguf",
    "meta": {"n_ctx": 8192, "size": 1 << 39},
    "replicas": 1,
    "ready_replicas": 1,
    "categories": ["llm"],
    "backend": "llama-box",
    "backend_version": "v0.0.139",
    "backend_parameters": ["--mmap", "--ctx-size=8192"],
    "env": {"A": "c4n-4ry"},
    "gpu_selector": {"gpu_ids": ["mac-1:mps:0"]},
    "worker_selector": {"os": "darwin"},
    "updated_at": "2026-11-22T11:37:02Z",
    "created_at": "2026-11-22T11:37:02Z",
    "placement_strategy": "spread",
    "cpu_offloading": True,
    "distributed_inference_across_workers": True,
}
_WORKER = {
    "id": 1,
    "name": "mac-1",
    "hostname": "mac-1.example.com",
    "ip": "10.0.0.1",
    "port": 10150,
    "state": "ready",
    "labels": {"os": "darwin"},
    "system_reserved": {"ram": 1, "vram": 1},
    "heartbeat_time": "2026-11-22T11:37:02Z",
    "unreachable": False,
    "state_message": None,
    "status": {
        "cpu": {"total": 32},
        "memory": {"total": 1 << 39, "used": 1, "allocated": 0, "is_unified_memory": True},
        "os": {"name": "macOS", "version": "15.5"},
        "kernel": {"name": "Darwin", "architecture": "arm64"},
        "gpu_devices": [
            {"index": 0, "name": "Apple M3 Ultra", "type": "mps", "memory": {"total": 1 << 38, "used": None}, "core": {"total": 80}}
        ],
        "rpc_servers": {"0": {"pid": 76, "port": 40064, "gpu_index": 0}},
    },
}
_INSTANCE = {
    "id": 1,
    "name": "model-1-x9",
    "model_id": 1,
    "model_name": "model-1",
    "worker_id": 1,
    "worker_name": "mac-1",
    "state": "running",
    "state_message": "",
    "download_progress": 100.0,
    "restart_count": 0,
    "gpu_indexes": [0],
    "pid": 7,
    "port": 40000,
    "computed_resource_claim": _CLAIM,
    "updated_at": "2026-11-22T11:37:02Z",
    "created_at": "2026-11-22T11:37:02",
    "distributed_servers": {"rpc_servers": [{"worker_id": 2, "gpu_index": 0, "computed_resource_claim": _CLAIM}], "ray_actors": None},
}
_PAGE = {"items": [{"id": 1}], "pagination": {"page": 1, "perPage": 100, "total": 1, "totalPage": 1}}
_NODE = {
    "name": "mac-1",
    "addresses": ["10.0.0.1"],
    "apple_silicon": {"chip": "Apple M3 Ultra", "memory_bytes": 1 << 39, "is_virtual": False},
    "node": {
        "gpustack_version": "0.6.2",
        "installation": {"kind": "script"},
        "residency": {"state": "absent"},
        "llama_box": [{"slot": "builtin", "version": "v0.0.139"}, {"slot": "pinned", "pin": "v0.0.139"}],
    },
}
_RELEASE = {"url": "https://x.example/y.zip", "sha256": _SHA, "size_bytes": 7, "files": {"llama-box": _SHA, "libggml.dylib": _SHA}}
_LOCK = {"format": 1, "releases": {"v0.0.139": {"darwin-arm64-metal": _RELEASE, "linux-amd64-avx2": _RELEASE}}}
_CHUNK = {"choices": [{"delta": {"content": "a", "reasoning_content": "b"}, "finish_reason": None}], "usage": {"completion_tokens": 3}}
_REFUSAL = {"code": 422, "reason": "UnprocessableEntity", "message": "[{'loc': ('a',), 'msg': 'b', 'input': 'c4n-4ry'}]"}


def _models(data: bytes) -> t.Any:
    raw = reshaped((_MODEL, _INSTANCE, _WORKER), data)
    model, worker = parse_model(raw), parse_worker(raw)
    instance = parse_instance(raw, {1: "mac-1"})
    model_need.of_claim(model_need.claim_of_instance(raw), 1, True)
    model_need.claim_of_evaluation(raw)
    instance_age.suspects(model, [instance])
    instance_age.marked(model.env or {}, [instance])
    return model, worker, instance, model_need.other_workers(raw), server_answers.secrets_in(raw)


def _policy(data: bytes) -> t.Any:
    raw = reshaped((_MODEL, _WORKER), data)
    model = mmap_facts.model_from_api(raw, None, [reshaped((_INSTANCE,), data)])
    return model, mmap_facts.worker_from_api(raw)


def _worker_facts(data: bytes) -> t.Any:
    return mmap_facts.worker_with_probe(mmap_facts.worker_from_api(reshaped((_WORKER,), data)), reshaped((_NODE["apple_silicon"],), data))


def _nodes(data: bytes) -> t.Any:
    return fleet_nodes.parse_nodes(reshaped(([_NODE], [_NODE, {**_NODE, "name": "mac-2"}]), data))


def _page(data: bytes) -> t.Any:
    page = server_pages.parse_page(reshaped((_PAGE,), data))
    reading = server_pages.Reading()
    if page is not None:
        reading.begin()
        reading.add(page)
        reading.add(page)
    return page, reading.whole


def _lock(data: bytes) -> t.Any:
    lock = parse_lock(reshaped((_LOCK,), data), "/x/lock.yml")
    assert parse_lock(json.loads(json.dumps(lock.as_data()))) == lock
    for release in lock.releases:
        assert urls.problem_of(release.url) == ""
        assert not any("/" in name or name in (".", "..") for name in release.files), "a name of the lock leads elsewhere"
    return lock


def _refusal(data: bytes) -> t.Any:
    text = text_of(data)
    secret = f"s3cret-{CANARY}"
    clean = server_answers.Redactor([secret]).clean(f"{text}{secret}{text}")
    assert secret not in clean, "a secret is shown"
    found = server_answers.parse_refusal(text)
    return clean, found, server_answers.parse_refusal(json.dumps(reshaped((_REFUSAL, {"error": _REFUSAL}, {"detail": [_REFUSAL]}), data)))


def _stream(data: bytes) -> t.Any:
    outcomes = []
    for ended in (False, True):
        stream = proof_listen.listener("llm", Limits(10.0, 5.0, 60.0), 1)
        for second, piece in enumerate(data.split(b"\x1e")):
            stream.feed(float(second), piece)
        run = stream.ended(9.0, "") if ended else stream.gave_up(9.0)
        assert run.status in (proof_listen.ANSWERED, proof_listen.SILENT, proof_listen.REFUSED)
        assert len(run.excerpt) <= 100
        assert run.tokens is None or run.tokens >= 0
        outcomes.append(run)
    return outcomes


def _chunks(data: bytes) -> t.Any:
    half = len(data) // 2
    parts = (
        json.dumps(reshaped((_CHUNK, {"timings": {"predicted_n": 3, "predicted_per_second": 9.5}}), one))
        for one in (data[:half], data[half:])
    )
    return _stream(b"\x1e".join(f"data: {part}\n\n".encode("utf-8", "surrogatepass") for part in parts) + b"data: [DONE]\n\n")


def _whole(data: bytes) -> t.Any:
    shaped = reshaped(({"data": [{"embedding": [0.5, 0.0]}]}, {"results": [{"index": 0, "relevance_score": 0.5}, {"index": 1}]}), data)
    answers = (data, json.dumps(shaped).encode("utf-8", "surrogatepass"))
    return [(proof_whole.embedding_problem(one), proof_whole.rerank_problem(one, 2)) for one in answers]


def _url(data: bytes) -> t.Any:
    text = data.decode("utf-8", "replace")
    if CANARY not in text:
        # A user, a password and a query are not shown; a path is.
        assert CANARY not in urls.shown(f"https://user:{CANARY}@example.com/{text}?{CANARY}")
    if not urls.problem_of(text):
        urls.origin(text)
    return urls.base_url(text, "base_url")


_REFUSED = (BadInputError,)
# All 256 seeds of one byte would be one: what a byte does depends on those before it.
_STARTS = tuple(bytes([first, 5, 9, 3]) for first in range(3))
_STREAM = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n\x1edata: {"usage":{"completion_tokens":3}}\n\ndata: [DONE]\n'
TARGETS = (
    Target("api_models_workers_instances", _models, _STARTS, largest_bytes=32),
    Target("api_policy_facts", _policy, _STARTS, _REFUSED, largest_bytes=32, names_names=True),
    Target("api_worker_facts", _worker_facts, _STARTS, _REFUSED, largest_bytes=32, names_names=True),
    Target("facts_of_nodes", _nodes, _STARTS, _REFUSED, largest_bytes=32, names_names=True),
    Target("api_pages", _page, _STARTS, largest_bytes=32),
    Target("lock_file", _lock, _STARTS, _REFUSED, largest_bytes=32, names_names=True),
    Target("api_refusals", _refusal, (json.dumps(_REFUSAL).encode(), b'{"detail": "x"}', b"{'env': {'A': 'b'"), largest_bytes=512),
    Target("api_stream", _stream, (_STREAM, b'{"error": {"message": "x"}}\n', b"event: error\n"), largest_bytes=512),
    Target("api_stream_chunks", _chunks, _STARTS, largest_bytes=32),
    Target("api_whole_answers", _whole, (*_STARTS, b'{"data": [{"embedding": [1]}]}'), largest_bytes=128),
    Target("urls", _url, (b"https://user:word@example.com:443/a?b#c", b"http://[::1]:80/"), _REFUSED, largest_bytes=128, names_names=True),
)
