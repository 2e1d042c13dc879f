# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import math
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import proof_request
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_request import Entry, Limits, ProofRequest, read_request

DEFAULTS = {name: option.get("default") for name, option in proof_request.OPTIONS.items()}


def read(**options: t.Any) -> ProofRequest:
    return read_request({**DEFAULTS, **options})


def refused(**options: t.Any) -> str:
    with pytest.raises(BadInputError) as caught:
        read(**options)
    return str(caught.value)


def test_what_holds_where_nothing_is_said():
    request = read()
    assert request == ProofRequest({}, True, "Count from one to one hundred in words.", 64, 1, 1, Limits(60.0, 10.0, 60.0), 1.0)


def test_every_option():
    request = read(
        models=["a"],
        prompt="Hello",
        max_tokens=5,
        requests=3,
        concurrency=2,
        first_token_timeout_seconds=1.5,
        stall_timeout_seconds=2.5,
        read_seconds=3.5,
        min_tokens_per_second=4.5,
    )
    assert request == ProofRequest({"a": Entry("a")}, False, "Hello", 5, 3, 2, Limits(1.5, 2.5, 3.5), 4.5)


@pytest.mark.parametrize(
    ("models", "given", "means"),
    [([], None, True), (["a"], None, False), ([], False, False), (["a"], True, True)],
)
def test_all_models(models, given, means):
    assert read(models=models, all_models=given).all_models is means


def test_what_is_said_of_a_model():
    models = [
        {"name": "a", "category": "embedding", "probe": False, "min_tokens_per_second": 2, "max_first_token_seconds": "0.5"},
        {"name": "b"},
        "c d",
    ]
    assert read(models=models).entries == {"a": Entry("a", "embedding", False, 2.0, 0.5), "b": Entry("b"), "c d": Entry("c d")}


@pytest.mark.parametrize(
    ("said", "means"),
    [(None, True), (True, True), (False, False), ("yes", True), ("True", True), ("no", False), ("false", False)],
)
def test_probe_as_templates_make_it(said, means):
    assert read(models=[{"name": "a", "probe": said}]).entries["a"].probe is means


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (5, "models[1] is a number; write the name of a model, or an object with `name`"),
        (None, "models[1] is null; write the name of a model, or an object with `name`"),
        ({"name": "a", "tps": 1, 3: 4}, "models[1]: 3, tps is not known; there are name, category, probe, "),
        ({}, "models[1]: name is missing; write the name that the model has on the server"),
        ({"name": 5}, "models[1]: name is missing"),
        (" ", "models[1]: name is missing"),
        ({"name": "a", "category": "unknown"}, "models[1]: category 'unknown' is not known; there are llm, embedding, reranker, image, "),
        ({"name": "a", "probe": "perhaps"}, "models[1]: probe is neither true nor false; write one of them"),
        ({"name": "a", "probe": 1}, "models[1]: probe is neither true nor false"),
        (
            {"name": "a", "min_tokens_per_second": "fast"},
            "models[1]: min_tokens_per_second: 'fast' is no number from 0 on; write one, such as 5",
        ),
        ({"name": "a", "max_first_token_seconds": -1}, "models[1]: max_first_token_seconds: -1 is no number from 0 on"),
        ({"name": "a", "max_first_token_seconds": True}, "models[1]: max_first_token_seconds: True is no number"),
        ({"name": "a", "max_first_token_seconds": []}, "models[1]: max_first_token_seconds: [] is no number"),
        ("first", "models: first is listed 2 times; keep one of them"),
    ],
)
def test_what_cannot_be_said_of_a_model(entry, words):
    assert refused(models=["first", entry]).startswith(words)


@pytest.mark.parametrize(("option", "least", "most"), [("max_tokens", 1, 100_000), ("requests", 1, 1000), ("concurrency", 1, 32)])
def test_the_least_and_the_most(option, least, most):
    for number in (least, most):
        assert getattr(read(**{option: number}), option) == number
    for number in (least - 1, most + 1):
        assert refused(**{option: number}) == f"{option}: {number} is not within {least} and {most}; choose a number that is"


@pytest.mark.parametrize("option", ["first_token_timeout_seconds", "stall_timeout_seconds", "read_seconds"])
def test_limits_of_time(option):
    for seconds in (0.001, 3600.0):
        assert seconds in vars(read(**{option: seconds}).limits).values()
    for seconds in (0.0, -1.0, 3600.5, math.inf, math.nan):
        words = f"{option}: {seconds:g} is not above 0 and at most 3600 seconds; choose a number that is"
        assert refused(**{option: seconds}) == words


@pytest.mark.parametrize("number", [-0.5, math.nan, math.inf])
def test_a_limit_that_is_none(number):
    words = f"min_tokens_per_second: {number} is no number from 0 on; write one, such as 5"
    assert refused(min_tokens_per_second=number) == words


def test_no_limit():
    assert read(min_tokens_per_second=0.0).min_tokens_per_second == 0


def test_nothing_to_ask():
    assert refused(prompt=" \n") == "prompt: it is empty; write what the models are asked"
