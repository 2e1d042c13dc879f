# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands between the collection and a real GPUStack server, and writes down what passes: recording_proxy.py UPSTREAM LOG [--port 8081]

GPUStack writes no access log. LOG gets a line for each request: a JSON object with method, path and status; nothing of headers or bodies.
LOG.faults, if it is there, holds lines "METHOD PATH-BEGINNING STATUS": the first request that fits one is not passed on but answered
with that status, and the line is taken out. STATUS "cut" passes the request on and then hangs up without an answer; "meanwhile", for
a PUT, has another client give the same object another description right before it is passed on.
"""

from __future__ import annotations

import argparse
import contextlib
import http
import http.client
import http.server
import json
import pathlib
import threading
import typing as t
import urllib.parse

_NOT_PASSED_ON = ("connection", "host", "transfer-encoding", "content-length")
_LIMIT_SECONDS = 600
OF_ANOTHER_CLIENT = "of another client"


class Handler(http.server.BaseHTTPRequestHandler):
    """What happens to one request."""

    upstream: urllib.parse.SplitResult
    log: pathlib.Path
    lock = threading.Lock()

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.fault()
        if fault.isdecimal():
            self.record(int(fault))
            self.send_error(int(fault))
            return
        if fault == "meanwhile":
            self.change_description()
        with contextlib.closing(self.connect()) as connection:
            connection.request(self.command, self.path, body or None, self.passed_on())
            answer = connection.getresponse()
            if fault == "cut":
                answer.read()
                self.record(answer.status)
                self.close_connection = True
                return
            self.record(answer.status)
            self.pass_back(answer)

    do_POST = do_PUT = do_DELETE = do_GET

    def connect(self) -> http.client.HTTPConnection:
        """To the server."""
        return http.client.HTTPConnection(self.upstream.hostname or "", self.upstream.port or 80, timeout=_LIMIT_SECONDS)

    def passed_on(self) -> dict[str, str]:
        """The headers that the server gets, credentials among them."""
        return {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED_ON}

    def change_description(self) -> None:
        """As GPUStack's own page does it: read the object, send all of it."""
        read: t.Any = {}
        for method in ("GET", "PUT"):
            body = json.dumps({**read, "description": OF_ANOTHER_CLIENT}) if method == "PUT" else None
            with contextlib.closing(self.connect()) as connection:
                connection.request(method, self.path, body, {**self.passed_on(), "Content-Type": "application/json"})
                answer = connection.getresponse()
                read = json.loads(answer.read())
            if answer.status != http.HTTPStatus.OK:
                raise ConnectionError(f"another client's {method} {self.path} was answered with {answer.status}: {read}")

    def pass_back(self, answer: http.client.HTTPResponse) -> None:
        """As it comes, for streams; its end is the end of the connection."""
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _NOT_PASSED_ON:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            while piece := answer.read1(65536):
                self.wfile.write(piece)

    def fault(self) -> str:
        """What is to go wrong with this request; "" for nothing."""
        faults = self.log.with_name(f"{self.log.name}.faults")
        with self.lock:
            lines = faults.read_text().splitlines() if faults.exists() else []
            for line in lines:
                method, path, what = line.split()
                if method == self.command and self.path.startswith(path):
                    faults.write_text("".join(f"{other}\n" for other in lines if other is not line))
                    return what
        return ""

    def record(self, status: int) -> None:
        with self.lock, self.log.open("a") as file:
            file.write(f"{json.dumps({'method': self.command, 'path': self.path, 'status': status})}\n")

    def log_message(self, *_arguments: t.Any) -> None:
        pass


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upstream")
    parser.add_argument("log", type=pathlib.Path)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8081)
    arguments = parser.parse_args()
    arguments.log.touch()
    Handler.upstream, Handler.log = urllib.parse.urlsplit(arguments.upstream), arguments.log
    http.server.ThreadingHTTPServer((arguments.host, arguments.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
