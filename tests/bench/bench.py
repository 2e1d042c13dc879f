# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make bench`: what a run costs, of this collection and of others that do the same. See README.md in this folder.

    bench.py [--hosts N] [--pairs N] [--first N] [--only TOOL,...] [--forks N] [--archive-mib N] [--results FOLDER]

With --results it puts the rows of this number of hosts into performance.json there, in place of earlier ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import time
import typing as t

import machine
import tools
from fleet import ROOT, Fleet
from measure import Cost, LargestProcess
from rows import COLUMNS, FIRST, NO_CHANGE, Row, median_of, merged, read_rows, select, write_rows
from targets import USER, BenchError, Targets
from tools import TOOLS, Tool


class Bench:
    """The runs of one number of hosts."""

    def __init__(self, targets: Targets, forks: int) -> None:
        self.targets = targets
        self.forks = forks
        self.rows: t.List[Row] = []
        self._receipt = ""
        self._peaks: t.Dict[str, float] = {}

    def first(self, chosen: t.Sequence[Tool], pairs: int) -> None:
        """Each tool on hosts that nobody has touched."""
        if pairs:
            self._compile(chosen)
        for pair in range(1, pairs + 1):
            for tool in _turn(chosen, pair):
                self._boot()
                self.targets.require_fault()
                self._connect(tool)
                with LargestProcess(self.targets.meter.targets[0], 0.05) as largest:
                    cost, changes = self._run(tool)
                if changes == 0:
                    raise BenchError(f"{tool.name} says that it changed nothing on hosts that have the fault")
                self.targets.require_state(tool.name)
                self._note(tool, FIRST, pair, cost, largest.peak_mib)

    def no_change(self, chosen: t.Sequence[Tool], pairs: int, keep: t.Callable[[], None]) -> None:
        """All tools on the same hosts, which are as every one of them wants them. keep: called after each pair."""
        if not pairs:
            return
        if not self.rows:
            self._boot()
            self._run(next(tool for tool in TOOLS if tool.name == "node"))
        for pair in range(pairs + 1):
            for tool in _turn(chosen, pair):
                # Before the first pair, to warm caches, and to see how much memory it takes.
                self._one(tool, pair) if pair else self._rehearse(tool)
            keep()
        self.targets.require_state("the whole of the bench")

    def _compile(self, chosen: t.Sequence[Tool]) -> None:
        """Let Python write down what it compiles of each tool, so that the one which comes first does not pay for that."""
        self._boot()
        for tool in chosen:
            command, environment = tools.command_of(tool, self.targets, self.forks, self.targets.names[0])
            done, _cost = self.targets.meter.run(command, environment)
            if done.returncode != 0:
                raise BenchError(f"{tool.name} ended with {done.returncode}:\n{done.stdout}")

    def _boot(self) -> None:
        self.targets.boot()
        self._receipt = ""

    def _rehearse(self, tool: Tool) -> None:
        self._have_receipt(tool)
        self._connect(tool)
        with LargestProcess(self.targets.meter.targets[0], 0.001) as largest:
            self._run(tool)
        self._peaks[tool.name] = largest.peak_mib

    def _one(self, tool: Tool, pair: int) -> None:
        self._have_receipt(tool)
        self._connect(tool)
        before = self.targets.look(self.targets.names[:1])[0]["receipt"]
        cost, changes = self._run(tool)
        if changes:
            raise BenchError(f"{tool.name} says that it changed {changes} things where there was nothing to do")
        if tool.receipt and self.targets.look(self.targets.names[:1])[0]["receipt"] != before:
            raise BenchError(f"{tool.name} has run the module, and was to compare the receipt")
        self._note(tool, NO_CHANGE, pair, cost, self._peaks[tool.name])

    def _have_receipt(self, tool: Tool) -> None:
        """The role and the task want the same in other words, and each leaves a receipt of its own: this one's has to be there."""
        if tool.receipt and tool.receipt != self._receipt:
            self._run(tool)
            # What was changed within the last tick of its clock is not signed, and costs one more run.
            time.sleep(0.1)
            self._run(tool)

    def _run(self, tool: Tool) -> t.Tuple[Cost, int]:
        command, environment = tools.command_of(tool, self.targets, self.forks)
        done, cost = self.targets.meter.run(command, environment)
        if done.returncode != 0:
            raise BenchError(f"{tool.name} ended with {done.returncode}:\n{done.stdout}")
        self._receipt = tool.receipt or self._receipt
        return cost, tools.changes_of(tool, done.stdout, len(self.targets.names))

    def _connect(self, tool: Tool) -> None:
        """ssh keeps connections for a minute. Whether it has them is not left to how long the tool before this one took."""
        if tool.run == "pyinfra":
            return
        if tool.cold:
            self._close_connections()
        else:
            self._run(TOOLS[0])

    def _close_connections(self) -> None:
        reach = json.loads((self.targets.fleet.folder / "reach.yml").read_text())["all"]
        control = reach["vars"]["ansible_control_path"].replace("%%", "%")
        for own in reach["children"]["linux"]["hosts"].values():
            close = ["ssh", "-F", "none", "-o", f"ControlPath={control}", "-O", "exit", f"{USER}@{own['ansible_host']}"]
            # There may be none.
            subprocess.run([*self.targets.inside(), *close], check=False, stderr=subprocess.DEVNULL)

    def _note(self, tool: Tool, phase: str, pair: int, cost: Cost, peak_mib: float) -> None:
        nodes = len(self.targets.names)
        row = Row(
            tool=tool.name,
            phase=phase,
            nodes=nodes,
            pair=pair,
            wall_seconds=round(cost.wall_seconds, 3),
            controller_cpu_ms_per_node=round(cost.controller_cpu_seconds * 1000 / nodes, 1),
            target_cpu_ms_per_node=round(cost.target_cpu_seconds * 1000 / nodes, 1),
            target_rss_mib=round(peak_mib, 1),
        )
        self.rows.append(row)
        print(" ".join(f"{key}={value}" for key, value in dataclasses.asdict(row).items()), flush=True)


def _turn(chosen: t.Sequence[Tool], pair: int) -> t.Sequence[Tool]:
    """Every second pair goes the other way round."""
    return chosen if pair % 2 else tuple(reversed(chosen))


def print_table(rows: t.Sequence[Row]) -> None:
    """Medians."""
    print(f"{'phase':10} {'tool':14}{'wall s':>9}{'controller ms/node':>20}{'target ms/node':>16}{'target MiB':>12}")
    for phase in (FIRST, NO_CHANGE):
        for tool in TOOLS:
            own = select(rows, tool.name, phase, rows[0].nodes)
            if own:
                wall, controller, target, peak = (median_of(own, column) for column in COLUMNS)
                print(f"{phase:10} {tool.name:14}{wall:9.2f}{controller:20.1f}{target:16.1f}{peak:12.1f}")


def keep(rows: t.Sequence[Row], arguments: argparse.Namespace, described: t.Mapping[str, t.Any]) -> None:
    """Put rows where they were asked for: after each part, since what comes next takes long, and may not come to its end."""
    if arguments.results and rows:
        folder = ROOT / arguments.results
        write_rows(folder / "performance.json", merged(read_rows(folder / "performance.json"), rows))
        machine.note(folder / "performance_runs.json", arguments.hosts, {row.phase for row in rows}, described)


def main() -> int:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=5, help="of runs that change nothing; 0 leaves them out")
    parser.add_argument("--first", type=int, default=1, help="how many first runs of each tool; 0 leaves them out")
    parser.add_argument("--only", default="", help="names of tools, with commas between them")
    parser.add_argument("--forks", type=int, default=20)
    parser.add_argument("--archive-mib", type=int, default=50)
    parser.add_argument("--results", type=pathlib.Path)
    arguments = parser.parse_args()
    chosen = [tool for tool in TOOLS if not arguments.only or tool.name in arguments.only.split(",")]
    tools.pyinfra_program()
    started = machine.describe(sys.argv[1:])
    try:
        with Fleet("bench") as fleet:
            targets = Targets(fleet, arguments.hosts, arguments.archive_mib)
            bench = Bench(targets, arguments.forks)
            mirror = targets.serve()
            try:
                bench.first([tool for tool in chosen if FIRST in tool.phases], arguments.first)
                keep(bench.rows, arguments, started)
                bench.no_change(
                    [tool for tool in chosen if NO_CHANGE in tool.phases], arguments.pairs, lambda: keep(bench.rows, arguments, started)
                )
            finally:
                mirror.terminate()
                mirror.wait()
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    print_table(bench.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
