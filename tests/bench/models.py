# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make bench-models`: what a run of the role gpustack_models that changes nothing costs, on a real server with many models.

    models.py [--models N] [--workers N] [--pairs N]

The server is a real GPUStack 0.6.2 on a disposable host. Its models have no replicas, and its workers are entries in its database
alone, made through its API: nothing runs on them. A recording proxy counts the calls. The three contenders take turns within each pair:
reading the lists once with the standard library, a play that only reads them (worker_info), and the role. Only the ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import typing as t

import package
from fleet import HOSTS, ROOT, Fleet

VERSION = "0.6.2"
PASSWORD = "Secret#12345"
PROXY_PORT = 8081
START_LIMIT_SECONDS = 30.0
CONNECTION = f"server_url: http://127.0.0.1:{PROXY_PORT}, username: admin, password: '{PASSWORD}'"
ROLE = f"""- hosts: gpustack
  gather_facts: false
  vars:
    gpustack_server_url: http://127.0.0.1:{PROXY_PORT}
    gpustack_server_username: admin
    gpustack_server_password: '{PASSWORD}'
    gpustack_models_look_at_nodes: false
  roles: [metalfleet.gpustack.gpustack_models]
"""
READER = f"- hosts: gpustack\n  gather_facts: false\n  tasks:\n    - metalfleet.gpustack.worker_info: {{{CONNECTION}}}\n"
# Runs beside the server, or where the proxy is; it prints seconds, or nothing.
SCRIPT = """
import base64, json, sys, time, urllib.request
url, action, models, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
headers = {"Authorization": "Basic " + base64.b64encode(b"admin:@PASSWORD@").decode(), "Content-Type": "application/json"}
def ask(method, path, body=None):
    request = urllib.request.Request(url + path, None if body is None else json.dumps(body).encode(), headers, method=method)
    return json.load(urllib.request.urlopen(request, timeout=60))
def fill():
    memory = {"total": 512 << 30, "is_unified_memory": True}
    gpu = {"name": "Apple M3 Ultra", "vendor": "Apple", "index": 0, "type": "mps", "memory": {**memory, "total": 384 << 30}}
    macos = {"name": "macOS", "version": "15.5"}
    kernel = {"name": "Darwin", "release": "24.5.0", "version": "Darwin Kernel Version 24.5.0", "architecture": "arm64"}
    for n in range(workers):
        status = {"cpu": {"total": 32}, "memory": memory, "gpu_devices": [gpu], "kernel": kernel, "os": macos}
        labels = {"os": "darwin", "arch": "arm64", "worker-name": f"mac-{n}"}
        ask("POST", "/v1/workers", {"name": f"mac-{n}", "hostname": f"mac-{n}", "ip": f"127.0.1.{n + 1}", "port": 1, "labels": labels,
            "system_reserved": {"ram": 2 << 30, "vram": 1 << 30}, "status": status})
    for n in range(models):
        ask("POST", "/v1/models", {"name": f"model-{n}", "source": "local_path", "local_path": "/var/lib/models/tiny.gguf",
            "backend": "llama-box", "replicas": 0})
def lists():
    start = time.monotonic()
    ask("GET", "/version")
    for path in ("/v1/workers", "/v1/models", "/v1/model-instances"):
        page, pages = 1, 1
        while page <= pages:
            pages = ask("GET", f"{path}?page={page}&perPage=100")["pagination"]["totalPage"]
            page += 1
    print(time.monotonic() - start)
{"fill": fill, "lists": lists}[action]()
""".replace("@PASSWORD@", PASSWORD)


class Bench:
    """A server, and a proxy in front of it."""

    def __init__(self, fleet: Fleet, models: int, workers: int) -> None:
        self.fleet = fleet
        self.sizes = (str(models), str(workers))
        self.log = fleet.folder / "calls.jsonl"
        self.url = f"http://127.0.0.1:{PROXY_PORT}"

    def script(self, action: str) -> str:
        """Run the script in the network of the hosts."""
        command = [HOSTS, "run", self.fleet.session, "--", sys.executable, "-c", SCRIPT, self.url, action, *self.sizes]
        return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout

    def play(self, playbook: str) -> float:
        """Wall seconds of a playbook that must change nothing."""
        start = time.monotonic()
        result = subprocess.run(
            self.fleet.playbook_command(playbook), check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        seconds = time.monotonic() - start
        if result.returncode != 0 or "changed=1" in result.stdout:
            sys.exit(f"{playbook} failed or changed something:\n{result.stdout}")
        return seconds

    def calls(self) -> list[dict[str, t.Any]]:
        """What was asked since the last call of this."""
        calls = [json.loads(line) for line in self.log.read_text().splitlines()]
        self.log.write_text("")
        return calls


def measure(bench: Bench, pairs: int) -> tuple[list[tuple[float, float, float]], int]:
    """Seconds of the three by pair, and how many calls a run of the role makes."""
    role, reader = bench.fleet.folder / "role.yml", bench.fleet.folder / "reader.yml"
    role.write_text(ROLE)
    reader.write_text(READER)
    first = subprocess.run(
        bench.fleet.playbook_command(str(role)), check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if first.returncode != 0:
        sys.exit(f"the first run failed:\n{first.stdout}")
    taken, counts = [], set()
    for _pair in range(pairs):
        lists, read = float(bench.script("lists")), bench.play(str(reader))
        bench.calls()
        took = bench.play(str(role))
        calls = bench.calls()
        if any(call["method"] != "GET" for call in calls):
            sys.exit(f"a run that changes nothing wrote: {[call for call in calls if call['method'] != 'GET']}")
        counts.add(len(calls))
        taken.append((lists, read, took))
    if len(counts) != 1:
        sys.exit(f"runs that change nothing make different numbers of calls: {sorted(counts)}")
    return taken, counts.pop()


def wait_for(log: pathlib.Path, proxy: subprocess.Popen[bytes]) -> None:
    """The proxy's log is there once it answers."""
    start = time.monotonic()
    while not log.exists():
        if proxy.poll() is not None or time.monotonic() - start > START_LIMIT_SECONDS:
            sys.exit("the recording proxy does not come up")
        time.sleep(0.1)


def main() -> None:
    """Boot, fill, measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--workers", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    layers = f"{package.make('tools')},{package.make(VERSION, 'linux')}"
    with Fleet("bench-models") as fleet:
        fleet.boot({"server": f"linux::{layers}"}, json.dumps({"gpustack": {"hosts": {"localhost": {"ansible_connection": "local"}}}}))
        fleet.ssh("server", "python3 - install --role server", (ROOT / "tests/gpustack/install_gpustack.py").read_bytes())
        reach = json.loads((fleet.folder / "reach.yml").read_text())["all"]["children"]["linux"]["hosts"]["server"]["ansible_host"]
        bench = Bench(fleet, arguments.models, arguments.workers)
        proxy = [
            sys.executable,
            str(ROOT / "tests/gpustack/recording_proxy.py"),
            f"http://{reach}",
            str(bench.log),
            "--port",
            str(PROXY_PORT),
        ]
        process = subprocess.Popen([HOSTS, "run", fleet.session, "--", *proxy])
        try:
            wait_for(bench.log, process)
            bench.script("fill")
            taken, calls = measure(bench, arguments.pairs)
        finally:
            process.terminate()
            process.wait()
    print(f"{arguments.models} models, {arguments.workers} workers, nothing to change, {arguments.pairs} pairs, {os.cpu_count()} cores")
    print(f"calls of one run of the role: {calls}")
    for name, number in (("reading the lists once", 0), ("a play that only reads them", 1), ("role gpustack_models", 2)):
        seconds = statistics.median(pair[number] for pair in taken)
        ratios = [pair[number] / pair[0] for pair in taken]
        spread = f"({min(ratios):.2f} - {max(ratios):.2f})"
        print(f"{name:30}{seconds:8.2f} s   {statistics.median(ratios):6.2f} x reading the lists {spread}")


if __name__ == "__main__":
    main()
