# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make bench`: what a run that changes nothing costs, as a ratio to a play with one ping in the same run.

    bench.py [--hosts N] [--pairs N]

Hosts are disposable ones with the stand-in service, half Macs and half Linux. Their network has no latency and they share
this machine's cores with the controller, so only the ratios mean something. Contenders take turns within each pair.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from fleet import Fleet

PLAY = "- hosts: gpustack\n  gather_facts: false\n  become: true\n  tasks:\n    - {task}\n"
CONTENDERS = {
    "one ping": "ansible.builtin.ping:",
    "environment module": "metalfleet.gpustack.environment:",
    "role gpustack_node": "ansible.builtin.include_role: {name: metalfleet.gpustack.gpustack_node}",
}


def play(fleet: Fleet, number: int) -> float:
    """Wall seconds of a run that must change nothing."""
    command = fleet.playbook_command(str(fleet.folder / f"play-{number}.yml"), "-f", "20")
    environment = {**os.environ, "ANSIBLE_PIPELINING": "true"}
    start = time.monotonic()
    result = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    seconds = time.monotonic() - start
    if result.returncode != 0 or "changed=1" in result.stdout:
        sys.exit(f"{list(CONTENDERS)[number]} failed or changed something:\n{result.stdout}")
    return seconds


def measure(count: int, pairs: int) -> list[list[float]]:
    """Wall seconds by pair and contender."""
    with Fleet("bench") as fleet:
        kinds = {f"node-{number}": "linux" if number % 2 else "mac:m3_ultra_512" for number in range(1, count + 1)}
        fleet.boot(kinds)
        for name, kind in kinds.items():
            fleet.install_stand_in(name, "--kind", "systemd" if kind == "linux" else "script")
        for number, task in enumerate(CONTENDERS.values()):
            (fleet.folder / f"play-{number}.yml").write_text(PLAY.format(task=task))
        # The first round warms the connections and the file caches; it does not count.
        return [[play(fleet, number) for number in range(len(CONTENDERS))] for _round in range(pairs + 1)][1:]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    pairs = measure(arguments.hosts, arguments.pairs)
    print(f"{arguments.hosts} hosts, nothing to change, {arguments.pairs} pairs, {os.cpu_count()} cores")
    print(f"{'':22}{'median seconds':>16}{'ratio to one ping':>20}{'(min - max)':>16}")
    for number, name in enumerate(CONTENDERS):
        ratios = [taken[number] / taken[0] for taken in pairs]
        seconds = statistics.median(taken[number] for taken in pairs)
        spread = f"({min(ratios):.2f} - {max(ratios):.2f})"
        print(f"{name:22}{seconds:16.2f}{statistics.median(ratios):20.2f}{spread:>16}")


if __name__ == "__main__":
    main()
