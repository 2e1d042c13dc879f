# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a disposable host: prints what runs and what lies where. It shares no code with the collection."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import pathlib
import re
import subprocess

# A simulated Mac shows no /proc to programs; its kernel is Linux all the same, and this is where it is for the tests.
PROC = "/.sim/proc" if os.path.isdir("/.sim/proc") else "/proc"
STATE = "/var/db/metalfleet" if os.path.isdir("/.sim") else "/var/lib/metalfleet"
PROGRAMS = {"gpustack", "llama-box", "llama-box-rpc-server"}
VENVS = (
    "/Users/admin/.local/pipx/venvs/gpustack",
    "/root/.local/pipx/venvs/gpustack",
    "/Applications/GPUStack.app/Contents/Resources/venv",
)
DATA = ("/var/lib/gpustack", "/Library/Application Support/GPUStack")


def processes() -> list[dict[str, object]]:
    """Those of the service, with the environment that the kernel gave them."""
    found: list[dict[str, object]] = []
    for folder in glob.glob(f"{PROC}/[0-9]*"):
        try:
            command = pathlib.Path(folder, "cmdline").read_bytes().split(b"\0")
            environment = pathlib.Path(folder, "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        # The interpreter comes first.
        words = [os.path.basename(word).decode() for word in command[:2]]
        name = next((word for word in words if word in PROGRAMS), None)
        if name is not None:
            pairs = dict(pair.decode().split("=", 1) for pair in environment if b"=" in pair)
            path = next(word.decode() for word in command if os.path.basename(word).decode() == name)
            is_rpc = b"--rpc-server-port" in command
            what = {"name": name, "is_rpc": is_rpc, "pid": int(os.path.basename(folder)), "path": path, "environment": pairs}
            found.append(what)
    return found


def program(path: str) -> dict[str, object]:
    """A llama-box, asked for its version, with everything beside it."""
    result = subprocess.run([path, "--version"], check=False, capture_output=True, text=True, timeout=30)
    match = re.search(r"^version +: (\S+)", result.stderr, flags=re.MULTILINE)
    files = {}
    for name in os.listdir(os.path.dirname(path)):
        one = os.path.join(os.path.dirname(path), name)
        if os.path.isfile(one) and not os.path.islink(one):
            files[name] = hashlib.sha256(pathlib.Path(one).read_bytes()).hexdigest()
    mode = oct(os.stat(path).st_mode & 0o7777)
    return {
        "path": path,
        "version": match.group(1) if match else None,
        "mode": mode,
        "sha256": files[os.path.basename(path)],
        "files": files,
    }


def llama_boxes() -> dict[str, object]:
    """GPUStack's builtin one, those that models can be pinned to by version, and what the collection keeps."""
    tools = [f"{venv}/lib/python3.11/site-packages/gpustack/third_party/bin" for venv in VENVS]
    builtin = [
        path
        for folder in tools
        for path in glob.glob(f"{folder}/llama-box/llama-box-default/llama-box") or glob.glob(f"{folder}/llama-box/llama-box")
    ]
    records = [pathlib.Path(f"{folder}/versions.json") for folder in tools]
    pinned = {}
    for data in DATA:
        for path in glob.glob(f"{data}/bin/llama-box_*"):
            pinned[path.rpartition("_")[2]] = program(path)
        for path in glob.glob(f"{data}/bin/llama-box/llama-box-*/llama-box") + glob.glob(
            f"{data}/bin/llama-box/static/llama-box-*/llama-box"
        ):
            pinned[path.split("/")[-2][len("llama-box-") :]] = program(path)
    return {
        "builtin": program(builtin[0]) if builtin else None,
        "pinned": pinned,
        "versions_json": [hashlib.sha256(path.read_bytes()).hexdigest() for path in records if path.exists()],
        "kept": sorted("/".join(path.split("/")[-2:]) for path in glob.glob(f"{STATE}/llama-box/v*/*")),
    }


def rpc_server() -> dict[str, object]:
    """The RPC server that runs, by the service's note of what it started."""
    running = [process for process in processes() if process["is_rpc"]]
    log = pathlib.Path("/var/log/gpustack-rpc-starts.log")
    started = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    digests = {int(pid): digest for pid, digest in started}
    return {"running": [{**one, "sha256": digests.get(int(str(one["pid"])))} for one in running], "starts": len(started)}


def starts() -> int:
    """How often the service was started."""
    log = pathlib.Path("/var/log/gpustack-starts.log")
    return len(log.read_text().splitlines()) if log.exists() else 0


print(json.dumps({"processes": processes(), "llama_box": llama_boxes(), "rpc": rpc_server(), "starts": starts()}))
