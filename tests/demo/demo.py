# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make demo`: the node half of gpustack#1907 on two simulated Mac Studios with a real GPUStack, before and after."""

from __future__ import annotations

import concurrent.futures
import json
import re
import subprocess
import sys
import typing as t

import archives
import package
from fleet import HOSTS, ROOT, Fleet

# As in gpustack#1907.
VERSION = "0.6.0"
OLD, NEW = "v0.0.136", "v0.0.139"
BUILD = "darwin-arm64-metal"
NODES = ("studio-1", "studio-2")
# 512 GiB less what macOS needs; safe on the M3 Ultra of gpustack#1907.
WIRED_LIMIT_MIB = "475136"
# The machine that runs the playbooks, as the hosts of a session see it (tests/hosts).
MIRROR = "http://10.231.0.1:8099"

# As in the README.
INVENTORY = "gpustack:\n  hosts:\n    studio-1:\n    studio-2:\n"
GROUP_VARS = f"""gpustack_node_llama_box_version: {NEW}
gpustack_node_wired_limit_state: present
"""


class DemoError(Exception):
    """The demo did not show what it must."""


def say(text: str) -> None:
    """A step, set off from the output of what runs."""
    print(f"\n\033[1m=== {text}\033[0m" if sys.stdout.isatty() else f"\n=== {text}", flush=True)


def require(condition: bool, what: str) -> None:
    """Fail the demo if it does not show what it claims."""
    if not condition:
        raise DemoError(what)


class Demo:
    """Two nodes and a mirror, for as long as the fleet lives."""

    def __init__(self, fleet: Fleet, tools: str) -> None:
        self.fleet = fleet
        self.tools = tools

    def on_all(self, program: str, *arguments: str) -> list[t.Any]:
        """Run a program that prints JSON, or nothing, on both nodes at once."""
        text = (ROOT / program).read_bytes()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            outputs = list(pool.map(lambda name: self.fleet.ssh(name, f"python3 - {' '.join(arguments)}", text), NODES))
        return [json.loads(output or "null") for output in outputs]

    def serve_releases(self) -> subprocess.Popen[bytes]:
        """A mirror in GitHub's layout, whose archives hold stand-ins: real llama-box for Apple Silicon runs on no Linux machine."""
        folder = self.fleet.folder / "mirror"
        for version in (OLD, NEW):
            path = folder / "gpustack/llama-box/releases/download" / version / archives.archive_name(BUILD)
            path.parent.mkdir(parents=True)
            with open(f"{self.tools}/opt/gpustack-tools/llama-box-{version}", "rb") as program:
                path.write_bytes(archives.pack({archives.PROGRAM: program.read()}))
        mirror = [sys.executable, str(ROOT / "tests/mirror/mirror.py"), str(folder), "--host", "0.0.0.0", "--port", "8099"]
        return subprocess.Popen([HOSTS, "run", self.fleet.session, "--", *mirror], stdout=subprocess.DEVNULL)

    def table(self) -> list[dict[str, str]]:
        """Print what the hosts themselves say, and return it."""
        seen = []
        for gpustack, node in zip(self.on_all("tests/gpustack/install_gpustack.py", "look"), self.on_all("tests/demo/on_host.py", "look")):
            answers = ", ".join(f"{port}: {code}" for port, code in gpustack["healthz"].items())
            rpc = ", ".join(server["version"] or "does not answer" for server in gpustack["rpc_servers"])
            seen.append(
                {
                    "GPUStack": gpustack["gpustack"],
                    "/healthz": answers,
                    "builtin llama-box": gpustack["builtin"]["version"],
                    "its sha256": gpustack["third_party"]["llama-box/llama-box"][:16],
                    "RPC server that runs": rpc or "none",
                    **node,
                }
            )
        widths = [max(len(row) for row in seen[0]) + 2, *(max(len(value) for value in host.values()) + 2 for host in seen)]
        print("".join(text.ljust(width) for text, width in zip(["", *NODES], widths)).rstrip())
        for row in seen[0]:
            print("".join(text.ljust(width) for text, width in zip([row, *(host[row] for host in seen)], widths)).rstrip())
        return seen

    def play(self, shown: str, playbook: str, *arguments: str) -> str:
        """Run a playbook as on a real fleet; how the disposable hosts are reached stands in a second inventory."""
        print(f"$ ansible-playbook {playbook} -i inventory.yml {shown}", flush=True)
        process = subprocess.Popen(self.fleet.playbook_command(playbook, *arguments), text=True, stdout=subprocess.PIPE)
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        if process.wait() != 0:
            raise DemoError(f"the playbook {playbook} failed")
        return "".join(lines)

    def story(self) -> None:
        """Before, the lock, the run, after, the second run."""
        say(f"Before, read from the hosts: llama-box {OLD}, and GGML_METAL_NO_RESIDENCY from four places, as in gpustack#1907")
        for host in self.table():
            require(host["loaded job"] == "present" and not host["processes that have it"].startswith("0 "), "the fault was not planted")
            require(host["RPC server that runs"] == OLD, "the RPC server is not the one to be replaced")
        starts = [int(host["starts of the service"]) for host in self.on_all("tests/demo/on_host.py", "look")]
        say(f"The lock file: which llama-box {NEW} is, by its digest")
        variables = {"llama_box_versions": [NEW], "llama_box_platforms": [BUILD], "llama_box_base_url": MIRROR}
        self.play("-e @lock_vars.yml", "metalfleet.gpustack.lock", "-e", json.dumps(variables))
        print((self.fleet.folder / "llama_box.lock.yml").read_text())
        say("The run")
        self.play("--diff", "metalfleet.gpustack.site", "--diff")
        say("After, read from the hosts")
        for start, host in zip(starts, self.table()):
            places = ("/etc/default/gpustack", "property list", "launchctl getenv", "loaded job")
            require([host[place] for place in places] == ["absent"] * 4, "the variable is still there")
            require(host["processes that have it"].startswith("0 of "), "a process has the variable")
            require(host["other variables in it"] == "HF_HUB_OFFLINE", "a variable that is not ours was lost")
            require(host["builtin llama-box"] == host["RPC server that runs"] == NEW, f"llama-box is not {NEW} everywhere")
            require(host["its sha256"] in (self.fleet.folder / "llama_box.lock.yml").read_text(), "the program is not that of the lock")
            require(host["wired limit, MiB"] == WIRED_LIMIT_MIB, "the wired limit is not set")
            require(int(host["starts of the service"]) == start + 1, "the service was not restarted exactly once")
        say("The second run changes nothing")
        recap = re.findall(r"^\S+ +: ok=\d+ +changed=(\d+) .*failed=(\d+)", self.play("--diff", "metalfleet.gpustack.site", "--diff"), re.M)
        require(recap == [("0", "0")] * len(NODES), f"the second run changed something: {recap}")
        after = [int(host["starts of the service"]) for host in self.on_all("tests/demo/on_host.py", "look")]
        require(after == [start + 1 for start in starts], "the second run restarted a service")


def main() -> int:
    """Boot, tell the story, clean up."""
    tools, gpustack = str(package.make("tools")), str(package.make(VERSION, "mac"))
    try:
        with Fleet("demo") as fleet:
            demo = Demo(fleet, tools)
            say(f"Two simulated Mac Studios (M3 Ultra, 512 GB; synthetic hardware) boot, with the real GPUStack {VERSION} from PyPI")
            print("llama-box is a stand-in that says its version: the real one for Apple Silicon needs a Mac.")
            fleet.boot(dict.fromkeys(NODES, f"mac:m3_ultra_512:{tools},{gpustack}"), INVENTORY)
            (fleet.folder / "group_vars").mkdir()
            (fleet.folder / "group_vars/gpustack.yml").write_text(GROUP_VARS)
            mirror = demo.serve_releases()
            try:
                demo.on_all("tests/gpustack/install_gpustack.py", "install")
                demo.on_all("tests/demo/on_host.py", "plant")
                demo.on_all("tests/gpustack/install_gpustack.py", "wait")
                demo.story()
            finally:
                mirror.terminate()
                mirror.wait()
    except DemoError as exc:
        print(f"\ndemo: {exc}", file=sys.stderr)
        return 1
    say(f"Done: both nodes run llama-box {NEW} without GGML_METAL_NO_RESIDENCY, at the price of one restart each. Nothing is left behind.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
