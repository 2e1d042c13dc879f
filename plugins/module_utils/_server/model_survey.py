# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Reading a server once and planning all of its models, before the first of them is changed."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap, model_need, model_pin
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.fleet_nodes import NodeFacts, node_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_decision import idle_overrides, surroundings
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_plan import Plan, Rules, plan_model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_wanted import ABSENT, Wanted
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import Worker
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.api import Fleet, evaluate, read_fleet
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.instance_log import old_instances

# The estimator reads the headers of each model's files, from a hub if need be.
_EVALUATION_SECONDS = 300.0


@dataclasses.dataclass(frozen=True)
class Request:
    """What a run is asked for.

    wanted: models by the user's list. all_models: whether the mmap policy is applied to the others of the server, too. overrides,
    strict, can_upgrade_llama_box, spread_on_060: of the policy. nodes: what the play knows of them. locked: the versions of the
    lock file, None where there is none.
    """

    wanted: t.Tuple[Wanted, ...] = ()
    all_models: bool = False
    overrides: t.Tuple[mmap.Override, ...] = ()
    strict: bool = False
    can_upgrade_llama_box: bool = True
    spread_on_060: bool = False
    nodes: t.Tuple[NodeFacts, ...] = ()
    locked: t.Optional[t.FrozenSet[str]] = None


@dataclasses.dataclass(frozen=True)
class Task:
    """One model of a run. model: as the server has it, None where it has none. old: instances that run with old parameters."""

    plan: Plan
    wanted: t.Optional[Wanted]
    model: t.Optional[Model]
    instances: t.Tuple[Instance, ...]
    old: t.Tuple[Instance, ...] = ()


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a server has and what is to be done there."""

    version: str
    fleet: Fleet
    rules: Rules
    tasks: t.Tuple[Task, ...]
    warnings: t.Tuple[str, ...]


def survey(client: Client, request: Request) -> Survey:
    """Read the server and plan. Changes nothing; raises BadInputError for what must not be done, and ServerError."""
    version = client.check_version()
    fleet = read_fleet(client)
    rules = Rules(
        surroundings(version.text, fleet.workers, request.nodes, request.overrides, request.strict, request.can_upgrade_llama_box),
        _pins(fleet.workers, request),
        request.spread_on_060,
    )
    warnings = [version.warning] if version.warning else []
    by_id: t.Dict[t.Optional[int], t.List[Instance]] = {}
    for instance in fleet.instances:
        by_id.setdefault(instance.model_id, []).append(instance)
    models = {str(model.name): model for model in fleet.models}
    wanted = {one.name: one for one in request.wanted}
    names = [*wanted, *(name for name in models if request.all_models and name not in wanted)]
    # A list of some models says nothing of what others are called.
    labels = [one.labels for one in request.wanted] if request.all_models else None
    warnings += idle_overrides(request.overrides, {*models, *wanted}, labels)
    claims = _claims(client, [wanted[name] for name in wanted if name not in models and wanted[name].state != ABSENT], rules)
    tasks = []
    for name in names:
        model, one = models.get(name), wanted.get(name)
        instances = tuple(by_id.get(model.id, ())) if model is not None else ()
        plan = plan_model(model, one, instances, rules, claims.get(name))
        if plan.refusal:
            raise BadInputError(f"{plan.refusal}, or say force: true")
        old, unknown = old_instances(client, model, instances) if model is not None and not plan.restarts else ([], [])
        warnings += [*plan.warnings, *unknown]
        tasks.append(Task(plan, one, model, instances, tuple(old)))
    return Survey(version.text, fleet, rules, tuple(tasks), tuple(dict.fromkeys(warnings)))


def _pins(workers: t.Sequence[Worker], request: Request) -> model_pin.Pins:
    found = {}
    for worker in workers:
        node = node_of(worker, request.nodes)
        if node is not None and worker.name is not None:
            found[worker.name] = model_pin.WorkerPins(node.pinned_versions, node.gpustack_version)
    return model_pin.Pins(request.locked, found)


def _claims(client: Client, wanted: t.Sequence[Wanted], rules: Rules) -> t.Dict[str, t.Optional[int]]:
    """What the estimator claims for models that are to be created, in one call. Raises BadInputError for one that cannot be placed."""
    plans = [plan_model(None, one, (), rules) for one in wanted]
    if not plans:
        return {}
    claims: t.Dict[str, t.Optional[int]] = {}
    for one, plan, result in zip(wanted, plans, evaluate(client, [plan.fields for plan in plans], _EVALUATION_SECONDS)):
        claims[plan.name] = model_need.claim_of_evaluation(result.get("resource_claim"))
        if result.get("compatible") is False and not one.force:
            raise BadInputError(f"GPUStack would not run the model {plan.name}: {_words(result)}; mend that, or say force: true")
    return claims


def _words(result: t.Mapping[str, t.Any]) -> str:
    said = [result.get("error_message"), *(result.get("compatibility_messages") or ()), *(result.get("scheduling_messages") or ())]
    return "; ".join(" ".join(str(words).split()).rstrip(".") for words in said if words) or "it does not say why"
