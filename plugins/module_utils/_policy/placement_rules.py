# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What else can be wrong with where a model runs, besides its size: see placement for the table of all rules."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import llama_box_layout, mmap_parameters, versions
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import placement_mend as mend
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_rows import gib
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_case import Around, Case, Finding
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_parts import Part
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_sizes import ESTIMATE_APART, Findings, under_claimed
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import PRESENT, RESIDENCY_VARIABLE
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import DOWNLOADING, RUNNING
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB

MIXED_LLAMA_BOX = "mixed_llama_box"
NOT_RUNNING = "not_running"
RESIDENCY_ALIVE = "residency_alive"

# A GPU's memory also serves windows and other programs.
_SLACK_BYTES = 2 * GIB


@dataclasses.dataclass(frozen=True)
class Served:
    """The llama-box that serves a part. pinned: by the model's backend_version."""

    worker: str
    version: str
    pinned: bool

    @property
    def key(self) -> t.Tuple[t.Any, ...]:
        """What versions are compared by."""
        version = versions.parse(self.version)
        return (0, self.version) if version is None else (1, version.key())


def served_by(case: Case, around: Around, part: Part) -> t.Optional[Served]:
    """The llama-box that serves a part, None where nobody told.

    An RPC server is always the builtin one, and backend_version moves the main server only.
    """
    room = around.room(part)
    node = room.node if room else None
    pin = case.model.backend_version
    version = (node.gpustack_version if node else None) or around.gpustack_version
    if part.main and pin and not (version and llama_box_layout.runs_builtin(version, pin)):
        return Served(part.worker, pin, True)
    return Served(part.worker, node.llama_box_version, False) if node and node.llama_box_version else None


def mixed_llama_box(case: Case, around: Around) -> Findings:
    """Instances whose workers serve them with different llama-boxes."""
    for placed in case.placed:
        if not placed.distributed or not case.model.uses_llama_box:
            continue
        found = [served for served in (served_by(case, around, part) for part in placed.parts) if served]
        if len({served.key for served in found}) < 2:
            continue
        said = ", ".join(f"{one.worker} {one.version}{' (backend_version)' if one.pinned else ''}" for one in found)
        pinned = any(served.pinned for served in found)
        newest = max(found, key=lambda served: served.key)
        reason = f"different llama-boxes serve it, which crashes distributed inference (gpustack#756): {said}"
        yield Finding(MIXED_LLAMA_BOX, reason, mend.mixed_versions(case, pinned, newest.version), instance=placed.name)


def not_running(case: Case, around: Around) -> Findings:
    """Instances that do not run, and those that are not there."""
    for placed in case.placed:
        instance = placed.instance
        if instance.state != RUNNING:
            percent = f" at {instance.download_percent or 0:g} %" if instance.state == DOWNLOADING else ""
            message = f": {instance.state_message}" if instance.state_message else ""
            reason = f"{placed.name} is {instance.state or 'in an unknown state'}{percent}{message}"
            yield Finding(NOT_RUNNING, reason, mend.not_running(case, around, placed), placed.name, instance.worker_name)
    wanted = case.model.replicas or 0
    if not case.placed and not wanted:
        yield Finding(NOT_RUNNING, "it has no instances, since replicas is 0", mend.then_site(f"set replicas of the model {case.name}"))
    elif len(case.placed) < wanted:
        yield Finding(NOT_RUNNING, f"it has {len(case.placed)} instances, and replicas is {wanted}", "run this again in a minute")


def residency_alive(case: Case, around: Around) -> Findings:
    """Macs where a process of an instance has the variable that takes Metal's residency sets away."""
    if not case.model.uses_llama_box:
        return
    for placed in case.placed:
        for part in placed.parts:
            room = around.room(part)
            # On a virtual Mac the variable may be needed (lemonade PR#1526).
            if room is None or not room.is_mac or room.is_virtual:
                continue
            wheres = []
            if room.node is not None and room.node.residency == PRESENT:
                wheres.append(f"on {part.worker}")
            if part.main and RESIDENCY_VARIABLE in (case.model.env or {}):
                wheres.append(f"in the model's env, which {part.worker} starts it with")
            for where in wheres:
                reason = f"{RESIDENCY_VARIABLE} stands {where}, so Metal keeps nothing of the model wired"
                how = f"{mend.SITE}, which takes it out and restarts what runs with it"
                yield Finding(RESIDENCY_ALIVE, reason, how, placed.name, part.worker)


def estimate_apart(case: Case, around: Around) -> Findings:
    """Where what GPUStack reckons with and what runs are two things."""
    if case.model.uses_llama_box and case.placed:
        yield from _of_parameters(case, around)
    yield from under_claimed(case, around)
    yield from _measured(case, around)


def _of_parameters(case: Case, around: Around) -> Findings:
    parameters = case.model.backend_parameters
    refused = mmap_parameters.estimator_rejects(parameters, around.gpustack_version)
    for parameter, reason in refused:
        words = case.override_words if mmap_parameters.speaks_of_mmap(parameter) else ""
        how = mend.refused_parameter(case, parameter)
        yield Finding(ESTIMATE_APART, f"{parameter}: {reason}, while llama-box gets them{words}", how)
    for placed in case.placed:
        for part in placed.parts:
            if part.outlived:
                reason = (
                    f"its parameters turn mmap on now, and the claim on {part.worker} was made without, which ends at its next restart"
                    f"{case.override_words}"
                )
                yield Finding(ESTIMATE_APART, reason, mend.flag_replaced(case), placed.name, part.worker)
    on_macs = any(part.unified for placed in case.placed for part in placed.parts)
    # 0.6.0, where llama-box maps by default, reckons so, too.
    mapped = mmap_parameters.engine_uses_mmap(parameters, None)
    if on_macs and mapped and not refused and not mmap_parameters.estimator_assumes_mmap(parameters, around.gpustack_version):
        reason = f"llama-box maps the model into memory, and GPUStack's estimator reckons that it does not{case.override_words}"
        yield Finding(ESTIMATE_APART, reason, mend.flag_replaced(case))


def _measured(case: Case, around: Around) -> Findings:
    """GPUs that have far more in use than all instances on them claim together."""
    for placed in case.placed:
        for part in placed.parts:
            room, load = around.room(part), around.load(part)
            # Where a claim leaves the weights out, that is said already.
            if room is None or placed.instance.state != RUNNING or any(tenant.part.hidden for tenant in load.tenants):
                continue
            for index, used_bytes in room.used_gpu_memory_bytes.items():
                claim_bytes = load.gpu_claim_bytes(index)
                more_bytes = used_bytes - claim_bytes
                if index in part.gpu_claims_bytes and more_bytes > _SLACK_BYTES and 10 * more_bytes > claim_bytes:
                    reason = f"GPU {index} of {part.worker} has {gib(used_bytes)} in use, and all that is there claims {gib(claim_bytes)}"
                    yield Finding(ESTIMATE_APART, reason, mend.measured_more(case, part), placed.name, part.worker)
