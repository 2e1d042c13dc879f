# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A line of a stream of server-sent events, as OpenAI's chat completions have it."""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.json_fields import Fields
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_answers import parse_refusal

# "reasoning" is vLLM's newer name.
_TEXTS = ("content",)
_THOUGHTS = ("reasoning_content", "reasoning")


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What a line says. text: of the answer. thought: what a reasoning model writes before. finished: the model says that it has
    ended. done: the stream says so. error: what went wrong, in the words of the engine."""

    text: str = ""
    thought: str = ""
    finished: bool = False
    done: bool = False
    error: t.Optional[str] = None
    usage_tokens: t.Optional[int] = None
    timings_tokens: t.Optional[int] = None
    engine_tokens_per_second: t.Optional[float] = None


def parse_line(line: bytes) -> t.Optional[Chunk]:
    """What a line of a stream says; None where nothing. Never raises.

    Errors come as data, as an event of llama.cpp's named error, and from GPUStack without a name (routes/openai.py,
    handle_streaming_request).
    """
    words = line.decode(errors="replace").strip()
    name, _colon, value = words.partition(":")
    value = value.strip()
    if words.startswith("{"):
        return _error(words, only_errors=True)
    if name == "error":
        return _error(value)
    if name != "data":
        return None
    if value == "[DONE]":
        return Chunk(done=True)
    try:
        data = json.loads(value)
    except (ValueError, RecursionError):
        return Chunk(error="the stream holds data that is no JSON")
    if not isinstance(data, dict):
        return None
    return _error(value) if data.get("error") else _chunk(Fields(data, "", []))


def _error(words: str, only_errors: bool = False) -> t.Optional[Chunk]:
    refusal = parse_refusal(words)
    if refusal is None and only_errors:
        return None
    return Chunk(error=refusal.message if refusal is not None else "of no known shape")


def _chunk(data: Fields) -> Chunk:
    choices = data.sections("choices") or []
    usage, timings = data.section("usage"), data.section("timings")
    return Chunk(
        text=_said(choices, _TEXTS),
        thought=_said(choices, _THOUGHTS),
        finished=any(choice.text("finish_reason") for choice in choices),
        usage_tokens=usage.whole("completion_tokens"),
        timings_tokens=timings.whole("predicted_n"),
        engine_tokens_per_second=timings.number("predicted_per_second") or usage.number("tokens_per_second"),
    )


def _said(choices: t.Sequence[Fields], keys: t.Sequence[str]) -> str:
    return "".join(choice.section("delta").text(key) or "" for choice in choices for key in keys)
