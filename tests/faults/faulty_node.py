# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One host with the stand-in for GPUStack, on which modules run without Ansible: its start costs more than what they do."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import typing as t

import ansible
import archives
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt_program import program_source
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.release import VERSION
from fleet import HOSTS, ROOT, hosts

RELEASE = "v0.0.139"
BUILDS = {"mac": "darwin-arm64-metal", "linux": {"x86_64": "linux-amd64-avx2", "aarch64": "linux-arm64-neon"}[os.uname().machine]}
VENV = {
    "mac": "/Users/admin/.local/pipx/venvs/gpustack",
    "desktop": "/Applications/GPUStack.app/Contents/Resources/venv",
    "linux": "/root/.local/pipx/venvs/gpustack",
}
LLAMA_BOX = "lib/python3.11/site-packages/gpustack/third_party/bin/llama-box"
STATE = {"mac": "/var/db/metalfleet", "linux": "/var/lib/metalfleet"}
INSTALLS = {
    "mac": ("--kind", "script", "--plant", "file", "--plant", "plist"),
    "linux": ("--kind", "systemd", "--plant", "file", "--plant", "drop_in"),
}
ENVIRONMENT = {"HF_ENDPOINT": "https://hub.example.com"}
ARCHIVES = "/opt/faults/archives"
# What the action plugin computes of the options; to the module it is only text.
WANTED = "f" * 64
_MODULES = "ansible_collections.metalfleet.gpustack.plugins.modules"
_LIMIT_SECONDS = 900.0


@dataclasses.dataclass(frozen=True)
class Run:
    """What a module said."""

    result: t.Dict[str, t.Any]

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return bool(self.result.get("failed"))

    @property
    def message(self) -> str:
        """Why."""
        return str(self.result.get("msg", ""))


@dataclasses.dataclass(frozen=True)
class Look:
    """What is on a host, by on_faulty_host.py, which does not know the collection."""

    files: t.Dict[str, t.Any]
    service: t.Dict[str, t.Any]
    starts: int
    state: t.List[str]
    leftovers: t.List[str]
    hung: t.List[str]
    program_sha256: str
    wanted_sha256: str


def make_layer(folder: pathlib.Path) -> pathlib.Path:
    """What hosts get besides their image: the collection, what it imports of Ansible, archives, and programs of the tests."""
    top = folder / "layer/opt/faults"
    collection = top / "ansible_collections/metalfleet/gpustack/plugins"
    for name in ("modules", "module_utils"):
        shutil.copytree(ROOT / "plugins" / name, collection / name, ignore=shutil.ignore_patterns("__pycache__"))
    installed = pathlib.Path(ansible.__file__).parent
    for name in ("module_utils", "_vendor"):
        shutil.copytree(installed / name, top / "ansible" / name, ignore=shutil.ignore_patterns("__pycache__", "powershell", "csharp"))
    for name in ("__init__.py", "release.py"):
        shutil.copy(installed / name, top / "ansible" / name)
    for source in ("stand_in/install.py", "stand_in/service.py", "stand_in/snapshot.py", "faults/on_faulty_host.py"):
        shutil.copy(ROOT / "tests" / source, top)
    for build in BUILDS.values():
        archives.place(folder / "layer" / ARCHIVES[1:], RELEASE, build)
    return folder / "layer"


class FaultyNode:
    """A host for the time of a `with` block. layer: of make_layer()."""

    def __init__(self, session: str, name: str, kind: str, layer: pathlib.Path, installs: t.Sequence[str] = ()) -> None:
        self.session = session
        self.name = name
        self.kind = kind
        self.layer = layer
        self.installs = installs
        self.release = archives.release_data(layer / ARCHIVES[1:], "https://mirror.invalid", RELEASE, BUILDS[kind])
        self.lock: t.Dict[str, t.Any] = {"format": 1, "releases": {RELEASE: {BUILDS[kind]: self.release}}}

    def __enter__(self) -> FaultyNode:
        hosts("up", self.session, f"{self.name}={self.kind}:{'m3_ultra_512' if self.kind == 'mac' else ''}:{self.layer}")
        self.install()
        return self

    def __exit__(self, *_exception: object) -> None:
        hosts("down", self.session, self.name)

    def install(self) -> None:
        """GPUStack's stand-in, with the fault of gpustack#1907."""
        self.sh(f"python3 /opt/faults/install.py {shlex.join([*INSTALLS[self.kind], *self.installs])}")

    @property
    def state(self) -> str:
        """Where the collection keeps what is its own."""
        return STATE[self.kind]

    @property
    def llama_box(self) -> str:
        """The folder of the builtin llama-box."""
        return f"{VENV['desktop' if 'desktop' in self.installs else self.kind]}/{LLAMA_BOX}"

    def sh(self, script: str, stdin: bytes = b"", check: bool = True) -> str:
        """Standard output of a shell command there, as root."""
        argv = [HOSTS, "ssh", self.session, self.name, "--", script]
        done = subprocess.run(argv, check=False, input=stdin, capture_output=True, timeout=_LIMIT_SECONDS)
        if check and done.returncode != 0:
            raise RuntimeError(f"`{script}` on {self.name} ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
        return done.stdout.decode("utf-8", "replace")

    def act(self, *words: str) -> str:
        """Run on_faulty_host.py there."""
        return self.sh(f"python3 /opt/faults/on_faulty_host.py {shlex.join(words)}")

    def write(self, path: str, text: str) -> None:
        """Put a file there, in one step."""
        self.sh(f"cat >{path}.new && mv {path}.new {path}", text.encode())

    def options(self, **more: t.Any) -> t.Dict[str, t.Any]:
        """Of the task: everything that the node's kind has, quickly. llama_box: more of its own options."""
        llama_box = {"version": RELEASE, "lock": self.lock, "slots": ["builtin"], "source": "folder", "folder": ARCHIVES}
        return {
            "wired_limit": {},
            "environment": {"variables": ENVIRONMENT},
            "settle_seconds": 1,
            "health_timeout_seconds": 15,
            "lock_wait_seconds": 5,
            "receipt_for": WANTED,
            **more,
            "llama_box": {**llama_box, **more.get("llama_box", {})},
        }

    def run(self, module: str = "node", before: str = "", **options: t.Any) -> Run:
        """Run a module of the collection there. before: shell commands first, such as ulimit."""
        arguments = json.dumps({"ANSIBLE_MODULE_ARGS": self.options(**options)})
        said = self.sh(f"{before} cd / && PYTHONPATH=/opt/faults python3 -m {_MODULES}.{module} 2>&1", arguments.encode(), check=False)
        for line in said.splitlines():
            if line.startswith("{"):
                return Run(json.loads(line))
        return Run({"failed": True, "msg": f"no answer of the module:\n{said[-3000:]}"})

    def look(self) -> Look:
        """What is there."""
        seen = json.loads(self.act("look"))
        program = seen["files"].get(f"{self.llama_box}/llama-box", [""])
        return Look(**seen, program_sha256=program[-1], wanted_sha256=self.release["files"][archives.PROGRAM])

    def ask_receipt(self, max_age_hours: float = 24.0) -> str:
        """What the fast path says, as the action plugin asks it: "ok", or why not."""
        call = f"\n\nmain('mark', {WANTED!r}, {VERSION!r}, {max_age_hours * 3600!r}, False)\n"
        said = self.sh("python3 -I -S -", (program_source() + call).encode(), check=False)
        found = re.search(r"^mark (ok|no (.*))", said, re.M)
        return f"no answer: {said}" if found is None else found[2] or "ok"
