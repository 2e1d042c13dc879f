# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_whole import embedding_problem, rerank_problem


def embedding(vector: t.Any) -> t.Optional[str]:
    return embedding_problem(json.dumps({"object": "list", "data": [{"index": 0, "embedding": vector}]}).encode())


@pytest.mark.parametrize("vector", [[0.5], [0, -1], [0.0, 1e-30], [1] * 4096])
def test_a_vector(vector):
    assert embedding(vector) == ""


@pytest.mark.parametrize(
    ("vector", "problem"),
    [
        ([], "the vector is empty"),
        (None, "the vector is empty"),
        ("AAAA", "the vector is empty"),
        ([None], "the vector holds what is no finite number"),
        ([0.5, float("nan")], "the vector holds what is no finite number"),
        ([float("inf")], "the vector holds what is no finite number"),
        ([True], "the vector holds what is no finite number"),
        (["1"], "the vector holds what is no finite number"),
        ([0, 0.0], "the vector holds only zeros"),
    ],
)
def test_a_vector_that_is_none(vector, problem):
    assert embedding(vector) == problem


def test_a_number_that_no_float_holds():
    assert embedding([10**400]) == ""


@pytest.mark.parametrize(("answer", "problem"), [(b'{"data":[]}', "the answer holds no vector"), (b'{"data":[5]}', "the vector is empty")])
def test_no_vector(answer, problem):
    assert embedding_problem(answer) == problem


STRANGE = [b"", b"null", b"[]", b"{}", b'{"data":{},"results":5}', b"<html>", b'{"data":', b"[" * 100_000]


@pytest.mark.parametrize("answer", STRANGE)
def test_what_is_no_answer_at_all(answer):
    assert embedding_problem(answer) is None
    assert rerank_problem(answer, 0) is None


def rerank(*results: t.Any) -> t.Optional[str]:
    return rerank_problem(json.dumps({"results": results}).encode(), 2)


def result(index: t.Any, score: t.Any = -7.5) -> dict[str, t.Any]:
    return {"index": index, "relevance_score": score}


def test_results_in_any_order():
    assert rerank(result(0), result(1)) == ""
    assert rerank(result(1, 0), result(0)) == ""


@pytest.mark.parametrize(
    "results",
    [
        [],
        [result(0)],
        [result(0), result(0)],
        [result(0), result(2)],
        [result(0), result("1")],
        [result(0), result(True)],
        [result(0), result(-1)],
        [result(0), 5],
        [{}, result(0)],
    ],
)
def test_results_that_are_missing(results):
    assert rerank(*results) == "the answer does not hold one result for each of 2 documents"


@pytest.mark.parametrize("score", [None, float("nan"), "1", True])
def test_a_relevance_that_is_none(score):
    assert rerank(result(0), result(1, score)) == "the answer holds a relevance that is no finite number"
