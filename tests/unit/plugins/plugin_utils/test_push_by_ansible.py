# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What it costs the controller to bring one archive to several hosts: real Ansible with a process for each host, real copies.

The kernel counts what is read, by all processes of a run together. A "host" is this machine by the connection `local`; on it, a
small module takes the place of llama_box, asks for the archive as that does, and says the digest of what it was given.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import sys
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils import push as push_module

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="not run: only Linux counts what a process reads")

MIB = 1024 * 1024
SIZE = 24 * MIB
# .../ansible_collections/metalfleet/gpustack/plugins/plugin_utils/push.py
COLLECTIONS = pathlib.Path(push_module.__file__).parents[5]

ACTION = """
from ansible.plugins.action import ActionBase
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.push import run_with_archives


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        run_module = lambda options: self._execute_module("bring", options, task_vars=task_vars)
        return run_with_archives(self, run_module, self._task.args, task_vars=task_vars)
"""
MODULE = """
import hashlib, os, sys
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({"archives_folder": {}, "asks": {"type": "dict"}, "archives": {"type": "dict"}, "said": {}})
if not module.params["archives"]:
    module.exit_json(changed=False, archives_needed=[module.params["asks"]])
(path,) = module.params["archives"].values()
digest = hashlib.sha256()
with open(path, "rb", buffering=0) as file:
    for piece in iter(lambda: file.read(1 << 20), b""):
        digest.update(piece)
with open(module.params["said"], "w") as said:
    said.write(path + " " + digest.hexdigest())
module.exit_json(changed=True)
"""


class Run(t.NamedTuple):
    """What the kernel says of a run of ansible-playbook with all its processes. peak_bytes: of the largest process."""

    read_bytes: int
    peak_bytes: int
    output: str


def run_playbook(folder: pathlib.Path) -> Run:
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_HOME": str(folder / "home")}
    environment.update(ANSIBLE_PIPELINING="true", ANSIBLE_FORKS="4", ANSIBLE_LOCALHOST_WARNING="false")
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(folder / "hosts.json"), str(folder / "play.json")]
    to_file = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    pid = os.posix_spawn(sys.executable, command, environment, file_actions=to_file)
    os.close(output)
    # It has ended and is still there, so that its counters can be read.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    counters = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
    _pid, status, used = os.wait4(pid, 0)
    text = (folder / "output").read_text()
    assert status == 0, text
    return Run(int(counters["rchar"]), used.ru_maxrss * 1024, text)


def bring(folder: pathlib.Path, hosts: int, size: int) -> Run:
    """An archive of that size to so many hosts; all of them must have got it."""
    archive = folder / "archives" / "v0.0.139" / "llama-box-darwin-arm64-metal.zip"
    for path, text in ((folder / "action_plugins/bring.py", ACTION), (folder / "library/bring.py", MODULE)):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    archive.parent.mkdir(parents=True)
    # Not all at once: the kernel counts the memory of this process as that of the one which it becomes.
    piece, hashed = os.urandom(MIB), hashlib.sha256()
    with archive.open("wb") as file:
        for _number in range(size // MIB):
            file.write(piece)
            hashed.update(piece)
    digest = hashed.hexdigest()
    names = [f"host-{number}" for number in range(hosts)]
    reach = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_remote_tmp": f"{folder}/remote"}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": {name: {} for name in names}, "vars": reach}}))
    asks = {"version": "v0.0.139", "build": "darwin-arm64-metal", "sha256": digest, "size_bytes": size}
    task = {"bring": {"archives_folder": str(folder / "archives"), "asks": asks, "said": f"{folder}/said-{{{{ inventory_hostname }}}}"}}
    (folder / "play.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    run = run_playbook(folder)
    copies = [(folder / f"said-{name}").read_text().split() for name in names]
    assert [got for _path, got in copies] == [digest] * hosts
    assert len({path for path, _got in copies}) == hosts
    assert [path for path, _got in copies if os.path.exists(path)] == []
    return run


def test_a_host_more_costs_one_more_copy_and_no_more_hashing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "four").mkdir()
    one, four = bring(tmp_path / "one", 1, SIZE), bring(tmp_path / "four", 4, SIZE)
    # The controller's digest, the copy, the host's digest.
    assert one.read_bytes > 3 * SIZE
    # Of three more hosts, the copies and the hosts' own digests; what Ansible itself reads for a host is a few MiB.
    assert 6 * SIZE < four.read_bytes - one.read_bytes < 7 * SIZE


def test_the_controller_never_has_an_archive_in_memory(tmp_path: pathlib.Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()
    small, large = bring(tmp_path / "small", 1, MIB), bring(tmp_path / "large", 1, 4 * SIZE)
    assert large.peak_bytes - small.peak_bytes < 16 * MIB
