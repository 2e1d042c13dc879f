# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The mmap policy asked of a model of the server: with its workers, what the play knows of their nodes, and its instances."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap, mmap_facts, model_need
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.fleet_nodes import NodeFacts, worker_facts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import Worker


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What a decision needs besides the model. The same for all models of a run, so it is put together once.

    workers: of the server, with what their nodes say. can_upgrade_llama_box: whether the fleet may get a newer llama-box.
    """

    gpustack_version: t.Optional[str]
    workers: t.Tuple[mmap_facts.WorkerFacts, ...]
    overrides: t.Tuple[mmap.Override, ...] = ()
    strict: bool = False
    can_upgrade_llama_box: bool = True


def surroundings(
    gpustack_version: t.Optional[str],
    workers: t.Sequence[Worker],
    nodes: t.Sequence[NodeFacts] = (),
    overrides: t.Sequence[mmap.Override] = (),
    strict: bool = False,
    can_upgrade_llama_box: bool = True,
) -> Surroundings:
    """The surroundings of all models of a server. nodes: those of the play, as far as it has any."""
    facts = tuple(worker_facts(workers, nodes, gpustack_version))
    return Surroundings(gpustack_version, facts, tuple(overrides), strict, can_upgrade_llama_box)


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of a model besides the server's fields. labels: what overrides may go by.

    claim_bytes: what the estimator said of it just now; the claims of its instances count, too. weights_bytes: their size; without it
    what llama-box told when the model ran last.
    """

    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    claim_bytes: t.Optional[int] = None
    weights_bytes: t.Optional[int] = None


def facts_of(
    model: t.Mapping[str, t.Any], instances: t.Sequence[Instance], gpustack_version: t.Optional[str], known: Known
) -> mmap_facts.ModelFacts:
    """A model, in the server's own fields, as the policy knows it."""
    raws = [instance.raw for instance in instances]
    need = model_need.of_model(model, gpustack_version, known.claim_bytes, known.weights_bytes, raws)
    fields = {**model, "backend": serving_backend(model), "labels": dict(known.labels)}
    return mmap_facts.model_from_api(fields, need, raws)


def decide_for(
    model: t.Mapping[str, t.Any], instances: t.Sequence[Instance], around: Surroundings, known: t.Optional[Known] = None
) -> mmap.Decision:
    """Decide for a model, in the server's own fields. Raises BadInputError."""
    facts = facts_of(model, instances, around.gpustack_version, known or Known())
    versions = mmap.Versions(around.gpustack_version, around.can_upgrade_llama_box)
    return mmap.decide(facts, around.workers, versions, around.overrides, around.strict)


def serving_backend(model: t.Mapping[str, t.Any]) -> t.Optional[str]:
    """What serves a model: its backend, or the one that the server guesses from its source."""
    return Model(
        source=mmap_facts.text(model.get("source")),
        categories=tuple(str(one) for one in mmap_facts.items(model.get("categories"))),
        backend=mmap_facts.text(model.get("backend")),
        raw=model,
    ).serving_backend


def idle_overrides(
    overrides: t.Sequence[mmap.Override], names: t.Collection[str], labels: t.Optional[t.Sequence[t.Mapping[str, str]]]
) -> t.Iterator[str]:
    """Overrides that are for no model, in words; a model that one was meant for is decided on by the rules, without a sign of that.

    names: of all models that there are or are to be. labels: those of the collection's own, of each model that has some; None where
    other models may have them.
    """
    for number, override in enumerate(overrides, 1):
        if override.model is not None and override.model not in names:
            whose = "which neither the server nor the list of models has"
            yield f"override {number} is for the model {override.model}, {whose}: correct its name"
        if override.model is None and labels is not None and not any(override.labels.items() <= one.items() for one in labels):
            yield f"override {number} is for models with the {override.origin()}, which none in the list of models has: correct them"
