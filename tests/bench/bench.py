# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make bench`: what a run that changes nothing costs, as a ratio to a play with one ping in the same run.

    bench.py [--hosts N] [--pairs N]

Hosts are disposable ones with the stand-in service, half Macs and half Linux. Their network has no latency and they share
this machine's cores with the controller, so only the ratios mean something. Contenders take turns within each pair.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOSTS = str(ROOT / "tests/hosts/hosts")
SESSION = f"bench-{os.getpid()}"
PLAY = "- hosts: {group}\n  gather_facts: false\n  become: true\n  tasks:\n    - {task}\n"
CONTENDERS = {
    "one ping": PLAY.format(group="gpustack", task="ansible.builtin.ping:"),
    "environment module": PLAY.format(group="gpustack", task="metalfleet.gpustack.environment:"),
    "role gpustack_node": PLAY.format(group="gpustack", task="ansible.builtin.include_role: {name: metalfleet.gpustack.gpustack_node}"),
}


def hosts(*arguments: str) -> str:
    """Call the tool of the disposable hosts."""
    return subprocess.run([HOSTS, *arguments], check=True, text=True, stdout=subprocess.PIPE).stdout


def play(folder: pathlib.Path, playbook: str) -> float:
    """Wall seconds of a run that must change nothing."""
    command = ["ansible-playbook", "-i", str(folder / "reach.yml"), "-i", str(folder / "inventory.yml"), "-f", "20", str(folder / playbook)]
    environment = {**os.environ, "ANSIBLE_PIPELINING": "true", "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"}
    start = time.monotonic()
    result = subprocess.run(
        [HOSTS, "run", SESSION, "--", *command], check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    seconds = time.monotonic() - start
    if result.returncode != 0 or "changed=1" in result.stdout:
        sys.exit(f"{playbook} failed or changed something:\n{result.stdout}")
    return seconds


def boot(folder: pathlib.Path, count: int) -> None:
    """Boot, install the stand-in on all, write inventories and playbooks."""
    kinds = {f"node-{number}": "linux" if number % 2 else "mac:m3_ultra_512" for number in range(1, count + 1)}
    hosts("up", SESSION, *(f"{name}={kind}" for name, kind in kinds.items()))
    (folder / "reach.yml").write_text(hosts("inventory", SESSION))
    (folder / "inventory.yml").write_text(json.dumps({"gpustack": {"hosts": {name: {} for name in kinds}}}))
    source = ROOT / "tests/stand_in"
    for name, kind in kinds.items():
        pack = subprocess.run(["tar", "-C", str(source), "-c", "install.py", "service.py"], check=True, stdout=subprocess.PIPE).stdout
        service = "systemd" if kind == "linux" else "script"
        command = f"tar -C /tmp -x && python3 /tmp/install.py --kind {service}"
        subprocess.run([HOSTS, "ssh", SESSION, name, "--", command], check=True, input=pack)
    for number, text in enumerate(CONTENDERS.values()):
        (folder / f"play-{number}.yml").write_text(text)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    folder = ROOT / ".cache" / SESSION
    folder.mkdir(parents=True)
    hosts("start", SESSION, "--owner-pid", str(os.getpid()))
    try:
        boot(folder, arguments.hosts)
        # The first round warms the connections and the file caches; it does not count.
        rounds = [[play(folder, f"play-{number}.yml") for number in range(len(CONTENDERS))] for _round in range(arguments.pairs + 1)][1:]
    finally:
        hosts("stop", SESSION)
        shutil.rmtree(folder)
    print(f"{arguments.hosts} hosts, nothing to change, {arguments.pairs} pairs, {os.cpu_count()} cores")
    print(f"{'':22}{'median seconds':>16}{'ratio to one ping':>20}{'(min - max)':>16}")
    for number, name in enumerate(CONTENDERS):
        ratios = [taken[number] / taken[0] for taken in rounds]
        seconds = statistics.median(taken[number] for taken in rounds)
        spread = f"({min(ratios):.2f} - {max(ratios):.2f})"
        print(f"{name:22}{seconds:16.2f}{statistics.median(ratios):20.2f}{spread:>16}")


if __name__ == "__main__":
    main()
