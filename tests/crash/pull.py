# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-pull on a disposable host: a real one, which clones a git repository that lies there and plays what it finds."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import typing as t

from fleet import ROOT, Fleet

from playbooks import LIMIT_SECONDS, tasks

# The last ansible-core that runs on the hosts' Python.
VERSION, PYTHON = "2.19.14", "3.11"
_HOME = "/opt/pull"
_COMMANDS = ("ansible", "ansible-playbook", "ansible-pull")
_GIT_CORE = "usr/lib/git-core"
_ENVIRONMENT = {
    "PYTHONPATH": _HOME,
    "ANSIBLE_COLLECTIONS_PATH": "/opt/crash/tree",
    "LC_ALL": "C.UTF-8",
    # Of git, which a simulated Mac does not have.
    "GIT_EXEC_PATH": f"/{_GIT_CORE}",
}


def add_to(layer: pathlib.Path) -> None:
    """Put ansible-core, git and the rest of the collection into a layer for hosts that crash_layer has made."""
    home = layer / _HOME[1:]
    shutil.copytree(_installed(), home, ignore=shutil.ignore_patterns("__pycache__", "ansible_test", "bin"))
    (home / "bin").mkdir()
    for name in _COMMANDS:
        module = name.partition("-")[2] or "adhoc"
        (home / "bin" / name).write_text(f"#!/usr/bin/python3\nimport sys\nfrom ansible.cli.{module} import main\nsys.exit(main())\n")
        (home / "bin" / name).chmod(0o755)
    shutil.copytree(ROOT / "meta", layer / "opt/crash/tree/ansible_collections/metalfleet/gpustack/meta")
    git = shutil.which("git")
    if git is None:
        raise SystemExit("crash: git is missing")
    (layer / "usr/bin").mkdir(parents=True)
    shutil.copy(git, layer / "usr/bin/git")
    (layer / _GIT_CORE).mkdir(parents=True)
    for name in ("git", "git-upload-pack"):
        (layer / _GIT_CORE / name).symlink_to("/usr/bin/git")


def _installed() -> pathlib.Path:
    folder = ROOT / ".cache/pull" / VERSION
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--target", str(folder)]
        wanted = ["--python-version", PYTHON, "--only-binary", ":all:", f"ansible-core=={VERSION}"]
        subprocess.run([*pip, *wanted], check=True)
        (folder / "ready").touch()
    return folder


class Pull:
    """A repository on the host with a play of one task. Each has a checkout of its own; what the task said lies beside it."""

    def __init__(self, fleet: Fleet, host: str, module: str, arguments: t.Mapping[str, t.Any], name: str) -> None:
        self._fleet, self._host = fleet, host
        self._home = f"/root/pull-{name}"
        play = {"name": "Crash", "hosts": "localhost", "connection": "local", "gather_facts": False}
        source = fleet.folder / f"pull-{name}" / "repository"
        source.mkdir(parents=True)
        (source / "site.yml").write_text(json.dumps([{**play, "tasks": tasks(module, arguments, f"{self._home}/result.json")}]))
        author = ["-c", "user.name=crash", "-c", "user.email=crash@example.com"]
        for command in (["init", "-q", "-b", "main"], ["add", "."], [*author, "commit", "-q", "-m", "Crash"]):
            subprocess.run(["git", "-C", str(source), *command], check=True)
        pack = subprocess.run(["tar", "-C", str(source.parent), "-c", "."], check=True, stdout=subprocess.PIPE).stdout
        fleet.ssh(host, f"mkdir -p {self._home} && tar -C {self._home} --no-same-owner -x", pack)
        self._log = ""
        self._thread = threading.Thread()

    def start(self) -> None:
        """In the background."""
        variables = " ".join(f"{name}={value}" for name, value in _ENVIRONMENT.items())
        command = f"{_HOME}/bin/ansible-pull -U {self._home}/repository -d {self._home}/checkout -C main -i localhost, site.yml"
        whole = f"cd /root && rm -f {self._home}/result.json; env {variables} {command} </dev/null 2>&1 || true"

        def run() -> None:
            self._log = self._fleet.ssh(self._host, whole)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def wait(self) -> t.Dict[str, t.Any]:
        """What the module said; {"unreachable": True} where it said nothing, as one that was killed."""
        self._thread.join(LIMIT_SECONDS)
        if self._thread.is_alive() or not re.search(r"^Starting Ansible Pull at ", self._log, re.M):
            raise TimeoutError(f"ansible-pull has not ended, or was none: {self._log}")
        said = self._fleet.ssh(self._host, f"cat {self._home}/result.json 2>/dev/null || true")
        return json.loads(said) if said else {"unreachable": True, "log": self._log}

    def run(self) -> t.Dict[str, t.Any]:
        """Start and wait."""
        self.start()
        return self.wait()
