# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What a worker has for models, and all that was put there.

That is added up here since GPUStack does not: its scheduler never counts the part of a distributed instance that another worker has
(gpustack/policies/utils.py, get_worker_allocatable_resource: of 0.6.0 to 0.7.1 it asks for the instances whose main worker this is), so
that a second model may be put on top of it.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.fleet_nodes import NodeFacts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import DARWIN
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import SERVER, WorkerFacts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_parts import Part, together
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import Worker


@dataclasses.dataclass(frozen=True)
class Room:
    """What a worker has. gpu_memory_bytes: by index; of a Mac, the working set. memory_bytes: without GPUStack's reserve.

    used_gpu_memory_bytes: as the server measured it, by index. is_mac: with an Apple chip. node: what the play knows of it.
    """

    worker: str
    is_mac: bool = False
    is_virtual: t.Optional[bool] = None
    total_memory_bytes: t.Optional[int] = None
    memory_bytes: t.Optional[int] = None
    gpu_memory_bytes: t.Mapping[int, int] = dataclasses.field(default_factory=dict)
    gpu_memory_source: t.Optional[str] = None
    used_gpu_memory_bytes: t.Mapping[int, int] = dataclasses.field(default_factory=dict)
    node: t.Optional[NodeFacts] = None


@dataclasses.dataclass(frozen=True)
class Tenant:
    """A part of an instance, and whose it is."""

    model: str
    instance: str
    part: Part


@dataclasses.dataclass(frozen=True)
class Load:
    """All that was put on a worker."""

    tenants: t.Tuple[Tenant, ...] = ()

    @property
    def models(self) -> t.Tuple[str, ...]:
        """The names of the models, each once."""
        return tuple(dict.fromkeys(tenant.model for tenant in self.tenants))

    @property
    def gpu_needs(self) -> t.Dict[int, Need]:
        """By index of the GPU."""
        found: t.Dict[int, t.List[Need]] = {}
        for tenant in self.tenants:
            for index, need in tenant.part.gpu_needs.items():
                found.setdefault(index, []).append(need)
        return {index: together(needs) for index, needs in found.items()}

    @property
    def ram_need(self) -> Need:
        """RAM without what the GPU has."""
        return together(tenant.part.ram_need for tenant in self.tenants)

    @property
    def need(self) -> Need:
        """RAM and GPU memory together."""
        return together([self.ram_need, *self.gpu_needs.values()])

    @property
    def claim_bytes(self) -> int:
        """What is claimed of RAM and GPU memory."""
        return sum(tenant.part.claim_bytes or 0 for tenant in self.tenants)

    def gpu_claim_bytes(self, index: int) -> int:
        """What is claimed of one GPU."""
        return sum(tenant.part.gpu_claims_bytes.get(index, 0) for tenant in self.tenants)


def room_of(worker: Worker, facts: WorkerFacts, node: t.Optional[NodeFacts] = None) -> Room:
    """The room of a worker. facts: the same worker as the mmap policy knows it, with what its node says."""
    gpus = {gpu.index: gpu for gpu in worker.gpus or () if gpu.index is not None}
    is_mac = facts.os == DARWIN and facts.is_apple_silicon is not False
    memory = {index: gpu.memory_total_bytes for index, gpu in gpus.items() if gpu.memory_total_bytes}
    if is_mac and facts.working_set_bytes is not None:
        # The node may know it better than the server.
        memory = dict.fromkeys(gpus or (0,), facts.working_set_bytes)
    return Room(
        worker=facts.name,
        is_mac=is_mac,
        is_virtual=facts.is_virtual,
        total_memory_bytes=facts.memory_bytes,
        memory_bytes=_usable_bytes(worker, facts),
        gpu_memory_bytes=memory,
        gpu_memory_source=facts.working_set_source if is_mac else SERVER if memory else None,
        used_gpu_memory_bytes={index: gpu.memory_used_bytes for index, gpu in gpus.items() if gpu.memory_used_bytes},
        node=node,
    )


def _usable_bytes(worker: Worker, facts: WorkerFacts) -> t.Optional[int]:
    if facts.os == DARWIN or facts.memory_bytes is None:
        return facts.usable_bytes()
    return max(0, facts.memory_bytes - (worker.reserved_memory_bytes or 0))


def loads_of(tenants: t.Iterable[Tenant]) -> t.Dict[t.Optional[int], Load]:
    """What was put on each worker, by its id."""
    found: t.Dict[int, t.List[Tenant]] = {}
    for tenant in tenants:
        if tenant.part.worker_id is not None:
            found.setdefault(tenant.part.worker_id, []).append(tenant)
    return {worker_id: Load(tuple(entries)) for worker_id, entries in found.items()}


def gpu_exceeds(needs: t.Mapping[int, Need], room: Room) -> t.Optional[bool]:
    """Whether more is needed of a GPU than it has; None where that cannot be told."""
    return _any(need.exceeds(room.gpu_memory_bytes.get(index)) for index, need in needs.items())


def _any(answers: t.Iterable[t.Optional[bool]]) -> t.Optional[bool]:
    found = list(answers)
    return True if True in found else None if None in found else False
