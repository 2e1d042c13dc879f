# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mirror of releases for tests: a folder over HTTP or HTTPS, with the faults that real ones have. See README.md."""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import http.server
import json
import pathlib
import re
import ssl
import subprocess
import sys
import threading
import time
import typing as t
import urllib.parse

HOST = "127.0.0.1"


@dataclasses.dataclass
class Fault:
    """How one answer is wrong. What is not set is as it should be."""

    status: t.Optional[int] = None
    headers: t.Dict[str, str] = dataclasses.field(default_factory=dict)
    content: t.Optional[str] = None
    # After these, counted from the first byte of this answer, the connection is closed.
    cut_after_bytes: t.Optional[int] = None
    bytes_per_second: t.Optional[int] = None
    # Of everything before the content.
    header_bytes_per_second: t.Optional[int] = None
    # Content in chunks, of which the first one's length never ends.
    drip_chunk_line: bool = False
    silence_seconds: float = 0.0
    ignore_range: bool = False
    no_length: bool = False
    hang_up: bool = False
    # For every request, and not just for the next one.
    always: bool = False


@dataclasses.dataclass
class Seen:
    """One request and what became of it."""

    path: str
    status: int
    headers: t.Dict[str, str]
    proxied: bool = False


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        # A client that does not accept the certificate says so, and is right.
        if not isinstance(sys.exc_info()[1], (ssl.SSLError, ConnectionError)):
            super().handle_error(request, client_address)


class Mirror:
    """A server for one folder. Faults are by path; "*" is for every path that has none of its own."""

    def __init__(
        self,
        folder: t.Union[str, pathlib.Path],
        port: int = 0,
        user: t.Optional[str] = None,
        token: t.Optional[str] = None,
        certificates: t.Optional[pathlib.Path] = None,
        control: t.Optional[pathlib.Path] = None,
        log: t.Optional[pathlib.Path] = None,
        host: str = HOST,
    ) -> None:
        self.folder = pathlib.Path(folder)
        self.accepted: t.Set[str] = set()
        if user is not None:
            self.accepted.add("Basic " + base64.b64encode(user.encode()).decode())
        if token is not None:
            self.accepted.add(f"Bearer {token}")
        self.faults: t.Dict[str, t.List[Fault]] = {}
        self.seen: t.List[Seen] = []
        self._control = control
        self._controlled = ""
        self._log = log
        self._lock = threading.Lock()
        self._server = _Server((host, port), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.base_url = f"{'https' if certificates else 'http'}://{host}:{self.port}"
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    def serve(self) -> None:
        """Answer until close()."""
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        """Stop, and give the port back."""
        self._server.shutdown()
        self._server.server_close()

    def fault(self, path: str) -> Fault:
        """The fault for the next answer."""
        with self._lock:
            self._read_control()
            for key in (path, "*"):
                planned = self.faults.get(key)
                if planned:
                    return planned[0] if planned[0].always else planned.pop(0)
        return Fault()

    def note(self, seen: Seen) -> None:
        """Remember a request; in the file without anybody's credentials."""
        with self._lock:
            self.seen.append(seen)
            if self._log is not None:
                headers = {name: value for name, value in seen.headers.items() if name != "Authorization"}
                line = {**dataclasses.asdict(seen), "headers": headers, "authorized": "Authorization" in seen.headers}
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")

    def _read_control(self) -> None:
        if self._control is None or not self._control.exists():
            return
        text = self._control.read_text(encoding="utf-8")
        if text != self._controlled:
            self._controlled = text
            self.faults = {path: [Fault(**fault) for fault in faults] for path, faults in json.loads(text or "{}").items()}


@contextlib.contextmanager
def running(mirror: Mirror) -> t.Iterator[Mirror]:
    """The mirror, answering in a thread."""
    thread = threading.Thread(target=mirror.serve, daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        mirror.close()
        thread.join()


def make_certificates(folder: pathlib.Path, host: str = HOST, days: int = 30) -> pathlib.Path:
    """A CA of our own and a certificate of it for the host; returns the folder. ca.pem is what a client has to trust.

    days: for how long the certificate holds; -1 is one that ended yesterday.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "rsa:2048", "-nodes")
    usage = "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"
    extensions = [word for text in usage for word in ("-addext", text)]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=mirror test CA", *extensions)
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={host}")
    kind = "IP" if re.fullmatch(r"[0-9.]+", host) else "DNS"
    (folder / "server.cnf").write_text(f"subjectAltName={kind}:{host}\n", encoding="utf-8")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days), "-extfile", "server.cnf")
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", *signing)
    return folder


def _handler(mirror: Mirror) -> t.Type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: t.Any) -> None:
            """The log is ours."""

        def do_GET(self) -> None:
            self.close_connection = True
            # A proxy is asked for a whole URL.
            parts = urllib.parse.urlsplit(self.path)
            path = urllib.parse.unquote(parts.path)
            fault = mirror.fault(path)
            time.sleep(fault.silence_seconds)
            status, headers, content = _answer(mirror, path, self.headers, fault)
            mirror.note(Seen(path, status, dict(self.headers.items()), proxied=bool(parts.scheme)))
            # A client may leave before the end.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                if not fault.hang_up:
                    self._send(status, headers, content, fault)

        def _send(self, status: int, headers: t.Mapping[str, str], content: bytes, fault: Fault) -> None:
            lines = [f"{self.protocol_version} {status} {self.responses.get(status, ('',))[0]}"]
            lines += [f"{name}: {value}" for name, value in {**headers, "Connection": "close"}.items()]
            self._drip("".join(f"{line}\r\n" for line in [*lines, ""]).encode("iso-8859-1"), fault.header_bytes_per_second)
            if fault.drip_chunk_line:
                self._drip(b"0" * 60_000, 10)
            self._drip(content[: fault.cut_after_bytes], fault.bytes_per_second)

        def _drip(self, data: bytes, bytes_per_second: t.Optional[int]) -> None:
            step = len(data) or 1 if bytes_per_second is None else max(1, bytes_per_second // 50)
            for start in range(0, len(data), step):
                self.wfile.write(data[start : start + step])
                self.wfile.flush()
                time.sleep(step / bytes_per_second if bytes_per_second else 0)

    return Handler


def _answer(mirror: Mirror, path: str, headers: t.Any, fault: Fault) -> t.Tuple[int, t.Dict[str, str], bytes]:
    file = mirror.folder / path.lstrip("/")
    authorization = headers.get("Authorization")
    if mirror.accepted and authorization not in mirror.accepted:
        status, content = 403 if authorization else 401, b""
    elif fault.content is not None:
        status, content = 200, fault.content.encode()
    elif ".." in path or not file.is_file():
        status, content = 404, b"not here\n"
    else:
        status, content = 200, file.read_bytes()
    answer: t.Dict[str, str] = {}
    asked = re.fullmatch(r"bytes=(\d+)-", headers.get("Range", ""))
    if status == 200 and asked and not fault.ignore_range:
        total, start = len(content), int(asked.group(1))
        status, content = (206, content[start:]) if start < total else (416, b"")
        answer["Content-Range"] = f"bytes {start}-{total - 1}/{total}" if content else f"bytes */{total}"
    if fault.status is not None:
        status, content = fault.status, content if fault.status < 300 else b""
    if fault.drip_chunk_line:
        answer["Transfer-Encoding"] = "chunked"
    elif not fault.no_length:
        answer["Content-Length"] = str(len(content))
    answer.update(fault.headers)
    return status, answer, content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--host", default=HOST, help="address to listen on, and to certify")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user", help="NAME:PASSWORD that clients must give")
    parser.add_argument("--token", help="bearer token that clients must give")
    parser.add_argument("--certificates", type=pathlib.Path, help="serve HTTPS with the certificates in this folder, made if missing")
    parser.add_argument("--control", type=pathlib.Path, help="JSON: path -> list of faults, read before each answer")
    parser.add_argument("--log", type=pathlib.Path, help="one JSON object per request")
    arguments = vars(parser.parse_args())
    certificates = arguments["certificates"]
    if certificates is not None and not (certificates / "server.pem").exists():
        make_certificates(certificates, arguments["host"])
    mirror = Mirror(**arguments)
    print(mirror.base_url, flush=True)
    mirror.serve()


if __name__ == "__main__":
    main()
