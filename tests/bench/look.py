# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a host of the bench and prints what is there, as JSON: look.py PROGRAM"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import typing as t

VARIABLE = "GGML_METAL_NO_RESIDENCY"


def told(*command: str) -> str:
    """Standard output of a command."""
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout.strip()


def look(program: str) -> t.Dict[str, t.Any]:
    """Whatever tool has been here, the same questions. receipt: which one our module has left, if any."""
    text = pathlib.Path("/etc/default/gpustack").read_text()
    pid = told("systemctl", "show", "--property", "MainPID", "--value", "gpustack")
    process = pathlib.Path(f"/proc/{pid}/environ").read_text().split("\0") if pid != "0" else []
    receipt = pathlib.Path("/var/lib/metalfleet/receipt")
    return {
        "variable_in_file": bool(re.search(rf"^\s*(export\s+)?{VARIABLE}=", text, re.M)),
        "variable_in_manager": VARIABLE in told("systemctl", "show-environment"),
        "variable_in_process": any(one.startswith(f"{VARIABLE}=") for one in process),
        "ours_in_file": re.findall(r"^HF_ENDPOINT=(.*)$", text, re.M),
        "ours_in_process": [one.partition("=")[2] for one in process if one.startswith("HF_ENDPOINT=")],
        "program_sha256": hashlib.sha256(pathlib.Path(program).read_bytes()).hexdigest(),
        "service": [told("systemctl", "is-active", "gpustack"), told("systemctl", "is-enabled", "gpustack")],
        "starts": len(pathlib.Path("/var/log/gpustack-starts.log").read_text().splitlines()),
        "receipt": receipt.stat().st_ino if receipt.exists() else None,
    }


if __name__ == "__main__":
    print(json.dumps(look(sys.argv[1])))
