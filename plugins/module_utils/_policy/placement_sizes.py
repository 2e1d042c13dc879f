# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Whether what a model needs of a worker fits there: the part of one instance by itself, and all that the worker has together."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import placement_mend as mend
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_rows import gib
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_case import Around, Case, Finding, Placed
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_parts import Part
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_rooms import Room, gpu_exceeds

FITS_ONLY_BY_MMAP = "fits_only_by_mmap"
OVER_MEMORY = "over_memory"
OVER_WORKING_SET = "over_working_set"
ESTIMATE_APART = "estimate_apart"
UNKNOWN = "unknown"

Findings = t.Iterator[Finding]

_NOT_LISTED = Room("a worker that is not listed")


@dataclasses.dataclass(frozen=True)
class Sized:
    """A part beside the room of its worker. gpu, memory: whether more is needed than there is; None where that cannot be told.

    listed: whether the server lists the worker; else nothing is known of its room.
    """

    placed: Placed
    part: Part
    room: Room
    listed: bool
    gpu: t.Optional[bool]
    memory: t.Optional[bool]


def _sized(around: Around, placed: Placed, part: Part) -> Sized:
    found = around.room(part)
    room = found or _NOT_LISTED
    # What the GPU has of unified memory, nobody else has.
    memory_need = part.need if part.unified else part.ram_need
    gpu, memory = gpu_exceeds(part.gpu_needs, room), memory_need.exceeds(room.memory_bytes)
    if not part.claimed:
        gpu, memory = None, None
    return Sized(placed, part, room, found is not None, gpu, memory)


def _only_by_mmap(sized: Sized) -> bool:
    if not sized.part.hidden:
        return False
    # Of one that is spread, the other workers have honest claims, so there is no more to say than that this one is too small.
    blind = sized.part.need.most_bytes is None and not sized.placed.distributed
    return blind or sized.gpu is True or sized.memory is True


# The first that holds for a part is what its size comes to.
ROWS: t.Tuple[t.Tuple[str, t.Callable[[Sized], bool]], ...] = (
    (FITS_ONLY_BY_MMAP, _only_by_mmap),
    (OVER_MEMORY, lambda sized: sized.memory is True),
    (OVER_WORKING_SET, lambda sized: sized.gpu is True),
    (ESTIMATE_APART, lambda sized: bool(sized.part.hidden)),
    (UNKNOWN, lambda sized: sized.gpu is None or sized.memory is None),
)
_TOO_LARGE = (FITS_ONLY_BY_MMAP, OVER_MEMORY, OVER_WORKING_SET)


def _row(sized: Sized) -> str:
    return next((name for name, holds in ROWS if holds(sized)), "")


def _with_row(case: Case, around: Around, *rows: str) -> t.Iterator[Sized]:
    for placed in case.placed:
        for part in placed.parts:
            sized = _sized(around, placed, part)
            if _row(sized) in rows:
                yield sized


def _finding(finding: str, sized: Sized, reason: str, how: str) -> Finding:
    return Finding(finding, reason, how, instance=sized.placed.name, worker=sized.part.worker)


def fits_only_by_mmap(case: Case, around: Around) -> Findings:
    """Parts whose claim leaves the weights out, without which they do not fit, or nobody knows."""
    for sized in _with_row(case, around, FITS_ONLY_BY_MMAP):
        part = sized.part
        reason = f"the claim of {gib(part.claim_bytes)} on {part.worker} leaves the weights out ({part.hidden}, gpustack#1907); "
        if part.need.most_bytes is None:
            reason += "how large they are is not known, so nothing shows that the model fits there"
        else:
            reason += f"with them the model needs {_amount(part.need)}, and {_has(sized.room)}"
        reason += case.override_words
        yield _finding(FITS_ONLY_BY_MMAP, sized, reason, mend.hidden_weights(case, sized.placed, part))


def over_memory(case: Case, around: Around) -> Findings:
    """Parts that the memory of their worker cannot hold, by themselves or with all that is there."""
    for sized in _with_row(case, around, OVER_MEMORY):
        yield _finding(OVER_MEMORY, sized, _too_much(sized), mend.too_much_memory(case))
    yield from _together(case, around, OVER_MEMORY)


def over_working_set(case: Case, around: Around) -> Findings:
    """Parts that the GPU of their worker cannot hold, by themselves or with all that is there."""
    for sized in _with_row(case, around, OVER_WORKING_SET):
        how = mend.too_much_gpu_memory(case, sized.room, sized.part.gpu_needs.values())
        yield _finding(OVER_WORKING_SET, sized, _too_much(sized), how)
    yield from _together(case, around, OVER_WORKING_SET)


def _together(case: Case, around: Around, wanted: str) -> Findings:
    for sized in _with_row(case, around, ESTIMATE_APART, UNKNOWN, ""):
        load, room = around.load(sized.part), sized.room
        if len(load.tenants) < 2:
            continue
        need = load.need if sized.part.unified else load.ram_need
        beyond_memory = need.exceeds(room.memory_bytes) is True
        if beyond_memory if wanted == OVER_MEMORY else gpu_exceeds(load.gpu_needs, room) and not beyond_memory:
            reason = (
                f"{len(load.tenants)} instances are on {room.worker} ({', '.join(load.models)}), together they need {_amount(load.need)} "
                f"and claim {gib(load.claim_bytes)}, and {_has(room)}"
            )
            gpu_needs = load.gpu_needs.values() if wanted == OVER_WORKING_SET else ()
            yield _finding(wanted, sized, reason, mend.too_much_together(case, room, gpu_needs))


def under_claimed(case: Case, around: Around) -> Findings:
    """Parts that fit, or may fit, and claim less than they need."""
    for sized in _with_row(case, around, ESTIMATE_APART):
        part = sized.part
        weights = "its share of the weights" if sized.placed.distributed else "the weights"
        needs = "" if part.need.most_bytes is None else f", with which the model needs {_amount(part.need)}"
        reason = (
            f"the claim of {gib(part.claim_bytes)} on {part.worker} leaves {weights} out ({part.hidden}){needs}; "
            f"GPUStack may put another model there{case.override_words}"
        )
        yield _finding(ESTIMATE_APART, sized, reason, mend.under_claimed(case, part))


def unknown_size(case: Case, around: Around) -> Findings:
    """Parts of which it cannot be told whether they fit."""
    for sized in _with_row(case, around, UNKNOWN):
        worker = sized.part.worker
        if not sized.listed:
            reason, how = f"{worker} is not in the server's list of workers", "run this again when the worker is back"
        elif not sized.part.claimed:
            reason, how = f"the server does not say what {worker} has to give to {sized.placed.name}", "run this again when it is scheduled"
        else:
            lacking = "memory" if sized.memory is None else "GPU memory"
            reason, how = f"the server does not say how much {lacking} {worker} has", "give apple_silicon of this node in nodes"
        yield _finding(UNKNOWN, sized, reason, how)


def _too_much(sized: Sized) -> str:
    return f"the model needs {_amount(sized.part.need)} of {sized.part.worker}, and {_has(sized.room)}"


def _amount(need: Need) -> str:
    return gib(need.least_bytes) if need.most_bytes == need.least_bytes else f"at least {gib(need.least_bytes)}"


def _has(room: Room) -> str:
    gpu_bytes = sum(room.gpu_memory_bytes.values()) or None
    gpu = f"a working set of {gib(gpu_bytes)} ({room.gpu_memory_source or 'unknown'})" if room.is_mac else f"{gib(gpu_bytes)} of GPU memory"
    return f"{room.worker} has {gpu} and {gib(room.memory_bytes)} of memory without GPUStack's reserve"
