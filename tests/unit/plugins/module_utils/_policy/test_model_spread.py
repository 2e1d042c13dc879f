# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""gpustack#1907 on 0.6.0: 664 GiB of weights and Macs of 384 GiB for their GPUs, unless a test says otherwise."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import ModelFacts, WorkerFacts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need, exactly
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_spread import Spread, choose
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB
from ansible_collections.metalfleet.gpustack.tests.unit import mmap_cases
from ansible_collections.metalfleet.gpustack.tests.unit.mmap_cases import linux

BIG = exactly(702 * GIB)
WARNING = (
    "the model synthetic: GPUStack 0.6.0 cannot be told that the model is not mapped, so what its main worker claims stays too small: "
    "keep other models off these workers, and upgrade GPUStack to 0.6.1 or newer"
)


def mac(name: str, **changes: t.Any) -> WorkerFacts:
    return mmap_cases.mac(name, **{"gpus": (f"{name}:mps:0",), **changes})


def model(**changes: t.Any) -> ModelFacts:
    return mmap_cases.model(**{"need": BIG, **changes})


def spread(*names: str) -> Spread:
    return Spread(tuple(f"{name}:mps:0" for name in names), WARNING)


MACS = [mac("c"), mac("b"), mac("a")]


@pytest.mark.parametrize(
    ("need", "chosen"),
    [
        (exactly(384 * GIB), ()),
        (exactly(384 * GIB + 1), ("a", "b")),
        (exactly(768 * GIB), ("a", "b")),
        (exactly(768 * GIB + 1), ("a", "b", "c")),
        (exactly(1152 * GIB), ("a", "b", "c")),
        # Where bounds are known only, the upper one has to fit.
        (Need(100 * GIB, 384 * GIB), ()),
        (Need(100 * GIB, 500 * GIB), ("a", "b")),
        (Need(500 * GIB, 800 * GIB), ("a", "b", "c")),
    ],
)
def test_no_more_gpus_are_chosen_than_hold_the_model(need: Need, chosen: tuple[str, ...]) -> None:
    assert choose(model(need=need), MACS, "0.6.0") == (spread(*chosen) if chosen else Spread())


def test_the_largest_are_chosen_first() -> None:
    workers = [mac("a", working_set_bytes=100 * GIB), mac("b"), mac("c", working_set_bytes=464 * GIB)]
    assert choose(model(), workers, "0.6.0") == spread("b", "c")
    assert choose(model(need=exactly(464 * GIB)), workers, "0.6.0") == Spread()
    assert choose(model(need=exactly(900 * GIB)), workers, "0.6.0") == spread("a", "b", "c")


def test_gpus_have_the_order_of_their_names() -> None:
    assert choose(model(), [mac("b", working_set_bytes=464 * GIB), mac("a")], "0.6.0") == spread("a", "b")


def test_one_gpu_of_each_mac_is_chosen() -> None:
    workers = [mac("a", gpus=("a:mps:0", "a:mps:1")), mac("b")]
    assert choose(model(), workers, "0.6.0").gpu_ids == ("a:mps:0", "b:mps:0")


@pytest.mark.parametrize("version", ["0.6.1", "0.6.2", "0.7.1", None, "0.0.0"])
def test_other_versions_spread_by_themselves(version: str | None) -> None:
    assert choose(model(), MACS, version) == Spread()


@pytest.mark.parametrize("changes", [{"gpu_ids": ("a:mps:0",)}, {"may_distribute": False}])
def test_a_model_that_is_pinned_or_must_not_be_distributed_is_left_alone(changes: dict[str, t.Any]) -> None:
    assert choose(model(**changes), MACS, "0.6.0") == Spread()


def test_only_workers_that_may_get_the_model_are_chosen() -> None:
    workers = [mac("a"), mac("b", labels={"zone": "1"}), mac("c", labels={"zone": "1"})]
    assert choose(model(worker_selector={"zone": "1"}), workers, "0.6.0") == spread("b", "c")


@pytest.mark.parametrize(
    "other",
    [
        linux("a", working_set_bytes=999 * GIB, gpus=("a:cuda:0",)),
        WorkerFacts("a", working_set_bytes=999 * GIB, gpus=("a:mps:0",)),
        mac("a", gpus=()),
        mac("a", working_set_bytes=None),
    ],
)
def test_only_macs_with_a_gpu_whose_memory_is_known_count(other: WorkerFacts) -> None:
    assert choose(model(), [other, mac("b"), mac("c")], "0.6.0") == spread("b", "c")
    assert choose(model(), [other], "0.6.0") == Spread()


def test_without_workers_there_is_nothing_to_choose() -> None:
    assert choose(model(), [], "0.6.0") == Spread()
    assert choose(model(need=Need()), [], "0.6.0") == Spread()


@pytest.mark.parametrize("need", [Need(), Need(100 * GIB), Need(664 * GIB)])
def test_a_need_that_is_not_known_is_asked_for(need: Need) -> None:
    assert choose(model(need=need), MACS, "0.6.0") == Spread(
        warning="the model synthetic is left where GPUStack 0.6.0 puts it, since what it needs is not known: give it weights_bytes, "
        "or select its GPUs yourself (gpu_ids)"
    )


def test_a_model_that_all_macs_together_do_not_hold() -> None:
    message = (
        "the model synthetic needs 702.0 GiB, and the GPUs of the Macs that it may be put on have {} together: add Macs, raise their "
        "wired limit, or take a smaller quantisation"
    )
    assert choose(model(), [mac("a")], "0.6.0") == Spread(warning=message.format("384.0 GiB"))
    few = [mac("a", working_set_bytes=200 * GIB), mac("b"), linux("c", working_set_bytes=999 * GIB)]
    assert choose(model(), few, "0.6.0") == Spread(warning=message.format("584.0 GiB"))
