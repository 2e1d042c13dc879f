# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.
"""An answer that is read while it comes, by a thread of its own, so that whoever waits for it can stop at any moment.

The limits of sockets do not do for that: they know nothing of a name that is not resolved, of a head that comes byte by byte,
or of bytes that hold no token.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.transport import Answer, Clock, Transport, UnansweredError


@dataclasses.dataclass(frozen=True)
class Head:
    """The answer has begun. answer: without its body."""

    at: float
    answer: Answer


@dataclasses.dataclass(frozen=True)
class Piece:
    """More of its body."""

    at: float
    data: bytes


@dataclasses.dataclass(frozen=True)
class End:
    """No more will come. error: why, where it is not whole."""

    at: float
    error: t.Union[UnansweredError, GpustackError, None] = None


News = t.Union[Head, Piece, End]


class Stream:
    """An answer on its way. begin: when it was asked for, by the clock, as everything here."""

    def __init__(self, transport: Transport, clock: Clock, path: str, body: t.Any, silence_seconds: float) -> None:
        self._clock = clock
        self.begin = clock.monotonic()
        self._news: queue.Queue[News] = queue.Queue()
        self._unwanted = threading.Event()
        # What still waits when the module ends is not waited for.
        threading.Thread(target=self._read, args=(transport, path, body, silence_seconds), daemon=True).start()

    def wait(self, until: float) -> t.Optional[News]:
        """What came next; None where nothing did until then, by the clock."""
        try:
            return self._news.get(timeout=max(0.0, until - self._clock.monotonic()))
        except queue.Empty:
            return None

    def close(self) -> None:
        """No more is wanted. The connection ends with the next piece, or with the silence that it bears."""
        self._unwanted.set()

    def _read(self, transport: Transport, path: str, body: t.Any, silence_seconds: float) -> None:
        # Also where reading ends as nobody foresaw.
        error: t.Union[UnansweredError, GpustackError, None] = UnansweredError("reading it failed")
        try:
            transport.follow(path, body, silence_seconds, self._told)
            error = None
        except (UnansweredError, GpustackError) as exc:
            error = exc
        finally:
            self._news.put(End(self._clock.monotonic(), error))

    def _told(self, what: t.Union[Answer, bytes]) -> bool:
        at = self._clock.monotonic()
        self._news.put(Head(at, what) if isinstance(what, Answer) else Piece(at, what))
        return not self._unwanted.is_set()
