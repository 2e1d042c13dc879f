# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives of stand-ins for llama-box, the same bytes each time they are made. See README.md."""

from __future__ import annotations

import argparse
import hashlib
import io
import pathlib
import stat
import typing as t
import zipfile

PROGRAM = "llama-box"

# Not llama-box: it says its version, answers, listens, ends, or crashes where it was made to.
_SOURCE = '''#!/usr/bin/env python3
"""A stand-in for llama-box @VERSION@ (@BUILD@)."""
import http.server, os, signal, socket, sys, threading, time

VERSION, BUILD, LIBRARIES, CRASH_AFTER_SECONDS = @FACTS@


def option(name, default=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path in ("/health", "/v1/models") else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def main():
    here = os.path.dirname(os.path.realpath(__file__))
    for name in LIBRARIES:
        if not os.path.isfile(os.path.join(here, name)):
            sys.stderr.write("Library not loaded: @rpath/%s\\n" % name)
            return 134
    if "--version" in sys.argv:
        sys.stderr.write("version    : %s (abcdef0)\\ncompiler   : stand-in\\ntarget     : %s\\nvendor     : none\\n" % (VERSION, BUILD))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if CRASH_AFTER_SECONDS is not None:
        crash = threading.Timer(CRASH_AFTER_SECONDS, lambda: os._exit(139))
        crash.daemon = True
        crash.start()
    residency = "GGML_METAL_NO_RESIDENCY" not in os.environ
    sys.stderr.write("ggml_metal_init: use residency sets = %s\\n" % str(residency).lower())
    sys.stderr.flush()
    port = option("--rpc-server-port")
    if port is not None:
        listener = socket.create_server((option("--rpc-server-host", "0.0.0.0"), int(port)))
        while True:
            listener.accept()[0].close()
    server = http.server.ThreadingHTTPServer((option("--host", "127.0.0.1"), int(option("--port", "8080"))), Handler)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
'''


def libraries(build: str) -> t.Tuple[str, ...]:
    """The libraries beside the program of a dynamic build."""
    if not build.startswith("dl-"):
        return ()
    suffix = "dylib" if "-darwin-" in build else "so"
    return tuple(f"{name}.{suffix}" for name in ("libggml", "libggml-base", "libllama"))


def program(version: str, build: str, crash_after_seconds: t.Optional[float] = None) -> bytes:
    """The stand-in for a version and build."""
    facts = repr((version, build, libraries(build), crash_after_seconds))
    return _SOURCE.replace("@FACTS@", facts).replace("@VERSION@", version).replace("@BUILD@", build).encode()


def contents(version: str, build: str, crash_after_seconds: t.Optional[float] = None) -> t.Dict[str, bytes]:
    """The files of a build."""
    files = {PROGRAM: program(version, build, crash_after_seconds)}
    files.update({name: f"stand-in for {name} of llama-box {version}\n".encode() for name in libraries(build)})
    return files


def pack(files: t.Mapping[str, bytes], mode: int = stat.S_IFREG | 0o755) -> bytes:
    """A zip archive, stored: how well bytes are compressed is another matter on each machine."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (2025, 1, 1, 0, 0, 0))
            # 3: made on Unix, so that the mode counts.
            info.create_system = 3
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return memory.getvalue()


def archive_name(build: str) -> str:
    """What GitHub calls the archive of a build."""
    return f"dl-llama-box-{build[3:]}.zip" if build.startswith("dl-") else f"llama-box-{build}.zip"


def place(folder: pathlib.Path, version: str, build: str, crash_after_seconds: t.Optional[float] = None) -> pathlib.Path:
    """Put an archive where GitHub has it, below the folder; returns its path."""
    path = folder / "gpustack/llama-box/releases/download" / version / archive_name(build)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack(contents(version, build, crash_after_seconds)))
    return path


def release_data(folder: pathlib.Path, base_url: str, version: str, build: str) -> t.Dict[str, t.Any]:
    """What the lock has to say of an archive that place() made."""
    path = folder / "gpustack/llama-box/releases/download" / version / archive_name(build)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        files = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    url = f"{base_url}/{path.relative_to(folder)}"
    return {"url": url, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content), "files": files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="the folder that mirror.py serves")
    parser.add_argument("--version", action="append", required=True, help="such as v0.0.139; more than one may be given")
    parser.add_argument("--build", action="append", required=True, help="such as dl-darwin-arm64-metal; more than one may be given")
    parser.add_argument("--crash-after-seconds", type=float)
    arguments = parser.parse_args()
    for version in arguments.version:
        for build in arguments.build:
            print(place(arguments.folder, version, build, arguments.crash_after_seconds))


if __name__ == "__main__":
    main()
