# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server on the loopback interface that has models and lets them answer as a script says. It is no GPUStack."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import typing as t
import urllib.parse

# Steps of a script besides bytes, which are written at once, and numbers, which are seconds until the next step.
FOREVER = "until the test ends"
CUT = "hang up in the middle"
# Before the status line.
NO_HEAD = "no head"
Step = t.Union[bytes, float, str]


def event(delta: t.Any = None, **more: t.Any) -> bytes:
    """A chunk of a chat, as llama-box writes them."""
    choices = (
        [] if delta is None else [{"index": 0, "finish_reason": None, "delta": {"content": delta} if isinstance(delta, str) else delta}]
    )
    return f"data: {json.dumps({'choices': choices, **more})}\n\n".encode()


DONE = b"data: [DONE]\n\n"
FINISH = b'data: {"choices":[{"index":0,"finish_reason":"stop","delta":{}}]}\n\n'
USAGE = event(usage={"completion_tokens": 5}, timings={"predicted_n": 5, "predicted_per_second": 8000.5})
CHAT: tuple[Step, ...] = (event({"role": "assistant", "content": None}), event("One"), event(", two"), FINISH, USAGE, DONE)


class Script(t.NamedTuple):
    """An answer to a POST."""

    steps: tuple[Step, ...] = CHAT
    status: int = 200
    content_type: str = "text/event-stream"


def whole(data: t.Any, status: int = 200) -> Script:
    """An answer in one JSON."""
    return Script((json.dumps(data).encode(),), status, "application/json")


class StreamServer:
    """models: by name, the fields of the model's and its instances' that are not as usual. scripts: by model, in turn."""

    def __init__(self) -> None:
        self.version = "v0.6.2"
        self.workers = [{"id": 1, "name": "mac-1"}, {"id": 2, "name": "mac-2"}]
        self.models: list[dict[str, t.Any]] = []
        self.instances: list[dict[str, t.Any]] = []
        self.scripts: dict[str, list[Script]] = {}
        self.asked: list[tuple[str, t.Any]] = []
        self.busy: set[object] = set()
        self.most_busy = 0
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def add(self, name: str, *scripts: Script, category: t.Optional[str] = "llm", running: int = 1, **fields: t.Any) -> None:
        number = len(self.models) + 1
        categories = [] if category is None else [category]
        self.models.append({"id": number, "name": name, "replicas": running, "categories": categories, **fields})
        for index in range(running):
            instance = {"name": f"{name}-{index}", "model_id": number, "state": "running", "worker_id": 1, "worker_name": "mac-1"}
            self.instances.append({"id": len(self.instances) + 1, **instance})
        self.scripts[name] = list(scripts) or [Script()]

    def script(self, name: str) -> Script:
        scripts = self.scripts[name]
        return scripts.pop(0) if len(scripts) > 1 else scripts[0]


@contextlib.contextmanager
def serving() -> t.Iterator[StreamServer]:
    server = StreamServer()
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.server.shutdown()
        server.server.server_close()
        thread.join()


def _handler(place: StreamServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: t.Any) -> None:
            pass

        def do_GET(self) -> None:
            path = urllib.parse.urlsplit(self.path).path
            lists = {"/v1/workers": place.workers, "/v1/models": place.models, "/v1/model-instances": place.instances}
            data: t.Any = {"version": place.version, "git_commit": "0"}
            if path in lists:
                items = lists[path]
                data = {"items": items, "pagination": {"page": 1, "perPage": 100, "total": len(items), "totalPage": 1}}
            content = json.dumps(data).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.close_connection = True
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with place.lock:
                place.asked.append((self.path, body))
                place.busy.add(self)
                place.most_busy = max(place.most_busy, len(place.busy))
                script = place.script(body["model"])
            with contextlib.suppress(OSError):
                self._play(script)
            place.busy.discard(self)

        def _play(self, script: Script) -> None:
            if script.steps[:1] != (NO_HEAD,):
                self.send_response(script.status)
                self.send_header("Content-Type", script.content_type)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
            for step in script.steps:
                if step == CUT:
                    return
                if step == DONE:
                    # Who reads this may ask again before we have come to our own end.
                    place.busy.discard(self)
                if isinstance(step, bytes):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(step), step))
                elif step != NO_HEAD and place.over.wait(None if step == FOREVER else float(step)):
                    return
            self.wfile.write(b"0\r\n\r\n")

    return Handler
