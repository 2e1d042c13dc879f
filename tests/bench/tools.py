# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contenders: what is run, and how to know that it did its work, or found nothing to do."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import typing as t

from fleet import ROOT
from rows import FIRST, NO_CHANGE
from targets import ENVIRONMENT, MIRROR, RELEASE, USER, BenchError, Targets

HERE = ROOT / "tests/bench/contenders"
ANSIBLE = {"ANSIBLE_PIPELINING": "true", "ANSIBLE_ROLES_PATH": str(HERE / "roles")}
_RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.M)
# "Operation  Hosts  Success  Error  No Change", and a last line that is the sum.
_PYINFRA = re.compile(r"^ *(?!Grand total)\S.*?((?: +(?:\d+|-)){4}) *$", re.M)


@dataclasses.dataclass(frozen=True)
class Tool:
    """One contender.

    run: "play", "pyinfra", "ssh", or "node", a play with our one task. what: the playbook, or the command. arguments: more of them.
    options: of the task. strategy: of its play. phases: those that it takes part in.
    cold: over new connections; otherwise over such as an earlier run has left (but pyinfra makes its own each time).
    receipt: whose receipt it has to find.
    """

    name: str
    run: str
    what: str = ""
    arguments: t.Tuple[str, ...] = ()
    options: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    strategy: str = "linear"
    phases: t.Tuple[str, ...] = (NO_CHANGE,)
    cold: bool = False
    receipt: str = ""


BOTH = (FIRST, NO_CHANGE)
TOOLS = (
    Tool("ssh", "ssh", "true"),
    Tool("ssh_cold", "ssh", "true", cold=True),
    # The floor of anything that runs a Python program there as root.
    Tool("ssh_python", "ssh", "sudo -n /usr/bin/python3 -I -S -c pass"),
    Tool("ping", "play", "ping.yml"),
    Tool("ping_cold", "play", "ping.yml", cold=True),
    Tool("node", "node", phases=BOTH, receipt="task"),
    Tool("node_cold", "node", cold=True, receipt="task"),
    Tool("node_free", "node", strategy="free", receipt="task"),
    Tool("node_forks_50", "node", arguments=("-f", "50"), receipt="task"),
    Tool("node_content", "node", options={"verify": "content"}, receipt="task"),
    Tool("node_push", "node", options={"llama_box": {"source": "push"}}, phases=(FIRST,)),
    Tool("role", "play", "role.yml", phases=BOTH, receipt="role"),
    Tool("pyinfra", "pyinfra", "deploy.py", phases=BOTH),
    Tool("pyinfra_hash", "pyinfra", "deploy.py", ("--data", "hash=yes"), phases=BOTH),
    Tool("ordinary", "play", "ordinary.yml", phases=BOTH),
)


def pyinfra_program() -> pathlib.Path:
    """pyinfra in a virtual environment of its own, as pinned."""
    pins = HERE / "pyinfra/requirements.txt"
    wanted = hashlib.sha256(pins.read_bytes()).hexdigest()
    venv = ROOT / ".cache/bench/pyinfra"
    if not (venv / "ready").exists() or (venv / "ready").read_text() != wanted:
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin/pip"), "install", "-qq", "--disable-pip-version-check", "--requirement", str(pins)], check=True)
        (venv / "ready").write_text(wanted)
    return venv / "bin/pyinfra"


def command_of(tool: Tool, targets: Targets, forks: int, host: str = "") -> t.Tuple[t.List[str], t.Dict[str, str]]:
    """The command, and what its environment needs. host: the only one that it is to be for, where that is one."""
    fleet = targets.fleet
    inside = targets.inside()
    only = ["--limit", host] if host else []
    reach = str(fleet.folder / "reach.yml")
    if tool.run in ("play", "node"):
        playbook = _node_play(tool, targets) if tool.run == "node" else HERE / tool.what
        inventories = ["-i", str(fleet.folder / "inventory.yml"), "-i", reach]
        return [*inside, "ansible-playbook", str(playbook), *inventories, "-f", str(forks), *only, *tool.arguments], ANSIBLE
    if tool.run == "ssh":
        return [*inside, sys.executable, str(HERE / "raw_ssh.py"), reach, USER, str(forks), tool.what], {}
    environment = {"BENCH_REACH": reach, "BENCH_USER": USER, "BENCH_POLICY": str(fleet.folder / "policy.json")}
    files = [str(HERE / "pyinfra/inventory.py"), str(HERE / "pyinfra" / tool.what)]
    return [*inside, str(pyinfra_program()), "-y", "--sudo", "--parallel", str(forks), *only, *tool.arguments, *files], environment


def _node_play(tool: Tool, targets: Targets) -> pathlib.Path:
    """Our task with what a person would write: options as they are, and the lock as in the module's examples.

    Ansible compiles each template anew for each host.
    """
    lines = "# Set gpustack_node_environment in the inventory instead of editing these lines.\n"
    llama_box = {
        "version": RELEASE,
        "lock": f"{{{{ lookup('metalfleet.gpustack.lock_file', '{targets.lock_file}') }}}}",
        "slots": ["builtin"],
        "base_url": MIRROR,
        "archives_folder": str(targets.archives_folder),
        **tool.options.get("llama_box", {}),
    }
    task = {
        # As the role writes it, so that the role and this task want the same file.
        "environment": {"content": lines + "".join(f"{name}={value}\n" for name, value in ENVIRONMENT.items())},
        "wired_limit": {},
        # The other tools wait for an answer, and not to see whether it lasts.
        "settle_seconds": 0,
        **tool.options,
        "llama_box": llama_box,
    }
    play = {"hosts": "gpustack", "gather_facts": False, "become": True, "strategy": tool.strategy}
    path = targets.fleet.folder / f"{tool.name}.yml"
    # JSON is YAML.
    path.write_text(json.dumps([{**play, "tasks": [{"metalfleet.gpustack.node": task}]}]))
    return path


def changes_of(tool: Tool, output: str, hosts: int) -> int:
    """How much was changed, as the tool itself says. Raises BenchError where it does not say that of all hosts."""
    if tool.run == "ssh":
        return 0
    if tool.run == "pyinfra":
        return _changes_of_pyinfra(tool, output, hosts)
    recaps = _RECAP.findall(output)
    if len(recaps) != hosts or any(bad != ["0", "0"] for _host, _changed, *bad in recaps):
        raise BenchError(f"{tool.name} failed, or does not speak of all {hosts} hosts:\n{output}")
    return sum(int(changed) for _host, changed, *_bad in recaps)


def _changes_of_pyinfra(tool: Tool, output: str, hosts: int) -> int:
    """From its table: for each operation the hosts that it is for, and on how many it changed something, failed, changed nothing."""
    rows = [[0 if word == "-" else int(word) for word in found.split()] for found in _PYINFRA.findall(output)]
    if not rows or any(row[2] for row in rows) or max(row[0] for row in rows) != hosts:
        raise BenchError(f"{tool.name} failed, or does not speak of all {hosts} hosts:\n{output}")
    return sum(row[1] for row in rows)
