# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts of a bench: Linux, each with the stand-in service, the fault of gpustack#1907, and a llama-box to be replaced."""

from __future__ import annotations

import concurrent.futures
import hashlib
import io
import json
import os
import random
import stat
import subprocess
import sys
import time
import typing as t
import zipfile

import archives
import layer
from disposable import cgroups
from disposable.state import SessionState
from fleet import HOSTS, ROOT, Fleet
from measure import Meter

RELEASE = "v0.0.139"
BUILD = {"x86_64": "linux-amd64-avx2", "aarch64": "linux-arm64-neon"}[os.uname().machine]
PROGRAM = "/root/.local/pipx/venvs/gpustack/lib/python3.11/site-packages/gpustack/third_party/bin/llama-box/llama-box"
ENVIRONMENT = {"HF_ENDPOINT": "https://hub.example.com"}
# The controller, as the hosts of a session see it (tests/hosts).
MIRROR_PORT = 8099
MIRROR = f"http://10.231.0.1:{MIRROR_PORT}"
# Not root: become is part of what a fleet costs.
USER = "fleet"
IDLE_SECONDS = 5.0
START_LIMIT_SECONDS = 30.0
# `python -m http.server` lets five clients wait, and those that come when there are more try again after a second.
SERVER = """
import functools, http.server, sys
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
Server(("", int(sys.argv[2])), handler).serve_forever()
"""
_AT_ONCE = 8


class BenchError(Exception):
    """The bench cannot say anything; the message says why."""


class Targets:
    """The hosts of one session. policy: what every tool is told to bring about."""

    def __init__(self, fleet: Fleet, count: int, archive_mib: int) -> None:
        self.fleet = fleet
        self.names = [f"node-{number}" for number in range(count)]
        self.layer = layer.make()
        self.archives_folder = fleet.folder / "mirror"
        self.lock_file = fleet.folder / "llama_box.lock.yml"
        self.policy = self._release(archive_mib)
        group = cgroups.session_group(fleet.session)
        self.meter = Meter(group / "controller", [group / name for name in self.names])
        self._booted = False

    def boot(self) -> None:
        """New hosts, in the place of those that are there."""
        if self._booted:
            self.fleet.halt(self.names)
        self._booted = True
        self.fleet.boot(dict.fromkeys(self.names, f"linux::{self.layer}"), json.dumps(self._inventory()))
        plants = ("--plant", "file", "--plant", "file_export", "--plant", "manager")
        self._on_all(lambda name: self.fleet.install_stand_in(name, "--kind", "systemd", *plants))
        self.meter.measure_idle(IDLE_SECONDS)

    def inside(self) -> t.List[str]:
        """What a command begins with that runs among the hosts. `hosts run` would add a start of Python to each."""
        keeper = SessionState(self.fleet.session).read_facts()["keeper_pid"]
        return ["nsenter", "--target", str(keeper), "--pid", "--net", "--mount", "--"]

    def serve(self) -> subprocess.Popen[bytes]:
        """The mirror from which nodes download. It is not the controller, and its CPU is nobody's."""
        server = [sys.executable, "-c", SERVER, str(self.archives_folder), str(MIRROR_PORT)]
        process = subprocess.Popen([HOSTS, "run", self.fleet.session, "--", *server], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        probe = [HOSTS, "run", self.fleet.session, "--", sys.executable, "-c", f"import urllib.request as u; u.urlopen('{MIRROR}')"]
        start = time.monotonic()
        while subprocess.run(probe, check=False, stderr=subprocess.DEVNULL).returncode != 0:
            if process.poll() is not None or time.monotonic() - start > START_LIMIT_SECONDS:
                raise BenchError("the mirror does not come up")
            time.sleep(0.2)
        return process

    def look(self, names: t.Sequence[str]) -> t.List[t.Dict[str, t.Any]]:
        """What is there, by look.py."""
        program = (ROOT / "tests/bench/look.py").read_bytes()
        return self._on_all(lambda name: json.loads(self.fleet.ssh(name, f"python3 - {PROGRAM}", program)), names)

    def require_state(self, tool: str) -> None:
        """Every host is as the policy says, after exactly one restart, whatever tool has been there."""
        wanted = {
            "variable_in_file": False,
            "variable_in_manager": False,
            "variable_in_process": False,
            "ours_in_file": list(ENVIRONMENT.values()),
            "ours_in_process": list(ENVIRONMENT.values()),
            "program_sha256": self.policy["program_sha256"],
            "service": ["active", "enabled"],
            "starts": 2,
        }
        for name, seen in zip(self.names, self.look(self.names)):
            seen.pop("receipt")
            if seen != wanted:
                raise BenchError(f"{tool} has left {name} as {seen}, and not as {wanted}")

    def require_fault(self) -> None:
        """Every host has what the policy is against."""
        for name, seen in zip(self.names, self.look(self.names)):
            fault = (seen["variable_in_file"], seen["variable_in_manager"], seen["variable_in_process"])
            if fault != (True, True, True) or seen["ours_in_file"] or seen["program_sha256"] == self.policy["program_sha256"]:
                raise BenchError(f"{name} has nothing to be cured of: {seen}")

    def _release(self, archive_mib: int) -> t.Dict[str, t.Any]:
        """An archive as large as the real one, and what the tools have to know of it."""
        path = archives.place(self.archives_folder, RELEASE, BUILD)
        program = _large_program(archive_mib)
        path.write_bytes(archives.pack({archives.PROGRAM: program}))
        data = archives.release_data(self.archives_folder, MIRROR, RELEASE, BUILD)
        # JSON is YAML.
        self.lock_file.write_text(json.dumps({"format": 1, "releases": {RELEASE: {BUILD: data}}}))
        policy = {
            "environment": ENVIRONMENT,
            "program": PROGRAM,
            "program_sha256": hashlib.sha256(program).hexdigest(),
            "program_size_bytes": len(program),
            "archive_url": data["url"],
            "archive_sha256": data["sha256"],
        }
        (self.fleet.folder / "policy.json").write_text(json.dumps(policy))
        return policy

    def _inventory(self) -> t.Dict[str, t.Any]:
        variables = {
            "ansible_user": USER,
            "gpustack_node_environment": ENVIRONMENT,
            "gpustack_node_llama_box_version": RELEASE,
            "gpustack_node_llama_box_lock": str(self.lock_file),
            "gpustack_node_llama_box_slots": ["builtin"],
            "gpustack_node_llama_box_base_url": MIRROR,
            "gpustack_node_wired_limit_state": "present",
            # As for the task.
            "gpustack_node_settle_seconds": 0,
            **{f"ordinary_{name}": value for name, value in self.policy.items()},
        }
        return {"gpustack": {"hosts": {name: {} for name in self.names}, "vars": variables}}

    def _on_all(self, work: t.Callable[[str], t.Any], names: t.Optional[t.Sequence[str]] = None) -> t.List[t.Any]:
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(work, names or self.names))


def _large_program(mib: int) -> bytes:
    """The stand-in for llama-box, as large as the real one: a program in a zip archive, of which Python reads only what it needs."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("__main__.py", archives.program(RELEASE, BUILD)), ("padding", random.Random(0).randbytes(mib << 20))):
            info = zipfile.ZipInfo(name, (2025, 1, 1, 0, 0, 0))
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return b"#!/usr/bin/python3\n" + memory.getvalue()
