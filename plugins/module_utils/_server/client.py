# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""GPUStack's REST API, of 0.6 and 0.7: JSON in, JSON out, and one sentence for whatever goes wrong."""

from __future__ import annotations

import dataclasses
import json
import typing as t
import urllib.parse

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import versions
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_answers import Redactor, parse_refusal, secrets_in
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_pages import (
    MOST_ITEMS,
    PAGE_SIZES,
    Item,
    Reading,
    parse_page,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import errors, sentences
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.connection import Connection
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.streaming import Stream
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.transport import Answer, Clock, Transport, UnansweredError

Query = t.Mapping[str, t.Union[str, int]]

_LONGEST_PAUSE_SECONDS = 30.0
# What a log of minutes ago has at its beginning is there at once.
_LONGEST_LISTENING_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class ServerVersion:
    """The server's GPUStack. text: as 0.6.2. warning: what a person should know of it, empty where nothing."""

    text: str
    warning: str = ""


class Client:
    """Talks to one server. Paths begin with a slash, as /v1/models.

    All raise a ServerError. What only reads is tried again where that may help; what writes is sent once.
    """

    def __init__(self, connection: Connection, clock: t.Optional[Clock] = None) -> None:
        self._connection = connection
        self._clock = clock or Clock()
        self._transport = Transport(connection, self._clock)
        self.server_url = connection.server_url

    def get(self, path: str, query: t.Optional[Query] = None, timeout_seconds: t.Optional[float] = None) -> t.Any:
        """Read one thing."""
        return self._ask("GET", f"{path}?{urllib.parse.urlencode(query)}" if query else path, None, timeout_seconds)

    def beginning(self, path: str, query: Query, most_bytes: int, enough: t.Callable[[str], bool]) -> str:
        """The beginning of a text that may be long, or never end, such as a log. Not tried again."""
        where = f"{path}?{urllib.parse.urlencode(query)}"
        timeout_seconds = min(self._connection.timeout_seconds, _LONGEST_LISTENING_SECONDS)
        try:
            answer = self._transport.beginning(where, timeout_seconds, most_bytes, enough)
        except UnansweredError as exc:
            raise sentences.silent(sentences.Asked(self._connection, "GET", path, "", Redactor()), exc) from exc
        text = answer.body.decode("utf-8", "replace")
        if 200 <= answer.status < 300:
            return text
        raise self._problem("GET", path, None, answer, "")

    def list(self, path: str, query: t.Optional[Query] = None) -> t.List[Item]:
        """Read all items of a list, page by page.

        Do not give `search`: the server counts otherwise than it finds (mixins/active_record.py, paginated_by_query), so that
        no list with it need ever be whole.
        """
        reading = Reading()
        for size in PAGE_SIZES:
            reading.begin()
            self._read_pages(reading, path, query, size)
            if reading.whole is not None:
                return reading.whole
        raise errors.StrangeAnswerError(
            f"{self.server_url}: {path} could not be read whole in {len(PAGE_SIZES)} attempts, because it changes all the time "
            "or its pages do not fit its total; run again when there is less going on"
        )

    def post(self, path: str, body: t.Any, timeout_seconds: t.Optional[float] = None) -> t.Any:
        """Create something, or ask for something that takes a body."""
        return self._ask("POST", path, body, timeout_seconds)

    def put(self, path: str, body: t.Any, timeout_seconds: t.Optional[float] = None) -> t.Any:
        """Change something."""
        return self._ask("PUT", path, body, timeout_seconds)

    def delete(self, path: str, timeout_seconds: t.Optional[float] = None) -> t.Any:
        """Take something away."""
        return self._ask("DELETE", path, None, timeout_seconds)

    def stream(self, path: str, body: t.Any, silence_seconds: float) -> Stream:
        """Ask for something that takes a body and whose answer comes bit by bit. Not tried again, and what goes wrong is told there."""
        return Stream(self._transport, self._clock, path, body, silence_seconds)

    def refusal(self, path: str, body: t.Any, answer: Answer) -> errors.ServerError:
        """What is wrong with an answer that a stream brought."""
        return self._problem("POST", path, body, answer, "")

    def clean(self, text: str) -> str:
        """A text that others wrote, without secrets."""
        return Redactor(self._connection.secrets()).clean(text)

    def check_version(self) -> ServerVersion:
        """The version of the server, which it tells to everybody. Raises UnsupportedServerError for one we are not made for."""
        try:
            said = self.get("/version")
        except errors.ApiError as exc:
            raise self._no_gpustack(f"GET /version gives status {exc.status}", exc.answer) from exc
        version = said.get("version") if isinstance(said, dict) else None
        if not isinstance(version, str):
            raise self._no_gpustack("GET /version gives no version")
        support = versions.support(version)
        if support.supported is False:
            raise errors.UnsupportedServerError(f"{self.server_url}: {support.reason}")
        return ServerVersion(version.strip().lstrip("vV"), f"{self.server_url}: {support.reason}" if support.reason else "")

    def _no_gpustack(self, what: str, answer: str = "") -> errors.StrangeAnswerError:
        return errors.StrangeAnswerError(f"{self.server_url} is no GPUStack server, since {what}; correct server_url", answer)

    def _read_pages(self, reading: Reading, path: str, query: t.Optional[Query], size: int) -> None:
        number = 0
        more = True
        while more:
            number += 1
            page = parse_page(self.get(path, {**(query or {}), "page": number, "perPage": size}))
            if page is None or page.number != number:
                what = "no page of a list" if page is None else f"page {page.number}"
                raise errors.StrangeAnswerError(
                    f"{self.server_url}: GET {path} gives {what} when asked for page {number}; "
                    "look for a cache or a proxy in between, and at server_url"
                )
            if page.total > MOST_ITEMS:
                raise errors.StrangeAnswerError(
                    f"{self.server_url}: GET {path} speaks of {page.total} items, more than {MOST_ITEMS} are not believed; "
                    "look at the server's database"
                )
            more = reading.add(page)

    def _ask(self, method: str, path: str, body: t.Any, timeout_seconds: t.Optional[float]) -> t.Any:
        answer, tried = self._answer(method, path, body, timeout_seconds or self._connection.timeout_seconds)
        text = answer.body.decode("utf-8", "replace")
        if 200 <= answer.status < 300:
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                pass
        raise self._problem(method, path, body, answer, tried)

    def _problem(self, method: str, path: str, body: t.Any, answer: Answer, tried: str) -> errors.ServerError:
        text = answer.body.decode("utf-8", "replace")
        redactor = Redactor((*self._connection.secrets(), *secrets_in(body)))
        asked = sentences.Asked(self._connection, method, path, tried, redactor)
        refusal = parse_refusal(text) if answer.status >= 400 else None
        return sentences.strange(asked, answer, text) if refusal is None else sentences.refused(asked, answer, text, refusal)

    def _answer(self, method: str, path: str, body: t.Any, timeout_seconds: float) -> t.Tuple[Answer, str]:
        """An answer, and how often and how long it was asked for, where that was more than once."""
        begin = self._clock.monotonic()
        attempts = self._connection.retries + 1 if method == "GET" else 1
        attempt, tried = 0, ""
        while True:
            pause_seconds = min(2.0**attempt, _LONGEST_PAUSE_SECONDS)
            attempt += 1
            try:
                answer = self._transport.exchange(method, path, body, timeout_seconds)
            except UnansweredError as exc:
                if attempt == attempts:
                    tried = self._tried(attempt, begin)
                    raise sentences.silent(sentences.Asked(self._connection, method, path, tried, Redactor()), exc) from exc
            else:
                if answer.status not in sentences.PASSING or attempt == attempts:
                    return answer, self._tried(attempt, begin)
                pause_seconds = max(pause_seconds, min(answer.retry_after_seconds, _LONGEST_PAUSE_SECONDS))
            self._clock.pause(pause_seconds)

    def _tried(self, attempts: int, begin: float) -> str:
        return f", tried {attempts} times within {self._clock.monotonic() - begin:.0f} seconds" if attempts > 1 else ""
