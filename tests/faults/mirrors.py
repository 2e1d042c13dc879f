# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mirror of releases beside the hosts of a session, for the time of a `with` block, and the playbook `lock` that asks it."""

from __future__ import annotations

import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import typing as t

from faulty_node import ARCHIVES, RELEASE, FaultyNode
from fleet import HOSTS, ROOT

# The controller as hosts see it (tests/hosts), and a second address of it, which is another host to a client.
CONTROLLER, OTHER = "10.231.0.1", "10.231.0.2"
_ports = itertools.count(8100)


class Beside:
    """mirror.py with a folder of its own. certificates: serve HTTPS with those. options: more of its command line."""

    def __init__(self, node: FaultyNode, address: str = CONTROLLER, certificates: pathlib.Path | None = None, *options: str) -> None:
        self.node = node
        self.address = address
        self.port = next(_ports)
        self.folder = node.layer.parent / f"mirror-{self.port}"
        self.base_url = f"{'https' if certificates else 'http'}://{address}:{self.port}"
        self._certificates = () if certificates is None else ("--certificates", str(certificates))
        self._options = options
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Beside:
        shutil.copytree(self.node.layer / ARCHIVES[1:], self.folder / "files")
        files = [str(self.folder / name) for name in ("files", "control.json", "log.jsonl")]
        where = ["--host", self.address, "--port", str(self.port)]
        mirror = [sys.executable, str(ROOT / "tests/mirror/mirror.py"), files[0], *where, "--control", files[1], "--log", files[2]]
        command = [HOSTS, "run", self.node.session, "--", *mirror, *self._certificates, *self._options]
        self._process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        # It prints its address once it listens.
        if not self._process.stdout.readline():
            raise RuntimeError(f"the mirror at {self.base_url} did not start")
        return self

    def __exit__(self, *_exception: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def path(self) -> str:
        """Of the node's archive, in URLs and below the folder."""
        return str(self.node.release["url"]).partition("mirror.invalid")[2]

    def fail(self, *faults: t.Mapping[str, t.Any]) -> None:
        """What is wrong with the next answers for the archive; nothing: all are right."""
        draft = self.folder / "control.new"
        draft.write_text(json.dumps({self.path: list(faults)}))
        draft.rename(self.folder / "control.json")

    def file(self) -> pathlib.Path:
        """The archive."""
        return self.folder / "files" / self.path[1:]

    def seen(self) -> t.List[t.Dict[str, t.Any]]:
        """The requests so far."""
        log = self.folder / "log.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def write_lock(mirror: Beside, **more: t.Any) -> t.Tuple[int, str, str]:
    """Run the playbook on the controller: exit status, output, and the lock that is there then. more: variables without llama_box_."""
    node = mirror.node
    folder = mirror.folder / "controller"
    folder.mkdir(exist_ok=True)
    (folder / "inventory.yml").write_text("{}")
    (build,) = node.lock["releases"][RELEASE]
    variables = {"versions": [RELEASE], "platforms": [build], "base_url": mirror.base_url, "retries": 1, "timeout_seconds": 5, **more}
    playbook = ["ansible-playbook", "metalfleet.gpustack.lock", "-i", str(folder / "inventory.yml")]
    given = ["-e", json.dumps({f"llama_box_{name}": value for name, value in variables.items()})]
    command = [HOSTS, "run", node.session, "--", *playbook, *given]
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    lock = folder / "llama_box.lock.yml"
    # Ansible breaks and escapes what it shows in various ways.
    return done.returncode, " ".join(done.stdout.replace('\\"', '"').split()), lock.read_text() if lock.exists() else ""
