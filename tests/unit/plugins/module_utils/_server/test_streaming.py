# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An answer that comes bit by bit: when what is told, and that whoever waits can stop at any moment."""

from __future__ import annotations

import time
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import streaming, transport
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.connection import Connection
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import UnreachableError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.streaming import End, Head, Piece, Stream
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.transport import UnansweredError
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import FakeServer, Reply, running
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_stream import (
    FOREVER,
    NO_HEAD,
    Script,
    StreamServer,
    serving,
)

LONG = 30.0


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> t.Iterator[StreamServer]:
    with serving() as server:
        yield server


def ask(url: str, silence_seconds: float = LONG) -> Stream:
    return Client(Connection(server_url=url)).stream("/v1-openai/chat/completions", {"model": "m"}, silence_seconds)


def news_of(stream: Stream) -> list[t.Any]:
    """All that comes until the end."""
    found: list[t.Any] = []
    while not found or not isinstance(found[-1], End):
        found.append(stream.wait(time.monotonic() + LONG))
        assert found[-1] is not None
    return found


def test_all_that_comes_in_its_order(server):
    server.add("m", Script((b"one", 0.05, b"two"), 201, "text/plain"))
    stream = ask(server.url)
    head, *pieces, end = news_of(stream)
    assert (head.answer.status, head.answer.content_type, head.answer.body) == (201, "text/plain", b"")
    assert b"".join(piece.data for piece in pieces) == b"onetwo"
    times = [stream.begin, head.at, *(piece.at for piece in pieces), end.at]
    assert times == sorted(times)
    assert times[-1] - times[0] >= 0.05
    assert end.error is None


def test_whoever_waits_may_stop_though_nothing_came(server):
    server.add("m", Script((NO_HEAD, FOREVER)))
    stream = ask(server.url)
    begin = time.monotonic()
    assert stream.wait(begin + 0.1) is None
    assert stream.wait(begin) is None
    assert time.monotonic() - begin < LONG


def test_after_that_the_connection_ends_with_the_next_piece(server):
    server.add("m", Script((b"one", *(0.02, b"more") * 10_000)))
    stream = ask(server.url)
    assert isinstance(stream.wait(time.monotonic() + LONG), Head)
    stream.close()
    assert news_of(stream)[-1].error is None
    deadline = time.monotonic() + LONG
    while server.busy and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not server.busy


def test_silence_ends_it(server):
    server.add("m", Script((b"one", FOREVER)))
    *_pieces, end = news_of(ask(server.url, 0.1))
    assert isinstance(end.error, UnansweredError)
    assert (str(end.error), end.error.sent) == ("no answer (timed out)", True)


def test_no_connection():
    (end,) = news_of(ask("http://127.0.0.1:1"))
    assert (str(end.error), end.error.sent) == ("no connection (Connection refused)", False)


def test_what_will_not_pass(server):
    (end,) = news_of(ask(server.url.replace("http:", "https:")))
    assert isinstance(end.error, UnreachableError)
    assert "no TLS with the server" in str(end.error)


def test_an_answer_that_is_cut():
    with running(FakeServer()) as server:
        server.replies = [Reply(b"0123456789", cut_after_bytes=4)]
        _head, piece, end = news_of(ask(server.url))
    assert (piece.data, str(end.error)) == (b"0123", "the connection was cut after 4 of 10 bytes")


def test_an_answer_that_never_ends(server, monkeypatch):
    monkeypatch.setattr(transport, "_MOST_BYTES", 100)
    server.add("m", Script((b"x" * 60,) * 1000))
    assert str(news_of(ask(server.url))[-1].error) == "the answer has more than 100 bytes"


def test_an_end_that_nobody_foresaw(server, monkeypatch):
    errors: list[t.Any] = []
    monkeypatch.setattr(streaming.threading, "excepthook", errors.append)

    def follow(*arguments: t.Any) -> None:
        raise KeyError("what nobody foresaw")

    monkeypatch.setattr(transport.Transport, "follow", follow)
    (end,) = news_of(ask(server.url))
    assert str(end.error) == "reading it failed"
    assert not isinstance(end, Piece)
