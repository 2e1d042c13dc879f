# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node cannot give orders to the controller by the result of its receipt, under any ansible-core of cores.py.

The node is this machine, and its Python is a program that answers the question for the receipt with a result of its own: one that would
add a host of the controller's to the group on which the next play runs. The playbook `control` shows that Ansible obeys an action that
returns such a thing, or says that this version does not.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import cores

ORDERS = {
    "add_host": {"host_name": "added", "groups": ["gpustack"], "host_vars": {"ansible_connection": "local"}},
    "_ansible_no_log": False,
}
RESULT = {"changed": False, "changes": [], "restart_pending": False, "ansible_facts": {}}
# It is asked with its mark in the last line; a module, which it is given next, it does not run.
PYTHON = """#!{python}
import re, sys
mark = re.findall(r"main\\('([0-9a-f]+)'", sys.stdin.read())
print(mark[-1], "ok", "5", {result!r}) if mark else sys.exit({ran!r})
"""
MODULE_WAS_RUN = "the module was run"
ACTION = """from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        return {result!r}
"""


def play(task: str, options: dict[str, object]) -> list[dict[str, object]]:
    """The task, and then which hosts the group has."""
    shown = {"ansible.builtin.debug": {"msg": "the group has {{ groups.gpustack | join(' and ') }}"}}
    plays = [{task: options, "ignore_errors": True}], [shown]
    return [{"hosts": "gpustack", "gather_facts": False, "tasks": tasks} for tasks in plays]


def run(program: str, folder: pathlib.Path, name: str) -> str:
    """The output of a playbook in the folder."""
    environment = {**os.environ, "ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_ACTION_PLUGINS": str(folder / "action")}
    command = [program, "-vv", "-i", str(folder / "inventory.json"), str(folder / f"{name}.yml")]
    return subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment).stdout


def check(version: str, program: str) -> None:
    """Whether the group has the node alone afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        python = folder / "python"
        python.write_text(PYTHON.format(python=sys.executable, result=json.dumps({**RESULT, **ORDERS}), ran=MODULE_WAS_RUN))
        python.chmod(0o755)
        (folder / "action").mkdir()
        (folder / "action" / "obey.py").write_text(ACTION.format(result=ORDERS))
        node = {"ansible_connection": "local", "ansible_python_interpreter": str(python)}
        (folder / "inventory.json").write_text(json.dumps({"gpustack": {"hosts": {"one": node}}}))
        (folder / "receipt.yml").write_text(json.dumps(play("metalfleet.gpustack.node", {"environment": {"variables": {"A": "b"}}})))
        (folder / "control.yml").write_text(json.dumps(play("obey", {})))
        said = run(program, folder, "receipt")
        # The module is run in its place.
        if 'the group has one"' not in said or MODULE_WAS_RUN not in said:
            sys.exit(f"ansible-core {version}: what a node's receipt orders is taken for a result\n{said}")
        obeys = "the group has one and added" in run(program, folder, "control")
    print(f"ansible-core {version}: a node's receipt gives no orders{'' if obeys else ' (this version would not obey an action, either)'}")


if __name__ == "__main__":
    cores.with_each(check)
