# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Does another llama-box in the builtin's place survive a restart of the real GPUStack, and does the RPC server then run it?

survive.py [--more] [VERSION:KIND ...]   all six by default: 0.6.0, 0.6.2 and 0.7.1, each on a simulated Mac and on Linux

--more also looks at what follows when the RPC server dies, and when versions.json names the other version: GPUStack then brings
its own back. That is what proves that this test can fail.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import pathlib
import subprocess
import sys
import time
import typing as t

from fleet import Fleet, hosts

PROGRAM = pathlib.Path(__file__).with_name("install_gpustack.py").read_bytes()
PACKAGE = pathlib.Path(__file__).with_name("package.py")
VERSIONS = ("0.6.0", "0.6.2", "0.7.1")
KINDS = {"mac": "mac:m3_ultra_512", "linux": "linux:"}
# Neither is the builtin one of any GPUStack here. The second is of the time of dynamic builds, as that of 0.7.1.
PINS = {"0.6.0": "v0.0.139", "0.6.2": "v0.0.139", "0.7.1": "v0.0.168"}
# With more, the starts of GPUStack wait for each other on two processors.
AT_ONCE = 2


def layer(*arguments: str) -> str:
    """The folder that package.py makes."""
    return subprocess.run([sys.executable, str(PACKAGE), *arguments], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


class SurvivalError(Exception):
    """GPUStack did something else than the collection builds on."""


def require(condition: bool, what: str, seen: t.Mapping[str, t.Any]) -> None:
    """Say what is not so, with everything that was seen."""
    if not condition:
        raise SurvivalError(f"{what}: {json.dumps(seen, indent=1)}")


def runs(seen: t.Mapping[str, t.Any], version: str) -> None:
    """One RPC server runs, from the builtin's place, and is of this version."""
    servers = seen["rpc_servers"]
    require(len(servers) == 1, "not one RPC server", seen)
    require(servers[0]["version"] == version, f"the RPC server is not {version}", seen)
    require(servers[0]["program"] == seen["builtin"]["path"], "the RPC server does not run the builtin's place", seen)
    require(servers[0]["is_that_file"], "the RPC server runs a file that is no longer in the builtin's place", seen)
    require(set(seen["healthz"].values()) == {200}, "not both the server and the worker answer", seen)


class Node:
    """A host with GPUStack as its service; what each action took is kept."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet = fleet
        self.name = name
        self.seconds: dict[str, float] = {}

    def do(self, action: str, *arguments: str) -> dict[str, t.Any]:
        """Run an action of install_gpustack.py there."""
        start = time.monotonic()
        seen = json.loads(self.fleet.ssh(self.name, f"python3 - {' '.join([action, *arguments])}", PROGRAM))
        self.seconds[action] = round(time.monotonic() - start, 1)
        print(f"{self.name}: {action} {' '.join(arguments)}: {self.seconds[action]} s, {seen.get('seconds', '')}", flush=True)
        return dict(seen)


def survive(node: Node, version: str) -> None:
    """The pinned one is there after the restart, and runs; GPUStack's record was not touched by anybody."""
    pin = PINS[version]
    before = node.do("install")
    own = before["builtin"]["recorded"]
    runs(before, own)
    replaced = node.do("replace", pin)
    after = node.do("restart")
    runs(after, pin)
    require(after["versions_json"] == before["versions_json"], "versions.json was written", after)
    require(after["third_party"] == replaced["third_party"], "GPUStack changed what lies in third_party/bin", after)
    require(after["builtin"]["version"] == pin and after["builtin"]["recorded"] == own, "the record or the file is another", after)
    print(f"{node.name}: RPC server {after['rpc_servers'][0]['program']} is {pin}; {after['rss_mib']} MiB, {after['cpu_seconds']} s of CPU")


def more(node: Node, version: str) -> None:
    """After a death the RPC server comes back as the pinned one; with another version in versions.json as GPUStack's own."""
    pin = PINS[version]
    runs(node.do("kill"), pin)
    own = node.do("record", pin)
    node.fleet.ssh(node.name, "cat > /tmp/install_gpustack.py", PROGRAM)
    node.fleet.ssh(node.name, "nohup python3 /tmp/install_gpustack.py mirror > /dev/null 2>&1 < /dev/null & :")
    seen = node.do("restart")
    version_of_own = seen["builtin"]["recorded"]
    require(version_of_own != pin, "GPUStack did not write its own version into versions.json", own)
    runs(seen, version_of_own)
    asked = node.fleet.ssh(node.name, "cat /var/log/mirror.log").split()
    print(f"{node.name}: with {pin} in versions.json GPUStack asked for {asked} and runs {version_of_own} again")


def main() -> int:
    """Run the combinations that are asked for, two at a time."""
    everything = [f"{version}:{kind}" for version in VERSIONS for kind in KINDS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("combinations", nargs="*", default=everything, metavar="VERSION:KIND")
    parser.add_argument("--more", action="store_true")
    arguments = parser.parse_args()
    failures = []

    def check(fleet: Fleet, combination: str) -> None:
        version, kind = combination.split(":")
        name = f"{kind}-{version.replace('.', '')}"
        start = time.monotonic()
        with contextlib.ExitStack() as stack:
            fleet.boot({name: f"{KINDS[kind]}:{layer('tools')},{layer(version, kind)}"})
            stack.callback(hosts, "down", fleet.session, name)
            node = Node(fleet, name)
            survive(node, version)
            if arguments.more:
                more(node, version)
        print(f"{name}: done after {time.monotonic() - start:.0f} s", flush=True)

    with Fleet("survive") as fleet, concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        checks = {combination: pool.submit(check, fleet, combination) for combination in arguments.combinations}
        for combination, future in checks.items():
            try:
                future.result()
            except Exception as exc:
                failures.append(f"{combination}: {exc}")
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
