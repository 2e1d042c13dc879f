# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import model_need
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need, exactly

# gpustack#1907 as measured: what 0.6.0 claims, the weights, and what 0.6.2 claims (RAM + VRAM).
HIDDEN_CLAIM = 41177998950 + 103809024
WEIGHTS = 664 * 1024**3
HONEST_CLAIM = 753176202444 + 1070176665


@pytest.mark.parametrize(
    ("need", "limit", "exceeds"),
    [
        (Need(11, 11), 10, True),
        (Need(10, 10), 10, False),
        (Need(9, 10), 10, False),
        (Need(9, 11), 10, None),
        (Need(11), 10, True),
        (Need(10), 10, None),
        (Need(), 10, None),
        (Need(11, 11), None, None),
        (exactly(10), 10, False),
        (exactly(11), 10, True),
    ],
)
def test_a_need_exceeds_a_limit_only_where_that_is_certain(need: Need, limit: int | None, exceeds: bool | None) -> None:
    assert need.exceeds(limit) is exceeds


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((1, 1), (2**63 - 1, 2**63 - 1), (2**63, None), (0, None), (-1, None)),
        *((True, None), (1.5, None), ("1", None), (None, None), ([1], None)),
    ],
)
def test_only_whole_numbers_above_0_are_sizes(value: t.Any, number: int | None) -> None:
    assert model_need.whole(value) == number


@pytest.mark.parametrize(
    ("claim", "weights", "hides", "need"),
    [
        (100, 50, False, Need(100, 100)),
        (100, 50, True, Need(150, 150)),
        (100, None, False, Need(100, 100)),
        (100, None, True, Need(100, None)),
        (None, 50, False, Need(50, None)),
        (None, 50, True, Need(50, None)),
        (None, None, False, Need(0, None)),
        (0, 50, False, Need(50, None)),
        (100, 0, True, Need(100, None)),
    ],
)
def test_a_claim_that_hides_the_weights_lacks_them(claim: int | None, weights: int | None, hides: bool, need: Need) -> None:
    assert model_need.of_claim(claim, weights, hides) == need


def test_the_two_claims_of_1907_tell_the_same_need() -> None:
    hidden = model_need.of_claim(HIDDEN_CLAIM, WEIGHTS, True)
    honest = model_need.of_claim(HONEST_CLAIM, WEIGHTS, False)
    assert abs(hidden.least_bytes - honest.least_bytes) < 1024


@pytest.mark.parametrize(
    ("claim", "size"),
    [
        ({"ram": 3, "vram": 4}, 7),
        ({"ram": 3}, 3),
        ({"vram": 4, "ram": None}, 4),
        ({"ram": 0, "vram": 0}, None),
        ({"ram": "3", "vram": [4]}, None),
        ({}, None),
        (None, None),
        ([], None),
    ],
)
def test_the_claim_of_an_evaluation(claim: t.Any, size: int | None) -> None:
    assert model_need.claim_of_evaluation(claim) == size


def claim(ram: t.Any, vram: t.Any) -> t.Dict[str, t.Any]:
    return {"computed_resource_claim": {"ram": ram, "vram": vram}}


@pytest.mark.parametrize(
    ("instance", "size", "others"),
    [
        (claim(1, {"0": 2}), 3, 0),
        ({**claim(1, {"0": 2, "1": 4}), "distributed_servers": {"rpc_servers": None, "ray_actors": None}}, 7, 0),
        ({**claim(1, {"0": 2}), "distributed_servers": {"rpc_servers": [claim(0, {"0": 8}), claim(0, {"0": 16})]}}, 27, 2),
        ({**claim(1, {"0": 2}), "distributed_servers": {"mode": "delegated", "subordinate_workers": [claim(0, {"0": 8})]}}, 11, 1),
        ({"distributed_servers": {"subordinate_workers": [None, claim(None, None), 3]}}, None, 3),
        ({"distributed_servers": {"rpc_servers": "x"}, "computed_resource_claim": {"ram": 5, "vram": [1]}}, 5, 0),
        ({"distributed_servers": []}, None, 0),
        ({}, None, 0),
        (None, None, 0),
    ],
)
def test_the_claim_of_an_instance_is_that_on_all_its_workers(instance: t.Any, size: int | None, others: int) -> None:
    assert model_need.claim_of_instance(instance) == size
    assert len(model_need.other_workers(instance)) == others


@pytest.mark.parametrize(
    ("model", "version", "claimed", "weights", "need"),
    [
        ({"backend_parameters": []}, "0.6.2", 100, None, Need(100, 100)),
        ({"backend_parameters": ["--mmap"]}, "0.6.2", 100, None, Need(100, None)),
        ({"backend_parameters": ["--mmap"]}, "0.6.2", 100, 50, Need(150, 150)),
        # The claim was made before somebody asked for mmap.
        ({"backend_parameters": ["--mmap"]}, "0.6.2", 100, 51, Need(100, 100)),
        ({"backend_parameters": ["--mmap"]}, "0.6.2", 100, 100, Need(100, 100)),
        ({"backend_parameters": ["--mmap"]}, "0.6.2", 100, 101, Need(201, 201)),
        ({"backend_parameters": ["--mmap"]}, "0.6.0", 100, 90, Need(190, 190)),
        ({"backend_parameters": ["--mmap=true"]}, "0.6.2", 100, 50, Need(100, 100)),
        ({"backend_parameters": None}, "0.6.0", 100, 50, Need(150, 150)),
        ({"backend_parameters": []}, "0.6.2", 100, 100, Need(100, 100)),
        ({"backend_parameters": []}, "0.6.2", 100, 101, Need(201, 201)),
        ({"meta": {"size": 50}}, "0.6.2", None, None, Need(50, None)),
        ({"meta": {"size": 50}}, "0.6.0", 10, None, Need(60, 60)),
        ({"meta": {"size": 50}}, "0.6.0", 10, 70, Need(80, 80)),
        ({"meta": {"size": "50"}}, "0.6.2", None, None, Need()),
        ({"meta": []}, "0.6.2", None, 7, Need(7)),
        ({}, None, None, None, Need()),
        (None, None, 5, None, Need(5, 5)),
    ],
)
def test_the_need_of_a_model(model: t.Any, version: str | None, claimed: int | None, weights: int | None, need: Need) -> None:
    assert model_need.of_model(model, version, claimed, weights) == need


@pytest.mark.parametrize(
    ("claimed", "weights", "holds"),
    [(999, 1000, True), (998, 1000, False), (1000, 1000, True), (5, 5, True), (4, 5, False)],
)
def test_a_claim_holds_the_weights_if_it_is_as_large_but_for_rounding(claimed: int, weights: int, holds: bool) -> None:
    assert model_need.holds_weights(claimed, weights) is holds


MAPPED = {"backend_parameters": ["--mmap"]}


@pytest.mark.parametrize(
    ("model", "version", "instances", "weights", "need"),
    [
        # Somebody edited the parameters, and the instance goes on: its claim was made without mmap.
        (MAPPED, "0.6.2", [claim(1, {"0": 99})], 90, Need(100, 100)),
        (MAPPED, "0.6.2", [claim(1, {"0": 99})], 100, Need(100, 100)),
        (MAPPED, "0.6.2", [claim(1, {"0": 9})], 100, Need(110, 110)),
        (MAPPED, "0.6.2", [claim(1, {"0": 9})], None, Need(10, None)),
        ({}, "0.6.2", [claim(1, {"0": 9})], 100, Need(110, 110)),
        ({}, "0.6.2", [claim(1, {"0": 99})], 100, Need(100, 100)),
        # 0.6.0 leaves them out whatever the parameters say.
        (MAPPED, "0.6.0", [claim(1, {"0": 99})], 90, Need(190, 190)),
        # The instance that needs most counts.
        (MAPPED, "0.6.2", [claim(1, {"0": 99}), claim(1, {"0": 120}), {}], 90, Need(121, 121)),
        (MAPPED, "0.6.2", [claim(0, {"0": 100}), claim(0, {"0": 10})], 90, Need(100, 100)),
        (MAPPED, "0.6.2", [{}], 90, Need(90, None)),
    ],
)
def test_the_need_of_a_model_by_its_instances(
    model: t.Any, version: str, instances: t.Sequence[t.Any], weights: int | None, need: Need
) -> None:
    assert model_need.of_model(model, version, None, weights, instances) == need


def test_what_a_spread_claim_leaves_out_is_the_share_of_one_worker_and_nobody_knows_how_much() -> None:
    spread = {**claim(0, {"0": 10}), "distributed_servers": {"rpc_servers": [claim(0, {"0": 40})]}}
    assert model_need.of_model({}, "0.6.0", None, 60, [spread]) == Need(60, 110)
    assert model_need.of_model({}, "0.6.0", None, 30, [spread]) == Need(50, 80)
    assert model_need.of_model({}, "0.6.0", None, None, [spread]) == Need(50, None)
    assert model_need.of_model({}, "0.6.2", None, 50, [spread]) == Need(50, 50)
    assert model_need.of_model({}, "0.6.2", None, 60, [spread]) == Need(60, 110)
