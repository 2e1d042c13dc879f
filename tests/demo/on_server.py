# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the host of GPUStack's server, by `python3 - ACTION NAME [JSON]`. It shares no code with the collection, to contradict it.

create  Deploy a model as a person would, and wait until it runs.
look    Where the server put the model, what it claims for it, and how fast it answers.
"""

from __future__ import annotations

import base64
import json
import sys
import time
import typing as t
import urllib.request

URL = "http://127.0.0.1"
CREDENTIALS = base64.b64encode(b"admin:Secret#12345").decode()
LIMIT_SECONDS = 240.0
TOKENS = 12
GIB = 1 << 30


def ask(method: str, path: str, body: t.Any = None) -> t.Any:
    """One answer of the server."""
    headers = {"Authorization": f"Basic {CREDENTIALS}", "Content-Type": "application/json"}
    request = urllib.request.Request(URL + path, None if body is None else json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def running(name: str) -> dict[str, t.Any]:
    """The instance of a model, once it runs."""
    start = time.monotonic()
    while True:
        instances = [one for one in ask("GET", "/v1/model-instances?perPage=100")["items"] if one["model_name"] == name]
        if instances and instances[0]["state"] == "running":
            return dict(instances[0])
        if time.monotonic() - start > LIMIT_SECONDS:
            sys.exit(f"{name} does not run after {LIMIT_SECONDS:.0f} s: {json.dumps(instances)}")
        time.sleep(0.5)


def others(instance: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """The parts on workers besides the main one, in the schema of 0.6 or of 0.7."""
    servers = instance["distributed_servers"] or {}
    return list(servers.get("rpc_servers") or servers.get("subordinate_workers") or [])


def gib(claim: dict[str, t.Any]) -> float:
    """GPU memory of a claim."""
    return round(float(sum((claim.get("vram") or {}).values())) / GIB, 1)


def chat(name: str) -> float:
    """Tokens per second, of a real answer."""
    body = {"model": name, "messages": [{"role": "user", "content": "How do two Macs share one model?"}], "max_tokens": TOKENS}
    start = time.monotonic()
    answer = ask("POST", "/v1-openai/chat/completions", body)
    return round(float(answer["usage"]["completion_tokens"]) / (time.monotonic() - start), 1)


def look(name: str) -> None:
    """Print it."""
    instance = running(name)
    names = {worker["id"]: worker["name"] for worker in ask("GET", "/v1/workers?perPage=100")["items"]}
    model = next(one for one in ask("GET", "/v1/models?perPage=100")["items"] if one["name"] == name)
    claim = instance["computed_resource_claim"]
    seen = {
        "version": ask("GET", "/version")["version"].lstrip("v"),
        "main": instance["worker_name"],
        "others": [names[part["worker_id"]] for part in others(instance)],
        "main_gib": gib(claim),
        "others_gib": round(sum(gib(part["computed_resource_claim"]) for part in others(instance)), 1),
        "layers": f"{claim['offload_layers']} of {claim['total_layers']}",
        "port": instance["port"],
        "parameters": model["backend_parameters"],
        "gpu_ids": (model["gpu_selector"] or {}).get("gpu_ids"),
        "tokens_per_second": chat(name),
    }
    print(json.dumps(seen))


def create(name: str, fields: str) -> None:
    """Deploy it."""
    ask("POST", "/v1/models", {"name": name, **json.loads(fields)})
    running(name)


if __name__ == "__main__":
    actions: dict[str, t.Callable[..., None]] = {"create": create, "look": look}
    actions[sys.argv[1]](*sys.argv[2:])
