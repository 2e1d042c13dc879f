# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What has to be done about a model: from the server's model, what a user wants of it, and the mmap policy, to changes."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import (
    mmap,
    mmap_facts,
    mmap_parameters,
    model_pin,
    model_spread,
    versions,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.instance_age import unmarked
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_eligible import eligible
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_decision import (
    Known,
    Surroundings,
    decide_for,
    facts_of,
    serving_backend,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_wanted import ABSENT, Wanted
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import LLAMA_BOX, SOURCE_FIELDS, Model

CREATE = "create"
UPDATE = "update"
DELETE = "delete"
NOTHING = "none"

# What an instance reads when it is scheduled or started, and never again: categories become --rerank, --images and --parallel
# (worker/backends/llama_box.py). So is restart_on_error (worker/serve_manager.py), which is worth no restart of what runs.
START_FIELDS = frozenset(
    (
        "source",
        *(field for fields in SOURCE_FIELDS.values() for field in fields),
        "categories",
        "cpu_offloading",
        "distributed_inference_across_workers",
        "worker_selector",
        "gpu_selector",
        "backend",
        "backend_version",
        "backend_parameters",
        "env",
    )
)
_UNORDERED = ("categories",)
# Which workers may get a model. A user who changes them means to move it.
_PLACE_FIELDS = frozenset(("worker_selector", "gpu_selector"))


@dataclasses.dataclass(frozen=True)
class Rules:
    """What holds for all models of a run. pins: what is known of pinned llama-boxes. spread_on_060: as the option says."""

    around: Surroundings
    pins: model_pin.Pins = dataclasses.field(default_factory=model_pin.Pins)
    spread_on_060: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done about a model.

    fields: to be sent, for an update the changed ones alone, without a mark (instance_age). decision: None for what is deleted.
    warnings: for a person. refusal: why it must not be created, or moved to other workers; else "".
    """

    name: str
    action: str
    fields: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict, repr=False)
    decision: t.Optional[mmap.Decision] = None
    warnings: t.Tuple[str, ...] = ()
    refusal: str = ""

    @property
    def restarts(self) -> bool:
        """Whether instances that run have to be started anew for it."""
        return self.action == UPDATE and bool(START_FIELDS & set(self.fields))


def plan_model(
    current: t.Optional[Model],
    wanted: t.Optional[Wanted],
    instances: t.Sequence[Instance],
    rules: Rules,
    claim_bytes: t.Optional[int] = None,
) -> Plan:
    """The plan for a model that the server has, that a user wants, or both. Raises BadInputError.

    claim_bytes: what the server's estimator claims for a model that is not there yet.
    """
    name = wanted.name if wanted is not None else str(current and current.name)
    if wanted is not None and wanted.state == ABSENT:
        return Plan(name, DELETE if current is not None else NOTHING)
    asked = dict(wanted.fields) if wanted is not None else {}
    before = dict(current.raw) if current is not None else {}
    if current is None and "source" not in asked:
        raise BadInputError(f"the server has no model {name}, and to create it its source is needed; add source and what belongs to it")
    if "source" in asked:
        # What belonged to another source would stay behind.
        of_sources = (field for fields in SOURCE_FIELDS.values() for field in fields)
        asked = {**{field: None for field in of_sources if before.get(field)}, **asked}
    after = {**before, **asked, "name": name}
    governed = serving_backend(after) == LLAMA_BOX
    known = Known(wanted.labels, claim_bytes, wanted.weights_bytes) if wanted is not None else Known(claim_bytes=claim_bytes)
    warnings: t.List[str] = []
    if governed and rules.spread_on_060 and "gpu_selector" not in asked:
        facts = facts_of(after, instances, rules.around.gpustack_version, known)
        spread = model_spread.choose(facts, rules.around.workers, rules.around.gpustack_version)
        warnings = [spread.warning] if spread.warning else []
        if spread.gpu_ids:
            after["gpu_selector"] = {"gpu_ids": list(spread.gpu_ids)}
    decision = decide_for(after, instances, rules.around, known)
    warnings += [*decision.warnings, *([f"the model {name}: {decision.risk}"] if decision.risk else [])]
    if governed:
        facts = mmap_facts.model_from_api(after)
        workers = eligible(facts, rules.around.workers)
        _refuse_mmap(name, asked, decision)
        after["backend_parameters"] = mmap_parameters.with_flag(after.get("backend_parameters"), decision.flag, decision.extra)
        warnings += model_pin.check(facts, [worker.name for worker in workers], rules.pins, asked, before)
        rejected = mmap_parameters.estimator_rejects(after["backend_parameters"], rules.around.gpustack_version)
        warnings += [f"the model {name}: {parameter}: {reason}" for parameter, reason in rejected]
        after["env"] = _without_residency(after.get("env"), workers)
    if wanted is not None and wanted.env is not None:
        after["env"] = dict(wanted.env)
    fields = _changed(before, after, rules.around.gpustack_version) if current is not None else _to_create(after)
    # Of one that is there already and is not moved, what it needs is only reported.
    is_moved = current is None or bool(_PLACE_FIELDS & set(asked) & set(fields))
    refusal = decision.refusal if is_moved and not (wanted is not None and wanted.force) else ""
    if current is not None and decision.refusal and not refusal:
        warnings.append(decision.refusal)
    action = CREATE if current is None else UPDATE if fields else NOTHING
    return Plan(name, action, fields, decision, tuple(dict.fromkeys(warnings)), refusal)


def _refuse_mmap(name: str, asked: t.Mapping[str, t.Any], decision: mmap.Decision) -> None:
    """Mmap comes by an override only. A --mmap that is found on a model is drift, one that is asked for is a contradiction."""
    parameters = asked.get("backend_parameters")
    if decision.flag == mmap_parameters.NO_MMAP and mmap_parameters.engine_uses_mmap(parameters, None):
        raise BadInputError(
            f"backend_parameters of the model {name} ask for mmap, and the rule {decision.rule} says {decision.flag}: {decision.reason}; "
            "take --mmap out, or write an override with a reason (docs/mmap.md)"
        )


def _without_residency(env: t.Any, workers: t.Sequence[mmap_facts.WorkerFacts]) -> t.Any:
    """The environment without the residency variable, which is legitimate on virtual Macs alone (lemonade PR#1526)."""
    if not isinstance(env, dict) or RESIDENCY_VARIABLE not in env or (workers and all(worker.is_virtual for worker in workers)):
        return env
    return {name: value for name, value in unmarked(env).items() if name != RESIDENCY_VARIABLE}


def _to_create(after: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    return {field: value for field, value in after.items() if value is not None}


def _changed(before: t.Mapping[str, t.Any], after: t.Mapping[str, t.Any], gpustack_version: t.Optional[str]) -> t.Dict[str, t.Any]:
    """The fields that differ, with the values that they are to have."""
    changed = {
        field: value
        for field, value in after.items()
        if _plain(field, value) != _plain(field, before.get(field)) and not _is_filled_in(field, before, after)
    }
    # GPUStack 0.6 starts no instance with null (worker/backends/llama_box.py).
    is_null = "backend_parameters" in before and before["backend_parameters"] is None
    if is_null and after["backend_parameters"] is not None and versions.series(gpustack_version) == (0, 6):
        changed["backend_parameters"] = after["backend_parameters"]
    return changed


def _is_filled_in(field: str, before: t.Mapping[str, t.Any], after: t.Mapping[str, t.Any]) -> bool:
    """Whether the server puts something of its own where nothing is asked for, again and again."""
    if field == "categories":
        # What the scheduler takes the model for (scheduler/scheduler.py, set_model_categories).
        return not after["categories"]
    if field == "worker_selector":
        # server/controllers.py, set_default_worker_selector.
        has_selector = bool(after["worker_selector"] or after.get("gpu_selector"))
        return serving_backend(after) == "vllm" and not has_selector and before["worker_selector"] == {"os": "linux"}
    return False


def _plain(field: str, value: t.Any) -> t.Any:
    """A value to compare: what says nothing is None, order counts only where it means something, the mark is not looked at."""
    if field == "env" and isinstance(value, dict):
        value = unmarked(value)
    if field == "gpu_selector" and isinstance(value, dict):
        value = sorted(value.get("gpu_ids") or [])
    if field in _UNORDERED and isinstance(value, (list, tuple)):
        value = sorted(value)
    return None if value in ("", [], {}, ()) else value


def shown(fields: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    """Fields for results and diffs: of the environment the names alone, as people keep tokens in it."""
    found = {}
    for field, value in sorted(fields.items()):
        if field == "env":
            found[field] = sorted(unmarked(value)) if isinstance(value, dict) else None
        elif field == "gpu_selector":
            found["gpu_ids"] = list(mmap_facts.items((value or {}).get("gpu_ids")))
        else:
            found[field] = value
    return found


def changed_names(before: t.Mapping[str, t.Any], fields: t.Mapping[str, t.Any]) -> t.List[str]:
    """The variables of the environment that a change adds, removes or sets to another value."""
    if "env" not in fields:
        return []
    old, new = (unmarked(mmap_facts.texts(env)) for env in (before.get("env"), fields["env"]))
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def cures(before: t.Mapping[str, t.Any], fields: t.Mapping[str, t.Any]) -> t.List[str]:
    """What a change takes out of a model of what makes gpustack#1907, in words."""
    found = []
    was, is_now = (mmap_parameters.engine_uses_mmap(one.get("backend_parameters"), None) for one in (before, {**before, **fields}))
    if was and not is_now:
        found.append("--mmap was taken out")
    if RESIDENCY_VARIABLE in changed_names(before, fields) and RESIDENCY_VARIABLE in (before.get("env") or {}):
        found.append(f"{RESIDENCY_VARIABLE} was taken out of env")
    return found


def previous_fields(model: Model, fields: t.Iterable[str]) -> t.Dict[str, t.Any]:
    """What a model had in these fields, to be put back."""
    return {field: model.raw.get(field) for field in fields}
