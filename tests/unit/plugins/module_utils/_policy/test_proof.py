# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof import failing, result_of, sentence
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_listen import Run
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_plan import Candidate

CANDIDATE = Candidate("m", category="llm", replicas=1, running=1, workers=("mac-1",))


def answered(first: float = 1.0, seconds: float = 9.0, tokens: int = 64, rate: t.Optional[float] = 8.0, **more: t.Any) -> Run:
    return Run("answered", more.pop("reason", ""), seconds, first, tokens, "usage", rate, 9.0, "One two", **more)


SILENT = Run("silent", "no token came within 60 seconds", 60.0, tokens=0)


def result(*runs: Run, **candidate: t.Any) -> dict[str, t.Any]:
    return result_of(Candidate(**{**vars(CANDIDATE), **candidate}), runs, lambda text: text.replace("secret", "***"))


def test_all_of_a_result():
    assert result(answered()) == {
        "name": "m",
        "category": "llm",
        "status": "answered",
        "reason": "",
        "workers": ["mac-1"],
        "replicas": 1,
        "running_instances": 1,
        "requests": 1,
        "first_token_seconds": 1.0,
        "seconds": 9.0,
        "tokens": 64,
        "token_source": "usage",
        "tokens_per_second": 8.0,
        "engine_tokens_per_second": 9.0,
        "answer_excerpt": "One two",
    }


def test_a_model_that_was_not_asked():
    found = result(status="skipped", reason="replicas is 0", running=0)
    assert (found["status"], found["reason"], found["requests"], found["answer_excerpt"]) == ("skipped", "replicas is 0", 0, "")
    numbers = ("first_token_seconds", "seconds", "tokens", "token_source", "tokens_per_second", "engine_tokens_per_second")
    assert [found[number] for number in numbers] == [None] * 6


def test_the_middle_of_several():
    found = result(answered(1.0, 9.0, 10, 3.0), answered(3.0, 8.0, 30, 2.0), answered(2.00006, 7.0, 20, 1.0), answered(9.0, 6.0, 40, None))
    assert (found["first_token_seconds"], found["seconds"], found["tokens"], found["tokens_per_second"]) == (2.5, 7.5, 20, 2.0)
    assert result(answered(1.00006))["first_token_seconds"] == 1.0001


def test_one_that_fails_decides():
    refused = Run("refused", "secret no", 1.0, token_source="chunks", excerpt="a secret")
    found = result(answered(), refused)
    assert (found["status"], found["reason"], found["requests"], found["answer_excerpt"]) == ("refused", "*** no", 2, "a ***")
    assert (found["token_source"], found["seconds"]) == ("chunks", 5.0)
    assert result(answered(), SILENT)["first_token_seconds"] == 1.0
    assert result(SILENT)["first_token_seconds"] is None


@pytest.mark.parametrize(
    ("limits", "status", "reason"),
    [
        ({"min_tokens_per_second": 8.0}, "answered", ""),
        ({"min_tokens_per_second": 8.01}, "too_slow", "8 tokens per second, and at least 8.01 are wanted"),
        ({"max_first_token_seconds": 1.0}, "answered", ""),
        ({"max_first_token_seconds": 0.0}, "too_slow", "1 seconds to the first token, and at most 0 are wanted"),
    ],
)
def test_too_slow(limits, status, reason):
    found = result(answered(), **limits)
    assert (found["status"], found["reason"]) == (status, reason)


def test_the_speed_of_1907():
    assert result(answered(rate=0.0712), min_tokens_per_second=1.0)["reason"] == "0.0712 tokens per second, and at least 1 are wanted"


def test_the_middle_is_judged_and_not_the_worst():
    runs = [answered(rate=1.0), answered(rate=8.0), answered(rate=9.0)]
    assert result(*runs, min_tokens_per_second=8.0)["status"] == "answered"


def test_silence_is_worse_than_slowness():
    assert result(answered(rate=0.5), SILENT, min_tokens_per_second=1.0)["status"] == "silent"


def test_where_nothing_was_measured_nothing_is_too_slow():
    embedding = Run("answered", "", 2.0)
    assert result(embedding, min_tokens_per_second=1.0, max_first_token_seconds=1.0)["status"] == "answered"


def test_what_is_to_be_said_of_an_answer():
    assert result(answered(reason="stopped reading after 30 seconds"))["reason"] == "stopped reading after 30 seconds"
    assert result(answered(), replicas=3)["reason"] == "1 of 3 instances run"
    both = result(answered(reason="stopped"), replicas=3, running=2)["reason"]
    assert both == "stopped; 2 of 3 instances run"
    assert result(answered(), replicas=None)["reason"] == ""


def all_of(*statuses: str) -> list[dict[str, t.Any]]:
    return [{"name": f"m{number}", "status": status, "reason": f"reason {number}"} for number, status in enumerate(statuses)]


def test_those_that_fail():
    statuses = ("answered", "silent", "skipped", "too_slow", "refused", "not_running", "missing")
    assert [one["name"] for one in failing(all_of(*statuses))] == ["m1", "m3", "m4", "m5", "m6"]


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        ((), "0 of 0 models answered"),
        (("answered",), "1 of 1 model answered"),
        (("answered", "skipped", "skipped"), "1 of 3 models answered, 2 skipped"),
        (("silent",), "1 of 1 model does not answer as it should: m0: silent, reason 0"),
        (
            ("too_slow", "answered", "not_running"),
            "2 of 3 models do not answer as they should: m0: too slow, reason 0; m2: not running, reason 2",
        ),
    ],
)
def test_the_sentence(statuses, words):
    assert sentence(all_of(*statuses)) == words
