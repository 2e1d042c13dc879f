# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""What a session wrote down: one folder per session, one JSON file per host."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import pathlib
import socket
import typing as t

from . import places
from .boot import Spec
from .places import HostsError

# A unix socket's name may be 107 bytes long; ssh appends 17 while it sets one up.
SOCKET_ROOM = 107 - 17 - len("/fleet@10.231.255.255")


class SessionState:
    """Paths and files of one session, alive or not."""

    def __init__(self, name: str) -> None:
        self.name = places.checked_name(name)
        self.folder = places.sessions() / name
        self.hosts = self.folder / "hosts"
        self.key = self.folder / "id_ed25519"
        self.host_key = self.folder / "ssh_host_ed25519_key"
        self.lock = self.folder / "lock"
        self.facts = self.folder / "session.json"
        self.log = self.folder / "keeper.log"

    @property
    def control(self) -> pathlib.Path:
        """Folder of ssh's control sockets; a checkout with a long path gets one under /tmp."""
        near = self.folder / "cp"
        return near if len(os.fsencode(str(near))) <= SOCKET_ROOM else pathlib.Path("/tmp") / f"hosts-{places.cache_tag()}-{self.name}"

    def alive(self) -> bool:
        """The supervisor holds the lock for as long as it lives; the kernel lets go of it however it ends."""
        try:
            with open(self.lock, encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def read_facts(self) -> t.Dict[str, t.Any]:
        try:
            facts: t.Dict[str, t.Any] = json.loads(self.facts.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise HostsError(f"no session {self.name!r}; start one: hosts start {self.name}") from error
        return facts

    def specs(self) -> t.List[Spec]:
        found = [Spec(**json.loads(path.read_text(encoding="utf-8"))) for path in sorted(self.hosts.glob("*.json"))]
        return sorted(found, key=lambda spec: socket.inet_aton(spec.address))

    def spec(self, name: str) -> Spec:
        for spec in self.specs():
            if spec.name == name:
                return spec
        raise HostsError(f"session {self.name!r} has no host {name!r}")

    def write_json(self, path: pathlib.Path, content: t.Any) -> None:
        """Renamed into place: readers in other processes see the old file or the whole new one."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
        os.rename(draft, path)

    def write_spec(self, spec: Spec) -> None:
        self.write_json(self.hosts / f"{spec.name}.json", dataclasses.asdict(spec))

    def connect(self) -> socket.socket:
        """By the folder's descriptor, since the path may be longer than a socket's name can be."""
        self.read_facts()
        folder = os.open(self.folder, os.O_PATH | os.O_DIRECTORY)
        try:
            link = socket.socket(socket.AF_UNIX)
            link.connect(f"/proc/self/fd/{folder}/keeper.sock")
        except OSError as error:
            raise HostsError(f"session {self.name!r} does not answer: {error.strerror}") from error
        finally:
            os.close(folder)
        return link
