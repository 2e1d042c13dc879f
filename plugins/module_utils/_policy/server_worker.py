# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A worker as GPUStack's server knows it (gpustack/schemas/workers.py), the same for 0.6 and 0.7."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.json_fields import Fields, index_of


@dataclasses.dataclass(frozen=True)
class Gpu:
    """One GPU. type: mps, cuda … memory_total_bytes: for Apple, the working set that Metal recommends.

    gpu_id: what a gpu_selector names it, `WORKER:TYPE:INDEX`; None where a part of it is not known.
    """

    gpu_id: t.Optional[str] = None
    index: t.Optional[int] = None
    name: t.Optional[str] = None
    vendor: t.Optional[str] = None
    type: t.Optional[str] = None
    memory_total_bytes: t.Optional[int] = None
    memory_used_bytes: t.Optional[int] = None
    memory_allocated_bytes: t.Optional[int] = None
    unified: t.Optional[bool] = None


@dataclasses.dataclass(frozen=True)
class RpcServer:
    """An RPC server that runs on a worker, for one of its GPUs."""

    gpu_index: t.Optional[int] = None
    port: t.Optional[int] = None
    pid: t.Optional[int] = None


@dataclasses.dataclass(frozen=True)
class Worker:
    """A worker. What the server does not say is None; problems names what it said and could not be understood.

    state: not_ready, ready or unreachable. gpus: None until the worker has reported (a new one registers without them).
    rpc_servers: empty until it can take a part of a distributed model. uuid: from 0.7 on.
    """

    id: t.Optional[int] = None
    name: t.Optional[str] = None
    hostname: t.Optional[str] = None
    ip: t.Optional[str] = None
    port: t.Optional[int] = None
    uuid: t.Optional[str] = None
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    state: t.Optional[str] = None
    state_message: t.Optional[str] = None
    unreachable: t.Optional[bool] = None
    heartbeat_time: t.Optional[str] = None
    os_name: t.Optional[str] = None
    os_version: t.Optional[str] = None
    kernel_name: t.Optional[str] = None
    kernel_release: t.Optional[str] = None
    architecture: t.Optional[str] = None
    cpu_count: t.Optional[int] = None
    memory_total_bytes: t.Optional[int] = None
    memory_used_bytes: t.Optional[int] = None
    memory_allocated_bytes: t.Optional[int] = None
    unified_memory: t.Optional[bool] = None
    reserved_memory_bytes: t.Optional[int] = None
    reserved_gpu_memory_bytes: t.Optional[int] = None
    gpus: t.Optional[t.Tuple[Gpu, ...]] = None
    rpc_servers: t.Tuple[RpcServer, ...] = ()
    problems: t.Tuple[str, ...] = ()
    raw: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)


def parse_worker(data: t.Any) -> Worker:
    """A worker from an item of GET /v1/workers. Never raises."""
    problems: t.List[str] = []
    name = data.get("name") if isinstance(data, dict) else None
    fields = Fields(data, f"worker {name}" if isinstance(name, str) else "a worker", problems)
    status, reserved = fields.section("status"), fields.section("system_reserved")
    system, kernel, memory = status.section("os"), status.section("kernel"), status.section("memory")
    gpus = status.sections("gpu_devices")
    return Worker(
        id=fields.whole("id"),
        name=fields.text("name"),
        hostname=fields.text("hostname"),
        ip=fields.text("ip"),
        port=fields.whole("port"),
        uuid=fields.text("worker_uuid"),
        labels=fields.texts_by_name("labels") or {},
        state=fields.text("state"),
        state_message=fields.text("state_message"),
        unreachable=fields.flag("unreachable"),
        heartbeat_time=fields.text("heartbeat_time"),
        # Fields that a worker did not fill in are empty texts (OperatingSystemInfo, KernelInfo).
        os_name=system.text("name") or None,
        os_version=system.text("version") or None,
        kernel_name=kernel.text("name") or None,
        kernel_release=kernel.text("release") or None,
        architecture=kernel.text("architecture") or None,
        cpu_count=status.section("cpu").whole("total"),
        memory_total_bytes=memory.whole("total"),
        memory_used_bytes=memory.whole("used"),
        memory_allocated_bytes=memory.whole("allocated"),
        unified_memory=memory.flag("is_unified_memory"),
        reserved_memory_bytes=reserved.whole("ram"),
        reserved_gpu_memory_bytes=reserved.whole("vram"),
        gpus=None if gpus is None else tuple(_gpu(one, name) for one in gpus),
        rpc_servers=_rpc_servers(status.section("rpc_servers")),
        raw=fields.raw,
        problems=tuple(problems),
    )


def _gpu(fields: Fields, worker: t.Any) -> Gpu:
    index, kind, memory = fields.whole("index"), fields.text("type") or None, fields.section("memory")
    return Gpu(
        # As the view gpu_devices_view makes it.
        gpu_id=f"{worker}:{kind}:{index}" if isinstance(worker, str) and kind and index is not None else None,
        index=index,
        name=fields.text("name") or None,
        vendor=fields.text("vendor") or None,
        type=kind,
        memory_total_bytes=memory.whole("total"),
        memory_used_bytes=memory.whole("used"),
        memory_allocated_bytes=memory.whole("allocated"),
        unified=memory.flag("is_unified_memory"),
    )


def _rpc_servers(servers: Fields) -> t.Tuple[RpcServer, ...]:
    found = []
    for key in servers.raw:
        one = servers.section(key)
        if one.raw:
            index = one.whole("gpu_index")
            found.append(RpcServer(index if index is not None else index_of(key), one.whole("port"), one.whole("pid")))
    return tuple(found)
