# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the fast path costs beside one ping: wall time, CPU of the controller, CPU of the targets.

    fast_path.py [--hosts N] [--pairs N] [--kind linux|mac|both] [--rows FILE]

In each pair all contenders run once, every second pair the other way round; what counts are ratios within a pair. Hosts are
disposable ones with the stand-in service. Programs of simulated Macs (launchctl, ps, sysctl) are Python and cost much more than
real ones, so the CPU of targets is told of Linux hosts only. What a host spends while nothing asks it is taken off.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
import typing as t

from disposable import cgroups
from fleet import Fleet

VARIABLES = {"ansible_python_interpreter": "/usr/bin/python3", "gpustack_node_wired_limit_state": "present"}
NODE = "metalfleet.gpustack.node: {{environment: {{variables: {{HF_ENDPOINT: 'https://hub.example.com'}}}}, wired_limit: {{}}{more}}}"
CONTENDERS = {
    "ping": "ansible.builtin.ping:",
    "node": NODE.format(more=""),
    "node, verify: content": NODE.format(more=", verify: content"),
    "role": "ansible.builtin.include_role: {name: metalfleet.gpustack.gpustack_node}",
}
IDLE_SECONDS = 5.0


class Row(t.NamedTuple):
    """What one contender took in one pair."""

    tool: str
    phase: str
    nodes: int
    pair: int
    wall_seconds: float
    controller_cpu_ms_per_node: float
    target_cpu_ms_per_node: float | None


class Bench:
    """The hosts of one run. targets: those whose CPU is told."""

    def __init__(self, fleet: Fleet, kinds: t.Mapping[str, str]) -> None:
        self.fleet = fleet
        self.count = len(kinds)
        self.targets = [name for name, kind in kinds.items() if kind == "linux"]
        fleet.boot(kinds)
        for name, kind in kinds.items():
            fleet.install_stand_in(name, "--kind", "systemd" if kind == "linux" else "script")
        for number, task in enumerate(CONTENDERS.values()):
            play = {"hosts": "gpustack", "gather_facts": False, "become": True, "vars": VARIABLES}
            (fleet.folder / f"{number}.yml").write_text(json.dumps([{**play, "tasks": ["TASK"]}]).replace('"TASK"', f"{{{task}}}"))
        time.sleep(IDLE_SECONDS)
        before = self.target_cpu()
        time.sleep(IDLE_SECONDS)
        self.idle_per_second = (self.target_cpu() - before) / IDLE_SECONDS

    def target_cpu(self) -> float:
        """Seconds of CPU that the targets have spent, all together."""
        group = cgroups.session_group(self.fleet.session)
        texts = [(group / name / "cpu.stat").read_text() for name in self.targets]
        return sum(int(dict(line.split() for line in text.splitlines())["usage_usec"]) for text in texts) / 1e6

    def play(self, number: int, pair: int, phase: str = "no_change") -> Row:
        """One contender. From the second time on it must change nothing."""
        command = self.fleet.playbook_command(str(self.fleet.folder / f"{number}.yml"), "-f", "20")
        environment = {**os.environ, "ANSIBLE_PIPELINING": "true"}
        start, target, controller = time.monotonic(), self.target_cpu(), _children_cpu()
        result = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        seconds = time.monotonic() - start
        if result.returncode != 0 or (pair > 0 and "changed=1" in result.stdout):
            sys.exit(f"{list(CONTENDERS)[number]} failed or changed something:\n{result.stdout}")
        of_targets = (self.target_cpu() - target - self.idle_per_second * seconds) * 1000 / len(self.targets) if self.targets else None
        of_controller = (_children_cpu() - controller) * 1000 / self.count
        return Row(list(CONTENDERS)[number], phase, self.count, pair, seconds, of_controller, of_targets)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(count: int, pairs: int, kind: str) -> list[Row]:
    """All pairs; the first run of each contender is not among them."""
    with Fleet("bench-fast") as fleet:
        of = {"linux": ("linux",), "mac": ("mac:m3_ultra_512",), "both": ("linux", "mac:m3_ultra_512")}[kind]
        bench = Bench(fleet, {f"node-{number}": of[number % len(of)] for number in range(count)})
        rows = []
        order = list(range(len(CONTENDERS)))
        for pair in range(pairs + 1):
            for number in order if pair % 2 else reversed(order):
                if number != 0:
                    # The role and the task want different things, and each leaves a receipt of its own: this one's has to be there.
                    bench.play(number, 0, "first")
                row = bench.play(number, pair)
                rows += [row] if pair else []
        return rows


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--kind", choices=["linux", "mac", "both"], default="linux")
    parser.add_argument("--rows", type=pathlib.Path)
    arguments = parser.parse_args()
    rows = measure(arguments.hosts, arguments.pairs, arguments.kind)
    if arguments.rows:
        arguments.rows.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    print(f"{arguments.hosts} hosts ({arguments.kind}), nothing to change, {arguments.pairs} pairs, {os.cpu_count()} cores")
    print(f"{'':24}{'wall s':>9}{'/ ping':>8}{'(min - max)':>14}{'controller ms/host':>20}{'target ms/host':>16}")
    pings = [row.wall_seconds for row in rows if row.tool == "ping"]
    for tool in CONTENDERS:
        own = [row for row in rows if row.tool == tool]
        ratios = [row.wall_seconds / ping for row, ping in zip(own, pings)]
        targets = [row.target_cpu_ms_per_node for row in own if row.target_cpu_ms_per_node is not None]
        print(
            f"{tool:24}{statistics.median(row.wall_seconds for row in own):9.2f}{statistics.median(ratios):8.2f}"
            f"{f'({min(ratios):.2f} - {max(ratios):.2f})':>14}"
            f"{statistics.median(row.controller_cpu_ms_per_node for row in own):20.1f}"
            f"{f'{statistics.median(targets):.1f}' if targets else '-':>16}"
        )


if __name__ == "__main__":
    main()
