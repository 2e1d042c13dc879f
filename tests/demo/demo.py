# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make demo`: the node half of gpustack#1907 on two simulated Mac Studios with a real GPUStack, before and after."""

from __future__ import annotations

import concurrent.futures
import json
import re
import subprocess
import sys

from fleet import ROOT, Fleet

VERSION = "0.6.2"
NODES = ("studio-1", "studio-2")
# As in the README.
INVENTORY = "gpustack:\n  hosts:\n    studio-1:\n    studio-2:\n"


class DemoError(Exception):
    """The demo did not show what it must."""


def say(text: str) -> None:
    """A step, set off from the output of what runs."""
    print(f"\n\033[1m=== {text}\033[0m" if sys.stdout.isatty() else f"\n=== {text}", flush=True)


def on_all(fleet: Fleet, action: str) -> list[str]:
    """Run on_host.py on both at once."""
    program = (ROOT / "tests/demo/on_host.py").read_bytes()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(lambda name: fleet.ssh(name, f"python3 - {action}", program), NODES))


def table(fleet: Fleet) -> list[dict[str, str]]:
    """Print what the hosts themselves say, and return it."""
    seen = [json.loads(rows) for rows in on_all(fleet, "look")]
    widths = [max(len(row) for row in seen[0]) + 2, *(max(len(value) for value in host.values()) + 2 for host in seen)]
    print("".join(text.ljust(width) for text, width in zip(["", *NODES], widths)).rstrip())
    for row in seen[0]:
        print("".join(text.ljust(width) for text, width in zip([row, *(host[row] for host in seen)], widths)).rstrip())
    return seen


def site(fleet: Fleet) -> str:
    """Run the playbook as on a real fleet; how the disposable hosts are reached stands in a second inventory."""
    print("$ ansible-playbook metalfleet.gpustack.site -i inventory.yml --diff", flush=True)
    process = subprocess.Popen(fleet.playbook_command("metalfleet.gpustack.site", "--diff"), text=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    if process.wait() != 0:
        raise DemoError("the playbook failed")
    return "".join(lines)


def require(condition: bool, what: str) -> None:
    """Fail the demo if it does not show what it claims."""
    if not condition:
        raise DemoError(what)


def story(fleet: Fleet) -> None:
    """Before, the run, after, the second run."""
    say("Before, read from the hosts: the service runs with GGML_METAL_NO_RESIDENCY, which came from four places")
    for host in table(fleet):
        require(host["loaded job"] == "present" and not host["processes that have it"].startswith("0 "), "the fault was not planted")
    say("The run")
    site(fleet)
    say("After, read from the hosts")
    for host in table(fleet):
        absent = [host[place] for place in ("/etc/default/gpustack", "property list", "launchctl getenv", "loaded job")]
        require(absent == ["absent"] * 4 and host["processes that have it"].startswith("0 of "), "the variable is still there")
        require(host["other variables in it"] == "HF_HUB_OFFLINE", "a variable that is not ours was lost")
        require(host["starts of the service"] == "2", "the service was not restarted exactly once")
    say("The second run changes nothing")
    recap = re.findall(r"^\S+ +: ok=\d+ +changed=(\d+) .*failed=(\d+)", site(fleet), flags=re.MULTILINE)
    require(recap == [("0", "0")] * len(NODES), f"the second run changed something: {recap}")
    require(all(json.loads(rows)["starts of the service"] == "2" for rows in on_all(fleet, "look")), "the second run restarted a service")


def main() -> int:
    """Boot, tell the story, clean up."""
    layer = subprocess.run(
        [sys.executable, str(ROOT / "tests/gpustack/package.py"), VERSION], check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()
    try:
        with Fleet("demo") as fleet:
            say(f"Two simulated Mac Studios (M3 Ultra, 512 GB; synthetic hardware) boot, with the real GPUStack {VERSION} from PyPI")
            fleet.boot(dict.fromkeys(NODES, f"mac:m3_ultra_512:{layer}"), INVENTORY)
            on_all(fleet, "install")
            story(fleet)
    except DemoError as exc:
        print(f"\ndemo: {exc}", file=sys.stderr)
        return 1
    say("Done: GGML_METAL_NO_RESIDENCY is gone from both nodes, at the price of one restart each. Nothing is left behind.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
