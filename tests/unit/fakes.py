# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host in memory, with the interface of `_node.host.Host`."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import posixpath
import typing as t
import zlib

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult, FileStatus
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.temporary import belongs_to
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import (
    CommandMissingError,
    HostError,
)

Reply = t.Union[CommandResult, Exception, t.Callable[[], CommandResult]]


@dataclasses.dataclass
class MemoryFile:
    """A regular file (content) or a symbolic link (target). ctime_ns: 0 for a time that follows from the inode."""

    content: bytes = b""
    target: t.Optional[str] = None
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    inode: int = 0
    ctime_ns: int = 0


class MemoryHost:
    """Files, scripted commands and a clock that only pause() moves.

    commands: exact argv -> CommandResult, an exception to raise, or a function called at each use. An argv that is not
    scripted is a program that does not exist. unreadable: paths whose reading and listing is refused. free: bytes on
    its disk. http: (port, path) -> status that answers, or a function. locked: path -> holder of a lock. exposed: path -> why
    others could replace it.
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
        self.folders: t.Set[str] = {"/"}
        self.folder_modes: t.Dict[str, int] = {}
        self.unreadable = set(unreadable)
        self.calls: t.List[t.Tuple[str, ...]] = []
        self.writes: t.List[str] = []
        self.clock = 1_800_000_000.0
        self.free = 1 << 40
        self.http: t.Dict[t.Tuple[int, str], t.Union[int, t.Callable[[], t.Optional[int]], None]] = {}
        self.locked: t.Dict[str, str] = {}
        self.exposed: t.Dict[str, str] = {}
        self._inodes = 0
        for path, file in (files or {}).items():
            self._put(path, file if isinstance(file, MemoryFile) else MemoryFile(file))

    def _put(self, path: str, file: MemoryFile) -> None:
        self._inodes += 1
        file.inode = self._inodes
        self.files[path] = file
        self._make_folders(posixpath.dirname(path))

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

    def process_id(self) -> int:
        return 4711

    def now(self) -> float:
        return self.clock

    def monotonic(self) -> float:
        return self.clock

    def pause(self, seconds: float) -> None:
        self.clock += seconds

    def limited(self, seconds: float) -> t.ContextManager[None]:
        del seconds
        return contextlib.nullcontext()

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
            mode=file.mode if file else self.folder_modes.get(path, 0o755),
            uid=file.uid if file else 0,
            gid=file.gid if file else 0,
            inode=file.inode if file else 0,
            size_bytes=len(file.content) if file else 0,
            mtime_ns=file.inode if file else self._names_number(path),
            ctime_ns=file.ctime_ns or file.inode if file else self._names_number(path),
        )

    def _names_number(self, folder: str) -> int:
        """Another one for other names in the folder, as its times are on a real one."""
        return zlib.crc32("\0".join(MemoryHost.names(self, folder)).encode()) | 1 if folder not in self.unreadable else 1

    def exposure(self, path: str) -> str:
        return self.exposed.get(path, "")

    def link_target(self, path: str) -> str:
        file = self.files.get(path)
        if file is None or file.target is None:
            raise HostError(f"{path} cannot be examined: Invalid argument")
        return file.target

    def read(self, path: str, limit_bytes: int = 16 * 1024 * 1024) -> t.Optional[bytes]:
        path = self.resolve(path)
        if path in self.unreadable:
            raise HostError(f"{path} cannot be read: Permission denied")
        if path in self.folders:
            raise HostError(f"{path} is not a regular file")
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
        if self._kind(path) not in ("file", "absent"):
            raise HostError(f"{path} is not a regular file and is not replaced")
        self._need_folder(path, f"{path} cannot be written")
        if mode is None:
            mode = old.mode if old else mode_if_new
        self._put(path, MemoryFile(data, mode=mode, uid=old.uid if old else self._uid, gid=old.gid if old else 0))

    def make_folder(self, path: str, mode: int) -> None:
        if self.resolve(path) in self.folders:
            return
        above = path
        while self.resolve(above) not in self.folders:
            if above in self.files:
                raise HostError(f"the folder {above} cannot be made: File exists")
            above = posixpath.dirname(above)
        self._make_folders(path)
        self.folder_modes[path] = mode

    def remove(self, path: str) -> None:
        for below in self._tree(path):
            self.files.pop(below, None)
        self.folders = {folder for folder in self.folders if folder != path and not folder.startswith(f"{path}/")}
        self.folder_modes = {folder: mode for folder, mode in self.folder_modes.items() if folder in self.folders}

    def remove_leftovers(self, path: str) -> None:
        folder, _slash, name = path.rpartition("/")
        for found in self.names(folder):
            if belongs_to(found) == name:
                self.remove(f"{folder}/{found}")

    def rename(self, old: str, new: str) -> None:
        failure = f"{old} cannot be renamed to {new}"
        if self._kind(old) == "absent":
            raise HostError(f"{failure}: No such file or directory")
        self._need_folder(new, failure)
        if "folder" in (self._kind(old), self._kind(new)) and self._kind(new) != "absent":
            if self._kind(old) != "folder":
                raise HostError(f"{failure}: Is a directory")
            if self._kind(new) != "folder":
                raise HostError(f"{failure}: Not a directory")
            if self.names(new):
                raise HostError(f"{failure}: Directory not empty")
        if old != new:
            self.remove(new)
            self._move(old, new, keep=False)

    def open_binary(self, path: str) -> t.IO[bytes]:
        content = self.read(path, 1 << 40)
        if content is None:
            raise HostError(f"{path} does not exist")
        return io.BytesIO(content)

    def create(self, path: str, pieces: t.Iterable[bytes], mode: int) -> None:
        self._need_folder(path, f"{path} cannot be written")
        if self._kind(path) != "absent" or path in self.unreadable:
            raise HostError(f"{path} cannot be written: File exists")
        content = b"".join(pieces)
        self.writes.append(path)
        self._put(path, MemoryFile(content, mode=mode, uid=self._uid))

    def append(self, path: str, pieces: t.Iterable[bytes], mode_if_new: int) -> None:
        self._need_folder(path, f"{path} cannot be written")
        if self._kind(path) not in ("file", "absent"):
            words = "Is a directory" if path in self.folders else "Too many levels of symbolic links"
            raise HostError(f"{path} cannot be written: {words}")
        if path not in self.files:
            self._put(path, MemoryFile(mode=mode_if_new, uid=self._uid))
        for piece in pieces:
            old = self.files[path]
            self._put(path, dataclasses.replace(old, content=old.content + piece))

    def place_file(self, source: str, path: str, mode: int, sha256: str) -> None:
        self._need_folder(path, f"{path} cannot be written")
        content = self._checked(source, sha256)
        self.writes.append(path)
        self.remove(path)
        self._put(path, MemoryFile(content, mode=mode, uid=self._uid))

    def place_folder(self, source: str, path: str, files: t.Mapping[str, str], links: t.Mapping[str, str]) -> None:
        failure = f"{path} cannot be written"
        for name in (*files, *links):
            if posixpath.basename(name) != name or name in ("", ".", ".."):
                raise HostError(f"{failure}: {name!r} is not the name of a file in a folder")
        self._need_folder(path, failure)
        contents = {name: self._checked(f"{source}/{name}", digest) for name, digest in files.items()}
        self.writes.append(path)
        self.remove(path)
        self._make_folders(path)
        for name, content in contents.items():
            self._put(f"{path}/{name}", MemoryFile(content, mode=0o755, uid=self._uid))
        for name, target in links.items():
            self._put(f"{path}/{name}", MemoryFile(target=target))

    def place_link(self, path: str, target: str) -> None:
        self._need_folder(path, f"{path} cannot be written")
        self.writes.append(path)
        self.remove(path)
        self._put(path, MemoryFile(target=target))

    def snapshot(self, path: str, backup: str) -> str:
        kind = self._kind(path)
        if kind != "absent":
            failure = f"{path} cannot be remembered in {backup}"
            if self._kind(backup) != "absent":
                raise HostError(f"{failure}: something is there")
            self._need_folder(backup, failure)
            self._move(path, backup, keep=True)
        return kind

    def restore(self, path: str, backup: str, kind: str) -> None:
        if kind != "absent" and self._kind(backup) != kind:
            raise HostError(f"{path} cannot be put back: {backup}, where it was remembered, is gone")
        if kind != "absent":
            self._need_folder(path, f"{path} cannot be put back")
        self.writes.append(path)
        self.remove(path)
        if kind != "absent":
            self._move(backup, path, keep=True)

    def free_bytes(self, folder: str) -> int:
        if self.resolve(folder) not in self.folders:
            raise HostError(f"{folder} cannot be examined: No such file or directory")
        return self.free

    def answers(self, port: int, path: str, timeout_seconds: float = 3.0) -> t.Optional[int]:
        del timeout_seconds
        answer = self.http.get((port, path))
        return answer() if callable(answer) else answer

    def systemd_properties(self, questions: t.Sequence[t.Any], timeout_seconds: float = 5.0) -> t.List[t.List[bytes]]:
        del questions, timeout_seconds
        raise HostError("systemd cannot be asked on the system bus: [Errno 2] No such file or directory")

    @contextlib.contextmanager
    def lock(self, path: str, holder: str, wait_seconds: float) -> t.Iterator[None]:
        self._need_folder(path, f"{path} cannot be locked")
        if path in self.locked:
            self.clock += wait_seconds
            raise HostError(f"another run works on this node: {self.locked[path]}; wait until it has ended, and run again")
        self._put(path, MemoryFile(holder.encode(), mode=0o600, uid=self._uid))
        self.locked[path] = holder
        try:
            yield
        finally:
            del self.locked[path]

    def _need_folder(self, path: str, failure: str) -> None:
        if posixpath.dirname(path) not in self.folders:
            raise HostError(f"{failure}: No such file or directory")

    def _kind(self, path: str) -> str:
        file = self.files.get(path)
        if file is not None:
            return "file" if file.target is None else "link"
        return "folder" if path in self.folders else "absent"

    def _tree(self, path: str) -> t.List[str]:
        return [file for file in self.files if file == path or file.startswith(f"{path}/")]

    def _make_folders(self, path: str) -> None:
        while path not in self.folders:
            self.folders.add(path)
            path = posixpath.dirname(path)

    def _move(self, old: str, new: str, keep: bool) -> None:
        if self._kind(old) == "folder":
            self.folders.add(new)
            self.folder_modes[new] = self.folder_modes.get(old, 0o755)
        for path in self._tree(old):
            # One file by two names, as a hard link and a renamed file are.
            self.files[new + path[len(old) :]] = self.files[path]
        for folder in [folder for folder in self.folders if folder.startswith(f"{old}/")]:
            self.folders.add(new + folder[len(old) :])
            self.folder_modes[new + folder[len(old) :]] = self.folder_modes.get(folder, 0o755)
        if not keep:
            self.remove(old)

    def _checked(self, source: str, sha256: str) -> bytes:
        content = self.read(source, 1 << 40)
        if content is None:
            raise HostError(f"{source} does not exist")
        digest = hashlib.sha256(content).hexdigest()
        if digest != sha256:
            raise HostError(f"{source} has the sha256 {digest} and not {sha256}: it was changed or is damaged, remove it and run again")
        return content
