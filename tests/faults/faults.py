# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make faults`: what a run does on hosts, and with mirrors, that have a fault. See README.md in this folder.

faults.py [--some] [--only PATTERN,...] [--at-once N] [--nodes N] [--list]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import fnmatch
import itertools
import pathlib
import sys
import time
import traceback
import typing as t

import bus_faults
import clock_faults
import command_faults
import disk_faults
import fleet_faults
import mirror_faults
import mirrors
import service_faults
from fault import Fault, FaultError
from faulty_node import FaultyNode, make_layer
from fleet import Fleet, hosts

FAULTS: t.Tuple[Fault, ...] = (
    *disk_faults.FAULTS,
    *clock_faults.FAULTS,
    *bus_faults.FAULTS,
    *service_faults.FAULTS,
    *command_faults.FAULTS,
    *mirror_faults.FAULTS,
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of one fault. problem: empty where everything was as it has to be."""

    name: str
    seconds: float
    problem: str


def play(fault: Fault, number: int, session: str, layer: pathlib.Path) -> Outcome:
    """One fault on a new host, whose name may have 32 characters."""

    def story() -> None:
        name = f"f{number}-{fault.name.replace('_', '-')}"[:32].rstrip("-")
        with FaultyNode(session, name, fault.kind, layer, fault.installs) as node:
            fault.story(node)

    return _judged(fault.name, story)


def play_fleet(fault: fleet_faults.FleetFault, layer: pathlib.Path, size: int) -> Outcome:
    """One fault of a fleet, in a session of its own."""

    def story() -> None:
        with Fleet("faulty-fleet") as fleet:
            fault.story(fleet, layer, size)

    return _judged(fault.name, story)


def _judged(name: str, story: t.Callable[[], None]) -> Outcome:
    start = time.monotonic()
    problem = ""
    try:
        story()
    except FaultError as exc:
        problem = str(exc)
    except Exception:
        problem = traceback.format_exc()
    return Outcome(name, time.monotonic() - start, problem)


def is_chosen(fault: t.Union[Fault, fleet_faults.FleetFault], arguments: argparse.Namespace) -> bool:
    """Whether it was asked for."""
    return (fault.some or not arguments.some) and any(fnmatch.fnmatch(fault.name, pattern) for pattern in arguments.only.split(","))


def main() -> int:
    """Play them, some at once, and say what came of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--some", action="store_true", help="the quick subset that make test runs")
    parser.add_argument("--only", default="*", help="names that match one of these patterns, with commas between them")
    parser.add_argument("--at-once", type=int, default=4, help="how many hosts")
    parser.add_argument("--nodes", type=int, default=100, help="how many a large fleet has")
    parser.add_argument("--list", action="store_true", help="only print their names")
    arguments = parser.parse_args()
    faults = [fault for fault in FAULTS if is_chosen(fault, arguments)]
    fleets = [fault for fault in fleet_faults.FAULTS if is_chosen(fault, arguments)]
    if arguments.list:
        print("\n".join([*(fault.name for fault in faults), *(fault.name for fault in fleets)]))
        return 0
    start = time.monotonic()
    failed = 0
    with Fleet("faults") as fleet, concurrent.futures.ThreadPoolExecutor(arguments.at_once) as pool, contextlib.ExitStack() as stack:
        layer = make_layer(fleet.folder)
        clock_faults.make_library(layer)
        hosts("run", fleet.session, "--", "ip", "address", "add", f"{mirrors.OTHER}/16", "dev", "fleet0")
        playing = [pool.submit(play, fault, number, fleet.session, layer) for number, fault in enumerate(faults)]
        # Who is told to stop in the middle does not begin with those that wait.
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        outcomes = (done.result() for done in concurrent.futures.as_completed(playing))
        for outcome in itertools.chain(outcomes, (play_fleet(fault, layer, arguments.nodes) for fault in fleets)):
            failed += bool(outcome.problem)
            print(f"{'failed' if outcome.problem else 'passed':7}{outcome.name:42}{outcome.seconds:6.1f} s", flush=True)
            if outcome.problem:
                print(f"    {outcome.problem}", flush=True)
    played = len(faults) + len(fleets)
    print(f"{played - failed} passed, {failed} failed in {time.monotonic() - start:.1f}s")
    return 1 if failed or not played else 0


if __name__ == "__main__":
    sys.exit(main())
