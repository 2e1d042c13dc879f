# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import placement_parts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need, exactly
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_parts import (
    BY_PARAMETERS,
    BY_SIZE,
    BY_VERSION,
    Part,
    parts_of,
    together,
    weights_of,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import parse_instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import parse_model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import Json, claim, instance, model

NAMES = {1: "mac-1", 2: "mac-2"}


def parts(
    the_instance: Json, the_model: t.Optional[Json] = None, version: str = "0.6.2", weights_gib: t.Optional[int] = None
) -> t.Tuple[Part, ...]:
    weights_bytes = None if weights_gib is None else weights_gib * GIB
    return parts_of(parse_instance(the_instance, NAMES), parse_model(the_model or model()), version, weights_bytes)


def gib(need: Need) -> t.Tuple[float, t.Optional[float]]:
    return need.least_bytes / GIB, None if need.most_bytes is None else need.most_bytes / GIB


@pytest.mark.parametrize(
    ("needs", "sum_of_them"),
    [
        ([], Need(0, 0)),
        ([exactly(1), exactly(2)], Need(3, 3)),
        ([Need(1, 5), exactly(2)], Need(3, 7)),
        ([Need(1), exactly(2)], Need(3, None)),
        ([Need(1), Need(2)], Need(3, None)),
    ],
)
def test_needs_together(needs: t.List[Need], sum_of_them: Need) -> None:
    assert together(iter(needs)) == sum_of_them


@pytest.mark.parametrize(
    ("meta", "declared", "size"),
    [({"size": 5}, None, 5), ({"size": 5}, 7, 7), ({"size": 5}, 0, 5), ({"size": "5"}, None, None), ({}, None, None), (None, 3, 3)],
)
def test_weights_are_what_a_person_declares_else_what_the_model_told(meta: t.Any, declared: t.Optional[int], size: t.Optional[int]) -> None:
    assert weights_of(parse_model(model(meta=meta)), declared) == size


def test_an_honest_claim_is_the_need() -> None:
    (part,) = parts(instance(what=claim(1, 100)), weights_gib=90)
    assert part == Part(
        worker_id=1,
        worker="mac-1",
        main=True,
        claimed=True,
        unified=True,
        gpu_claims_bytes={0: 100 * GIB},
        ram_claim_bytes=GIB,
        gpu_needs={0: exactly(100 * GIB)},
        ram_need=exactly(GIB),
        hidden="",
    )
    assert (part.claim_bytes, part.need) == (101 * GIB, exactly(101 * GIB))


def test_before_it_is_scheduled_there_are_no_parts() -> None:
    assert parts(instance(on=None)) == ()


def test_a_part_without_a_claim_needs_nobody_knows_what() -> None:
    (part,) = parts(instance(what=None), model(backend_parameters=["--mmap"]))
    assert (part.claimed, part.claim_bytes, part.need, part.hidden) == (False, None, Need(), "")
    assert part.unified is None


HIDING = ("the_model", "version", "weights_gib", "hidden")


@pytest.mark.parametrize(
    HIDING,
    [
        (model(), "0.6.0", None, BY_VERSION),
        (model(backend_parameters=["--no-mmap"]), "0.6.0", 90, BY_VERSION),
        (model(backend_parameters=["--mmap"]), "0.6.2", None, BY_PARAMETERS),
        (model(backend_parameters=["--mmap"]), "0.6.0", None, BY_VERSION),
        (model(), "0.6.2", 102, BY_SIZE),
        (model(), "0.6.2", 101, ""),
        (model(), "0.6.2", None, ""),
        (model(backend_parameters=["--mmap=true"]), "0.6.2", None, ""),
        (model(backend="vllm"), "0.6.0", 900, ""),
        # The claim of 101 GiB holds the weights, so it was made before the parameters asked for mmap.
        (model(backend_parameters=["--mmap"]), "0.6.2", 101, ""),
        (model(backend_parameters=["--mmap"]), "0.6.2", 102, BY_PARAMETERS),
        (model(backend_parameters=["--mmap"]), "0.6.0", 101, BY_VERSION),
    ],
)
def test_why_a_claim_leaves_the_weights_out(the_model: Json, version: str, weights_gib: t.Optional[int], hidden: str) -> None:
    (part,) = parts(instance(what=claim(1, 100)), the_model, version, weights_gib)
    assert part.hidden == hidden


@pytest.mark.parametrize(
    ("the_model", "version", "weights_gib", "outlived"),
    [
        (model(backend_parameters=["--mmap"]), "0.6.2", 101, True),
        (model(backend_parameters=["--mmap"]), "0.6.2", 51, True),
        (model(backend_parameters=["--mmap"]), "0.6.2", 50, False),
        (model(backend_parameters=["--mmap"]), "0.6.2", 102, False),
        (model(backend_parameters=["--mmap"]), "0.6.2", None, False),
        (model(backend_parameters=["--mmap"]), "0.6.0", 101, False),
        (model(backend_parameters=["--mmap=true"]), "0.6.2", 101, False),
        (model(backend_parameters=["--mmap"], backend="vllm"), "0.6.2", 101, False),
        (model(), "0.6.2", 101, False),
    ],
)
def test_a_claim_from_before_mmap_was_asked_for(the_model: Json, version: str, weights_gib: t.Optional[int], outlived: bool) -> None:
    (part,) = parts(instance(what=claim(1, 100)), the_model, version, weights_gib)
    assert part.outlived is outlived
    assert not outlived or (part.hidden, part.need) == ("", exactly(101 * GIB))
    (other,) = parts(instance(what=claim(1, 100, unified=False)), the_model, version, weights_gib)
    assert other.outlived is False


@pytest.mark.parametrize(
    ("main_gib", "other_gib", "outlived"),
    [
        # As real schedulers of 0.6.2 claim it without mmap and with it.
        (345.6, 355.9, True),
        (19, 355.9, False),
        # With a large KV cache the other alone claims nearly all the weights; half of them are the share of the main worker.
        (298, 500, False),
        (299, 500, True),
        # Together less than the weights.
        (300, 355.9, False),
    ],
)
def test_of_a_distributed_model_the_main_worker_has_its_share_of_the_weights(main_gib: float, other_gib: float, outlived: bool) -> None:
    one = instance(what=claim(0, main_gib), others=[(2, claim(0, other_gib, offload=31))])
    main, other = parts(one, model(backend_parameters=["--mmap"]), "0.6.2", 664)
    assert (main.outlived, main.hidden, other.outlived, other.hidden) == (outlived, "" if outlived else BY_PARAMETERS, False, "")
    assert not outlived or main.need == exactly(main.claim_bytes or 0)


def test_a_share_of_the_weights_that_cannot_be_told_counts_for_nothing() -> None:
    one = instance(what=claim(0, 19), others=[(2, claim(0, 700, offload=None))])
    assert parts(one, model(backend_parameters=["--mmap"]), "0.6.2", 664)[0].outlived is True
    # Of what is on one worker, the layers that lie elsewhere are none.
    alone = instance(what=claim(0, 60, offload=31))
    assert parts(alone, model(backend_parameters=["--mmap"]), "0.6.2", 60)[0].outlived is True


@pytest.mark.parametrize("unified", [False, None])
def test_only_unified_memory_hides_weights(unified: t.Any) -> None:
    (part,) = parts(instance(what={**claim(1, 100), "is_unified_memory": unified}), version="0.6.0", weights_gib=664)
    assert (part.hidden, part.need) == ("", exactly(101 * GIB))


def test_hidden_weights_are_added_where_their_size_is_known() -> None:
    (part,) = parts(instance(what=claim(1, 38)), version="0.6.0", weights_gib=664)
    assert (gib(part.gpu_needs[0]), gib(part.ram_need), gib(part.need)) == ((702, 702), (1, 1), (703, 703))
    assert part.claim_bytes == 39 * GIB


def test_hidden_weights_of_an_unknown_size_leave_the_need_open() -> None:
    (part,) = parts(instance(what=claim(1, 38)), version="0.6.0")
    assert (gib(part.gpu_needs[0]), gib(part.need)) == ((38, None), (39, None))


def test_layers_that_are_not_offloaded_lie_in_ram() -> None:
    (part,) = parts(instance(what=claim(1, 10, offload=31)), version="0.6.0", weights_gib=62)
    assert (gib(part.gpu_needs[0]), gib(part.ram_need)) == ((41, 41), (32, 32))


def test_a_model_on_the_cpu_lies_in_ram() -> None:
    (part,) = parts(instance(what=claim(1, offload=0)), version="0.6.0", weights_gib=62)
    assert (part.gpu_needs, gib(part.ram_need), gib(part.need)) == ({}, (63, 63), (63, 63))
    (part,) = parts(instance(what=claim(1, offload=31)), version="0.6.0", weights_gib=62)
    assert (part.gpu_needs, gib(part.ram_need)) == ({}, (63, 63))


@pytest.mark.parametrize("layers", [{"offload": None}, {"total": None}])
def test_without_layers_all_weights_are_on_the_gpu(layers: Json) -> None:
    (part,) = parts(instance(what=claim(1, 38, **layers)), version="0.6.0", weights_gib=664)
    assert (gib(part.gpu_needs[0]), gib(part.ram_need)) == ((702, 702), (1, 1))


@pytest.mark.parametrize("layers", [{"offload": 63}, {"offload": 0, "total": 0}])
def test_layers_that_cannot_be_leave_the_need_open(layers: Json) -> None:
    (part,) = parts(instance(what=claim(1, 38, **layers)), version="0.6.0", weights_gib=664)
    assert gib(part.need) == (39, None)


def test_the_second_gpu_of_a_machine_never_hides_weights() -> None:
    (part,) = parts(instance(what=claim(1, 30, 70)), version="0.6.0", weights_gib=50)
    assert {index: gib(need) for index, need in part.gpu_needs.items()} == {0: (80, 80), 1: (70, 70)}
    assert part.claim_bytes == 101 * GIB


SPREAD = instance(what=claim(1, 19), others=[(2, claim(0, 356, offload=31))])


def test_the_main_worker_of_a_distributed_model_hides_its_share_of_the_weights() -> None:
    main, other = parts(SPREAD, version="0.6.0", weights_gib=664)
    assert (main.worker, main.main, main.hidden, gib(main.gpu_needs[0])) == ("mac-1", True, BY_VERSION, (351, 351))
    assert (other.worker, other.worker_id, other.main, other.hidden, gib(other.need)) == ("mac-2", 2, False, "", (356, 356))


def test_what_others_claim_counts_where_a_claim_is_compared_with_the_weights() -> None:
    assert [part.hidden for part in parts(SPREAD, version="0.6.2", weights_gib=376)] == ["", ""]
    assert [part.hidden for part in parts(SPREAD, version="0.6.2", weights_gib=377)] == [BY_SIZE, ""]


@pytest.mark.parametrize("others", [[(2, None)], [(2, claim(0, 356, offload=None))], [(2, claim(0, 356, offload=63))]])
def test_a_share_that_cannot_be_told_leaves_the_need_open(others: t.Any) -> None:
    main = parts(instance(what=claim(1, 19), others=others), version="0.6.0", weights_gib=664)[0]
    assert gib(main.need) == (20, None)


def test_the_gpus_of_one_worker_are_one_part() -> None:
    two = {"worker_id": 2, "worker_name": "mac-2"}
    servers = {
        "subordinate_workers": [
            {**two, "gpu_indexes": [0], "computed_resource_claim": claim(1, 10, offload=20)},
            {**two, "gpu_indexes": [1], "computed_resource_claim": {**claim(0, offload=20), "vram": {"1": 5 * GIB, "0": GIB}}},
            {"worker_id": 3, "worker_name": "mac-3", "computed_resource_claim": None},
        ]
    }
    main, other, third = parts(instance(what=claim(1, 19), distributed_servers=servers))
    assert main.worker == "mac-1"
    assert (other.worker, other.claimed, other.gpu_claims_bytes) == ("mac-2", True, {0: 11 * GIB, 1: 5 * GIB})
    assert (other.ram_claim_bytes, other.need) == (GIB, exactly(17 * GIB))
    assert (third.worker, third.claimed) == ("mac-3", False)


def test_a_worker_with_one_claim_of_two_has_not_claimed() -> None:
    other = parts(instance(what=claim(1, 19), others=[(2, claim(0, 10)), (2, None)]))[1]
    assert (other.claimed, other.need) == (False, Need())


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"worker_id": 7, "worker_name": None}, "the worker with id 7"),
        ({"worker_id": None, "worker_name": "gone"}, "gone"),
    ],
)
def test_workers_without_an_id_or_a_name(changes: Json, name: str) -> None:
    assert [part.worker for part in parts(instance(what=claim(1, 1), **changes))] == [name]


def test_an_entry_that_names_no_worker() -> None:
    servers = {"rpc_servers": [{"gpu_index": 0}]}
    assert [part.worker for part in parts(instance(on=None, distributed_servers=servers))] == ["an unknown worker"]


@pytest.mark.parametrize("ram", [0, None])
def test_claims_and_weights_are_compared_to_the_byte(ram: t.Optional[int]) -> None:
    what = {**claim(0, 0), "ram": ram, "vram": {"0": 10}}
    for one in (instance(what=what), instance(what=what, others=[(2, claim(0, 0))])):
        parsed = parse_instance(one, NAMES)
        found = [parts_of(parsed, parse_model(model()), "0.6.2", weights_bytes)[0].hidden for weights_bytes in (10, 11)]
        assert found == ["", BY_SIZE]


def test_needs_are_whole_bytes() -> None:
    one = parse_instance(instance(what=claim(1, 10, offload=31)), NAMES)
    (part,) = parts_of(one, parse_model(model()), "0.6.0", 64 * GIB + 1)
    assert [type(need.least_bytes) for need in (*part.gpu_needs.values(), part.ram_need)] == [int, int]


def test_the_reasons_differ() -> None:
    assert len({placement_parts.BY_PARAMETERS, placement_parts.BY_SIZE, placement_parts.BY_VERSION}) == 3
