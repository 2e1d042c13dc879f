# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nodes and servers say is never a template: the playbook `site` with modules that return Jinja2 in every text.

Each ansible-core of cores.py runs the real playbook and the real roles on a node that is this machine. The modules are replaced by
stand-ins, so that every text that a module can return, chip, path, model, worker, reason or message, is a lookup that makes a file. No
such file may be there afterwards, and the texts have to be shown as they are.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import typing as t

import cores

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Whatever the collection's own files are, the stand-ins take the place of these.
COPIED = (
    "roles",
    "playbooks",
    "meta",
    "galaxy.yml",
    "plugins/filter",
    "plugins/lookup",
    "plugins/plugin_utils",
    "plugins/doc_fragments",
    "plugins/module_utils",
)
STAND_IN = """#!/usr/bin/python
import sys
from ansible.module_utils.basic import AnsibleModule  # by which Ansible tells a module in Python

def main():
    print(%r)
    sys.exit(0)

if __name__ == "__main__":
    main()
"""


def results(bad: str) -> dict[str, dict[str, t.Any]]:
    """What each module returns; every text that decides nothing is bad."""
    finding = {"finding": "too_big", "reason": bad, "mend": bad}
    decision = {"flag": bad, "rule": bad, "overridden": bad, "reason": bad, "risk": ""}
    pending: dict[str, t.Any] = {"restart_pending": [bad], "restarted": [bad], "cures": [bad], "warnings": [bad]}
    places = [{"state": "unknown", "kind": bad, "where": bad}, {"state": "present", "kind": "process", "where": bad}]
    facts = {"apple_silicon": {"chip": bad, "model_identifier": bad, "warnings": [bad]}}
    node = {"gpustack_version": bad, "residency": {"places": places}, "llama_box": [{"slot": bad, "version": bad}], "warnings": [bad]}
    return {
        "node": {
            "changed": True,
            "applied": True,
            "receipt": {"used": False, "reason": bad, "age_seconds": None},
            "restart_pending": False,
            "restart_reasons": [bad],
            "restarted": True,
            "changes": [{"where": bad, "resource": bad, "action": bad, "name": bad}],
            "environment": {"residency": {"remove": True, "reason": bad}},
            "ansible_facts": facts,
            "warnings": [bad],
        },
        "node_info": {"changed": False, "node": node},
        "apple_silicon_facts": {"changed": False, "ansible_facts": facts},
        "models": {
            "changed": True,
            "applied": True,
            "models": [{"name": bad, "changed": True, "action": "update", "fields": {bad: 1}, "decision": decision, **pending}],
        },
        "placement_info": {"changed": False, "models": [{"name": bad, "verdict": bad, "findings": [finding]}]},
        "throughput": {
            "changed": False,
            "models": [
                {"name": bad, "workers": [bad], "status": bad, "first_token_seconds": 1.0, "tokens_per_second": 2.0, "reason": bad},
            ],
            "failing": [{"name": bad}],
            "summary": bad,
        },
    }


def build(folder: pathlib.Path, bad: str) -> pathlib.Path:
    """A collection with the real roles and playbooks, and with stand-ins for modules; returns where Ansible finds it."""
    collection = folder / "collections" / "ansible_collections" / "metalfleet" / "gpustack"
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, collection / name)
        elif source.exists():
            (collection / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, collection / name)
    modules = collection / "plugins" / "modules"
    modules.mkdir()
    for name, result in results(bad).items():
        (modules / f"{name}.py").write_text(STAND_IN % json.dumps(result))
    return folder / "collections"


def run(program: str, folder: pathlib.Path, bad: str) -> str:
    """The output of the playbook, as wordy as it gets."""
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(build(folder, bad)),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }
    hosts = {"one": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
    variables = {"gpustack_server_url": "https://gpustack.invalid", "gpustack_models_list": [], "ansible_become": False}
    inventory = folder / "inventory.yml"
    inventory.write_text(json.dumps({"gpustack": {"hosts": hosts, "vars": variables}}))
    # A trusted template makes its file: otherwise that none was made would say nothing.
    control = folder / "control.yml"
    task = {"ansible.builtin.debug": {"msg": "{{ lookup('ansible.builtin.pipe', 'touch " + str(folder / "control") + "') }}"}}
    control.write_text(json.dumps([{"hosts": "gpustack", "gather_facts": False, "tasks": [task]}]))
    command = [program, "-vvv", "-i", str(inventory), str(control), "metalfleet.gpustack.site"]
    result = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=folder)
    return result.stdout


def tasks_of(output: str) -> dict[str, str]:
    """Name of a task -> what was said while it ran."""
    parts = output.replace("\nRUNNING HANDLER [", "\nTASK [").split("\nTASK [")[1:]
    return {part.partition("]")[0].rpartition(" : ")[2]: part for part in parts}


# Each of these shows texts of nodes or of the server.
SHOWN = (
    "Say what was done on the node",
    "Say what was done about the models",
    "Show what the models answered and where they are",
    "Fail if a model does not answer as it should, or is not where it can be",
)


def check(version: str, program: str) -> None:
    """Both kinds of Jinja2's blocks."""
    lookup = "lookup('ansible.builtin.pipe', 'touch OWNED')"
    for form in (f"{{{{ {lookup} }}}}", f"{{% if {lookup} %}}{{% raw %}}"):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            owned = folder / "owned"
            bad = form.replace("OWNED", str(owned))
            output = run(program, folder, bad)
            said = tasks_of(output)
            missing = [task for task in SHOWN if bad not in said.get(task, "")]
            if owned.exists() or missing or not (folder / "control").exists():
                what = "evaluated what a module returned" if owned.exists() else f"does not show it as it is in {missing}"
                sys.exit(f"ansible-core {version} {what} ({form})\n{output}")
    print(f"ansible-core {version}: nothing that a module returns is a template")


if __name__ == "__main__":
    cores.with_each(check)
