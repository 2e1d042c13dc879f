# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.fleet_nodes import NodeFacts, parse_nodes, worker_facts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need, exactly
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_parts import Part
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_rooms import (
    Load,
    Room,
    Tenant,
    gpu_exceeds,
    loads_of,
    room_of,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import parse_worker
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import Json, gpu, linux, mac, with_status

NODE = NodeFacts("mac-1")


def room(worker: Json, apple_silicon: t.Optional[Json] = None) -> Room:
    nodes = parse_nodes([{"name": worker["name"], "apple_silicon": apple_silicon or {}}])
    parsed = parse_worker(worker)
    return room_of(parsed, worker_facts([parsed], nodes, "0.6.2")[0], NODE)


def test_the_room_of_a_mac_is_its_working_set_and_its_memory_without_both_reserves() -> None:
    assert room(with_status(mac(), gpu_devices=[gpu(used_gib=5)])) == Room(
        worker="mac-1",
        is_mac=True,
        is_virtual=False,
        total_memory_bytes=512 * GIB,
        memory_bytes=509 * GIB,
        gpu_memory_bytes={0: 384 * GIB},
        gpu_memory_source="server",
        used_gpu_memory_bytes={0: 5 * GIB},
        node=NODE,
    )


def test_the_node_may_know_the_working_set_better() -> None:
    found = room(mac(), {"working_set_bytes": 464 * GIB, "working_set_source": "wired_limit"})
    assert (found.gpu_memory_bytes, found.gpu_memory_source) == ({0: 464 * GIB}, "wired_limit")
    silent = with_status(mac(), gpu_devices=None)
    assert (room(silent).gpu_memory_bytes, room(silent).gpu_memory_source) == ({}, None)
    found = room(silent, {"working_set_bytes": 464 * GIB, "working_set_source": "estimated"})
    assert (found.gpu_memory_bytes, found.gpu_memory_source) == ({0: 464 * GIB}, "estimated")


def test_the_room_of_a_linux_machine_is_that_of_each_gpu_and_its_memory_without_the_reserve_of_ram() -> None:
    found = room(linux(1, gpu(80, 3, "NVIDIA H100", "cuda"), gpu(40, None, "NVIDIA A100", "cuda", 3)))
    assert (found.is_mac, found.total_memory_bytes, found.memory_bytes) == (False, 64 * GIB, 62 * GIB)
    assert (found.gpu_memory_bytes, found.gpu_memory_source) == ({0: 80 * GIB, 3: 40 * GIB}, "server")
    assert found.used_gpu_memory_bytes == {0: 3 * GIB}
    bare = room({**linux(1), "system_reserved": None})
    assert (bare.gpu_memory_bytes, bare.gpu_memory_source, bare.memory_bytes) == ({}, None, 64 * GIB)


def test_a_reserve_beyond_the_memory_leaves_nothing() -> None:
    assert room({**linux(1), "system_reserved": {"ram": 65 * GIB, "vram": 0}}).memory_bytes == 0


def test_an_intel_mac_is_no_mac_here() -> None:
    intel = with_status(mac(labels={"os": "darwin", "arch": "amd64"}), gpu_devices=[gpu(8, None, "AMD Radeon Pro", "mps")])
    found = room(intel)
    assert (found.is_mac, found.gpu_memory_bytes, found.memory_bytes) == (False, {0: 8 * GIB}, 509 * GIB)


@pytest.mark.parametrize("memory", [None, {}, {"total": 0}])
def test_a_memory_that_is_not_known(memory: t.Any) -> None:
    assert (room(with_status(mac(), memory=memory)).memory_bytes, room(with_status(linux(1), memory=memory)).memory_bytes) == (None, None)


def test_gpus_that_say_nothing_are_left_out() -> None:
    devices = [{**gpu(), "index": None}, {**gpu(kind="cuda", name="x"), "index": 1, "memory": None}]
    assert room(linux(1, *devices)).gpu_memory_bytes == {}


def part(worker_id: t.Optional[int], ram: int, gpus: t.Mapping[int, int], need: t.Optional[Need] = None) -> Part:
    needs = {index: need or exactly(size) for index, size in gpus.items()}
    return Part(worker_id, "x", True, True, True, gpus, ram, needs, exactly(ram))


ONE = Tenant("a", "a-1", part(1, 1, {0: 10}))
TWO = Tenant("b", "b-1", part(1, 2, {0: 20, 1: 5}, Need(20, None)))
THREE = Tenant("a", "a-2", part(1, 4, {}))
OTHER = Tenant("a", "a-3", part(2, 8, {0: 80}))


def test_what_is_on_each_worker() -> None:
    loads = loads_of(iter([ONE, TWO, OTHER, THREE, Tenant("c", "c-1", part(None, 1, {}))]))
    assert loads == {1: Load((ONE, TWO, THREE)), 2: Load((OTHER,))}
    load = loads[1]
    assert load.models == ("a", "b")
    assert load.gpu_needs == {0: Need(30, None), 1: Need(20, None)}
    assert (load.ram_need, load.need) == (exactly(7), Need(57, None))
    assert (load.claim_bytes, load.gpu_claim_bytes(0), load.gpu_claim_bytes(1), load.gpu_claim_bytes(2)) == (42, 30, 5, 0)


def test_an_empty_worker() -> None:
    assert (Load().need, Load().claim_bytes, Load().models) == (exactly(0), 0, ())


def test_a_part_without_a_claim_claims_nothing() -> None:
    assert Load((Tenant("a", "a-1", Part(1, "x", True)),)).claim_bytes == 0


@pytest.mark.parametrize(
    ("needs", "exceeds"),
    [
        ({}, False),
        ({0: exactly(10)}, False),
        ({0: exactly(11)}, True),
        ({0: exactly(10), 1: exactly(21)}, True),
        ({0: exactly(10), 1: Need(20)}, None),
        ({0: exactly(11), 1: Need(20)}, True),
        ({0: exactly(10), 2: exactly(1)}, None),
        ({0: exactly(11), 2: exactly(1)}, True),
    ],
)
def test_each_gpu_has_to_hold_what_is_needed_of_it(needs: t.Mapping[int, Need], exceeds: t.Optional[bool]) -> None:
    assert gpu_exceeds(needs, Room("x", gpu_memory_bytes={0: 10, 1: 20})) is exceeds
