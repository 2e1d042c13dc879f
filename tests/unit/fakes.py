# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host in memory, with the interface of `_node.host.Host`."""

from __future__ import annotations

import dataclasses
import hashlib
import posixpath
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult, FileStatus
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import (
    CommandMissingError,
    HostError,
)

Reply = t.Union[CommandResult, Exception, t.Callable[[], CommandResult]]


@dataclasses.dataclass
class MemoryFile:
    """A regular file (content) or a symbolic link (target)."""

    content: bytes = b""
    target: t.Optional[str] = None
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    inode: int = 0


class MemoryHost:
    """Files, scripted commands and a clock that only pause() moves.

    commands: exact argv -> CommandResult, an exception to raise, or a function called at each use. An argv that is not
    scripted is a program that does not exist. unreadable: paths whose reading and listing is refused.
    """

    def __init__(
        self,
        system: str = "Darwin",
        machine: str = "arm64",
        commands: t.Optional[t.Mapping[t.Tuple[str, ...], Reply]] = None,
        files: t.Optional[t.Mapping[str, t.Union[bytes, MemoryFile]]] = None,
        uid: int = 0,
        unreadable: t.Iterable[str] = (),
    ) -> None:
        self._system = system
        self._machine = machine
        self._uid = uid
        self.commands: t.Dict[t.Tuple[str, ...], Reply] = dict(commands or {})
        self.files: t.Dict[str, MemoryFile] = {}
        self.folders: t.Set[str] = set()
        self.unreadable = set(unreadable)
        self.calls: t.List[t.Tuple[str, ...]] = []
        self.writes: t.List[str] = []
        self.clock = 1_800_000_000.0
        self._inodes = 0
        for path, file in (files or {}).items():
            self._put(path, file if isinstance(file, MemoryFile) else MemoryFile(file))

    def _put(self, path: str, file: MemoryFile) -> None:
        self._inodes += 1
        file.inode = self._inodes
        self.files[path] = file
        folder = posixpath.dirname(path)
        while folder not in self.folders:
            self.folders.add(folder)
            folder = posixpath.dirname(folder)

    def link(self, path: str, target: str) -> None:
        """Plant a symbolic link."""
        self._put(path, MemoryFile(target=target))

    # The interface of Host.

    def run(self, argv: t.Sequence[str], timeout_seconds: float = 30.0) -> CommandResult:
        del timeout_seconds
        self.calls.append(tuple(argv))
        reply = self.commands.get(tuple(argv), CommandMissingError(f"{argv[0]} does not exist on this host"))
        if isinstance(reply, Exception):
            raise reply
        return reply() if callable(reply) else reply

    def system(self) -> str:
        return self._system

    def machine(self) -> str:
        return self._machine

    def effective_uid(self) -> int:
        return self._uid

    def now(self) -> float:
        return self.clock

    def monotonic(self) -> float:
        return self.clock

    def pause(self, seconds: float) -> None:
        self.clock += seconds

    def resolve(self, path: str) -> str:
        for _hop in range(40):
            file = self.files.get(path)
            if file is None or file.target is None:
                return path
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), file.target))
        return path

    def status(self, path: str) -> t.Optional[FileStatus]:
        file = self.files.get(path)
        if file is None and path not in self.folders:
            return None
        is_link = file is not None and file.target is not None
        return FileStatus(
            is_symlink=is_link,
            is_file=file is not None and not is_link,
            is_directory=file is None,
            mode=file.mode if file else 0o755,
            uid=file.uid if file else 0,
            gid=file.gid if file else 0,
            inode=file.inode if file else 0,
            size_bytes=len(file.content) if file else 0,
            mtime_ns=file.inode if file else 0,
            ctime_ns=file.inode if file else 0,
        )

    def read(self, path: str, limit_bytes: int = 16 * 1024 * 1024) -> t.Optional[bytes]:
        path = self.resolve(path)
        if path in self.unreadable:
            raise HostError(f"{path} cannot be read: Permission denied")
        file = self.files.get(path)
        if file is None:
            return None
        if len(file.content) > limit_bytes:
            raise HostError(f"{path} is larger than {limit_bytes} bytes, which no file of its kind is")
        return file.content

    def sha256(self, path: str) -> t.Optional[str]:
        content = self.read(path)
        return None if content is None else hashlib.sha256(content).hexdigest()

    def names(self, folder: str) -> t.List[str]:
        if folder in self.unreadable:
            raise HostError(f"{folder} cannot be listed: Permission denied")
        below = folder.rstrip("/") + "/"
        paths = [*self.files, *self.folders]
        return sorted({path[len(below) :].split("/", 1)[0] for path in paths if path.startswith(below)})

    def write(self, path: str, data: bytes, mode_if_new: int, mode: t.Optional[int] = None) -> None:
        if path in self.unreadable:
            raise HostError(f"{path} cannot be written: Read-only file system")
        self.writes.append(path)
        old = self.files.get(path)
        if old is not None and old.target is not None:
            raise HostError(f"{path} is not a regular file and is not replaced")
        if posixpath.dirname(path) not in self.folders:
            raise HostError(f"{path} cannot be written: No such file or directory")
        if mode is None:
            mode = old.mode if old else mode_if_new
        self._put(path, MemoryFile(data, mode=mode, uid=old.uid if old else self._uid, gid=old.gid if old else 0))

    def make_folder(self, path: str, mode: int) -> None:
        del mode
        self.folders.add(path)

    def remove(self, path: str) -> None:
        self.files.pop(path, None)
