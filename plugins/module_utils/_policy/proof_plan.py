# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Who is asked what, from the server's lists, so that no OpenAI route is asked for a model that is not there.

The first 404 on such a route makes the server write every later one in another shape, until it is restarted
(gpustack/api/exceptions.py, http_exception_factory).
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_request import (
    EMBEDDING,
    LLM,
    RERANKER,
    Entry,
    ProofRequest,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import RUNNING, Instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model

SKIPPED = "skipped"
MISSING = "missing"
NOT_RUNNING = "not_running"

# gpustack/routes/routes.py: what is below /v1 is there under the same name for embeddings and chat, but rerank is only there.
ROUTES: t.Mapping[str, str] = {
    LLM: "/v1-openai/chat/completions",
    EMBEDDING: "/v1-openai/embeddings",
    RERANKER: "/v1/rerank",
}
DOCUMENTS = (
    "A rack in the basement holds eight computers.",
    "The harbour is frozen from December to March.",
    "Bread rises faster in a warm kitchen.",
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A model that the proof is about.

    status: why it is not asked, with the reason; empty where it is. requests: how often it is asked. workers: names of those
    that serve it. running: how many of its instances run.
    """

    name: str
    status: str = ""
    reason: str = ""
    category: t.Optional[str] = None
    replicas: t.Optional[int] = None
    running: int = 0
    workers: t.Tuple[str, ...] = ()
    requests: int = 1
    min_tokens_per_second: float = 0.0
    max_first_token_seconds: t.Optional[float] = None


def candidates(request: ProofRequest, models: t.Sequence[Model], instances: t.Sequence[Instance], check_mode: bool) -> t.List[Candidate]:
    """All models that are named or, if so asked, on the server; those with an entry first, in their order."""
    by_name = {model.name: model for model in models if model.name is not None}
    names = list(request.entries)
    if request.all_models:
        names += sorted(name for name in by_name if name not in request.entries)
    return [_candidate(request, request.entries.get(name) or Entry(name), by_name.get(name), instances, check_mode) for name in names]


def body_of(candidate: Candidate, prompt: str, max_tokens: int) -> t.Dict[str, t.Any]:
    """What a candidate is sent."""
    if candidate.category == EMBEDDING:
        return {"model": candidate.name, "input": prompt, "encoding_format": "float"}
    if candidate.category == RERANKER:
        # Its documents come back with it, or GPUStack cannot count what it used (ModelUsageMiddleware).
        return {"model": candidate.name, "query": prompt, "documents": list(DOCUMENTS), "top_n": len(DOCUMENTS)}
    return {
        "model": candidate.name,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _candidate(
    request: ProofRequest, entry: Entry, model: t.Optional[Model], instances: t.Sequence[Instance], check_mode: bool
) -> Candidate:
    if model is None:
        if not entry.probe:
            return Candidate(entry.name, SKIPPED, "probe is false")
        return Candidate(entry.name, MISSING, "the server has no model of this name")
    own = [instance for instance in instances if instance.model_id == model.id]
    running = [instance for instance in own if instance.state == RUNNING]
    category = entry.category or _category(model.categories)
    least = request.min_tokens_per_second if entry.min_tokens_per_second is None else entry.min_tokens_per_second
    candidate = Candidate(
        name=entry.name,
        category=category,
        replicas=model.replicas,
        running=len(running),
        workers=_workers(running),
        # The server hands requests to the running instances in turn (http_proxy/load_balancer.py), and each of them is to answer.
        requests=max(request.requests, len(running)),
        min_tokens_per_second=least,
        max_first_token_seconds=entry.max_first_token_seconds,
    )
    status, reason = _why_not(entry, category, model, own, check_mode)
    return dataclasses.replace(candidate, status=status, reason=reason)


def _why_not(entry: Entry, category: t.Optional[str], model: Model, instances: t.Sequence[Instance], check_mode: bool) -> t.Tuple[str, str]:
    if not entry.probe:
        return SKIPPED, "probe is false"
    if model.replicas == 0:
        return SKIPPED, "replicas is 0"
    if not any(instance.state == RUNNING for instance in instances):
        return NOT_RUNNING, f"{_states(instances)}, {model.replicas or 'some'} wanted"
    if category is None:
        return SKIPPED, "the server does not say of what category it is; give its category in models"
    if category not in ROUTES:
        return SKIPPED, f"no proof is known for the category {category}"
    if check_mode:
        return SKIPPED, "nothing is sent in check mode"
    return "", ""


def _category(categories: t.Sequence[str]) -> t.Optional[str]:
    """That by which a model is asked: the first one that can be, else the first one."""
    known = [category for category in categories if category != "unknown"]
    return next((category for category in known if category in ROUTES), known[0] if known else None)


def _workers(instances: t.Sequence[Instance]) -> t.Tuple[str, ...]:
    names: t.List[t.Optional[str]] = []
    for instance in instances:
        names += [instance.worker_name, *(part.worker_name for part in instance.subordinates)]
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _states(instances: t.Sequence[Instance]) -> str:
    if not instances:
        return "it has no instance"
    told = "; ".join(f"{instance.name} is {instance.state or 'in no known state'}{_message(instance)}" for instance in instances)
    return f"no instance of it runs: {told}"


def _message(instance: Instance) -> str:
    return f" ({' '.join(instance.state_message.split())[:200]})" if instance.state_message else ""
