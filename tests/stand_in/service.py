# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that install.py installs as `gpustack`. A stand-in: it serves nothing but /healthz."""

from __future__ import annotations

import http.server
import os
import pathlib
import signal
import subprocess
import sys
import time

LLAMA_BOX = "@LLAMA_BOX@"
STARTS = pathlib.Path("/var/log/gpustack-starts.log")


class Health(http.server.BaseHTTPRequestHandler):
    """Answers GET /healthz as GPUStack does."""

    def do_GET(self) -> None:
        """200 for /healthz, 404 for anything else."""
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: the service's log is compared by tests."""


class Server(http.server.HTTPServer):
    """On port 80, free to be taken again right after a restart."""

    allow_reuse_address = True


def main() -> None:
    """Start the child, count the start, serve until SIGTERM."""
    child = subprocess.Popen([LLAMA_BOX, "--host", "127.0.0.1"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with STARTS.open("a") as log:
        log.write(f"{time.time()} {os.getpid()}\n")
    try:
        Server(("127.0.0.1", 80), Health).serve_forever()
    finally:
        child.terminate()


if __name__ == "__main__":
    main()
