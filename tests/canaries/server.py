# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""GPUStack's API in memory (tests/unit/memory_gpustack.py) as a server, which repeats what it refuses, as the real one does.

    server.py FILE

FILE has, as JSON, password, api_key and foreign, an environment that a model of somebody else has. Prints its URL.
"""

from __future__ import annotations

import json
import pathlib
import sys
import threading
import typing as t

from ansible_collections.metalfleet.gpustack.tests.unit import memory_gpustack
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import FakeServer, Reply, Seen, running

REFUSED = "refused"
WORDS = 20


class Echo(memory_gpustack.MemoryGpustack):
    """before and after each request everything that is on its way happens."""

    def __init__(self) -> None:
        super().__init__()
        self.before = self._refuse
        self.lock = threading.Lock()

    def answer(self, seen: Seen) -> Reply:
        """One at a time, as the world is not made for threads."""
        with self.lock:
            reply = super().answer(seen)
            self.settle()
            return reply

    def _refuse(self, seen: Seen) -> t.Optional[Reply]:
        if seen.path == "/v1-openai/chat/completions":
            piece = 'data: {"choices": [{"index": 0, "delta": {"content": "one "}, "finish_reason": null}]}\n\n'
            return Reply((piece * WORDS + "data: [DONE]\n\n").encode(), content_type="text/event-stream")
        if seen.method in ("POST", "PUT") and REFUSED in str(seen.body.get("name", "")):
            # As FastAPI and GPUStack write it: 'input' is what was sent.
            message = f"[{{'type': 'missing', 'loc': ('body', 'source'), 'msg': 'Field required', 'input': {seen.body!r}}}]"
            return Reply({"code": 422, "reason": "Unprocessable Entity", "message": message}, 422)
        return None


def main() -> None:
    """Serve until the input ends."""
    given = json.loads(pathlib.Path(sys.argv[1]).read_text())
    memory_gpustack.PASSWORD, memory_gpustack.API_KEY = given["password"], given["api_key"]
    gpustack = Echo()
    gpustack.add("foreign", env={"HF_TOKEN": given["foreign"], "GGML_METAL_NO_RESIDENCY": "1"}, backend_parameters=["--mmap"])
    server = FakeServer()
    server.answer = gpustack.answer
    with running(server):
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
