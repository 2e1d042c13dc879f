# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_chunk import Chunk, parse_line


def line(data: t.Any) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode()


def choice(finish_reason: t.Any = None, **delta: t.Any) -> dict[str, t.Any]:
    return {"choices": [{"index": 0, "finish_reason": finish_reason, "delta": delta}]}


@pytest.mark.parametrize(
    ("words", "chunk"),
    [
        (line(choice(content="Zwölf")), Chunk(text="Zwölf")),
        (line(choice(content=" ")) + b"\r", Chunk(text=" ")),
        (b"data:" + json.dumps(choice(content="x")).encode(), Chunk(text="x")),
        (line(choice(reasoning_content="hm")), Chunk(thought="hm")),
        (line(choice(reasoning="hm")), Chunk(thought="hm")),
        (line(choice(role="assistant", content=None)), Chunk()),
        (line(choice(content=5)), Chunk()),
        (line(choice("stop")), Chunk(finished=True)),
        (line(choice("length", content="x")), Chunk(text="x", finished=True)),
        (line({"choices": [*choice(content="a")["choices"], *choice(content="b")["choices"]]}), Chunk(text="ab")),
        (line({"choices": ["x", {"delta": None}, {}]}), Chunk()),
        (line({"choices": None}), Chunk()),
        (line({}), Chunk()),
        (line({"usage": {"completion_tokens": 5}}), Chunk(usage_tokens=5)),
        (line({"usage": {"completion_tokens": 5, "tokens_per_second": 2.5}}), Chunk(usage_tokens=5, engine_tokens_per_second=2.5)),
        (
            line({"usage": None, "timings": {"predicted_n": 6, "predicted_per_second": 9.5}}),
            Chunk(timings_tokens=6, engine_tokens_per_second=9.5),
        ),
        (line({"usage": {"tokens_per_second": 2.5}, "timings": {"predicted_per_second": 9.5}}), Chunk(engine_tokens_per_second=9.5)),
        (b"data: [DONE]", Chunk(done=True)),
    ],
)
def test_what_a_line_says(words, chunk):
    assert parse_line(words) == chunk


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"\r",
        b": keep-alive",
        b"event: message",
        b"id: 5",
        b"retry: 100",
        b"nonsense",
        b"<html>",
        b"{}",
        b'{"choices":[]}',
        b"{",
        b"data: []",
        b"data: null",
        b'data: "error"',
        b"\xff\xfe",
    ],
)
def test_what_says_nothing(words):
    assert parse_line(words) is None


ERROR = '{"error":{"code":500,"message":"out of\\n memory","type":"server_error"}}'


@pytest.mark.parametrize("words", [f"data: {ERROR}", f"error: {ERROR}", f"error:{ERROR}", ERROR, f" {ERROR} "])
def test_an_error(words):
    assert parse_line(words.encode()) == Chunk(error="out of memory")


@pytest.mark.parametrize("words", ['data: {"error": "no"}', 'data: {"error": 5}', "error: no", "error:"])
def test_an_error_of_no_known_shape(words):
    assert parse_line(words.encode()) == Chunk(error="of no known shape")


@pytest.mark.parametrize("nothing", ["null", "{}", '""'])
def test_an_error_that_is_none(nothing):
    assert parse_line(f'data: {{"error": {nothing}, "choices": []}}'.encode()) == Chunk()


@pytest.mark.parametrize("words", [b"data: {", b"data: nonsense", b"data:", b"data: " + b"[" * 100_000])
def test_data_that_is_no_json(words):
    assert parse_line(words) == Chunk(error="the stream holds data that is no JSON")
