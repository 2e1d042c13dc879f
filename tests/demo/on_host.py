# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a demo host, by `python3 - ACTION`. It shares no code with the collection, so that it can contradict it."""

from __future__ import annotations

import glob
import json
import os
import pathlib
import plistlib
import subprocess
import sys
import time
import urllib.request

VARIABLE = "GGML_METAL_NO_RESIDENCY"
FILE = "/etc/default/gpustack"
PLIST = "/Library/LaunchDaemons/ai.gpustack.plist"
PROGRAM = "/Users/admin/.local/pipx/venvs/gpustack/bin/gpustack"
# A simulated Mac hides its real process table; this is where the tests look at it.
PROCESSES = "/.sim/proc"


def run(*argv: str) -> str:
    """Standard output of a command, whatever its exit status."""
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60).stdout


def wait_healthy(limit_seconds: float = 120.0) -> str:
    """GPUStack's own version, once it answers."""
    end = time.monotonic() + limit_seconds
    while True:
        try:
            with urllib.request.urlopen("http://127.0.0.1/version", timeout=2) as answer:
                return str(json.load(answer)["version"])
        except OSError:
            if time.monotonic() > end:
                sys.exit(f"GPUStack does not answer: {run('tail', '-n', '20', '/var/log/gpustack.log')}")
            time.sleep(0.3)


def install() -> None:
    """What GPUStack's install.sh does on a Mac on which /etc/default/gpustack disables residency, as in gpustack#1907."""
    os.makedirs("/etc/default", exist_ok=True)
    os.makedirs("/opt/demo", exist_ok=True)
    with open("/opt/demo/catalog.yaml", "w") as catalog:
        catalog.write("[]\n")
    with open(FILE, "w") as file:
        file.write(f"# the team's settings\nHF_HUB_OFFLINE=1\n{VARIABLE}=1\nexport {VARIABLE}=0\n")
    # A server without a worker: a worker would download llama-box, and there is no such place on this machine.
    arguments = "start --host 0.0.0.0 --port 80 --data-dir /var/lib/gpustack --disable-worker --disable-update-check"
    content = {
        "Label": "ai.gpustack",
        "ProgramArguments": [PROGRAM, *arguments.split(), "--model-catalog-file", "/opt/demo/catalog.yaml"],
        "EnvironmentVariables": {"HF_HUB_OFFLINE": "1", VARIABLE: "1"},
        "RunAtLoad": True,
        "KeepAlive": True,
        "EnableTransactions": True,
        "StandardOutPath": "/var/log/gpustack.log",
        "StandardErrorPath": "/var/log/gpustack.log",
    }
    with open(PLIST, "wb") as plist:
        plistlib.dump(content, plist)
    subprocess.run(["launchctl", "setenv", VARIABLE, "1"], check=True, timeout=30)
    subprocess.run(["launchctl", "bootstrap", "system", PLIST], check=True, timeout=30)
    wait_healthy()


def alive() -> str:
    """How many of GPUStack's processes have the variable, from the kernel."""
    having = total = 0
    for folder in glob.glob(f"{PROCESSES}/[0-9]*"):
        try:
            command = pathlib.Path(folder, "cmdline").read_bytes()
            environment = pathlib.Path(folder, "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if PROGRAM.encode() in command or b"multiprocessing" in command:
            total += 1
            having += any(pair.startswith(VARIABLE.encode() + b"=") for pair in environment)
    return f"{having} of {total}"


def look() -> None:
    """Print one row a place."""
    with open(FILE) as file:
        lines = [str(number) for number, line in enumerate(file, start=1) if VARIABLE in line]
    with open(PLIST, "rb") as plist:
        environment = plistlib.load(plist).get("EnvironmentVariables", {})
    with open("/.sim/events.jsonl") as events:
        spawned = [line for line in events if json.loads(line)["event"] == "spawn" and "ai.gpustack" in line]
    rows = {
        "GPUStack answers, version": wait_healthy(),
        FILE: f"line {' and '.join(lines)}" if lines else "absent",
        "property list": "present" if VARIABLE in environment else "absent",
        "other variables in it": ", ".join(sorted(set(environment) - {VARIABLE})) or "none",
        "launchctl getenv": "present" if run("launchctl", "getenv", VARIABLE) else "absent",
        "loaded job": "present" if VARIABLE in run("launchctl", "print", "system/ai.gpustack") else "absent",
        "processes that have it": alive(),
        "starts of the service": str(len(spawned)),
    }
    print(json.dumps(rows))


if __name__ == "__main__":
    {"install": install, "look": look}[sys.argv[1]]()
