# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""One request to GPUStack's server and its answer, with a limit for everything. No redirect is followed."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import http.client
import json
import socket
import ssl
import time
import typing as t
import urllib.error

from ansible.module_utils.urls import Request, make_context
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import certificates
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.connection import Connection
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import UnreachableError

# A hundred models or workers have some hundred KiB.
_MOST_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 256 * 1024
# Nothing of a request has left us then.
_NOT_SENT = (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH)
# Ansible wants one also where none is used.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Clock:
    """The time, which tests replace."""

    def monotonic(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back. retry_after_seconds: how long the server asks us to wait. location: where it redirects to."""

    status: int
    content_type: str
    body: bytes
    retry_after_seconds: float = 0.0
    location: str = ""


# Takes the head of an answer, then its pieces; returns whether it wants more.
Told = t.Callable[[t.Union[Answer, bytes]], bool]


class UnansweredError(Exception):
    """No whole answer came, for a reason that may pass. sent: the request may have arrived."""

    def __init__(self, reason: str, sent: bool = True) -> None:
        super().__init__(reason)
        self.sent = sent


class Transport:
    """The way to one server."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        secure = connection.server_url.startswith("https:")
        self._request = Request(
            http_agent="metalfleet.gpustack",
            use_proxy=connection.use_proxy,
            # urllib would take Authorization along, to whatever host.
            follow_redirects="none",
            decompress=False,
            use_netrc=False,
            # Made once: reading the system's certificates takes longer than most answers.
            context=make_context(cafile=connection.ca_path, validate_certs=connection.validate_certs) if secure else _NO_TLS,
        )

    def exchange(self, method: str, path: str, body: t.Any, timeout_seconds: float) -> Answer:
        """Ask once. body: sent as JSON, unless it is None. Raises UnansweredError, and UnreachableError for what will not pass."""
        end = self._clock.monotonic() + timeout_seconds
        return self._ask(
            lambda: self._open(method, path, body, timeout_seconds),
            lambda response: _answer(response, end, timeout_seconds, self._clock),
        )

    def _ask(self, begin: t.Callable[[], t.Any], read: t.Callable[[t.Any], Answer]) -> Answer:
        url = self._connection.server_url
        try:
            with contextlib.closing(begin()) as response:
                return read(response)
        except urllib.error.URLError as exc:
            # A handshake that just ends is one of a server that restarts.
            if isinstance(exc.reason, ssl.SSLError) and not isinstance(exc.reason, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
                raise UnreachableError(f"{url}: {_tls_problem(exc.reason)}") from exc
            # Urllib says so of connecting and of sending, not of reading an answer.
            known = isinstance(exc.reason, socket.gaierror) or getattr(exc.reason, "errno", None) in _NOT_SENT
            raise UnansweredError(f"no connection ({words(exc.reason)})", sent=not known) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise UnansweredError(f"no answer ({words(exc)})") from exc
        except ValueError as exc:
            # A host's name that IDNA cannot hold.
            raise BadInputError(f"server_url: {url} cannot be asked ({words(exc)}); correct it") from exc

    def beginning(self, path: str, timeout_seconds: float, most_bytes: int, enough: t.Callable[[str], bool]) -> Answer:
        """GET what may be long, or never end, and stop once there is enough of it. Raises as exchange() does."""
        end = self._clock.monotonic() + timeout_seconds
        have = b""

        def read(response: t.Any) -> Answer:
            nonlocal have
            while len(have) < most_bytes and self._clock.monotonic() < end and not enough(have.decode("utf-8", "replace")):
                try:
                    piece = response.read1(_PIECE_BYTES)
                except socket.timeout:
                    # It has no more to say for now.
                    break
                if not piece:
                    break
                have += piece
            return Answer(response.status, response.headers.get("Content-Type") or "", have[:most_bytes])

        return self._ask(lambda: self._open("GET", path, None, timeout_seconds), read)

    def follow(self, path: str, body: t.Any, silence_seconds: float, told: Told) -> None:
        """POST, and tell of the answer as it comes. silence_seconds: how long nothing may come. Raises as exchange() does."""

        def read(response: t.Any) -> Answer:
            head = Answer(response.status, response.headers.get("Content-Type") or "", b"", location=response.headers.get("Location") or "")
            more, have = told(head), 0
            while more:
                piece = response.read1(_PIECE_BYTES)
                have += len(piece)
                _check_size(have)
                if not piece:
                    _check_whole(response, have)
                    break
                more = told(piece)
            return head

        self._ask(lambda: self._open("POST", path, body, silence_seconds), read)

    def _open(self, method: str, path: str, body: t.Any, timeout_seconds: float) -> t.Any:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        authorization = self._connection.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        try:
            return self._request.open(method, self._connection.server_url + path, data=data, headers=headers, timeout=timeout_seconds)
        except urllib.error.HTTPError as exc:
            # An answer like others.
            return exc


def words(error: t.Union[str, BaseException]) -> str:
    """What an error of the network says, in one line."""
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was cut"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _answer(response: t.Any, end: float, timeout_seconds: float, clock: Clock) -> Answer:
    pieces: t.List[bytes] = []
    have = 0
    while True:
        # read() would wait for all of its bytes, with no look at the clock in between.
        piece = response.read1(_PIECE_BYTES)
        if not piece:
            break
        pieces.append(piece)
        have += len(piece)
        _check_size(have)
        if clock.monotonic() > end:
            raise UnansweredError(f"the answer was not whole after {timeout_seconds:g} seconds ({have} bytes were)")
    _check_whole(response, have)
    asked = response.headers.get("Retry-After") or ""
    return Answer(
        status=response.status,
        content_type=response.headers.get("Content-Type") or "",
        body=b"".join(pieces),
        retry_after_seconds=float(asked) if asked.isdecimal() else 0.0,
        location=response.headers.get("Location") or "",
    )


def _check_size(have: int) -> None:
    if have > _MOST_BYTES:
        raise UnansweredError(f"the answer has more than {_MOST_BYTES} bytes")


def _check_whole(response: t.Any, have: int) -> None:
    length = response.headers.get("Content-Length") or ""
    if length.isdecimal() and have < float(length):
        raise UnansweredError(f"the connection was cut after {have} of {length} bytes")


def _tls_problem(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return certificates.refusal(error.verify_code, error.verify_message)
    return f"no TLS with the server ({words(error)}); check the port, and write http:// in server_url if it speaks no TLS there"
