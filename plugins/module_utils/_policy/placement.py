# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Whether each model runs where it can: the rules in their order, and what they come to. docs/placement.md has the table for people."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import placement_rules as rules
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import placement_sizes as sizes
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_rows import gib
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_case import Around, Case, Finding, Placed
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_parts import Part, together
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_rooms import Load, Room
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import UNKNOWN as RESIDENCY_UNKNOWN

FITS = "fits"


@dataclasses.dataclass(frozen=True)
class Rule:
    """What is looked for. condition: as docs/placement.md says it."""

    finding: str
    condition: str
    find: t.Callable[[Case, Around], sizes.Findings]


# The worst first: what keeps a model from answering stands before what it comes to, so that the verdict names the cause.
RULES: t.Tuple[Rule, ...] = (
    Rule(
        sizes.FITS_ONLY_BY_MMAP,
        "its claim leaves the weights out, and with them it needs more than there is, or how large they are is not known",
        sizes.fits_only_by_mmap,
    ),
    Rule(
        sizes.OVER_MEMORY,
        "it needs more than the worker's memory without GPUStack's reserve, by itself or with the others there",
        sizes.over_memory,
    ),
    Rule(sizes.OVER_WORKING_SET, "it needs more than the GPU may have, by itself or with the others there", sizes.over_working_set),
    Rule(rules.MIXED_LLAMA_BOX, "its workers serve it with different llama-boxes", rules.mixed_llama_box),
    Rule(rules.NOT_RUNNING, "an instance does not run, or is not there", rules.not_running),
    Rule(rules.RESIDENCY_ALIVE, "the residency variable stands on one of its Macs, or in its env", rules.residency_alive),
    Rule(
        sizes.ESTIMATE_APART,
        "the estimator refuses its parameters, or its claim leaves the weights out or will, or its GPU has far more in use than is claimed",
        rules.estimate_apart,
    ),
    Rule(sizes.UNKNOWN, "it cannot be told whether it fits", sizes.unknown_size),
)
FINDINGS: t.Tuple[str, ...] = tuple(rule.finding for rule in RULES)


@dataclasses.dataclass(frozen=True)
class Report:
    """What the rules say of a model. findings: the worst first. not_known: what only nodes can tell, and did not."""

    case: Case
    findings: t.Tuple[Finding, ...] = ()
    not_known: t.Tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The worst finding, or that it fits."""
        return self.findings[0].finding if self.findings else FITS


def chosen(cases: t.Sequence[Case], names: t.Sequence[str]) -> t.Tuple[t.List[Case], t.List[str]]:
    """The models of these names, and the names that no model has; without names, all models that have or should have instances."""
    if not names:
        return [case for case in cases if case.placed or case.model.replicas], []
    wanted = set(names)
    found = [case for case in cases if case.model.name in wanted]
    return found, sorted(wanted - {case.name for case in found})


def failure_of(reports: t.Sequence[Report], fail_on: t.Collection[str]) -> str:
    """One sentence on the findings that a playbook does not put up with; "" where there is none of them."""
    worst = {report.case.name: finding for report in reports for finding in reversed(report.findings) if finding.finding in fail_on}
    if not worst:
        return ""
    name, *others = worst
    more = f" (others with findings: {', '.join(others)})" if others else ""
    return f"model {name}: {worst[name].finding}: {worst[name].reason}; {worst[name].mend}{more}"


def judge(case: Case, around: Around) -> Report:
    """What the rules say of a model."""
    findings = [finding for rule in RULES for finding in rule.find(case, around)]
    return Report(case, tuple(dict.fromkeys(findings)), tuple(_not_known(case, around)))


def _not_known(case: Case, around: Around) -> t.Iterator[str]:
    """What only nodes can tell, and did not."""
    if not case.model.uses_llama_box:
        return
    workers: t.Dict[str, t.List[str]] = {}
    for placed in case.placed:
        for part in placed.parts:
            room = around.room(part)
            whats = workers.setdefault(part.worker, [])
            if placed.distributed and rules.served_by(case, around, part) is None:
                whats.append("its llama-box")
            if room is not None and room.is_mac and (room.node.residency if room.node else RESIDENCY_UNKNOWN) == RESIDENCY_UNKNOWN:
                whats.append("whether the residency variable stands there")
    for worker, whats in workers.items():
        if whats:
            yield f"{worker}: {' and '.join(dict.fromkeys(whats))} is not known; give the facts of this node in nodes"


def as_dict(report: Report, around: Around) -> t.Dict[str, t.Any]:
    """A report as module return value."""
    worst = report.findings[0] if report.findings else None
    case = report.case
    return {
        "name": case.model.name,
        "verdict": report.verdict,
        "reason": worst.reason if worst else _why_it_fits(case, around),
        "mend": worst.mend if worst else "",
        "weights_bytes": case.weights_bytes,
        "findings": [finding.as_dict() for finding in report.findings],
        "not_known": list(report.not_known),
        "instances": [_instance(case, placed, around) for placed in case.placed],
    }


def _why_it_fits(case: Case, around: Around) -> str:
    parts = [part for placed in case.placed for part in placed.parts]
    return "it needs " + ", ".join(_share(part, around.room(part)) for part in parts)


def _share(part: Part, room: t.Optional[Room]) -> str:
    has = _has(room)
    if part.gpu_needs:
        return f"{gib(together(part.gpu_needs.values()).least_bytes)} of {gib(has['working_set_bytes'])} on {part.worker}"
    return f"{gib(part.ram_need.least_bytes)} of {gib(has['usable_bytes'])} on {part.worker}"


def _instance(case: Case, placed: Placed, around: Around) -> t.Dict[str, t.Any]:
    need = together(part.need for part in placed.parts)
    claims = [part.claim_bytes for part in placed.parts if part.claim_bytes is not None]
    return {
        "name": placed.instance.name,
        "state": placed.instance.state,
        "state_message": placed.instance.state_message,
        "distributed": placed.distributed,
        "claim_bytes": sum(claims) if claims else None,
        **_need(need if claims else Need()),
        "workers": [_part(case, part, around) for part in placed.parts],
    }


def _part(case: Case, part: Part, around: Around) -> t.Dict[str, t.Any]:
    room = around.room(part)
    served = rules.served_by(case, around, part) if case.model.uses_llama_box else None
    return {
        "name": part.worker,
        "main": part.main,
        "claim_bytes": part.claim_bytes,
        **_need(part.need),
        "gpu_indexes": sorted(part.gpu_claims_bytes),
        "hidden_weights": part.hidden,
        "llama_box_version": served.version if served else None,
        **_has(room),
        "residency": room.node.residency if room and room.node else RESIDENCY_UNKNOWN,
    }


def _need(need: Need) -> t.Dict[str, t.Any]:
    return {"need_least_bytes": need.least_bytes, "need_most_bytes": need.most_bytes}


def _has(room: t.Optional[Room]) -> t.Dict[str, t.Any]:
    gpu = room.gpu_memory_bytes.values() if room else ()
    return {
        "working_set_bytes": sum(gpu) if gpu else None,
        "working_set_source": room.gpu_memory_source if room else None,
        "usable_bytes": room.memory_bytes if room else None,
    }


def workers_as_dicts(around: Around) -> t.List[t.Dict[str, t.Any]]:
    """What each worker of the server has, and what was put there."""
    found = []
    for worker_id, room in around.rooms.items():
        load = around.loads.get(worker_id, Load())
        sizes_of = {**_has(room), "claim_bytes": load.claim_bytes, **_need(load.need)}
        found.append({"name": room.worker, **sizes_of, "models": list(load.models), "instances": [one.instance for one in load.tenants]})
    return found
