# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server on the loopback interface that says what a test tells it to. It is for how answers travel, and no GPUStack."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import pathlib
import ssl
import threading
import time
import typing as t
import urllib.parse

from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.connection import Connection
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.transport import Clock

HTML = b"<html><body>It works!</body></html>"


@dataclasses.dataclass
class Reply:
    """One answer. content: bytes as they are, anything else as JSON."""

    content: t.Any = None
    status: int = 200
    content_type: str = "application/json"
    headers: t.Dict[str, str] = dataclasses.field(default_factory=dict)
    cut_after_bytes: t.Optional[int] = None
    chunked: bool = False
    hang_up: bool = False
    silence_seconds: float = 0.0


@dataclasses.dataclass
class Seen:
    """One request."""

    method: str
    path: str
    query: t.Dict[str, str]
    headers: t.Dict[str, str]
    body: t.Any


class FakeServer:
    """Gives the replies in their order, the last one again and again; or what `answer` says of a request."""

    def __init__(self, certificates: t.Optional[pathlib.Path] = None) -> None:
        self.replies: t.List[Reply] = []
        self.answer: t.Optional[t.Callable[[Seen], Reply]] = None
        self.seen: t.List[Seen] = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.url = f"{'https' if certificates else 'http'}://127.0.0.1:{self.server.server_address[1]}"
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)

    def reply(self, seen: Seen) -> Reply:
        self.seen.append(seen)
        if self.answer is not None:
            return self.answer(seen)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@contextlib.contextmanager
def running(server: FakeServer) -> t.Iterator[FakeServer]:
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.server.shutdown()
        server.server.server_close()
        thread.join()


class PatientClock(Clock):
    """Pauses take no time but are counted."""

    def __init__(self) -> None:
        self.pauses: t.List[float] = []

    def monotonic(self) -> float:
        return super().monotonic() + sum(self.pauses)

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


@dataclasses.dataclass
class Place:
    """A server, a client of it, and the client's clock."""

    server: FakeServer
    clock: PatientClock = dataclasses.field(default_factory=PatientClock)

    def says(self, *replies: Reply) -> None:
        self.server.replies = list(replies)

    def client(self, **options: t.Any) -> Client:
        words = {"server_url": self.server.url, "timeout_seconds": 5.0, "retries": 2, **options}
        return Client(Connection(**words), self.clock)


def _handler(server: FakeServer) -> t.Type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: t.Any) -> None:
            pass

        def do_GET(self) -> None:
            self.close_connection = True
            parts = urllib.parse.urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            query = dict(urllib.parse.parse_qsl(parts.query))
            reply = server.reply(Seen(self.command, parts.path, query, dict(self.headers.items()), body))
            time.sleep(reply.silence_seconds)
            with contextlib.suppress(OSError):
                if not reply.hang_up:
                    self._send(reply)

        do_POST = do_PUT = do_DELETE = do_GET

        def _send(self, reply: Reply) -> None:
            content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
            self.send_response(reply.status)
            length = {"Transfer-Encoding": "chunked"} if reply.chunked else {"Content-Length": str(len(content))}
            for name, value in {"Content-Type": reply.content_type, **length, "Connection": "close", **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if reply.chunked:
                self.wfile.write(f"{len(content):x}\r\n".encode())
            self.wfile.write(content[: reply.cut_after_bytes])
            if reply.chunked and reply.cut_after_bytes is None:
                self.wfile.write(b"\r\n0\r\n\r\n")

    return Handler
