# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What a run over models returns: for each model what was planned, what was done, and what is still to be done."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.diffs import diff_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_plan import (
    CREATE,
    DELETE,
    NOTHING,
    changed_names,
    cures,
    previous_fields,
    shown,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_run import NEVER, Job, has_work
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_survey import Survey, Task


def report(survey: Survey, jobs: t.Sequence[Job], restart: str, check_mode: bool) -> t.Dict[str, t.Any]:
    """The module's result. jobs: those that were begun; none in check mode."""
    by_name = {job.task.plan.name: job for job in jobs}
    models = [_model(task, by_name.get(task.plan.name), restart, check_mode) for task in survey.tasks]
    return {
        "changed": any(model["changed"] for model in models),
        "server_version": survey.version,
        "models": models,
        "applied": not check_mode,
        "diff": [_diff(task, model) for task, model in zip(survey.tasks, models) if model["changed"]],
    }


def _model(task: Task, job: t.Optional[Job], restart: str, check_mode: bool) -> t.Dict[str, t.Any]:
    plan, before = task.plan, task.model.raw if task.model is not None else {}
    if check_mode:
        to_restart = _names(task.instances if plan.restarts else task.old)
        will = restart != NEVER
        restarted, pending = (to_restart, []) if will else ([], to_restart)
        changed = has_work(task) if will else plan.action != NOTHING
    elif job is not None:
        restarted, pending, changed = sorted(job.restarted), job.pending, job.changed
    else:
        restarted, pending, changed = [], _names(task.old), False
    decision = None
    if plan.decision is not None:
        # One for each worker would be most of the result.
        decision = {key: value for key, value in plan.decision.as_dict().items() if key != "verdicts"}
    return {
        "name": plan.name,
        "action": plan.action,
        "changed": changed,
        "fields": shown(plan.fields),
        "env_changed": changed_names(before, plan.fields),
        "cures": cures(before, plan.fields),
        "decision": decision,
        "restarted": restarted,
        "restart_pending": pending,
        "warnings": list(plan.warnings),
    }


def _names(instances: t.Iterable[Instance]) -> t.List[str]:
    return sorted(str(instance.name) for instance in instances)


def _diff(task: Task, model: t.Mapping[str, t.Any]) -> t.Dict[str, str]:
    plan = task.plan
    before: t.Dict[str, t.Any] = {}
    after: t.Dict[str, t.Any] = {}
    if plan.action == DELETE and task.model is not None:
        before = {"model": plan.name}
    elif plan.action == CREATE:
        after = shown(plan.fields)
    elif task.model is not None:
        before, after = shown(previous_fields(task.model, plan.fields)), shown(plan.fields)
    for name in set(model["env_changed"]) & set(before.get("env") or ()) & set(after.get("env") or ()):
        # The names alone would show nothing of it.
        before[f"env.{name}"], after[f"env.{name}"] = "(a value)", "(another value)"
    if model["restarted"]:
        before["instances"], after["instances"] = model["restarted"], f"{len(model['restarted'])} new"
    return diff_of(f"model {plan.name}", _text(before), _text(after))


def _text(fields: t.Mapping[str, t.Any]) -> str:
    return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in sorted(fields.items()))
