# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""On what, when and how the rows of each number of hosts and each phase were measured."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import platform
import re
import shlex
import sys
import typing as t

import ansible.release


def describe(arguments: t.Sequence[str]) -> t.Dict[str, t.Any]:
    """This machine, now."""
    memory_kib = int(_first(r"MemTotal: *(\d+)", "/proc/meminfo"))
    return {
        "command": f"tests/bench/{pathlib.Path(sys.argv[0]).name} {shlex.join(arguments)}".strip(),
        "date": datetime.date.today().isoformat(),
        "processor": _first(r"model name\s*: (.*)", "/proc/cpuinfo"),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kib / 1024 / 1024, 1),
        "load_before": round(os.getloadavg()[0], 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "ansible_core": ansible.release.__version__,
    }


def note(path: pathlib.Path, nodes: int, phases: t.Iterable[str], described: t.Mapping[str, t.Any]) -> None:
    """Keep it, in place of an earlier one of as many hosts and the same phase."""
    known = json.loads(path.read_text()) if path.exists() else {}
    known[str(nodes)] = dict(sorted({**known.get(str(nodes), {}), **{phase: dict(described) for phase in phases}}.items()))
    path.write_text(json.dumps(dict(sorted(known.items(), key=lambda item: int(item[0]))), indent=1) + "\n")


def _first(pattern: str, path: str) -> str:
    found = re.search(pattern, pathlib.Path(path).read_text())
    return found.group(1).strip() if found else "0"
