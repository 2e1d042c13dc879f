# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""One answer of a model, listened to while it comes: what was heard, until when to wait, and what it amounts to.

All times are seconds since the question was sent, by our own clock: an engine that crawls may say of itself what it likes.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_chunk import Chunk, parse_line
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_request import EMBEDDING, RERANKER, Limits
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_whole import embedding_problem, rerank_problem

ANSWERED = "answered"
SILENT = "silent"
REFUSED = "refused"

# Of what is no answer, enough to say what it is.
_MOST_KEPT = 64 * 1024
# No line of a stream is as long.
_LONGEST_LINE = 1024 * 1024
_EXCERPT_CHARACTERS = 100
# Tokens that all come within that time were collected on their way, if they are many.
_BURST_SECONDS = 0.05
_MANY_TOKENS = 8


@dataclasses.dataclass(frozen=True)
class Run:
    """What one question came to. Unknown is None.

    tokens: by token_source, which is usage, timings or chunks. tokens_per_second: from the first token to the last.
    engine_tokens_per_second: what the engine says of itself. strange: what came is not what GPUStack answers.
    """

    status: str
    reason: str
    seconds: float
    first_token_seconds: t.Optional[float] = None
    tokens: t.Optional[int] = None
    token_source: t.Optional[str] = None
    tokens_per_second: t.Optional[float] = None
    engine_tokens_per_second: t.Optional[float] = None
    excerpt: str = ""
    strange: bool = False


class Listener(t.Protocol):
    """Listens to one answer."""

    @property
    def deadline(self) -> float:
        """When to stop waiting for more."""

    @property
    def enough(self) -> bool:
        """Nothing that is still to come matters."""

    @property
    def heard(self) -> bytes:
        """The beginning of what came."""

    def feed(self, seconds: float, data: bytes) -> None:
        """A piece came."""

    def gave_up(self, seconds: float) -> Run:
        """The deadline has passed."""

    def ended(self, seconds: float, broken: str) -> Run:
        """No more will come. broken: why not; empty where that is as it should be."""


def listener(category: str, limits: Limits, documents: int) -> Listener:
    """The one for a category."""
    if category == EMBEDDING:
        return WholeAnswer(limits, embedding_problem)
    if category == RERANKER:
        return WholeAnswer(limits, lambda data: rerank_problem(data, documents))
    return Stream(limits)


@dataclasses.dataclass
class Stream:
    """An answer of /chat/completions as server-sent events.

    GPUStack 0.6 and 0.7 lose what the engine says when it breaks off in the middle (api/middlewares.py, process_chunk drops what
    does not end in an empty line), so that only the missing end tells of it.
    """

    limits: Limits
    heard: bytes = b""
    _rest: bytes = b""
    _first: t.Optional[float] = None
    _last: float = 0.0
    _chunks: int = 0
    _visible: bool = False
    _text: str = ""
    _thought: str = ""
    _understood: bool = False
    _finished: bool = False
    _done: bool = False
    _error: t.Optional[str] = None
    # What the engine counts, as far as it has said it.
    _latest: Chunk = dataclasses.field(default_factory=Chunk)

    @property
    def deadline(self) -> float:
        if self._first is None:
            return self.limits.first_token_seconds
        return min(self._last + self.limits.stall_seconds, self._first + self.limits.read_seconds)

    @property
    def enough(self) -> bool:
        return self._done or self._error is not None

    def feed(self, seconds: float, data: bytes) -> None:
        self.heard = (self.heard + data)[:_MOST_KEPT]
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:_LONGEST_LINE]
        for line in lines:
            self._take(seconds, line)

    def gave_up(self, seconds: float) -> Run:
        limits = self.limits
        if self._first is None:
            return self._run(SILENT, f"no token came within {limits.first_token_seconds:g} seconds", seconds)
        if self._finished:
            return self._answer(seconds)
        if self._first + limits.read_seconds <= self._last + limits.stall_seconds:
            return self._answer(seconds, f"stopped reading after {limits.read_seconds:g} seconds")
        return self._run(SILENT, f"it fell silent {self._where()}: no other came within {limits.stall_seconds:g} seconds", seconds)

    def ended(self, seconds: float, broken: str) -> Run:
        self._take(seconds, self._rest)
        if self._error is not None:
            return self._run(REFUSED, f"an error instead of {'the rest' if self._chunks else 'an answer'}: {self._error}", seconds)
        if not (self._finished or self._done):
            if not broken and not self._understood:
                return self._run(SILENT, "the answer is empty", seconds, strange=bool(self.heard.strip()))
            return self._run(SILENT, f"the answer was cut {self._where()}{broken and f' ({broken})'}", seconds)
        return self._answer(seconds)

    def _take(self, seconds: float, line: bytes) -> None:
        chunk = parse_line(line)
        if chunk is None or self.enough:
            return
        self._understood = True
        self._done = chunk.done
        self._error = chunk.error
        self._finished = self._finished or chunk.finished
        if chunk.text or chunk.thought:
            self._first = seconds if self._first is None else self._first
            self._last = seconds
            self._chunks += 1
            self._visible = self._visible or bool((chunk.text + chunk.thought).strip())
            self._text = (self._text + chunk.text)[:_EXCERPT_CHARACTERS]
            self._thought = (self._thought + chunk.thought)[:_EXCERPT_CHARACTERS]
        latest = self._latest
        self._latest = dataclasses.replace(
            latest,
            usage_tokens=chunk.usage_tokens or latest.usage_tokens,
            timings_tokens=chunk.timings_tokens or latest.timings_tokens,
            engine_tokens_per_second=chunk.engine_tokens_per_second or latest.engine_tokens_per_second,
        )

    def _answer(self, seconds: float, remark: str = "") -> Run:
        tokens, _source = self._tokens()
        if self._first is None:
            counted = f", though the engine counts {tokens} tokens" if tokens else ""
            return self._run(SILENT, f"the answer is empty{counted}", seconds)
        if not self._visible:
            return self._run(SILENT, f"the answer is nothing but blanks, {tokens} tokens of them", seconds)
        return self._run(ANSWERED, remark, seconds)

    def _run(self, status: str, reason: str, seconds: float, strange: bool = False) -> Run:
        tokens, source = self._tokens()
        return Run(
            status=status,
            reason=reason,
            seconds=seconds,
            first_token_seconds=self._first,
            tokens=tokens,
            token_source=source,
            tokens_per_second=self._rate(tokens),
            engine_tokens_per_second=self._latest.engine_tokens_per_second,
            excerpt=" ".join((self._text.strip() or self._thought).split()),
            strange=strange,
        )

    def _tokens(self) -> t.Tuple[int, t.Optional[str]]:
        if self._latest.usage_tokens:
            return self._latest.usage_tokens, "usage"
        if self._latest.timings_tokens:
            return self._latest.timings_tokens, "timings"
        return self._chunks, "chunks" if self._chunks else None

    def _rate(self, tokens: int) -> t.Optional[float]:
        if self._first is None or tokens < 2:
            return None
        if self._last - self._first > _BURST_SECONDS:
            return (tokens - 1) / (self._last - self._first)
        # Something in between hands on the answer as a whole. All that is known then is that it was not slower than this.
        return tokens / self._last if self._last and tokens >= _MANY_TOKENS else None

    def _where(self) -> str:
        tokens, _source = self._tokens()
        return f"after token {tokens}" if tokens else "before the first token"


class WholeAnswer:
    """An answer that comes at once, as one JSON. problem_of: what is wrong with it, empty where nothing is, None where it is strange."""

    enough = False

    def __init__(self, limits: Limits, problem_of: t.Callable[[bytes], t.Optional[str]]) -> None:
        self._limits = limits
        self._problem_of = problem_of
        self._pieces: t.List[bytes] = []

    @property
    def deadline(self) -> float:
        return self._limits.first_token_seconds

    @property
    def heard(self) -> bytes:
        return b"".join(self._pieces)[:_MOST_KEPT]

    def feed(self, seconds: float, data: bytes) -> None:  # noqa: ARG002  as all listeners
        self._pieces.append(data)

    def gave_up(self, seconds: float) -> Run:
        return Run(SILENT, f"no whole answer came within {self._limits.first_token_seconds:g} seconds", seconds)

    def ended(self, seconds: float, broken: str) -> Run:
        if broken:
            return Run(SILENT, f"the answer was cut ({broken})", seconds)
        problem = self._problem_of(b"".join(self._pieces))
        if problem:
            return Run(SILENT, problem, seconds)
        if problem is None:
            return Run(SILENT, "the answer is empty", seconds, strange=True)
        return Run(ANSWERED, "", seconds, first_token_seconds=seconds)
