# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin as the role calls it, with Ansible's own loader, templates and lookups, in a process of its own: Ansible sets up its
loader of plugins once in a process. Only the module is not run: what it would be given is printed."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
import yaml
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils import role_variables

ROLE = pathlib.Path(role_variables.__file__).resolve().parents[2] / "roles/gpustack_node"
DEFAULTS: dict[str, t.Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
LOCK = {"format": 1, "releases": {"v0.0.139": {}}}
PROGRAM = """
import copy, json, sys, types
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import action_loader, init_plugin_loader
from ansible.template import Templar
init_plugin_loader([])
action = action_loader.get("metalfleet.gpustack.node", class_only=True)
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.trust import trust_as_template

def trusted(value):
    if isinstance(value, dict):
        return {name: trusted(inner) for name, inner in value.items()}
    return trust_as_template(value) if isinstance(value, str) else value

class Action(action):
    def _execute_module(self, module_name, module_args, task_vars):
        self.given = module_args
        return {}

    def _remove_tmp_path(self, path, force=False):
        pass

arguments, variables = json.load(sys.stdin)
variables = trusted(variables)
task = types.SimpleNamespace(args=arguments, async_val=0, check_mode=False, action="metalfleet.gpustack.node", delegate_to=None)
# One that cannot feed a program to Python: no node is asked for a receipt.
connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir=None), become=None, has_pipelining=False)
loader = DataLoader()
own = Action(task, connection, None, loader, Templar(loader=loader, variables=variables), None)
try:
    own.run(task_vars=variables)
    print(json.dumps({"given": own.given, "task": task.args}))
except AnsibleError as exc:
    print(json.dumps({"msg": str(exc)}))
"""


def run(folder: pathlib.Path, variables: t.Mapping[str, t.Any], **arguments: t.Any) -> dict[str, t.Any]:
    """What the module is given, and what became of the task's own arguments; or why not. folder: has the inventory, and is searched."""
    paths = [path for path in sys.path if os.path.isdir(os.path.join(path, "ansible_collections"))]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(paths)}
    every = {
        **DEFAULTS,
        "inventory_hostname": "mac",
        "ansible_inventory_sources": [str(folder / "hosts.yml")],
        "ansible_search_path": [str(folder)],
        **variables,
    }
    asked = json.dumps([{"role_variables": True, **arguments}, every])
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, input=asked, text=True, stdout=subprocess.PIPE, env=environment)
    found: dict[str, t.Any] = json.loads(done.stdout)
    return found


def test_options_are_those_of_the_role(tmp_path: pathlib.Path) -> None:
    """The lock lies beside the inventory, and the template where templates are looked for. Callbacks are given no secret of the role."""
    (tmp_path / "llama_box.lock.yml").write_text(json.dumps(LOCK))
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/own.j2").write_text("{{ name_of_fleet }}=1\n")
    variables = {
        "gpustack_node_llama_box_version": "{{ version_of_fleet }}",
        "gpustack_node_environment_template": "own.j2",
        "gpustack_node_secrets": {"HF_TOKEN": "canary"},
        "version_of_fleet": "v0.0.139",
        "name_of_fleet": "OWN",
    }
    found = run(tmp_path, variables)
    assert found["given"]["environment"]["content"] == "OWN=1\n"
    assert found["given"]["environment"]["secrets"] == {"HF_TOKEN": "canary"}
    assert (found["given"]["llama_box"]["version"], found["given"]["llama_box"]["lock"]) == ("v0.0.139", LOCK)
    assert "role_variables" not in found["given"]
    assert found["task"] == {"role_variables": True}


def test_other_options_count_where_the_role_has_no_variable(tmp_path: pathlib.Path) -> None:
    """They may come from module_defaults. What the role leaves alone stays alone."""
    others = {
        "wired_limit": {},
        "llama_box": {"state": "absent"},
        "service_name": "other",
        "settle_seconds": 7,
        "environment": {"path": "/x"},
    }
    found = run(tmp_path, {}, lock_wait_seconds=3, **others)
    assert found["given"] == run(tmp_path, {}, lock_wait_seconds=3)["given"]
    assert (found["given"]["lock_wait_seconds"], found["given"]["settle_seconds"]) == (3, 10)
    assert "path" not in found["given"]["environment"]
    assert not {"wired_limit", "llama_box", "service_name"} & set(found["given"])


def test_it_is_the_role_only_where_that_is_said(tmp_path: pathlib.Path) -> None:
    given = run(tmp_path, {}, role_variables="no", wired_limit={})["given"]
    assert {name: value for name, value in given.items() if name not in ("receipt_for", "node_name")} == {"wired_limit": {}}


@pytest.mark.parametrize(
    ("variables", "arguments", "why"),
    [
        ({"gpustack_node_llama_box_version": "v0.0.139"}, {}, "there is no lock file {folder}/llama_box.lock.yml"),
        ({"gpustack_node_environment_template": "own.j2"}, {}, "gpustack_node_environment_template: 'name_of_fleet' is undefined"),
        ({"gpustack_node_environment_template": "none.j2"}, {}, "gpustack_node_environment_template: "),
        ({}, {"role_variables": "perhaps"}, "role_variables is neither true nor false: 'perhaps'"),
        ({}, {"role_variables": {}}, "role_variables is neither true nor false: {{}}"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: pathlib.Path, variables: dict[str, t.Any], arguments: dict[str, t.Any], why: str) -> None:
    (tmp_path / "own.j2").write_text("{{ name_of_fleet }}=1\n")
    assert why.format(folder=tmp_path) in run(tmp_path, variables, **arguments)["msg"]
