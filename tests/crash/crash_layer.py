# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A layer for disposable hosts: the collection as modules import it, strace with its libraries, archives, and the agent."""

from __future__ import annotations

import compileall
import json
import pathlib
import re
import shutil
import subprocess
import typing as t

import ansible
from archives import place, release_data
from fleet import ROOT

VERSIONS = ("v0.0.139", "v0.0.140")
# Its program ends soon after it was started, so that the node gets worse for it.
CRASHING = "v0.0.141"
BUILDS = {"linux": "linux-amd64-avx2", "mac": "darwin-arm64-metal"}
ARCHIVES = "/opt/crash/archives"
_HERE = pathlib.Path(__file__).resolve().parent


def make(folder: pathlib.Path) -> t.Dict[str, t.Any]:
    """Fill the folder; returns the content of the lock file for the archives."""
    home = folder / "opt/crash"
    shutil.rmtree(folder, ignore_errors=True)
    tree = home / "tree"
    collection = tree / "ansible_collections/metalfleet/gpustack"
    shutil.copytree(ROOT / "plugins", collection / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "galaxy.yml", collection)
    source = pathlib.Path(ansible.__path__[0])
    shutil.copytree(source / "module_utils", tree / "ansible/module_utils", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(source / "release.py", tree / "ansible")
    # As Ansible sends it to nodes: its own one is the controller's.
    (tree / "ansible/__init__.py").write_text("")
    for name in ("agent.py", "calls.py", "looking.py"):
        shutil.copy(_HERE / name, home)
    compileall.compile_dir(str(home), quiet=2)
    _copy_strace(home)
    return _make_archives(folder / ARCHIVES[1:])


def _copy_strace(home: pathlib.Path) -> None:
    program = shutil.which("strace")
    if program is None:
        raise SystemExit("crash: strace is missing; make setup installs it")
    shutil.copy(program, home / "strace")
    (home / "lib").mkdir()
    said = subprocess.run(["ldd", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    for path in re.findall(r"(/\S+\.so\S*)", said):
        shutil.copy(path, home / "lib")
    loader = next((home / "lib").glob("ld-linux*"))
    if loader.name != "ld-linux-x86-64.so.2":
        loader.rename(home / "lib/ld-linux-x86-64.so.2")


def _make_archives(folder: pathlib.Path) -> t.Dict[str, t.Any]:
    releases: t.Dict[str, t.Any] = {}
    for version in (*VERSIONS, CRASHING):
        builds = {}
        for build in BUILDS.values():
            place(folder, version, build, 0.2 if version == CRASHING else None)
            builds[build] = release_data(folder, "https://github.com", version, build)
        releases[version] = builds
    return json.loads(json.dumps({"format": 1, "releases": releases}))  # type: ignore[no-any-return]
