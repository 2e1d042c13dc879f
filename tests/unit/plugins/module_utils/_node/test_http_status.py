# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asking a service of this host, against real sockets."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host

HOST = Host()


class Service(http.server.BaseHTTPRequestHandler):
    """Says 200 at /healthz, 204 with a query, 503 elsewhere, and what it was asked."""

    asked: t.ClassVar[t.List[t.Tuple[str, str]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Host"]))
        self.send_response({"/healthz": 200, "/x?y=1": 204}.get(self.path, 503))
        self.end_headers()

    def log_message(self, *_arguments: t.Any) -> None:
        pass


@pytest.fixture
def service() -> t.Iterator[int]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@contextlib.contextmanager
def talks(*pieces: bytes, between_seconds: float = 0.0, hang: bool = False) -> t.Iterator[int]:
    """A service that says just this, whatever it is asked."""
    done = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _address = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(1000)
            for piece in pieces:
                connection.sendall(piece)
                if done.wait(between_seconds):
                    return
            if hang:
                done.wait(30)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        done.set()
        thread.join()
        server.close()


def test_a_real_service(service: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    Service.asked.clear()
    assert HOST.answers(service, "/healthz") == 200
    assert HOST.answers(service, "/x?y=1") == 204
    assert HOST.answers(service, "/") == 503
    assert Service.asked == [(path, f"127.0.0.1:{service}") for path in ("/healthz", "/x?y=1", "/")]


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert HOST.answers(port, "/healthz") is None


@pytest.mark.parametrize("port", [-1, 0, 65536, 1 << 40])
def test_no_port(port: int) -> None:
    assert HOST.answers(port, "/healthz") is None


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 2x0 OK\r\n",
        b" HTTP/1.1 200 OK\r\n",
        b"x" * 5000,
        b"HTTP/1.1 200 " + b"x" * 5000,
    ],
)
def test_what_talks_something_else(said: bytes) -> None:
    with talks(said) as port:
        answer = HOST.answers(port, "/healthz")
    # The last one is a status, whatever comes after it.
    assert answer == (200 if said.endswith(b"xx") and said.startswith(b"HTTP") else None)


@pytest.mark.parametrize("pieces", [[b"HTTP/1.0 200\n"], [b"HTTP/1.1 ", b"200 O", b"K\r\n"], [b"HTTP/1.1 200\r\n"]])
def test_a_status_in_odd_pieces(pieces: t.List[bytes]) -> None:
    with talks(*pieces, between_seconds=0.05) as port:
        assert HOST.answers(port, "/healthz") == 200


@pytest.mark.parametrize("pieces", [[], [b"HTTP/1.1 200 OK"], [b"x"] * 100])
def test_what_never_answers_or_byte_by_byte(pieces: t.List[bytes]) -> None:
    started = time.monotonic()
    with talks(*pieces, between_seconds=0.1, hang=True) as port:
        assert HOST.answers(port, "/healthz", timeout_seconds=0.5) is None
        assert 0.4 < time.monotonic() - started < 3
