# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make bench-parts`: what bounds a run of the fast path, by where its CPU goes. parts.py [--hosts N] [--runs N] [--results FOLDER]

Medians of some runs. With --results they are written to performance_parts.json there.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shlex
import shutil
import statistics
import sys
import time
import typing as t

import machine
import tools
from fleet import ROOT, Fleet
from measure import Cost
from targets import Targets
from tools import TOOLS, Tool

# The module, whatever the receipt says, on a node on which nothing is to be done.
LOOK = Tool("node_look", "node", options={"receipt_max_age_hours": 0})
NODE, PING, ROLE = (next(tool for tool in TOOLS if tool.name == name) for name in ("node", "ping", "role"))
SUDO = "sudo -n"
# What a host is asked, each a step further than the one before.
STEPS = (
    ("connection", "true"),
    ("sudo", f"{SUDO} true"),
    ("python", f"{SUDO} /usr/bin/python3 -I -S -c pass"),
)
# What any first run has to do on a host: one module of Ansible, the archive, the restart with what the service does in its first seconds.
ARCHIVE = """
import hashlib, sys, tempfile, urllib.request, zipfile
with tempfile.TemporaryFile() as file:
    with urllib.request.urlopen(sys.argv[1]) as answer:
        while piece := answer.read(1 << 18):
            file.write(piece)
    file.seek(0)
    hashlib.file_digest(file, "sha256")
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(file).extractall(folder)
"""
MOST_RUNS = 6
RESTART = f"{SUDO} systemctl restart gpustack && sleep 3"


class Parts:
    """Of one number of hosts, with a receipt on each."""

    def __init__(self, targets: Targets, forks: int) -> None:
        self.targets = targets
        self.forks = forks
        self.folder = targets.fleet.folder / "parts"

    def measure(self) -> t.Dict[str, float]:
        """Milliseconds of CPU per node, but `start`, of a run. `role_...`: of the role; `first_...`: of a first run, on the node."""
        nodes = len(self.targets.names)
        plain, start, processes = self._profile(NODE)
        own = processes["node"]
        per_node = (plain.controller_cpu_seconds - start) * 1000 / nodes
        found = {**own, "main": per_node - sum(own.values()), "start": start * 1000}
        before = 0.0
        for name, command_there in STEPS:
            spent = self._target_ms(Tool(name, "ssh", command_there))
            found[f"target_{name}"] = spent - before
            before = spent
        found["target_program"] = plain.target_cpu_seconds * 1000 / nodes - before
        found.update(self._role_parts())
        found["first_module"] = self._target_ms(PING)
        found["first_look"] = self._target_ms(LOOK)
        archive = f"python3 -c {shlex.quote(ARCHIVE)} {self.targets.policy['archive_url']}"
        for name, command_there in (("archive", archive), ("restart", RESTART)):
            found[f"first_{name}"] = self._target_ms(Tool(name, "ssh", command_there)) - found["target_connection"]
        return found

    def _role_parts(self) -> t.Dict[str, float]:
        plain, start, processes = self._profile(ROLE)
        checks = sum(processes["validate_argument_spec"].values())
        own = processes["node"]
        main = (plain.controller_cpu_seconds - start) * 1000 / len(self.targets.names) - checks - sum(own.values())
        templates = own.pop("templates")
        return {"role_main": main, "role_checks": checks, "role_templates": templates, "role_task": sum(own.values())}

    def _profile(self, tool: Tool) -> t.Tuple[Cost, float, t.Dict[str, t.Dict[str, float]]]:
        """A run by receipts, CPU seconds of Ansible's start, and what its processes spend: action -> part -> milliseconds per node."""
        self._warm(tool)
        command, environment = tools.command_of(tool, self.targets, self.forks)
        where = command.index("ansible-playbook")
        start = self._run([*command, "--list-hosts"], environment).controller_cpu_seconds
        receipts = self._receipts()
        plain = self._run(command, environment)
        if self._receipts() != receipts:
            raise SystemExit("parts: the module was run, and receipts were to be compared")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        watched = [sys.executable, str(tools.HERE / "profiled.py"), str(self.folder)]
        self._run([*command[:where], *watched, *command[where + 1 :]], environment)
        nodes = len(self.targets.names)
        processes: t.Dict[str, t.Dict[str, float]] = {}
        for path in self.folder.iterdir():
            spent = processes.setdefault(path.name.partition("-")[0], {})
            for part, seconds in json.loads(path.read_text()).items():
                spent[part] = spent.get(part, 0.0) + seconds * 1000 / nodes
        if len(list(self.folder.iterdir())) != nodes * len(processes):
            raise SystemExit(f"parts: not one process of each task for each of {nodes} nodes")
        return plain, start, processes

    def _target_ms(self, tool: Tool) -> float:
        """CPU of each host."""
        return self._run(*tools.command_of(tool, self.targets, self.forks)).target_cpu_seconds * 1000 / len(self.targets.names)

    def _warm(self, tool: Tool) -> None:
        """Bring every host to its state, and have a receipt that is believed; a restart, as at the end of a measurement, leaves none."""
        command, environment = tools.command_of(tool, self.targets, self.forks)
        for _ in range(MOST_RUNS):
            receipts = self._receipts()
            self._run(command, environment)
            if self._receipts() == receipts:
                return
            # What was changed within the last tick of its clock is not signed, and costs one more run.
            time.sleep(0.1)
        raise SystemExit(f"parts: {MOST_RUNS} runs have left no receipt that is believed")

    def _receipts(self) -> t.List[t.Any]:
        return [seen["receipt"] for seen in self.targets.look(self.targets.names)]

    def _run(self, command: t.Sequence[str], environment: t.Mapping[str, str]) -> Cost:
        done, cost = self.targets.meter.run(command, environment)
        if done.returncode != 0:
            raise SystemExit(f"parts: {' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
        return cost


def medians(runs: t.Sequence[t.Mapping[str, float]]) -> t.Dict[str, float]:
    """Of each part."""
    return {part: round(statistics.median(run[part] for run in runs), 1) for part in runs[0]}


def main() -> int:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--forks", type=int, default=20)
    parser.add_argument("--archive-mib", type=int, default=50)
    parser.add_argument("--results", type=pathlib.Path)
    arguments = parser.parse_args()
    described = machine.describe(sys.argv[1:])
    with Fleet("bench") as fleet:
        targets = Targets(fleet, arguments.hosts, arguments.archive_mib)
        targets.boot()
        mirror = targets.serve()
        try:
            parts = Parts(targets, arguments.forks)
            found = medians([parts.measure() for _ in range(arguments.runs)])
        finally:
            mirror.terminate()
            mirror.wait()
    for part, value in found.items():
        print(f"{part:18}{value:8.1f} ms{' per run' if part == 'start' else ''}")
    if arguments.results:
        text = json.dumps({"nodes": arguments.hosts, "runs": arguments.runs, "on": described, "parts": found}, indent=2)
        (ROOT / arguments.results / "performance_parts.json").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
