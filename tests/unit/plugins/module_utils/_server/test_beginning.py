# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading the beginning of a text that may never end (client.beginning, transport.beginning), from a real socket."""

from __future__ import annotations

import contextlib
import socket
import threading
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import errors, transport
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.connection import Connection
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import (
    FakeServer,
    Place,
    Reply,
    running,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PATH = "/v1/model-instances/1/logs"


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text)


class Speaker:
    """Says these things and then nothing, with the connection open until the client hangs up."""

    def __init__(self, *pieces: bytes, ends: bool = False) -> None:
        self.asked = b""
        self.hung_up = threading.Event()
        self._pieces = pieces
        self._ends = ends
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            peer, _address = self._socket.accept()
            with peer:
                self.asked = peer.recv(65536)
                for piece in self._pieces:
                    peer.sendall(piece)
                if not self._ends and not peer.recv(1):
                    self.hung_up.set()

    @contextlib.contextmanager
    def speaking(self) -> t.Iterator[Speaker]:
        thread = threading.Thread(target=self.serve, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            thread.join(10)
            self._socket.close()


def beginning(url: str, enough: t.Callable[[str], bool], most_bytes: int = 1 << 20, **options: t.Any) -> str:
    return Client(Connection(url, **{"timeout_seconds": 5.0, "use_proxy": False, **options})).beginning(
        PATH, {"follow": "true"}, most_bytes, enough
    )


def test_no_more_is_read_when_there_is_enough() -> None:
    with Speaker(HEAD, chunk(b"one\ntw"), chunk(b"o\n")).speaking() as speaker:
        assert beginning(speaker.url, lambda log: "two" in log).startswith("one\ntwo")
        assert speaker.hung_up.wait(5)
    assert speaker.asked.startswith(b"GET /v1/model-instances/1/logs?follow=true HTTP/1.1\r\n")


def test_a_text_that_ends_before_there_is_enough() -> None:
    with Speaker(HEAD, chunk(b"one\n"), b"0\r\n\r\n", ends=True).speaking() as speaker:
        assert beginning(speaker.url, lambda _log: False) == "one\n"


def test_silence_is_an_end() -> None:
    with Speaker(HEAD, chunk(b"one\n")).speaking() as speaker:
        assert beginning(speaker.url, lambda _log: False, timeout_seconds=0.2) == "one\n"


def test_a_text_that_never_stops_is_cut() -> None:
    with Speaker(HEAD, chunk(b"x" * 3000), chunk(b"x" * 3000)).speaking() as speaker:
        assert beginning(speaker.url, lambda _log: False, most_bytes=1000) == "x" * 1000


def test_what_comes_too_slowly_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 11.0])
    monkeypatch.setattr(transport.Clock, "monotonic", lambda _self: next(times))
    with Speaker(HEAD, chunk(b"one\n")).speaking() as speaker:
        # No longer than ten seconds, however long an answer may take.
        assert beginning(speaker.url, lambda _log: False, timeout_seconds=60.0) == "one\n"


def test_letters_that_are_cut_are_no_error() -> None:
    with Speaker(HEAD, chunk("ü".encode()[:1])).speaking() as speaker:
        assert beginning(speaker.url, bool) == "\ufffd"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Place]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with running(FakeServer()) as server:
        yield Place(server)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (
            Reply({"code": 404, "reason": "NotFound", "message": "Model instance not found"}, 404),
            errors.NotFoundError,
            "not found (status 404",
        ),
        (Reply(b"Error fetching serving logs: no route\n", 500, "application/octet-stream"), errors.StrangeAnswerError, "status 500"),
        (Reply(b"<html>", 502, "text/html"), errors.UnreachableError, "status 502"),
        (Reply({"code": 401, "reason": "Unauthorized", "message": "no"}, 401), errors.CredentialsError, "wants to know who asks"),
    ],
)
def test_an_answer_that_is_no_log(place: Place, reply: Reply, kind: type[Exception], words: str) -> None:
    place.says(reply)
    with pytest.raises(kind) as caught:
        place.client().beginning(PATH, {"follow": "true"}, 1000, lambda _log: False)
    assert words in str(caught.value)
    # What only a log lacks is not asked for again.
    assert (len(place.server.seen), place.clock.pauses) == (1, [])


@pytest.mark.parametrize("reply", [Reply(hang_up=True), Reply(b"log", cut_after_bytes=0, headers={"Content-Length": "9"})])
def test_a_connection_that_breaks(place: Place, reply: Reply) -> None:
    place.says(reply)
    if reply.hang_up:
        with pytest.raises(errors.UnreachableError, match=r"GET /v1/model-instances/1/logs: "):
            place.client().beginning(PATH, {"follow": "true"}, 1000, lambda _log: False)
    else:
        assert place.client().beginning(PATH, {"follow": "true"}, 1000, lambda _log: False) == ""


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(errors.UnreachableError, match="no connection"):
        beginning(url, lambda _log: False)
