# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make privileges`: what each module does as root by sudo with and without a password, without become, and as another user.

On a simulated Mac and on Linux, by real ssh and real sudo. docs/privileges.md has the table that this sees to.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
import typing as t

import archives
from fleet import HOSTS, ROOT, Fleet

HERE = ROOT / "tests/privileges"
NODES = ("mac", "linux")
RELEASE, BUILDS = "v0.0.139", ("darwin-arm64-metal", "linux-amd64-avx2")
PASSWORD = "a password, of asker's"
NEEDS_ROOT = "; this needs root: say `become: true`"
READERS = ("apple_silicon_facts", "node_info")
WRITERS = ("environment", "llama_box", "wired_limit", "node", "rollback")


class PrivilegesError(Exception):
    """Something was otherwise than docs/privileges.md says."""


@dataclasses.dataclass(frozen=True)
class Who:
    """A way to come to a host. becomes: root or another user; none where it is empty."""

    name: str
    user: str
    becomes: str = ""
    password: str = ""

    def variables(self) -> dict[str, t.Any]:
        """Of the inventory."""
        more = {"ansible_become_password": self.password} if self.password else {}
        return {"ansible_user": self.user, "ansible_become": bool(self.becomes), "ansible_become_user": self.becomes or "root", **more}


ROOT_BY_SUDO = Who("sudo", "fleet", "root")
ROOT_BY_PASSWORD = Who("password", "asker", "root", PASSWORD)
WRONG_PASSWORD = Who("wrong", "asker", "root", "another one")
NO_PASSWORD = Who("none-given", "asker", "root")
NO_BECOME = Who("plain", "plain")
ANOTHER_USER = Who("other", "fleet", "other")


def require(condition: bool, what: str) -> None:
    """Fail with what is not so."""
    if not condition:
        raise PrivilegesError(what)


class Test:
    """One fleet; each way to come to a host is a host of its own to Ansible."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.results = fleet.folder / "results.jsonl"

    def prepare(self) -> None:
        """Hosts, users, the stand-in, closed files."""
        self.fleet.boot({"mac": "mac:m3_ultra_512", "linux": "linux"})
        hashed = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, check=True, text=True, stdout=subprocess.PIPE)
        self.fleet.install_stand_in("mac", "--kind", "script", "--plant", "plist", "--plant", "file")
        self.fleet.install_stand_in("linux", "--kind", "systemd", "--plant", "file", "--plant", "drop_in")
        for name in NODES:
            self.on_host(name, "users", hashed.stdout.strip())
            self.on_host(name, "close")
        releases = {}
        for build in BUILDS:
            archives.place(self.fleet.folder / "archives", RELEASE, build)
            releases[build] = archives.release_data(self.fleet.folder / "archives", "https://mirror.invalid", RELEASE, build)
        self.lock = {"format": 1, "releases": {RELEASE: releases}}

    def on_host(self, name: str, action: str, *arguments: str) -> str:
        """Run on_host.py there."""
        words = " ".join(f"'{word}'" for word in arguments)
        return self.fleet.ssh(name, f"python3 - {action} {words}", (HERE / "on_host.py").read_bytes())

    def pictures(self) -> dict[str, t.Any]:
        """Of both: (NODE:PATH) -> what is there."""
        found = {name: json.loads(self.on_host(name, "picture")) for name in NODES}
        return {f"{name}:{path}": seen for name, files in found.items() for path, seen in files.items()}

    def require_unchanged(self, before: t.Mapping[str, t.Any], who: str) -> None:
        """Every file is as it was."""
        after = self.pictures()
        changed = sorted(path for path in {**before, **after} if before.get(path) != after.get(path))
        require(not changed, f"{who} has changed {', '.join(changed)}")

    def tasks(self, *modules: str) -> list[dict[str, t.Any]]:
        """A task for each module."""
        llama_box = {"version": RELEASE, "lock": self.lock, "source": "push", "archives_folder": str(self.fleet.folder / "archives")}
        environment = {"secrets": {"HF_TOKEN": "of nobody"}, "mode": "0600"}
        quick = {"settle_seconds": 0}
        options: dict[str, dict[str, t.Any]] = {
            "apple_silicon_facts": {},
            "node_info": {},
            "environment": {**environment, **quick},
            "llama_box": {**llama_box, **quick},
            "wired_limit": {},
            "node": {"environment": environment, "llama_box": llama_box, "wired_limit": {}, **quick},
            "rollback": quick,
        }
        return [{f"metalfleet.gpustack.{name}": options[name], "ignore_errors": True, "ignore_unreachable": True} for name in modules]

    def run(self, ways: t.Sequence[Who], tasks: t.Sequence[t.Mapping[str, t.Any]], pipelining: bool = True) -> dict[tuple[str, str], t.Any]:
        """The result of each task: (NODE-WAY, module) -> result with `status`."""
        reach = json.loads((self.fleet.folder / "reach.yml").read_text())["all"]
        addresses = {name: host["ansible_host"] for kind in reach["children"].values() for name, host in kind["hosts"].items()}
        # One connection is shared by those of one user, not by all of one host, which ssh_args see to.
        hosts = {f"{name}-{way.name}": {"ansible_host": addresses[name], **way.variables()} for name in NODES for way in ways}
        inventory = self.fleet.folder / "ways.yml"
        inventory.write_text(json.dumps({"all": {"vars": reach["vars"], "hosts": hosts}}))
        playbook = self.fleet.folder / "play.yml"
        playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}]))
        self.results.write_text("")
        environment = {
            **os.environ,
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/canaries/callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "canary_results",
            "CANARY_RESULTS": str(self.results),
            "ANSIBLE_PIPELINING": str(pipelining).lower(),
        }
        command = [HOSTS, "run", self.fleet.session, "--", "ansible-playbook", "-i", str(inventory), str(playbook)]
        done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        found = {}
        for line in self.results.read_text().splitlines():
            said = json.loads(line)
            found[said["host"], said["action"].rpartition(".")[2]] = {**said["result"], "status": said["status"]}
        if not found:
            raise PrivilegesError(done.stdout[-3000:])
        return found

    # What is so.

    def without_root(self, way: Who) -> None:
        """Readers succeed and say what they could not see; writers fail with one sentence, and nothing is changed."""
        before = self.pictures()
        found = self.run([way], self.tasks(*READERS, *WRITERS))
        for name in NODES:
            host = f"{name}-{way.name}"
            for module in READERS:
                require(found[host, module]["status"] == "ok", f"{host}: {module} failed: {found[host, module]}")
            node = found[host, "node_info"]["node"]
            unknown = [place["where"] for place in node["residency"]["places"] if place["state"] == "unknown"]
            require("Permission denied" in " ".join(node["warnings"]), f"{host}: node_info does not say what it could not see: {node}")
            require(any("/etc/default/gpustack" in where for where in unknown), f"{host}: the environment file is not unknown: {node}")
            require(node["residency"]["state"] != "absent", f"{host}: node_info says of what it cannot see that it is absent")
            for module in WRITERS:
                result = found[host, module]
                message = str(result.get("msg"))
                require(result["status"] == "failed" and message.endswith(NEEDS_ROOT), f"{host}: {module} does not ask for root: {result}")
                require(message.count("become: true") == 1 and "\n" not in message, f"{host}: {module}: no single sentence: {message}")
        self.require_unchanged(before, way.name)

    def refused_by_sudo(self, ways: t.Sequence[Who]) -> None:
        """Ansible itself says so, and nothing is run."""
        before = self.pictures()
        found = self.run(ways, self.tasks("node"))
        for name in NODES:
            for way in ways:
                result = found[f"{name}-{way.name}", "node"]
                said = re.search(
                    r"Incorrect sudo password|[Mm]issing sudo password|a password is required|no password was provided", json.dumps(result)
                )
                require(result["status"] != "ok" and said is not None, f"{name}-{way.name}: {result}")
        self.require_unchanged(before, "who has no right password")

    def as_root(self) -> None:
        """Both ways to root do all of it, and the second finds what the first has done."""
        found = self.run([ROOT_BY_SUDO], self.tasks(*READERS, "node"))
        for name in NODES:
            result = found[f"{name}-sudo", "node"]
            require(result["status"] == "ok" and result["changed"], f"{name}: {result}")
        for pipelining, used in ((True, True), (False, False)):
            found = self.run([ROOT_BY_PASSWORD], self.tasks("node_info", "node"), pipelining)
            for name in NODES:
                result, node = found[f"{name}-password", "node"], found[f"{name}-password", "node_info"]["node"]
                require(result["status"] == "ok" and not result["changed"], f"{name}, by password: {result}")
                require(result["receipt"]["used"] is used, f"{name}, pipelining {pipelining}: {result['receipt']}")
                require(node["residency"]["state"] == "absent", f"{name}: {node['residency']}")
        found = self.run([ROOT_BY_PASSWORD], self.tasks("environment", "llama_box", "wired_limit", "rollback"))
        for (host, module), result in found.items():
            require(result["status"] == "ok", f"{host}: {module}: {result}")


def main() -> int:
    """From the one who may least to root."""
    try:
        with Fleet("privileges") as fleet:
            test = Test(fleet)
            test.prepare()
            steps: list[tuple[str, t.Callable[[], None]]] = [
                ("no become", lambda: test.without_root(NO_BECOME)),
                ("another become user", lambda: test.without_root(ANOTHER_USER)),
                ("a wrong password, and none", lambda: test.refused_by_sudo([WRONG_PASSWORD, NO_PASSWORD])),
                ("sudo without and with a password", test.as_root),
                ("no become, on a node that has a state", lambda: test.without_root(NO_BECOME)),
            ]
            for title, step in steps:
                start = time.monotonic()
                step()
                print(f"{title}: as documented, {time.monotonic() - start:.1f} s", flush=True)
    except PrivilegesError as exc:
        print(exc, file=sys.stderr)
        return 1
    print(f"{len(steps)} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
