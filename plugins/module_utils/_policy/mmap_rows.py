# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The table of the mmap policy (docs/mmap.md): the first row that holds for a model on a worker decides.

A condition holds only where all it speaks of is known.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap_parameters, versions
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import DARWIN
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import LLAMA_BOX, ModelFacts, WorkerFacts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_parameters import MMAP, NO_MMAP
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB

HIGH = "high"
MEDIUM = "medium"
LOW = "low"

# v0.0.136 mended loading without mmap (gpustack#1907).
LAST_OLD_LLAMA_BOX = (0, 0, 135)


@dataclasses.dataclass(frozen=True)
class Case:
    """A model on one worker that may get it. distributed: as far as it is known for all such workers together."""

    model: ModelFacts
    worker: WorkerFacts
    distributed: t.Optional[bool] = None
    gpustack_version: t.Optional[str] = None
    can_upgrade_llama_box: bool = True

    def is_without_no_mmap(self) -> bool:
        """The server's estimator assumes mmap, or the worker does not pass the flag on."""
        found = (self.gpustack_version, self.worker.gpustack_version)
        return any(mmap_parameters.is_without_no_mmap(version) for version in found)

    def main_llama_box(self) -> t.Optional[str]:
        """The version that loads the model."""
        return self.model.backend_version or self.worker.llama_box_version


@dataclasses.dataclass(frozen=True)
class Row:
    """A row. flag None: leave the backend's default. refuses: not on this worker. extra: parameters that go with the flag.

    why: the reason, with {worker}, {backend}, {version} (of llama-box), {sizes} or {unknown} to be filled in.
    """

    number: int
    name: str
    condition: str
    holds: t.Callable[[Case], bool]
    flag: t.Optional[str]
    why: str
    confidence: str
    evidence: t.Tuple[str, ...] = ()
    advice: t.Tuple[str, ...] = ()
    risk: str = ""
    refuses: bool = False
    extra: t.Tuple[str, ...] = ()


def gib(size_bytes: t.Optional[int]) -> str:
    """A size for people."""
    return "an unknown amount" if size_bytes is None else f"{size_bytes / GIB:.1f} GiB"


def _is_other_backend(case: Case) -> bool:
    return case.model.backend not in (None, LLAMA_BOX)


def _is_not_macos(case: Case) -> bool:
    return case.worker.os not in (None, DARWIN)


def _is_intel(case: Case) -> bool:
    # Under Rosetta a Mac seems to be an Intel one; it is decided as what it is.
    return case.worker.os == DARWIN and case.worker.is_apple_silicon is False and not case.worker.is_translated


def _is_virtual(case: Case) -> bool:
    return case.worker.is_virtual is True


def _is_distributed(case: Case) -> bool:
    return case.worker.os == DARWIN and case.distributed is True


def _is_gpustack_060(case: Case) -> bool:
    return case.worker.os == DARWIN and case.is_without_no_mmap()


def _is_beyond_memory(case: Case) -> bool:
    return case.model.need.exceeds(case.worker.usable_bytes()) is True


def _is_beyond_working_set(case: Case) -> bool:
    need, worker = case.model.need, case.worker
    return need.exceeds(worker.working_set_bytes) is True and need.exceeds(worker.usable_bytes()) is False


def _has_lora(case: Case) -> bool:
    return case.worker.os == DARWIN and case.model.lora is True


def _is_old_llama_box(case: Case) -> bool:
    # The only row that turns mmap on: everything that would say otherwise has to be known.
    worker, model = case.worker, case.model
    told = worker.is_apple_silicon is True and worker.is_virtual is False and case.distributed is False and model.lora is False
    version = versions.parse(case.main_llama_box())
    if case.can_upgrade_llama_box or not told or version is None or worker.memory_bytes is None:
        return False
    is_old = version.release <= LAST_OLD_LLAMA_BOX
    return is_old and _is_within_working_set(case) and 2 * model.need.least_bytes > worker.memory_bytes


def _is_within_working_set(case: Case) -> bool:
    return case.worker.os == DARWIN and case.model.need.exceeds(case.worker.working_set_bytes) is False


def _anything(_case: Case) -> bool:
    return True


def _sizes(case: Case) -> str:
    worker, need = case.worker, case.model.need
    amount = gib(need.least_bytes) if need.most_bytes == need.least_bytes else f"at least {gib(need.least_bytes)}"
    if need.most_bytes is not None and need.most_bytes > need.least_bytes:
        amount = f"{gib(need.least_bytes)} to {gib(need.most_bytes)}"
    limits = f"a working set of {gib(worker.working_set_bytes)} ({worker.working_set_source or 'unknown'})"
    usable = f"{gib(worker.usable_bytes())} of memory without GPUStack's reserve"
    return f"the model needs {amount}, {worker.name} has {limits} and {usable}"


def _unknown(case: Case) -> str:
    worker, model = case.worker, case.model
    facts = (
        ("its operating system", worker.os),
        ("whether it is Apple Silicon", worker.is_apple_silicon),
        ("its working set", worker.working_set_bytes),
        ("its memory", worker.memory_bytes),
        ("what the model needs", model.need.most_bytes),
    )
    missing = ", ".join(what for what, fact in facts if fact is None)
    return f"of {worker.name} is not known: {missing}" if missing else f"{_sizes(case)}: this is too vague"


ROWS: t.Tuple[Row, ...] = (
    Row(
        number=0,
        name="other_backend",
        condition="the backend is not llama-box",
        holds=_is_other_backend,
        flag=None,
        why="the backend is {backend}, and only llama-box has these flags",
        confidence=HIGH,
        evidence=("gpustack/worker/backends",),
    ),
    Row(
        number=1,
        name="not_macos",
        condition="the worker does not run macOS",
        holds=_is_not_macos,
        flag=None,
        why="{worker} does not run macOS, and residency is a matter of Metal only",
        confidence=HIGH,
        evidence=("llama.cpp PR#11427",),
    ),
    Row(
        number=2,
        name="intel_mac",
        condition="macOS on Intel",
        holds=_is_intel,
        flag=None,
        why="{worker} is an Intel Mac, where ggml-metal has no residency sets",
        confidence=MEDIUM,
        evidence=("llama.cpp PR#11904",),
        advice=("keep Intel Macs out of the fleet, or give them small models only",),
    ),
    Row(
        number=4,
        name="virtual_mac",
        condition="a virtual Mac",
        holds=_is_virtual,
        flag=NO_MMAP,
        why="{worker} is a virtual Mac, whose paravirtual GPU can read stale weights from a mapped file",
        confidence=MEDIUM,
        evidence=("llama.cpp#8617", "lemonade#1524", "unslothai/llama.cpp PR#37"),
        advice=(f"{RESIDENCY_VARIABLE} may stay on this node", "do not use it for production"),
    ),
    Row(
        number=5,
        name="distributed",
        condition="distributed over several workers",
        holds=_is_distributed,
        flag=NO_MMAP,
        why="the model runs on several workers, {worker} among them, and with mmap the estimate leaves its weights out",
        confidence=HIGH,
        evidence=("gpustack#1907", "gpustack#2048", "gpustack#2427", "llama.cpp#27667"),
        advice=(
            f"{RESIDENCY_VARIABLE} absent on every worker, in all four places",
            "the same llama-box on every worker, at least v0.0.139, better v0.0.144 (static) or v0.0.162 (dynamic)",
        ),
    ),
    Row(
        number=6,
        name="gpustack_060",
        condition="GPUStack 0.6.0",
        holds=_is_gpustack_060,
        flag=NO_MMAP,
        why="GPUStack 0.6.0 does not pass --no-mmap to llama-box, so the model has to",
        confidence=HIGH,
        evidence=("gpustack PR#1767", "gpustack 1ac64e9a", "gpustack#1907"),
        advice=(
            "upgrade GPUStack to 0.6.1 or newer: the estimator of 0.6.0 assumes mmap and cannot be told otherwise",
            "or spread the model by a gpu_selector over enough workers, and keep other models off the main one: its claim stays too small",
        ),
    ),
    Row(
        number=7,
        name="beyond_memory",
        condition="need > memory - reserve on one node",
        holds=_is_beyond_memory,
        flag=NO_MMAP,
        why="{sizes}",
        confidence=MEDIUM,
        evidence=("llama.cpp#8678", "ollama#10532"),
        advice=("distribute the model over several workers, or take a smaller quantisation", "mmap only by an explicit override"),
        refuses=True,
    ),
    Row(
        number=8,
        name="beyond_working_set",
        condition="working set < need <= memory - reserve",
        holds=_is_beyond_working_set,
        flag=NO_MMAP,
        why="{sizes}",
        confidence=MEDIUM,
        evidence=("exo#1672", "llama.cpp#15055"),
        advice=("raise the wired limit of this node, else distribute the model",),
    ),
    Row(
        number=9,
        name="lora",
        condition="LoRA adapters",
        holds=_has_lora,
        flag=NO_MMAP,
        why="the model has LoRA adapters; the help of llama-box says that they imply --no-mmap, its code does not do it",
        confidence=MEDIUM,
        evidence=("llama-box/engine_param.hpp",),
    ),
    Row(
        number=10,
        name="old_llama_box",
        condition="llama-box <= v0.0.135, need > half of memory, cannot upgrade",
        holds=_is_old_llama_box,
        flag=MMAP,
        why="llama-box {version} cannot be upgraded, and it fails to load a model this large without mmap",
        confidence=LOW,
        evidence=("gpustack#1646", "gpustack PR#1767"),
        advice=("upgrade llama-box: v0.0.136 mended loading without mmap",),
        risk="a workaround: mmap with --mlock, and an estimate without the weights",
        extra=("--mlock",),
    ),
    Row(
        number=11,
        name="within_working_set",
        condition="need <= working set",
        holds=_is_within_working_set,
        flag=NO_MMAP,
        why="{sizes}",
        confidence=HIGH,
        evidence=("llama.cpp#9244", "llama.cpp#11382", "gpustack#219"),
    ),
    Row(
        number=12,
        name="unknown",
        condition="anything unknown",
        holds=_anything,
        flag=NO_MMAP,
        why="{unknown}",
        confidence=LOW,
        advice=("gather the facts of this node with apple_silicon_facts, and what the model needs, and decide again",),
    ),
)


def first_row(case: Case) -> Row:
    """The row that decides."""
    return next(row for row in ROWS if row.holds(case))


def reason_of(row: Row, case: Case) -> str:
    """Why a row that holds decides as it does."""
    words = {"worker": case.worker.name, "backend": case.model.backend, "version": case.main_llama_box()}
    return row.why.format(sizes=_sizes(case), unknown=_unknown(case), **words)
