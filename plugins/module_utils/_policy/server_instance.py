# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""An instance of a model as GPUStack's server knows it, in one shape for 0.6 and 0.7.

The workers that take part in a distributed model besides its main one are
* in 0.6 distributed_servers.rpc_servers, one for each GPU, by the worker's id alone, or ray_actors (vLLM);
* in 0.7 distributed_servers.subordinate_workers, for llama-box again one for each GPU.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.json_fields import Fields

# The states of gpustack/schemas/models.py, ModelInstanceStateEnum.
PENDING = "pending"
ANALYZING = "analyzing"
SCHEDULED = "scheduled"
INITIALIZING = "initializing"
DOWNLOADING = "downloading"
STARTING = "starting"
RUNNING = "running"
ERROR = "error"
UNREACHABLE = "unreachable"


@dataclasses.dataclass(frozen=True)
class Claim:
    """What the scheduler reckons that an instance, or a part of it, takes of one worker.

    gpu_memory_bytes: by the index of the GPU. tensor_split_bytes: GPU memory of each part, the main one first.
    """

    memory_bytes: t.Optional[int] = None
    gpu_memory_bytes: t.Mapping[int, int] = dataclasses.field(default_factory=dict)
    offload_layers: t.Optional[int] = None
    total_layers: t.Optional[int] = None
    unified: t.Optional[bool] = None
    tensor_split_bytes: t.Tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Subordinate:
    """A worker's part in an instance whose main part is elsewhere. worker_name: None where only its id is known."""

    worker_id: t.Optional[int] = None
    worker_name: t.Optional[str] = None
    worker_ip: t.Optional[str] = None
    gpu_indexes: t.Tuple[int, ...] = ()
    claim: t.Optional[Claim] = None
    download_percent: t.Optional[float] = None
    state: t.Optional[str] = None
    state_message: t.Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Instance:
    """An instance. What the server does not say is None; problems names what it said and could not be understood.

    SQLite gives the id of a deleted instance to the next one: know an instance by its name. claim: None until scheduled.
    """

    id: t.Optional[int] = None
    name: t.Optional[str] = None
    model_id: t.Optional[int] = None
    model_name: t.Optional[str] = None
    worker_id: t.Optional[int] = None
    worker_name: t.Optional[str] = None
    worker_ip: t.Optional[str] = None
    pid: t.Optional[int] = None
    port: t.Optional[int] = None
    state: t.Optional[str] = None
    state_message: t.Optional[str] = None
    download_percent: t.Optional[float] = None
    resolved_path: t.Optional[str] = None
    restart_count: t.Optional[int] = None
    last_restart_time: t.Optional[str] = None
    gpu_indexes: t.Tuple[int, ...] = ()
    claim: t.Optional[Claim] = None
    subordinates: t.Tuple[Subordinate, ...] = ()
    created_at: t.Optional[str] = None
    updated_at: t.Optional[str] = None
    problems: t.Tuple[str, ...] = ()
    raw: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def distributed(self) -> bool:
        """Whether more than the main worker takes part."""
        return bool(self.subordinates)

    @property
    def worker_ids(self) -> t.Tuple[int, ...]:
        """All workers that take part, the main one first, each once."""
        ids = (self.worker_id, *(one.worker_id for one in self.subordinates))
        return tuple(dict.fromkeys(one for one in ids if one is not None))


def parse_instance(data: t.Any, worker_names: t.Optional[t.Mapping[int, str]] = None) -> Instance:
    """An instance from an item of GET /v1/model-instances. worker_names: by id, for 0.6, which names none. Never raises."""
    problems: t.List[str] = []
    name = data.get("name") if isinstance(data, dict) else None
    fields = Fields(data, f"instance {name}" if isinstance(name, str) else "an instance", problems)
    return Instance(
        id=fields.whole("id"),
        name=fields.text("name"),
        model_id=fields.whole("model_id"),
        model_name=fields.text("model_name"),
        worker_id=fields.whole("worker_id"),
        worker_name=fields.text("worker_name"),
        worker_ip=fields.text("worker_ip"),
        pid=fields.whole("pid"),
        port=fields.whole("port"),
        state=fields.text("state"),
        # Empty while all is well.
        state_message=fields.text("state_message") or None,
        download_percent=fields.number("download_progress"),
        resolved_path=fields.text("resolved_path"),
        restart_count=fields.whole("restart_count"),
        last_restart_time=fields.text("last_restart_time"),
        gpu_indexes=fields.wholes("gpu_indexes") or (),
        claim=_claim(fields),
        subordinates=_subordinates(fields.section("distributed_servers"), worker_names or {}),
        created_at=fields.text("created_at"),
        updated_at=fields.text("updated_at"),
        raw=fields.raw,
        problems=tuple(problems),
    )


def _claim(fields: Fields) -> t.Optional[Claim]:
    claim = fields.section("computed_resource_claim")
    if not claim.raw:
        return None
    return Claim(
        memory_bytes=claim.whole("ram"),
        gpu_memory_bytes=claim.wholes_by_index("vram") or {},
        offload_layers=claim.whole("offload_layers"),
        total_layers=claim.whole("total_layers"),
        unified=claim.flag("is_unified_memory"),
        tensor_split_bytes=claim.wholes("tensor_split") or (),
    )


def _subordinates(servers: Fields, names: t.Mapping[int, str]) -> t.Tuple[Subordinate, ...]:
    parts = [part for key in ("rpc_servers", "ray_actors", "subordinate_workers") for part in servers.sections(key) or ()]
    return tuple(_subordinate(part, names) for part in parts)


def _subordinate(part: Fields, names: t.Mapping[t.Any, str]) -> Subordinate:
    worker_id, gpu_index = part.whole("worker_id"), part.whole("gpu_index")
    return Subordinate(
        worker_id=worker_id,
        worker_name=part.text("worker_name") or names.get(worker_id),
        worker_ip=part.text("worker_ip"),
        gpu_indexes=part.wholes("gpu_indexes") or (() if gpu_index is None else (gpu_index,)),
        claim=_claim(part),
        download_percent=part.number("download_progress"),
        state=part.text("state"),
        state_message=part.text("state_message") or None,
    )
