# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers heard piece by piece, on a clock that the tests turn."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import proof_listen
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_listen import Run, Stream, WholeAnswer, listener
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_request import Limits

LIMITS = Limits(first_token_seconds=60.0, stall_seconds=10.0, read_seconds=30.0)
DONE = b"data: [DONE]\n\n"
FINISH = b'data: {"choices":[{"finish_reason":"stop","delta":{}}]}\n\n'


def say(text: t.Optional[str] = None, **more: t.Any) -> bytes:
    choices = [] if text is None else [{"delta": {"content": text}}]
    return f"data: {json.dumps({'choices': choices, **more})}\n\n".encode()


def think(text: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'delta': {'reasoning_content': text}}]})}\n\n".encode()


def heard(*pieces: tuple[float, bytes]) -> Stream:
    stream = Stream(LIMITS)
    for seconds, data in pieces:
        stream.feed(seconds, data)
    return stream


def test_what_is_heard_of_a_whole_answer():
    stream = heard(
        (1.0, say()),
        (2.0, say("One")),
        (3.0, say(" two") + say(" three")),
        (6.0, say(" four") + FINISH),
        (7.0, say(usage={"completion_tokens": 9}, timings={"predicted_n": 8, "predicted_per_second": 99.5}) + DONE),
    )
    assert stream.enough
    assert stream.ended(7.5, "") == Run("answered", "", 7.5, 2.0, 9, "usage", 2.0, 99.5, "One two three four")


@pytest.mark.parametrize(
    ("more", "tokens", "source", "rate"),
    [
        ({"usage": {"completion_tokens": 5}, "timings": {"predicted_n": 7}}, 5, "usage", 2.0),
        ({"timings": {"predicted_n": 7}}, 7, "timings", 3.0),
        ({"usage": {"completion_tokens": 0}, "timings": {"predicted_n": 0}}, 2, "chunks", 0.5),
        # Found by the fuzzer: Python cannot divide it, and the proof ended with a traceback.
        ({"usage": {"completion_tokens": 10**400}}, 2, "chunks", 0.5),
        ({}, 2, "chunks", 0.5),
    ],
)
def test_who_counts_the_tokens(more, tokens, source, rate):
    run = heard((1.0, say("a")), (3.0, say("b")), (4.0, say(**more) + DONE)).ended(4.0, "")
    assert (run.tokens, run.token_source, run.tokens_per_second) == (tokens, source, rate)


def test_a_later_chunk_does_not_take_back_what_was_counted():
    usage = say(usage={"completion_tokens": 5, "tokens_per_second": 3.5})
    run = heard((1.0, say("a", timings={"predicted_n": 7}) + usage), (3.0, say("b") + DONE)).ended(4.0, "")
    assert (run.tokens, run.engine_tokens_per_second) == (5, 3.5)


def test_a_single_token_has_no_speed():
    run = heard((1.0, say("a") + DONE)).ended(1.0, "")
    assert (run.status, run.tokens, run.tokens_per_second) == ("answered", 1, None)
    # By its usage it has one, whatever came.
    run = heard((1.0, say("a")), (2.0, say("b")), (3.0, say(usage={"completion_tokens": 1}) + DONE)).ended(3.0, "")
    assert run.tokens_per_second is None


def test_an_answer_that_was_collected_on_its_way():
    run = heard((5.0, say("a") + say("b") * 9 + DONE)).ended(5.0, "")
    assert (run.tokens, run.tokens_per_second) == (10, 2.0)


@pytest.mark.parametrize(
    ("tokens", "seconds", "rate"),
    [(8, 4.0, 2.0), (8, 4.05, 8 / 4.05), (8, 4.0625, 112.0), (7, 4.0, None), (7, 4.0625, 96.0), (2, 4.05, None), (2, 4.0625, 16.0)],
)
def test_a_burst_is_no_speed(tokens, seconds, rate):
    run = heard((4.0, say("a")), (seconds, say("b") * (tokens - 1) + DONE)).ended(5.0, "")
    assert (run.tokens, run.tokens_per_second) == (tokens, rate)


def test_until_when_to_wait():
    stream = heard((5.0, b": hello\n\n"))
    assert stream.deadline == 60.0
    stream.feed(6.0, say("a"))
    assert stream.deadline == 16.0
    stream.feed(15.0, b": hello\n\n" + say("") + say())
    assert stream.deadline == 16.0
    stream.feed(15.5, say("b"))
    assert stream.deadline == 25.5
    stream.feed(25.0, say("c"))
    assert stream.deadline == 35.0
    stream.feed(34.0, think("d"))
    assert stream.deadline == 36.0
    assert not stream.enough


def test_nothing_came_in_time():
    assert heard((1.0, say())).gave_up(60.0) == Run("silent", "no token came within 60 seconds", 60.0, tokens=0)


def test_a_stall():
    run = heard((1.0, say("a") + say("b"))).gave_up(11.0)
    assert run == Run("silent", "it fell silent after token 2: no other came within 10 seconds", 11.0, 1.0, 2, "chunks", None, None, "ab")
    # Just before reading would have ended.
    stalled = heard((1.0, say("a")), (20.9, say("b"))).gave_up(31.0)
    assert stalled.reason.startswith("it fell silent")


@pytest.mark.parametrize("last", [21.0, 30.0])
def test_enough_was_read(last):
    run = heard((1.0, say("a")), (last, say("b"))).gave_up(40.0)
    assert (run.status, run.reason, run.seconds) == ("answered", "stopped reading after 30 seconds", 40.0)


def test_nothing_but_blanks_was_read():
    assert heard((1.0, say(" ")), (30.0, say(" "))).gave_up(31.0).status == "silent"


def test_an_end_that_is_only_marked():
    assert heard((1.0, say("a") + FINISH)).gave_up(11.0) == Run("answered", "", 11.0, 1.0, 1, "chunks", None, None, "a")
    assert heard((1.0, say("a") + FINISH)).ended(2.0, "").status == "answered"
    assert not heard((1.0, say("a") + FINISH)).enough


@pytest.mark.parametrize("size", [1, 2, 7])
def test_pieces_may_end_anywhere(size):
    data = say("Zw\u00f6lf") + 'data: {"choices":[{"delta":{"content":"\u706b"}}]}\r\n\r\n'.encode() + DONE
    stream = heard(*((1.0 + at, data[at : at + size]) for at in range(0, len(data), size)))
    assert stream.ended(9.0, "").excerpt == "Zwölf火"


def test_the_last_line_may_have_no_end():
    stream = heard((1.0, say("a") + b"data: [DONE]"))
    assert not stream.enough
    assert stream.ended(2.0, "").status == "answered"
    assert heard((1.0, say("a").strip())).ended(2.0, "").first_token_seconds == 2.0


def test_what_comes_after_the_end_does_not_count():
    assert heard((1.0, say("a") + DONE + say("b") + b"error: {}\n")).ended(2.0, "").tokens == 1


@pytest.mark.parametrize(
    ("pieces", "reason", "strange"),
    [
        ((), "the answer is empty", False),
        (((1.0, b" \n\n"),), "the answer is empty", False),
        (((1.0, DONE),), "the answer is empty", False),
        (((1.0, b"<html>"),), "the answer is empty", True),
        (((1.0, b"one\ntwo\n"),), "the answer is empty", True),
        (((1.0, say("") + DONE),), "the answer is empty", False),
        (((1.0, FINISH + say(usage={"completion_tokens": 3})),), "the answer is empty, though the engine counts 3 tokens", False),
        (((1.0, say(" \n") + say("\t") + DONE),), "the answer is nothing but blanks, 2 tokens of them", False),
        (((1.0, say()),), "the answer was cut before the first token", False),
        (((1.0, say("a")),), "the answer was cut after token 1", False),
    ],
)
def test_an_answer_that_is_none(pieces, reason, strange):
    run = heard(*pieces).ended(2.0, "")
    assert (run.status, run.reason, run.strange, run.seconds) == ("silent", reason, strange, 2.0)


def test_an_answer_that_was_cut_and_why():
    assert heard().ended(2.0, "gone").reason == "the answer was cut before the first token (gone)"
    run = heard((1.0, say("a"))).ended(2.0, "gone")
    assert (run.status, run.reason, run.strange) == ("silent", "the answer was cut after token 1 (gone)", False)
    # The end mark is worth more than what the connection did afterwards.
    assert heard((1.0, say("a") + DONE)).ended(2.0, "gone").status == "answered"


@pytest.mark.parametrize(("before", "instead"), [(b"", "an answer"), (say("a"), "the rest")])
def test_an_error(before, instead):
    stream = heard((1.0, before + b'data: {"error":{"message":"out of memory"}}\n\n' + say("b")))
    assert stream.enough
    run = stream.ended(2.0, "")
    assert (run.status, run.reason) == ("refused", f"an error instead of {instead}: out of memory")
    assert (run.seconds, run.tokens) == (2.0, len(before[:1]))


def test_an_error_at_time_zero():
    assert heard((0.0, say("a") + b"error: {}\n")).ended(1.0, "").reason.startswith("an error instead of the rest")
    assert heard((0.0, say("a") * 9 + DONE)).ended(1.0, "").tokens_per_second is None


def test_thoughts_count_and_are_shown_only_in_place_of_an_answer():
    assert heard((1.0, think("hm")), (2.0, DONE)).ended(2.0, "") == Run("answered", "", 2.0, 1.0, 1, "chunks", None, None, "hm")
    run = heard((1.0, think("hm") + think("so")), (2.0, say(" \n One\n\ntwo ") + DONE)).ended(2.0, "")
    assert (run.tokens, run.excerpt) == (3, "One two")
    assert heard((1.0, think("hm") + say("\n") + DONE)).ended(2.0, "").excerpt == "hm"


def test_an_excerpt_is_short():
    long = heard((1.0, say("x" * 1000) + DONE)).ended(2.0, "")
    assert long.excerpt == "x" * 100
    many = heard((1.0, say("ab") * 1000 + DONE)).ended(2.0, "")
    assert many.excerpt == "ab" * 50
    assert heard((1.0, say("x" * 100) + say("yz") + DONE)).ended(2.0, "").excerpt == "x" * 100
    assert heard((1.0, think("x" * 99) + think("yz") + DONE)).ended(2.0, "").excerpt == "x" * 99 + "y"
    assert heard((1.0, think("x" * 100) + think("yz") + DONE)).ended(2.0, "").excerpt == "x" * 100


def test_the_beginning_is_kept(monkeypatch):
    monkeypatch.setattr(proof_listen, "_MOST_KEPT", 5)
    assert heard((1.0, b"abc"), (2.0, b"defg")).heard == b"abcde"
    answer = WholeAnswer(LIMITS, lambda data: "" if data == b"abcdefg" else "cut")
    answer.feed(1.0, b"abc")
    answer.feed(2.0, b"defg")
    assert (answer.heard, answer.ended(3.0, "").status) == (b"abcde", "answered")


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(proof_listen, "_LONGEST_LINE", 20)
    stream = heard((1.0, b"data: " + b"x" * 100), (2.0, b"x" * 100))
    assert stream._rest == b"data: " + b"x" * 14


def test_an_answer_that_comes_at_once():
    answer = listener("embedding", LIMITS, 3)
    assert (answer.deadline, answer.enough) == (60.0, False)
    answer.feed(1.0, b'{"data":[{"embedding":')
    answer.feed(2.0, b"[1]}]}")
    assert answer.ended(2.5, "") == Run("answered", "", 2.5, 2.5)
    assert answer.gave_up(60.0) == Run("silent", "no whole answer came within 60 seconds", 60.0)
    assert answer.ended(3.0, "gone") == Run("silent", "the answer was cut (gone)", 3.0)


def test_an_answer_at_once_that_is_none():
    answer = listener("embedding", LIMITS, 3)
    assert answer.ended(1.0, "") == Run("silent", "the answer is empty", 1.0, strange=True)
    answer.feed(1.0, b'{"data":[]}')
    assert answer.ended(1.0, "") == Run("silent", "the answer holds no vector", 1.0)


def test_who_listens_to_what():
    assert isinstance(listener("llm", LIMITS, 3), Stream)
    reranker = listener("reranker", LIMITS, 1)
    assert reranker.deadline == 60.0
    reranker.feed(1.0, b'{"results":[{"index":0,"relevance_score":1}]}')
    assert reranker.ended(1.0, "").status == "answered"
    assert listener("llm", LIMITS, 3).deadline == 60.0
