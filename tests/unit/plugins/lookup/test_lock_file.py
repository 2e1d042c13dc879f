# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lookup as templates of a real play call it: what paths and contents become is up to Ansible."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils import beside_inventory

# .../ansible_collections/metalfleet/gpustack/plugins/plugin_utils/beside_inventory.py
COLLECTIONS = pathlib.Path(beside_inventory.__file__).parents[5]
LOCK = "format: 1\nreleases:\n  v0.0.139: {}\n"
HOSTILE = "format: \"{{ lookup('pipe', 'touch PLANTED') }}\"\n"


def play(folder: pathlib.Path, inventory: str, template: str, variables: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    """What the template gives as the option of a task: {"given": value}, {} where it is omitted, or {"msg": why not}."""
    tasks = [
        {"ansible.builtin.set_fact": {"given": template}, "register": "done", "ignore_errors": True},
        {"ansible.builtin.copy": {"content": "{{ done | to_json }}", "dest": str(folder / "done.json")}},
    ]
    whole = {"hosts": "all", "connection": "local", "gather_facts": False, "vars": dict(variables), "tasks": tasks}
    (folder / "playbooks").mkdir(exist_ok=True)
    (folder / "playbooks/play.json").write_text(json.dumps([whole]))
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_HOME": str(folder / "home")}
    environment.update(ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_PYTHON_INTERPRETER=sys.executable)
    command = [sys.executable, "-m", "ansible", "playbook", "-i", inventory, "playbooks/play.json"]
    with open(folder / "output", "w+") as output:
        ended = subprocess.run(command, cwd=folder, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, check=False)
        output.seek(0)
        assert ended.returncode == 0, output.read()
    done = json.loads((folder / "done.json").read_text())
    return {"msg": done["msg"]} if done.get("failed") else dict(done["ansible_facts"])


@pytest.mark.parametrize("lock", ["locks/one.yml", "{folder}/fleet/locks/one.yml"])
def test_a_lock_file_is_beside_the_inventory(tmp_path: pathlib.Path, lock: str) -> None:
    (tmp_path / "fleet/locks").mkdir(parents=True)
    (tmp_path / "fleet/locks/one.yml").write_text(LOCK)
    (tmp_path / "fleet/hosts.yml").write_text("all: {hosts: {host: {}}}\n")
    template = f"{{{{ lookup('metalfleet.gpustack.lock_file', '{lock.format(folder=tmp_path)}') }}}}"
    assert play(tmp_path, "fleet/hosts.yml", template, {}) == {"given": {"format": 1, "releases": {"v0.0.139": {}}}}


def test_with_a_list_of_hosts_it_is_in_the_working_directory(tmp_path: pathlib.Path) -> None:
    (tmp_path / "one.yml").write_text(LOCK)
    given = play(tmp_path, "host,", "{{ lookup('metalfleet.gpustack.lock_file', 'one.yml') }}", {})
    assert given == {"given": {"format": 1, "releases": {"v0.0.139": {}}}}


def test_a_lock_file_that_is_not_there_is_named(tmp_path: pathlib.Path) -> None:
    given = play(tmp_path, "host,", "{{ lookup('metalfleet.gpustack.lock_file', 'none.yml') }}", {})
    assert f"there is no lock file {tmp_path}/none.yml; write one with the playbook metalfleet.gpustack.lock" in given["msg"]


@pytest.mark.parametrize("name", ["none.yml", ""])
def test_unless_it_need_not_be_there(tmp_path: pathlib.Path, name: str) -> None:
    given = play(tmp_path, "host,", f"{{{{ lookup('metalfleet.gpustack.lock_file', '{name}', required=false) }}}}", {})
    assert given == {"given": {}}


def test_nothing_in_a_lock_file_is_a_template(tmp_path: pathlib.Path) -> None:
    (tmp_path / "one.yml").write_text(HOSTILE)
    given = play(tmp_path, "host,", "{{ lookup('metalfleet.gpustack.lock_file', 'one.yml') }}", {})
    assert given["given"]["format"].startswith("{{ lookup")
    assert not [path for path in tmp_path.rglob("*") if path.name == "PLANTED"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"format: [1\n", "cannot be read"), (b"format: \xff\n", "cannot be read"), (b"", "is empty"), (b"{}\n", "is empty")],
)
def test_a_lock_file_that_says_nothing_is_not_none(tmp_path: pathlib.Path, content: bytes, reason: str) -> None:
    (tmp_path / "one.yml").write_bytes(content)
    given = play(tmp_path, "host,", "{{ lookup('metalfleet.gpustack.lock_file', 'one.yml', required=false) }}", {})
    assert f"the lock file {tmp_path}/one.yml {reason}" in given["msg"]
