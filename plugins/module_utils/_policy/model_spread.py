# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A gpu_selector for a model that GPUStack 0.6.0 puts on one worker although it fits on none (gpustack#1907).

The estimator of 0.6.0 assumes mmap and cannot be told, but selected GPUs of several workers are all used (measured).
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap_parameters
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import DARWIN
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_eligible import eligible
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import ModelFacts, WorkerFacts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_rows import gib

UNDER_CLAIM = (
    "GPUStack 0.6.0 cannot be told that the model is not mapped, so what its main worker claims stays too small: keep other models off "
    "these workers, and upgrade GPUStack to 0.6.1 or newer"
)


@dataclasses.dataclass(frozen=True)
class Spread:
    """gpu_ids: the GPUs to select, empty for none. warning: what a person should know, or why none could be chosen; else ""."""

    gpu_ids: t.Tuple[str, ...] = ()
    warning: str = ""


def choose(model: ModelFacts, workers: t.Iterable[WorkerFacts], gpustack_version: t.Optional[str]) -> Spread:
    """The fewest GPUs, the largest first, that together hold the model; none where it needs no help, or has a selector."""
    if model.gpu_ids or not model.may_distribute or not mmap_parameters.is_without_no_mmap(gpustack_version):
        return Spread()
    macs = [
        (worker.working_set_bytes, worker)
        for worker in eligible(model, workers)
        if worker.os == DARWIN and worker.working_set_bytes and worker.gpus
    ]
    ordered = sorted(macs, key=lambda mac: (-mac[0], mac[1].name))
    if not ordered or model.need.exceeds(ordered[0][0]) is False:
        return Spread()
    needed = model.need.most_bytes
    if needed is None:
        return Spread(
            warning=f"the model {model.name} is left where GPUStack 0.6.0 puts it, since what it needs is not known: give it "
            "weights_bytes, or select its GPUs yourself (gpu_ids)"
        )
    have = 0
    gpu_ids: t.List[str] = []
    for size_bytes, worker in ordered:
        have += size_bytes
        # One GPU to a Mac.
        gpu_ids.append(worker.gpus[0])
        if have >= needed:
            return Spread(tuple(sorted(gpu_ids)), f"the model {model.name}: {UNDER_CLAIM}")
    return Spread(
        warning=f"the model {model.name} needs {gib(needed)}, and the GPUs of the Macs that it may be put on have {gib(have)} together: "
        "add Macs, raise their wired limit, or take a smaller quantisation"
    )
