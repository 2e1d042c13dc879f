# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inside of a GPUStack in memory: models, their instances, and workers that start them, after the sources of 0.6.0 to 0.7.1.

Time goes on where a client pauses, and things happen when it looks: each list of instances takes every instance one step on.
"""

from __future__ import annotations

import copy
import datetime
import random
import string
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.transport import Clock
from ansible_collections.metalfleet.gpustack.tests.unit.model_bodies import SOURCE_FIELDS, InvalidError, backend_of, fields_of, new_model
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import Reply
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import Json, mac

_BEGIN = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.timezone.utc)
_LETTERS = string.ascii_letters + string.digits
_BUILTIN = "/opt/gpustack/third_party/bin/llama-box/llama-box"
# schemas/models.py, ModelInstanceBase
_EMPTY: Json = {
    **dict.fromkeys(("worker_id", "worker_name", "worker_ip", "pid", "port", "download_progress", "resolved_path")),
    "restart_count": 0,
    "last_restart_time": None,
    "state": "pending",
    "state_message": None,
    "computed_resource_claim": None,
    "gpu_indexes": [],
    "distributed_servers": None,
}


# Steps of an instance's life: a state, or fields of it.
Step = t.Union[str, Json]
RUNS: t.Tuple[Step, ...] = ("analyzing", "scheduled", "initializing", "starting", "running")
NO_WORKER: t.Tuple[Step, ...] = ("analyzing", {"state": "pending", "state_message": "No suitable workers.\nDetails:\n- it is too large"})


def failing(message: str = "Inference server exited with code 1.", restarts: int = 0) -> t.Tuple[Step, ...]:
    """Fails when it is started, and as often again (worker/serve_manager.py, _restart_error_instance)."""
    again = [({"state": "scheduled", "restart_count": count, "state_message": ""}, "initializing") for count in range(1, restarts + 1)]
    error: Step = {"state": "error", "state_message": message}
    return ("analyzing", "scheduled", "initializing", error, *(step for steps in again for step in (*steps, error)))


def downloading(*percents: float) -> t.Tuple[Step, ...]:
    """Fetches its files first, and for ever where the last of the percents is not 100."""
    fetching = [{"state": "downloading", "download_progress": percent} for percent in percents]
    return ("analyzing", "scheduled", "initializing", *fetching, *(("starting", "running") if percents[-1] == 100 else ()))


class StillClock(Clock):
    """A time that only pauses move."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


class MemoryWorld:
    """lives: the steps of a new instance of a model, by default to running.

    started: what each instance's process read of its model, by the instance's name. ended: instances that were ended, with what they
    had been started with. running: how many instances of a model ran, after each change of that. logs: what instances say.
    """

    def __init__(self, version: str = "0.6.2", workers: t.Optional[t.Sequence[Json]] = None) -> None:
        self.version = version
        self.clock = StillClock()
        self.workers = {one["id"]: one for one in (workers if workers is not None else (mac(1), mac(2)))}
        self.models: t.Dict[int, Json] = {}
        self.instances: t.Dict[int, Json] = {}
        self.lives: t.Callable[[Json], t.Sequence[Step]] = lambda _model: RUNS
        # Whether the server follows a change when somebody looks, and not at once: its controllers are told of it (server/controllers.py).
        self.lazy = False
        self._unfollowed: t.List[int] = []
        self.started: t.Dict[str, Json] = {}
        self.ended: t.List[t.Tuple[str, t.Optional[Json]]] = []
        self.running: t.Dict[str, t.List[int]] = {}
        self.logs: t.Dict[str, t.Union[str, Reply]] = {}
        self._steps: t.Dict[str, t.List[Step]] = {}
        self._placed = 0
        self._pid = 100
        # Not for secrets.
        self._random = random.Random(1907)

    # What a test does.

    def add(self, name: str = "chat", **fields: t.Any) -> Json:
        """A model whose instances have come to rest, a minute ago. What is not given is as in an empty form."""
        body = {"name": name, "source": "local_path", "local_path": f"/models/{name}.gguf", "backend": "llama-box", **fields}
        model = self._create(body)
        self.settle()
        return model

    def settle(self) -> None:
        """Let happen what is on its way, and then a minute pass."""
        self._tick()
        while any(self._steps[name] for name in [one["name"] for one in self.instances.values()]):
            self._tick()
        self.clock.pause(60)

    def change(self, name: str = "chat", **fields: t.Any) -> None:
        """What another client does to a model."""
        self._write(self.model(name), fields)

    def model(self, name: str = "chat") -> Json:
        return next(model for model in self.models.values() if model["name"] == name)

    def of(self, name: str = "chat") -> t.List[Json]:
        """The instances of a model, the oldest first."""
        ids = [model["id"] for model in self.models.values() if model["name"] == name]
        return [one for one in self.instances.values() if one["model_id"] in ids]

    def names(self, name: str = "chat") -> t.List[str]:
        return [one["name"] for one in self.of(name)]

    def running_with(self, name: str = "chat") -> t.List[t.Any]:
        """The parameters that the running instances of a model have been started with."""
        return [self.started[one["name"]]["backend_parameters"] for one in self.of(name) if one["state"] == "running"]

    def worker_is(self, number: int, state: str) -> None:
        """A worker is gone for a moment (unreachable), is back (ready), or is given up (not_ready); WorkerController._reconcile."""
        worker = self.workers[number]
        worker["state"] = state
        there = [one for one in self.instances.values() if one["worker_name"] == worker["name"]]
        for one in there:
            if state == "unreachable" and one["state"] == "running":
                self._write(one, {"state": "unreachable", "state_message": "Worker is unreachable from the server"})
            elif state == "ready" and one["state"] == "unreachable":
                self._write(one, {"state": "running", "state_message": ""})
            elif state == "not_ready":
                self._delete_instance(one)

    # What the server does.

    def _create(self, body: Json) -> Json:
        if any(model["name"] == body.get("name") for model in self.models.values()):
            words = "already exists. Please choose a different name or check the existing model."
            raise InvalidError(409, "AlreadyExists", f"Model '{body['name']}' {words}")
        given = fields_of(body, self.version, [one["name"] for one in self.workers.values()])
        model = {**new_model(self.version), **given, **self._born(self.models)}
        self.models[model["id"]] = model
        self._sync_replicas(model)
        return model

    def _born(self, rows: t.Mapping[int, Json]) -> Json:
        # SQLite takes the largest id and adds one, so that the id of the last row is used again when it is gone.
        return {"id": max(rows, default=0) + 1, "created_at": self._now(), "updated_at": self._now()}

    def _now(self) -> str:
        return (_BEGIN + datetime.timedelta(seconds=int(self.clock.now))).isoformat().replace("+00:00", "Z")

    def _write(self, row: Json, fields: Json) -> None:
        """The time of a row is that of its last change, and a value that was there before is none (TimestampsMixin, onupdate)."""
        if any(row[field] != value for field, value in fields.items()):
            row.update(copy.deepcopy(fields), updated_at=self._now())

    def _sync_replicas(self, model: Json, too_many: int = 0) -> None:
        there = self.of(model["name"])
        for _ in range(model["replicas"] - len(there) + too_many):
            name = f"{model['name']}-{''.join(self._random.choices(_LETTERS, k=5))}"
            source = {field: model[field] for field in ("source", *SOURCE_FIELDS)}
            instance = {
                **_EMPTY,
                **source,
                "name": name,
                "model_id": model["id"],
                "model_name": model["name"],
                **self._born(self.instances),
            }
            self.instances[instance["id"]] = instance
            self._steps[name] = list(self.lives(model))
        # find_scale_down_candidates: what does not run goes first.
        there.sort(key=lambda one: one["state"] == "running")
        for instance in there[: max(0, len(there) - model["replicas"])]:
            self._end(instance)
        self._sync_ready_replicas(model)

    def _sync_ready_replicas(self, model: Json, **more: t.Any) -> None:
        ready = sum(1 for one in self.of(model["name"]) if one["state"] == "running")
        if ready != model["ready_replicas"]:
            self._write(model, {"ready_replicas": ready, **more})
        history = self.running.setdefault(model["name"], [])
        if history[-1:] != [ready]:
            history.append(ready)

    def _end(self, instance: Json) -> None:
        del self.instances[instance["id"]]
        self.ended.append((instance["name"], self.started.get(instance["name"])))

    def _delete_instance(self, instance: Json) -> None:
        self._end(instance)
        model = self.models[instance["model_id"]]
        self._sync_ready_replicas(model)
        if self.lazy:
            self._unfollowed.append(model["id"])
        else:
            self._sync_replicas(model)

    def _delete_model(self, model: Json) -> None:
        for instance in self.of(model["name"]):
            self._end(instance)
        del self.models[model["id"]]

    def _tick(self) -> None:
        for instance in list(self.instances.values()):
            steps = self._steps[instance["name"]]
            if steps:
                step = steps.pop(0)
                self._step(instance, {"state": step, "state_message": ""} if isinstance(step, str) else step)
        for model in self.models.values():
            # Two that go at once get a successor too many, since both controllers count before the other's is there (measured).
            self._sync_replicas(model, too_many=1 if self._unfollowed.count(model["id"]) > 1 else 0)
        self._unfollowed.clear()

    def _step(self, instance: Json, fields: Json) -> None:
        model, state = self.models[instance["model_id"]], fields["state"]
        changes = dict(fields)
        if state == "scheduled" and instance["worker_id"] is None:
            changes.update(self._place(model))
        if state == "initializing":
            # It reads its model when it has begun (worker/backends/base.py, get_model).
            self._pid += 1
            changes.update(pid=self._pid, port=40000 + self._pid)
            self.started[instance["name"]] = copy.deepcopy(model)
            self.logs[instance["name"]] = "2026-11-22T12:00:00+00:00 - gpustack.worker.backends.base - INFO - Preparing model files...\n"
        if state == "starting":
            changes.update(download_progress=100.0)
            self.logs[instance["name"]] = f"{self.logs[instance['name']]}{self._command_line(instance)}"
        self._write(instance, changes)
        # ModelInstanceController._reconcile writes both in one.
        self._sync_ready_replicas(model, **({"meta": {"n_ctx": 8192, "n_params": 206328}} if state == "running" else {}))

    def _place(self, model: Json) -> Json:
        chosen = [gpu_id.rsplit(":", 2)[0] for gpu_id in (model["gpu_selector"] or {}).get("gpu_ids") or []]
        fit = [
            worker
            for worker in self.workers.values()
            if (worker["name"] in chosen or not chosen) and {**worker["labels"], **(model["worker_selector"] or {})} == worker["labels"]
        ]
        worker = fit[self._placed % len(fit)]
        self._placed += 1
        others = (
            {"rpc_servers": None, "ray_actors": None}
            if self.version.startswith("0.6")
            else {"mode": "delegated", "subordinate_workers": []}
        )
        claim = {
            "is_unified_memory": True,
            "offload_layers": 5,
            "total_layers": 5,
            "ram": 1 << 26,
            "vram": {"0": 1 << 30},
            "tensor_split": None,
        }
        place = {"worker_id": worker["id"], "worker_name": worker["name"], "worker_ip": worker["ip"]}
        return {**place, "computed_resource_claim": claim, "gpu_indexes": [0], "distributed_servers": others}

    def _command_line(self, instance: Json) -> str:
        """What llama-box says first (worker/backends/llama_box.py, start); other programs say other things."""
        started = self.started[instance["name"]]
        if backend_of(started) != "llama-box":
            return "INFO 11-22 12:00:00 api_server.py: vLLM API server\n"
        kinds = set(started["categories"])
        words = ["--host", "0.0.0.0", "--embeddings", "--gpu-layers", "5", "--parallel", "1" if kinds & {"embedding", "reranker"} else "4"]
        words += ["--ctx-size", "8192", "--port", str(instance["port"]), "--model", str(instance["local_path"])]
        words += ["--alias", instance["model_name"], *(() if self.version == "0.6.0" else ("--no-mmap",)), "--no-warmup"]
        words += ["--rerank"] if "reranker" in kinds else []
        words += ["--images", "--image-vae-tiling", "--tensor-split", "1"] if "image" in kinds else []
        for parameter in started["backend_parameters"] or []:
            name, equals, value = parameter.partition("=")
            words += [name, value] if equals else [name]
        return f"0.00.000.398 I arguments  : {_BUILTIN} {' '.join(words)}\n0.00.000.399 I version    : v0.0.154 (a99a84e)\n"
