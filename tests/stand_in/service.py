# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that install.py installs as `gpustack`. A stand-in: README.md says what it does."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import typing as t

FACTS: dict[str, str] = json.loads("""@FACTS@""")
LLAMA_BOX = pathlib.Path(FACTS["llama_box"])
RECORD = pathlib.Path(FACTS["record"])
PORTS = (80, 10150)
# Of the ports that GPUStack 0.6.2 takes for RPC servers, the first.
RPC_PORT = 40064
# gpustack/worker/worker.py: start_rpc_servers() every 20 s.
ROUND_SECONDS = 20
# A variable that a test gives the service as any other.
DIES = "STAND_IN_DIES_AFTER_SECONDS"
STARTS = pathlib.Path("/var/log/gpustack-starts.log")
RPC_STARTS = pathlib.Path("/var/log/gpustack-rpc-starts.log")


def told_to_be(word: str) -> bool:
    """Whether a test wants this of the service."""
    return pathlib.Path("/etc/gpustack-stand-in", word).exists()


class Health(http.server.BaseHTTPRequestHandler):
    """Answers GET /healthz as GPUStack does."""

    def do_GET(self) -> None:
        """200 for /healthz, 404 for anything else."""
        self.send_response(404 if self.path != "/healthz" else 500 if told_to_be("sick") else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: the service's log is compared by tests."""


class Server(http.server.ThreadingHTTPServer):
    """On a port that is free to be taken again right after a restart."""

    allow_reuse_address = True
    daemon_threads = True


def bring_own_llama_box() -> None:
    """What tools_manager.py does: unless the record names GPUStack's own version, that is downloaded (here, copied) once more."""
    recorded = json.loads(RECORD.read_text())
    if recorded.get(FACTS["record_key"]) != FACTS["own_version"] or not LLAMA_BOX.exists():
        LLAMA_BOX.parent.mkdir(parents=True, exist_ok=True)
        LLAMA_BOX.unlink(missing_ok=True)
        shutil.copy(FACTS["own_llama_box"], LLAMA_BOX)
        RECORD.write_text(json.dumps({**recorded, FACTS["record_key"]: FACTS["own_version"]}))


class RpcServer:
    """The llama-box that offers the GPU to other nodes. GPUStack starts it anew in its next round when it has ended."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """One round after the other."""
        while True:
            if self.process is None or self.process.poll() is not None:
                self.start()
            time.sleep(ROUND_SECONDS)

    def start(self) -> None:
        """Start it, and note which program that was."""
        command = [FACTS["rpc_server"], "--rpc-server-host", "0.0.0.0", "--rpc-server-port", str(RPC_PORT)]
        command += ["--rpc-server-main-gpu", "0", "--origin-rpc-server-main-gpu", "0"]
        try:
            digest = hashlib.sha256(pathlib.Path(command[0]).read_bytes()).hexdigest()
            self.process = subprocess.Popen(command)
        except OSError as exc:
            sys.stderr.write(f"Failed to run the llama-box rpc server: {exc}\n")
            return
        with RPC_STARTS.open("a") as log:
            log.write(f"{self.process.pid} {digest}\n")


def main() -> None:
    """Start the children, count the start, serve until SIGTERM."""
    bring_own_llama_box()
    children: t.List[subprocess.Popen[bytes]] = []
    if not told_to_be("idle"):
        # A model's instance.
        children.append(subprocess.Popen([str(LLAMA_BOX), "--host", "127.0.0.1", "--port", "40000"]))
    rpc_server = RpcServer()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if DIES in os.environ:
        death = threading.Timer(float(os.environ[DIES]), lambda: os._exit(1))
        death.daemon = True
        death.start()
    with STARTS.open("a") as log:
        log.write(f"{time.time()} {os.getpid()}\n")
    threading.Thread(target=rpc_server.run, daemon=True).start()
    servers = [Server(("0.0.0.0", port), Health) for port in PORTS]
    try:
        threading.Thread(target=servers[1].serve_forever, daemon=True).start()
        servers[0].serve_forever()
    finally:
        for child in [*children, *filter(None, [rpc_server.process])]:
            child.terminate()


if __name__ == "__main__":
    main()
