# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make demo`: gpustack#1907 on two simulated Mac Studios with a real GPUStack server and real workers, before and after."""

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

# As in gpustack#1907, and the version in which the scheduler can be told.
OLD_GPUSTACK, NEW_GPUSTACK = "0.6.0", "0.6.2"
OLD, NEW, BUILTIN_OF_NEW = "v0.0.136", "v0.0.139", "v0.0.154"
BUILD = "darwin-arm64-metal"
SERVER, NODES = "server", ("studio-1", "studio-2")
# 512 GiB less what macOS needs; safe on the M3 Ultra of gpustack#1907.
WIRED_LIMIT_MIB = "475136"
# The machine that runs the playbooks, as the hosts of a session see it (tests/hosts).
MIRROR = "http://10.231.0.1:8099"
MODEL = "deepseek-v3-0324-Q8_0"
SLOW = 4.0
DEPLOYED = {
    "source": "local_path",
    "local_path": f"/var/lib/models/{MODEL}.gguf",
    "backend": "llama-box",
    # Declared: our tiny model would be fast with mmap, too.
    "env": {"LLAMA_BOX_TPS": f"mmap={SLOW:g}"},
}

# As in the README.
INVENTORY = "gpustack:\n  hosts:\n    studio-1:\n    studio-2:\n"


def group_vars(server_url: str, llama_box: str, more: str) -> str:
    """group_vars/gpustack.yml."""
    # Of the three for the nodes, the last is for busy test machines, where GPUStack takes minutes to start.
    return f"""gpustack_node_llama_box_version: {llama_box}
gpustack_node_wired_limit_state: present
gpustack_node_health_timeout_seconds: 300
gpustack_server_url: {server_url}
gpustack_server_username: admin
gpustack_server_password: Secret#12345
{more}"""


class DemoError(Exception):
    """The demo did not show what it must."""


def say(text: str) -> None:
    """A step, set off from the output of what runs."""
    print(f"\n\033[1m=== {text}\033[0m" if sys.stdout.isatty() else f"\n=== {text}", flush=True)


def require(condition: bool, what: str) -> None:
    """Fail the demo if it does not show what it claims."""
    if not condition:
        raise DemoError(what)


def print_table(titles: t.Sequence[str], columns: t.Sequence[t.Mapping[str, str]]) -> None:
    """Rows by name, a column for each host or moment."""
    widths = [
        max(len(row) for row in columns[0]) + 2,
        *(max(len(text) for text in [title, *one.values()]) + 2 for title, one in zip(titles, columns)),
    ]
    print("".join(text.ljust(width) for text, width in zip(["", *titles], widths)).rstrip())
    for row in columns[0]:
        print("".join(text.ljust(width) for text, width in zip([row, *(one[row] for one in columns)], widths)).rstrip(), flush=True)


class Demo:
    """A server, two nodes and a mirror, for as long as the fleet lives."""

    def __init__(self, fleet: Fleet, tools: str) -> None:
        self.fleet = fleet
        self.tools = tools
        reach = json.loads((fleet.folder / "reach.yml").read_text())["all"]["children"]
        addresses = {name: host["ansible_host"] for kind in reach.values() for name, host in kind["hosts"].items()}
        self.addresses: dict[str, str] = addresses
        self.server_url = f"http://{addresses[SERVER]}"

    def on(self, host: str, program: str, *arguments: str) -> t.Any:
        """Run a program that prints JSON, or nothing, on a host."""
        words = " ".join("'" + word.replace("'", "'\\''") + "'" for word in arguments)
        return json.loads(self.fleet.ssh(host, f"python3 - {words}", (ROOT / program).read_bytes()) or "null")

    def on_all(self, program: str, *arguments: str) -> list[t.Any]:
        """The same on both nodes at once."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return list(pool.map(lambda name: self.on(name, program, *arguments), NODES))

    def install(self) -> None:
        """The server, then its workers."""
        program = "tests/gpustack/install_gpustack.py"
        self.on(SERVER, program, "install", "--role", "server")

        def install_worker(name: str) -> None:
            own = ("--worker-name", name, "--worker-ip", self.addresses[name])
            self.on(name, program, "install", "--role", "worker", "--server-url", self.server_url, *own)

        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(install_worker, NODES))

    def write_group_vars(self, llama_box: str, more: str) -> None:
        """What a person writes."""
        folder = self.fleet.folder / "group_vars"
        folder.mkdir(exist_ok=True)
        content = group_vars(self.server_url, llama_box, more)
        (folder / "gpustack.yml").write_text(content)
        print(f"group_vars/gpustack.yml:\n{content}")

    def serve_releases(self) -> subprocess.Popen[bytes]:
        """A mirror in GitHub's layout, whose archives hold stand-ins: real llama-box for Apple Silicon runs on no Linux machine."""
        folder = self.fleet.folder / "mirror"
        for version in (OLD, NEW, BUILTIN_OF_NEW):
            path = folder / "gpustack/llama-box/releases/download" / version / archives.archive_name(BUILD)
            path.parent.mkdir(parents=True)
            with open(f"{self.tools}/opt/gpustack-tools/llama-box-{version}", "rb") as program:
                path.write_bytes(archives.pack({archives.PROGRAM: program.read()}))
        mirror = [sys.executable, str(ROOT / "tests/mirror/mirror.py"), str(folder), "--host", "0.0.0.0", "--port", "8099"]
        return subprocess.Popen([HOSTS, "run", self.fleet.session, "--", *mirror], stdout=subprocess.DEVNULL)

    def node_table(self) -> list[dict[str, str]]:
        """Print what the nodes themselves say, and return it."""
        seen = []
        for gpustack, node in zip(self.on_all("tests/gpustack/install_gpustack.py", "look"), self.on_all("tests/demo/on_host.py", "look")):
            rpc = ", ".join(server["version"] or "does not answer" for server in gpustack["rpc_servers"])
            seen.append(
                {
                    "GPUStack": gpustack["gpustack"],
                    "builtin llama-box": gpustack["builtin"]["version"],
                    "its sha256": gpustack["third_party"]["llama-box/llama-box"][:16],
                    "RPC server that runs": rpc or "none",
                    **node,
                }
            )
        print_table(NODES, seen)
        return seen

    def look_at_model(self) -> tuple[dict[str, t.Any], dict[str, t.Any], dict[str, str]]:
        """What the server says of the model, what the llama-box that serves it says, and both for people."""
        placed = self.on(SERVER, "tests/demo/on_server.py", "look", MODEL)
        engine = self.on(placed["main"], "tests/demo/on_host.py", "model", str(placed["port"]))
        row = {
            "GPUStack (server)": placed["version"],
            "the model is on": " and ".join([placed["main"], *placed["others"]]),
            "claimed of the main worker": f"{placed['main_gib']} GiB",
            "claimed of the other": f"{placed['others_gib']} GiB" if placed["others"] else "-",
            "layers on the main worker": placed["layers"],
            "backend_parameters": " ".join(placed["parameters"] or []) or "none",
            "gpu_selector": " ".join(placed["gpu_ids"] or []) or "none",
            "llama-box (main)": engine["version"],
            "its flags for mmap": " ".join(engine["flags"]) or "none",
            "uses an RPC server": "yes" if engine["rpc"] else "no",
            "weights are in its memory map": "yes" if engine["mapped"] else "no",
            "GGML_METAL_NO_RESIDENCY": "in its environment" if engine["variable"] else "absent",
            "chat, tokens/s": f"{placed['tokens_per_second']:g}",
        }
        return placed, engine, row

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

    def before(self) -> dict[str, str]:
        """The fault, as in gpustack#1907."""
        say(f"Before, read from the nodes: llama-box {OLD}, and GGML_METAL_NO_RESIDENCY from four places")
        for host in self.node_table():
            require(host["loaded job"] == "present" and not host["processes that have it"].startswith("0 "), "the fault was not planted")
            require(host["RPC server that runs"] == OLD, "the RPC server is not the one to be replaced")
        say(f"A person deploys {MODEL}: 664 GiB of weights (declared), on two Macs with 384 GiB of GPU memory each")
        self.on(SERVER, "tests/demo/on_server.py", "create", MODEL, json.dumps(DEPLOYED))
        placed, engine, row = self.look_at_model()
        print_table(["before"], [row])
        require(not placed["others"], "GPUStack 0.6.0 spread the model by itself")
        require(placed["layers"] == "62 of 62" and 38 < placed["main_gib"] < 39, "the claim is not that of gpustack#1907")
        require(engine["flags"] == [] and engine["mapped"] and engine["variable"], "the fault is not alive in llama-box")
        require(placed["tokens_per_second"] <= SLOW, "the answer is not slow")
        print(f"(Declared: llama-box is a stand-in, and {SLOW:g} tokens/s is its throttle where mmap is on.)")
        return row

    def cure(self) -> dict[str, str]:
        """One playbook, on the same GPUStack."""
        starts = [int(host["starts of the service"]) for host in self.on_all("tests/demo/on_host.py", "look")]
        say(f"The lock file: which llama-box {NEW} is, by its digest")
        variables = {"llama_box_versions": [NEW, BUILTIN_OF_NEW], "llama_box_platforms": [BUILD], "llama_box_base_url": MIRROR}
        self.play("-e @lock_vars.yml", "metalfleet.gpustack.lock", "-e", json.dumps(variables))
        say("The run: nodes, then models, then proof")
        self.write_group_vars(NEW, "gpustack_models_spread_on_060: true\n")
        said = self.play("--diff", "metalfleet.gpustack.site", "--diff")
        require("GPUStack 0.6.0 cannot be told" in said, "the run does not say that 0.6.0's estimator cannot be told")
        say("After, read from the nodes")
        for start, host in zip(starts, self.node_table()):
            places = ("/etc/default/gpustack", "property list", "launchctl getenv", "loaded job")
            require([host[place] for place in places] == ["absent"] * 4, "the variable is still there")
            require(host["processes that have it"].startswith("0 of "), "a process has the variable")
            require(host["other variables in it"] == "HF_HUB_OFFLINE", "a variable that is not ours was lost")
            require(host["builtin llama-box"] == host["RPC server that runs"] == NEW, f"llama-box is not {NEW} everywhere")
            require(host["its sha256"] in (self.fleet.folder / "llama_box.lock.yml").read_text(), "the program is not that of the lock")
            require(host["wired limit, MiB"] == WIRED_LIMIT_MIB, "the wired limit is not set")
            require(int(host["starts of the service"]) == start + 1, "the service was not restarted exactly once")
        placed, engine, row = self.look_at_model()
        print_table(["after"], [row])
        require(len(placed["others"]) == 1, "the model is not on both nodes")
        self.require_cured(placed, engine, NEW)
        self.require_no_change(starts)
        return row

    def require_cured(self, placed: dict[str, t.Any], engine: dict[str, t.Any], llama_box: str) -> None:
        """What has to be so whatever GPUStack's version is."""
        require(engine["flags"][-1:] == ["--no-mmap"] and engine["rpc"] and not engine["mapped"], "the model is still mapped")
        require(not engine["variable"] and engine["version"] == llama_box, "the model's own process is not right")
        require(placed["tokens_per_second"] > SLOW, "the answer is slow")

    def require_no_change(self, starts: list[int] | None = None) -> None:
        """The run once more."""
        say("The second run changes nothing")
        recap = re.findall(r"^\S+ +: ok=\d+ +changed=(\d+) .*failed=(\d+)", self.play("--diff", "metalfleet.gpustack.site", "--diff"), re.M)
        require(recap == [("0", "0")] * len(NODES), f"the second run changed something: {recap}")
        if starts is not None:
            after = [int(host["starts of the service"]) for host in self.on_all("tests/demo/on_host.py", "look")]
            require(after == [start + 1 for start in starts], "the second run restarted a service")

    def upgraded(self) -> dict[str, str]:
        """The same fleet on a GPUStack whose scheduler can be told."""
        say(f"The same fleet, upgraded to GPUStack {NEW_GPUSTACK} (the demo does that), and the selection of GPUs taken back")
        self.on(SERVER, "tests/gpustack/install_gpustack.py", "upgrade", NEW_GPUSTACK)
        self.on_all("tests/gpustack/install_gpustack.py", "upgrade", NEW_GPUSTACK)
        self.write_group_vars(BUILTIN_OF_NEW, f"gpustack_models_list:\n  - name: {MODEL}\n    gpu_ids: []\n")
        self.play("--diff", "metalfleet.gpustack.site", "--diff")
        placed, engine, row = self.look_at_model()
        require(placed["version"] == NEW_GPUSTACK and not placed["gpu_ids"], "the selection of GPUs is still there")
        require(len(placed["others"]) == 1, "the scheduler does not spread the model by itself")
        require(placed["main_gib"] + placed["others_gib"] > 690, "the claims leave weights out")
        self.require_cured(placed, engine, BUILTIN_OF_NEW)
        return row

    def story(self) -> None:
        """Before, after, upgraded."""
        rows = [self.before(), self.cure(), self.upgraded()]
        say("gpustack#1907, before and after, read from the server and from the process that serves the model")
        print_table(["before", "after", f"after, on {NEW_GPUSTACK}"], rows)
        print("Declared: the Macs are simulated. llama-box is a stand-in around a real llama.cpp with a tiny model, throttled to")
        print(f"{SLOW:g} tokens/s where mmap is on; its 664 GiB stand in a file beside it. GPUStack, its scheduler and claims are real.")


def main() -> int:
    """Boot, tell the story, clean up."""
    tools = str(package.make("tools"))
    layers = {
        kind: f"{tools},{package.make(NEW_GPUSTACK, kind, 'upgrade')},{package.make(OLD_GPUSTACK, kind)}" for kind in ("mac", "linux")
    }
    try:
        with Fleet("demo") as fleet:
            say(
                f"Two simulated Mac Studios (M3 Ultra, 512 GB; synthetic hardware) and a server boot, with the real GPUStack {OLD_GPUSTACK}"
            )
            print("llama-box is a stand-in: the real one for Apple Silicon needs a Mac.")
            fleet.boot({SERVER: f"linux::{layers['linux']}", **dict.fromkeys(NODES, f"mac:m3_ultra_512:{layers['mac']}")}, INVENTORY)
            demo = Demo(fleet, tools)
            mirror = demo.serve_releases()
            try:
                demo.install()
                demo.on_all("tests/demo/on_host.py", "plant")
                demo.on_all("tests/gpustack/install_gpustack.py", "wait")
                demo.story()
            finally:
                mirror.terminate()
                mirror.wait()
    except DemoError as exc:
        print(f"\ndemo: {exc}", file=sys.stderr)
        return 1
    say("Done. Nothing is left behind.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
