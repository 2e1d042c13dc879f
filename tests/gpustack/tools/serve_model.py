# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The serving half of the stand-in for llama-box: real tokens of a real llama.cpp (xllamacpp from PyPI) behind llama-box's flags.

Started by llama_box.c as `serve_model.py VERSION PROGRAM ARGUMENTS...`. The last of --mmap and --no-mmap wins, mmap is the default, as
in llama-box; it is what llama.cpp really does, and /props proves it from the process's own memory map.

What is declared and not real:
* LLAMA_BOX_TPS=mmap=4 makes answers come at 4 tokens per second where mmap is on. A tiny model is fast in either way, a large one on
  Metal is not (gpustack#1907); whoever shows such figures has to say so.
* LLAMA_BOX_SILENT=empty answers without a token, a vector or a score; LLAMA_BOX_SILENT=mute not at all.
* the size of the weights, from MODEL.gguf.json, as llama-box would tell it in /v1/models.
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
import time
import typing as t

TOOLS = "/opt/gpustack-tools"
sys.path.insert(0, f"{TOOLS}/xllamacpp")

VERSION, PROGRAM, ARGUMENTS = sys.argv[1], sys.argv[2], sys.argv[3:]
# Random weights never say that they are done.
MOST_TOKENS = 64
MUTE_SECONDS = 3600
Json = dict[str, t.Any]


def option(*names: str, default: str = "") -> str:
    """The last value of an option."""
    value = default
    for name, following in zip(ARGUMENTS, ARGUMENTS[1:]):
        if name in names:
            value = following
    return value


def uses_mmap() -> bool:
    """The last of both flags wins."""
    flags = [word for word in ARGUMENTS if word in ("--mmap", "--no-mmap")]
    return flags[-1] == "--mmap" if flags else True


def declared(path: str) -> Json:
    """What stands beside the model, {} where nothing does."""
    try:
        with open(f"{path}.json", encoding="utf-8") as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return {}


def architecture(path: str) -> str:
    """The first thing in the metadata of a GGUF file; "" where the file is none."""
    with open(path, "rb") as file:
        head = file.read(1024)
    # Magic, version, two counts; the length of the key and the key; the type of the value, its length and the value.
    if not head.startswith(b"GGUF") or head[32:52] != b"general.architecture":
        return ""
    return head[64 : 64 + int.from_bytes(head[56:64], "little")].decode()


class Engine:
    """llama.cpp with the model."""

    def __init__(self) -> None:
        import xllamacpp

        self.name = f"xllamacpp {xllamacpp.__version__}"
        self.path = option("--model", "-m")
        self.alias = option("--alias", "-a", default="model")
        self.mmap = uses_mmap()
        self.rerank = "--rerank" in ARGUMENTS
        modes = xllamacpp.llama_load_mode
        parameters = xllamacpp.CommonParams()
        parameters.model.path = self.path
        parameters.model_alias = self.alias if isinstance(parameters.model_alias, str) else {self.alias}
        parameters.load_mode = modes.LLAMA_LOAD_MODE_MMAP if self.mmap else modes.LLAMA_LOAD_MODE_NONE
        parameters.n_parallel = int(option("--parallel", "-np", default="1"))
        parameters.n_ctx = int(option("--ctx-size", "-c", default="8192"))
        parameters.cpuparams.n_threads = 1
        parameters.n_threads_http = 2
        parameters.warmup = False
        parameters.verbosity = 1
        # Its own server is on any port of the loopback interface; we answer in front of it.
        parameters.port = 0
        if architecture(self.path) == "bert":
            # GPUStack passes --embeddings to every model, with which llama.cpp's server would not chat.
            parameters.embedding = True
            pooling = xllamacpp.llama_pooling_type
            parameters.pooling_type = pooling.LLAMA_POOLING_TYPE_RANK if self.rerank else pooling.LLAMA_POOLING_TYPE_MEAN
        self.context, self.slots = parameters.n_ctx, parameters.n_parallel
        self.server = xllamacpp.Server(parameters)

    def is_mapped(self) -> bool:
        """Whether the file is in this process's memory map, which is the proof of the load mode."""
        with open("/proc/self/maps", encoding="utf-8") as maps:
            return any(line.rstrip().endswith(os.path.realpath(self.path)) for line in maps)

    def weights_bytes(self) -> int:
        """The size that llama-box would tell."""
        gib = declared(self.path).get("weights_gib")
        return int(gib * (1 << 30)) if gib else os.path.getsize(self.path)

    def answer(self, path: str, body: Json) -> Json:
        """One answer, not streamed."""
        ask = {
            "/v1/chat/completions": self.server.handle_chat_completions,
            "/v1/completions": self.server.handle_completions,
            "/v1/embeddings": self.server.handle_embeddings,
            "/v1/rerank": self.server.handle_rerank,
        }[path]
        said = ask(body)
        return dict(json.loads(said) if isinstance(said, (str, bytes)) else said)

    def stream(self, body: Json, send: t.Callable[[Json], bool]) -> None:
        """Chunks of a chat; send says whether anybody still listens."""

        def got(chunks: t.Any) -> bool:
            for chunk in chunks if isinstance(chunks, list) else [chunks]:
                text = chunk.decode() if isinstance(chunk, bytes) else chunk
                if isinstance(text, str):
                    text = text.removeprefix("data: ").strip()
                    if text in ("", "[DONE]"):
                        continue
                    text = json.loads(text)
                if not send(text):
                    # True ends the generation.
                    return True
            return False

        self.server.handle_chat_completions(body, got)


def tokens_per_second(mmap: bool) -> float:
    """The declared throttle; 0 for none."""
    pairs = dict(part.split("=") for part in os.environ.get("LLAMA_BOX_TPS", "").split(",") if part)
    return float(pairs.get("mmap" if mmap else "default", 0))


class Handler(http.server.BaseHTTPRequestHandler):
    """llama-box's routes."""

    protocol_version = "HTTP/1.1"
    engine: Engine
    started = int(time.time())

    def log_message(self, *arguments: t.Any) -> None:
        print(f"srv: {arguments[0] % arguments[1:]}", flush=True)

    def send(self, content: Json, status: int = 200) -> None:
        """One JSON document."""
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        engine = self.engine
        path = self.path.partition("?")[0]
        if path == "/health":
            self.send({"status": "ok"})
        elif path == "/v1/models":
            meta = {"n_ctx": engine.context, "n_ctx_train": 8192, "n_slot": engine.slots}
            meta |= {"n_params": engine.weights_bytes() // 4, "size": engine.weights_bytes()}
            one = {"id": engine.alias, "object": "model", "created": self.started, "owned_by": "llama-box", "meta": meta}
            self.send({"object": "list", "data": [one]})
        elif path == "/props":
            environment = {name: value for name, value in os.environ.items() if name.startswith(("GGML_", "LLAMA_BOX_"))}
            known = {"version": VERSION, "program": PROGRAM, "argv": ARGUMENTS, "env": environment, "engine": engine.name}
            self.send({**known, "mmap": engine.mmap, "mapped": engine.is_mapped(), "pid": os.getppid()})
        else:
            self.send({"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        silence = os.environ.get("LLAMA_BOX_SILENT")
        if silence == "mute":
            time.sleep(MUTE_SECONDS)
        if self.path == "/v1/rerank" and not self.engine.rerank:
            self.send({"error": {"code": 501, "message": "This server does not support reranking", "type": "not_supported_error"}}, 501)
        elif self.path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank"):
            self.complete({"max_tokens": MOST_TOKENS, **body, "model": self.engine.alias}, silence == "empty")
        else:
            self.send({"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}, 404)

    def complete(self, body: Json, empty: bool) -> None:
        """An answer, as slow as it is declared to be."""
        per_second = tokens_per_second(self.engine.mmap)
        if body.get("stream") and self.path == "/v1/chat/completions":
            self.stream(body, per_second, empty)
            return
        begin = time.monotonic()
        said = self.engine.answer(self.path, body)
        tokens = said.get("usage", {}).get("completion_tokens", 0)
        if empty:
            for choice in said.get("choices", ()):
                choice.update({"text": ""} if "text" in choice else {"message": {"role": "assistant", "content": ""}})
            said.update({part: [] for part in ("data", "results") if part in said})
        if per_second:
            time.sleep(max(0.0, tokens / per_second - (time.monotonic() - begin)))
        self.send(said, said["error"].get("code", 500) if "error" in said else 200)

    def stream(self, body: Json, per_second: float, empty: bool) -> None:
        """Server-sent events."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        gone = threading.Event()

        def send(chunk: Json) -> bool:
            choices = chunk.get("choices") or []
            has_token = any(choice.get("delta", {}).get("content") for choice in choices)
            if empty and has_token:
                return True
            if per_second and has_token:
                time.sleep(1 / per_second)
            try:
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()
            except OSError:
                gone.set()
            return not gone.is_set()

        self.engine.stream(body, send)
        if not gone.is_set():
            self.wfile.write(b"data: [DONE]\n\n")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    """Load, and serve until ended."""
    begin = time.monotonic()
    Handler.engine = Engine()
    seconds = time.monotonic() - begin
    print(f"model loaded in {seconds:.2f} s, mmap = {Handler.engine.mmap} (mapped: {Handler.engine.is_mapped()}), listening", flush=True)
    Server((option("--host", default="127.0.0.1"), int(option("--port", default="8080"))), Handler).serve_forever()


if __name__ == "__main__":
    main()
