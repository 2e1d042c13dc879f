# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What tests of other things rely on: the mirror's command line, and that its stand-ins behave as llama-box does."""

from __future__ import annotations

import hashlib
import json
import pathlib
import signal
import socket
import subprocess
import sys
import time
import typing as t
import urllib.error
import urllib.request

import pytest
from ansible_collections.metalfleet.gpustack.tests.mirror import archives

FOLDER = pathlib.Path(archives.__file__).parent
# Build -> the beginning of its archive's digest.
BUILDS = {"darwin-arm64-metal": "4cf4185e6aa42823", "dl-linux-amd64-cpu": "12b41736179fc0df"}


def unpack(folder: pathlib.Path, build: str = "darwin-arm64-metal", **options: t.Any) -> str:
    for name, content in archives.contents("v0.0.171", build, **options).items():
        (folder / name).write_bytes(content)
    (folder / "llama-box").chmod(0o755)
    return str(folder / "llama-box")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(question: t.Callable[[], bool], limit_seconds: float = 20.0) -> None:
    end = time.monotonic() + limit_seconds
    while not question():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def fetch(url: str, **headers: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as response:
        return bytes(response.read())


def status_of(url: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(url)
    caught.value.close()
    return int(caught.value.code)


def test_archives_are_the_same_on_every_machine():
    digests = {build: hashlib.sha256(archives.pack(archives.contents("v0.0.171", build))).hexdigest()[:16] for build in BUILDS}
    assert digests == BUILDS


@pytest.mark.parametrize("build", BUILDS)
def test_a_stand_in_says_its_version_where_llama_box_does(tmp_path, build):
    result = subprocess.run([unpack(tmp_path, build), "--version"], capture_output=True, text=True, check=True, timeout=30)
    assert result.stderr.splitlines()[0] == "version    : v0.0.171 (abcdef0)"
    assert result.stdout == ""


def test_a_dynamic_stand_in_wants_its_libraries(tmp_path):
    program = unpack(tmp_path, "dl-darwin-arm64-metal")
    (tmp_path / "libggml-base.dylib").unlink()
    result = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30)
    assert (result.returncode, result.stderr) == (134, "Library not loaded: @rpath/libggml-base.dylib\n")


@pytest.mark.parametrize("option", ["--port", "--rpc-server-port"])
def test_a_stand_in_listens_until_it_is_ended(tmp_path, option):
    port = free_port()
    with subprocess.Popen([unpack(tmp_path), option, str(port)], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: listens(port))
            if option == "--port":
                assert fetch(f"http://127.0.0.1:{port}/health") == b""
                assert status_of(f"http://127.0.0.1:{port}/none") == 404
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_a_stand_in_crashes_if_it_was_made_to(tmp_path):
    program = unpack(tmp_path, crash_after_seconds=0.1)
    result = subprocess.run([program, "--port", str(free_port())], stderr=subprocess.PIPE, check=False, timeout=30)
    assert result.returncode == 139


@pytest.mark.parametrize(("environment", "says"), [({}, "true"), ({"GGML_METAL_NO_RESIDENCY": "0"}, "false")])
def test_a_stand_in_says_whether_residency_is_on(tmp_path, environment, says):
    program = unpack(tmp_path, crash_after_seconds=0.1)
    command = [program, "--rpc-server-port", str(free_port())]
    result = subprocess.run(command, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, check=False, timeout=30)
    assert result.stderr == f"ggml_metal_init: use residency sets = {says}\n"


def test_the_command_lines_serve_archives_with_faults(tmp_path):
    words = ["--version", "v0.0.139", "--build", "darwin-arm64-metal", "--build", "dl-linux-amd64-cpu"]
    made = subprocess.run(
        [sys.executable, FOLDER / "archives.py", tmp_path, *words], capture_output=True, text=True, check=True, timeout=30
    )
    path = f"/gpustack/llama-box/releases/download/v0.0.139/{archives.archive_name('darwin-arm64-metal')}"
    assert made.stdout.splitlines()[0] == f"{tmp_path}{path}"
    control, log = tmp_path / "faults.json", tmp_path / "log.jsonl"
    control.write_text(json.dumps({path: [{"status": 503}]}))
    command = [sys.executable, FOLDER / "mirror.py", tmp_path, "--token", "t0ken", "--control", control, "--log", log]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip() + path
            # A request without credentials uses up the fault like any other.
            assert status_of(url) == 503
            assert status_of(url) == 401
            assert (
                hashlib.sha256(fetch(url, Authorization="Bearer t0ken")).hexdigest()
                == (archives.release_data(tmp_path, "", "v0.0.139", "darwin-arm64-metal")["sha256"])
            )
        finally:
            process.kill()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["path"], line["status"], line["authorized"]) for line in lines] == [
        (path, 503, False),
        (path, 401, False),
        (path, 200, True),
    ]
    assert "t0ken" not in log.read_text()
