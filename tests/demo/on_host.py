# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a node of the demo, by `python3 - ACTION`. It shares no code with the collection, so that it can contradict it."""

from __future__ import annotations

import glob
import json
import pathlib
import plistlib
import subprocess
import sys
import typing as t
import urllib.request

VARIABLE = "GGML_METAL_NO_RESIDENCY"
FILE = "/etc/default/gpustack"
PLIST = "/Library/LaunchDaemons/ai.gpustack.plist"
# A simulated Mac hides its real process table; this is where the tests look at it.
PROCESSES = "/.sim/proc"


def run(*argv: str) -> str:
    """Standard output of a command, whatever its exit status."""
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60).stdout


def plant() -> None:
    """The variable where install.sh leaves it if /etc/default/gpustack has it, and in launchd; then the next start has it."""
    with open(FILE, "w") as file:
        file.write(f"# the team's settings\nHF_HUB_OFFLINE=1\n{VARIABLE}=1\nexport {VARIABLE}=0\n")
    with open(PLIST, "rb") as plist:
        content = plistlib.load(plist)
    content["EnvironmentVariables"] = {"HF_HUB_OFFLINE": "1", VARIABLE: "1"}
    with open(PLIST, "wb") as plist:
        plistlib.dump(content, plist)
    subprocess.run(["launchctl", "setenv", VARIABLE, "1"], check=True, timeout=30)
    # As the operator of gpustack#1907 did at some time: what launchd has loaded since then has the variable.
    subprocess.run(["launchctl", "bootout", "system/ai.gpustack"], check=False, timeout=60, capture_output=True)
    while subprocess.run(["launchctl", "bootstrap", "system", PLIST], check=False, timeout=60, capture_output=True).returncode in (5, 37):
        continue


def alive() -> str:
    """How many of GPUStack's processes have the variable, from the kernel."""
    having = total = 0
    for folder in glob.glob(f"{PROCESSES}/[0-9]*"):
        try:
            command = pathlib.Path(folder, "cmdline").read_bytes()
            environment = pathlib.Path(folder, "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"gpustack" in command:
            total += 1
            having += any(pair.startswith(VARIABLE.encode() + b"=") for pair in environment)
    return f"{having} of {total}"


def model(port: str) -> None:
    """Print what the llama-box that serves a model says of itself, and whether its process has the variable."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/props", timeout=30) as answer:
        said = json.load(answer)
    argv = said["argv"]
    flags = [word for word in argv if word in ("--mmap", "--no-mmap")]
    environment = pathlib.Path(PROCESSES, str(said["pid"]), "environ").read_bytes().split(b"\0")
    having = any(pair.startswith(VARIABLE.encode() + b"=") for pair in environment)
    seen = {"flags": flags, "rpc": "--rpc" in argv, "mapped": said["mapped"], "version": said["version"], "variable": having}
    print(json.dumps(seen))


def look() -> None:
    """Print one row a place."""
    with open(FILE) as file:
        lines = [str(number) for number, line in enumerate(file, start=1) if VARIABLE in line]
    with open(PLIST, "rb") as plist:
        environment = plistlib.load(plist).get("EnvironmentVariables", {})
    with open("/.sim/events.jsonl") as events:
        spawned = [line for line in events if json.loads(line)["event"] == "spawn" and "ai.gpustack" in line]
    rows = {
        FILE: f"line {' and '.join(lines)}" if lines else "absent",
        "property list": "present" if VARIABLE in environment else "absent",
        "other variables in it": ", ".join(sorted(set(environment) - {VARIABLE})) or "none",
        "launchctl getenv": "present" if run("launchctl", "getenv", VARIABLE) else "absent",
        "loaded job": "present" if VARIABLE in run("launchctl", "print", "system/ai.gpustack") else "absent",
        "processes that have it": alive(),
        "wired limit, MiB": run("sysctl", "-n", "iogpu.wired_limit_mb").strip(),
        "starts of the service": str(len(spawned)),
    }
    print(json.dumps(rows))


if __name__ == "__main__":
    actions: dict[str, t.Callable[..., None]] = {"plant": plant, "look": look, "model": model}
    actions[sys.argv[1]](*sys.argv[2:])
