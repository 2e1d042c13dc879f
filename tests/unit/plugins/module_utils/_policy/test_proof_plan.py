# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_plan import (
    DOCUMENTS,
    ROUTES,
    Candidate,
    body_of,
    candidates,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_request import Entry, ProofRequest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance, Subordinate
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model

MODEL = Model(id=7, name="m", replicas=1, categories=("llm",))
RUNNING = Instance(name="m-a", model_id=7, state="running", worker_name="mac-1")


def plan(*models: Model, instances: t.Sequence[Instance] = (RUNNING,), check_mode: bool = False, **request: t.Any) -> list[Candidate]:
    return candidates(ProofRequest(**request), models, instances, check_mode)


def one(model: Model = MODEL, instances: t.Sequence[Instance] = (RUNNING,), **options: t.Any) -> Candidate:
    (candidate,) = plan(model, instances=instances, **options)
    return candidate


def of_categories(*categories: str) -> Candidate:
    return one(Model(id=7, name="m", replicas=1, categories=categories))


def test_a_model_that_runs():
    assert one() == Candidate("m", "", "", "llm", 1, 1, ("mac-1",), 1, 0.0, None)


def test_limits_for_all_and_for_one():
    assert one(min_tokens_per_second=2.0).min_tokens_per_second == 2.0
    entry = Entry("m", min_tokens_per_second=0.0, max_first_token_seconds=3.0)
    candidate = one(min_tokens_per_second=2.0, entries={"m": entry})
    assert (candidate.min_tokens_per_second, candidate.max_first_token_seconds) == (0.0, 3.0)


def test_each_running_instance_has_its_turn():
    other = Instance(name="m-b", model_id=7, state="running", worker_name="mac-2")
    stopped = Instance(name="m-c", model_id=7, state="error", worker_name="mac-3")
    foreign = Instance(name="x", model_id=8, state="running", worker_name="mac-4")
    candidate = one(instances=(RUNNING, other, stopped, foreign))
    assert (candidate.running, candidate.requests, candidate.workers) == (2, 2, ("mac-1", "mac-2"))
    assert one(instances=(RUNNING, other), requests=5).requests == 5


def test_all_workers_of_an_instance_each_once():
    parts = tuple(Subordinate(worker_name=name) for name in ("mac-2", "mac-2", None, "mac-1"))
    instance = Instance(name="m-a", model_id=7, state="running", worker_name="mac-1", subordinates=parts)
    assert one(instances=(instance,)).workers == ("mac-1", "mac-2")


def test_those_that_are_named_come_first():
    models = [Model(id=number, name=name, replicas=0) for number, name in enumerate("dbca")]
    entries = {"c": Entry("c"), "x": Entry("x")}
    assert [candidate.name for candidate in plan(*models, Model(id=9), entries=entries)] == ["c", "x", "a", "b", "d"]
    assert [candidate.name for candidate in plan(*models, entries=entries, all_models=False)] == ["c", "x"]


def test_a_model_that_is_not_there():
    (missing,) = plan(entries={"x": Entry("x")})
    assert missing == Candidate("x", "missing", "the server has no model of this name")
    (left,) = plan(entries={"x": Entry("x", probe=False)})
    assert left == Candidate("x", "skipped", "probe is false")


def test_a_model_that_is_not_to_be_asked():
    candidate = one(entries={"m": Entry("m", probe=False)})
    assert (candidate.status, candidate.reason, candidate.workers) == ("skipped", "probe is false", ("mac-1",))


def test_a_model_without_replicas():
    candidate = one(Model(id=7, name="m", replicas=0, categories=("llm",)), instances=())
    assert (candidate.status, candidate.reason) == ("skipped", "replicas is 0")


@pytest.mark.parametrize(
    ("instances", "reason"),
    [
        ((), "it has no instance, 1 wanted"),
        ((Instance(name="m-a", model_id=7, state="starting"),), "no instance of it runs: m-a is starting, 1 wanted"),
        (
            (Instance(name="m-a", model_id=7, state="error", state_message="exit\n code 1"), Instance(name="m-b", model_id=7)),
            "no instance of it runs: m-a is error (exit code 1); m-b is in no known state, 1 wanted",
        ),
        (
            (Instance(name="m-a", model_id=7, state="error", state_message="x" * 300),),
            f"no instance of it runs: m-a is error ({'x' * 200}), 1 wanted",
        ),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_a_model_that_does_not_run(instances, reason, check_mode):
    candidate = one(instances=instances, check_mode=check_mode)
    assert (candidate.status, candidate.reason, candidate.running, candidate.requests) == ("not_running", reason, 0, 1)


def test_a_model_of_which_nobody_knows_how_many_are_wanted():
    assert one(Model(id=7, name="m"), instances=()).reason == "it has no instance, some wanted"


@pytest.mark.parametrize(
    ("categories", "asked_as"),
    [
        (("llm",), "llm"),
        (("embedding",), "embedding"),
        (("reranker",), "reranker"),
        (("image", "llm"), "llm"),
        (("unknown", "reranker"), "reranker"),
    ],
)
def test_what_a_model_is_asked_as(categories, asked_as):
    candidate = of_categories(*categories)
    assert (candidate.status, candidate.category) == ("", asked_as)
    assert ROUTES[str(candidate.category)].startswith("/v1")


@pytest.mark.parametrize("category", ["image", "speech_to_text", "text_to_speech", "new"])
def test_what_nobody_can_ask(category):
    candidate = of_categories(category)
    assert (candidate.status, candidate.category, candidate.reason) == (
        "skipped",
        category,
        f"no proof is known for the category {category}",
    )


@pytest.mark.parametrize("categories", [(), ("unknown",)])
def test_a_category_that_is_not_known(categories):
    model = Model(id=7, name="m", replicas=1, categories=categories)
    candidate = one(model)
    reason = "the server does not say of what category it is; give its category in models"
    assert (candidate.status, candidate.category, candidate.reason) == ("skipped", None, reason)
    told = one(model, entries={"m": Entry("m", "embedding")})
    assert (told.status, told.category) == ("", "embedding")


def test_check_mode_sends_nothing():
    candidate = one(check_mode=True)
    assert (candidate.status, candidate.reason) == ("skipped", "nothing is sent in check mode")


def test_routes_are_those_of_gpustack():
    # gpustack/routes/routes.py and openai.py, the same in 0.6.0, 0.6.2 and 0.7.1.
    assert ROUTES == {"llm": "/v1-openai/chat/completions", "embedding": "/v1-openai/embeddings", "reranker": "/v1/rerank"}


@pytest.mark.parametrize(
    ("category", "body"),
    [
        ("embedding", {"model": "m", "input": "Hello", "encoding_format": "float"}),
        ("reranker", {"model": "m", "query": "Hello", "documents": list(DOCUMENTS), "top_n": 3}),
        (
            "llm",
            {
                "model": "m",
                "messages": [{"role": "user", "content": "Hello"}],
                "max_tokens": 5,
                "stream": True,
                "stream_options": {"include_usage": True},
            },
        ),
    ],
)
def test_what_is_sent(category, body):
    assert body_of(Candidate("m", category=category), "Hello", 5) == body
