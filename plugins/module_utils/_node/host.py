# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The one place where commands are run and files are touched.

Everything else in `_node` gets a Host handed in, so that a test can hand it a host in memory, or one that dies at
its n-th write.
"""

from __future__ import annotations

import os
import stat
import subprocess
import time
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import file_tree, regular_file, swap, system_bus, temporary
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.atomic_file import replace_file
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.exposure import exposure
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.http_status import http_status
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.os_errors import as_host_error
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.run_lock import hold
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.time_limit import limited
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import command_text
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import (
    CommandMissingError,
    CommandTimeoutError,
    HostError,
)

# Standard locations only: a PATH planted in the environment of the connection must not choose what root runs.
SEARCH_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


class CommandResult(t.NamedTuple):
    """What a command did: its exit status and both outputs as text (bytes that are not UTF-8 kept by surrogateescape)."""

    rc: int
    stdout: str
    stderr: str

    def failure(self) -> str:
        """The exit status and the command's own words of complaint in one line, for messages."""
        return f"rc {self.rc}: {' '.join(self.stderr.split()) or 'it said nothing'}"


class FileStatus(t.NamedTuple):
    """What lstat(2) says of a path, with times in nanoseconds."""

    is_symlink: bool
    is_file: bool
    is_directory: bool
    mode: int
    uid: int
    gid: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    device: int = 0


class Host:
    """The machine this code runs on."""

    def run(self, argv: t.Sequence[str], timeout_seconds: float = 30.0) -> CommandResult:
        """Run a command without a shell, in the C locale (decimal commas, translated messages), with no standard input.

        Raises CommandMissingError, CommandTimeoutError (the whole process group is killed) or HostError.
        """
        environment = {"PATH": SEARCH_PATH, "LC_ALL": "C", "LANG": "C", "HOME": os.environ.get("HOME", "/var/empty")}
        try:
            # run_command() belongs to the module object, which nothing below a module knows.
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                # Its own group, so that a time-out also ends what the command started.
                start_new_session=True,
            )
        except FileNotFoundError as exc:
            raise CommandMissingError(f"{argv[0]} does not exist on this host") from exc
        except OSError as exc:
            raise HostError(f"{argv[0]} cannot be run: {exc.strerror}") from exc
        try:
            stdout, stderr = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired as exc:
            _kill_group(process)
            raise CommandTimeoutError(f"{command_text.shown(argv)} did not end within {timeout_seconds:g} seconds and was killed") from exc
        return CommandResult(
            process.returncode,
            stdout.decode("utf-8", "surrogateescape"),
            stderr.decode("utf-8", "surrogateescape"),
        )

    def system(self) -> str:
        """The kernel's name: "Darwin" or "Linux"."""
        return os.uname().sysname

    def machine(self) -> str:
        """The architecture this process runs as, such as "arm64"; "x86_64" under Rosetta."""
        return os.uname().machine

    def effective_uid(self) -> int:
        """0 for root."""
        return os.geteuid()

    def process_id(self) -> int:
        """The pid of this run."""
        return os.getpid()

    def now(self) -> float:
        """Seconds since the epoch, by this host's clock."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that only go forward, for time limits."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Wait between two polls."""
        time.sleep(seconds)

    def limited(self, seconds: float) -> t.ContextManager[None]:
        """Raises OverdueError in the block that is still running then."""
        return limited(seconds)

    def status(self, path: str) -> t.Optional[FileStatus]:
        """lstat of the path, or None where nothing is there. Raises HostError where it cannot be looked at."""
        try:
            st = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise HostError(f"{path} cannot be examined: {exc.strerror}") from exc
        return FileStatus(
            is_symlink=stat.S_ISLNK(st.st_mode),
            is_file=stat.S_ISREG(st.st_mode),
            is_directory=stat.S_ISDIR(st.st_mode),
            mode=stat.S_IMODE(st.st_mode),
            uid=st.st_uid,
            gid=st.st_gid,
            inode=st.st_ino,
            size_bytes=st.st_size,
            mtime_ns=st.st_mtime_ns,
            ctime_ns=st.st_ctime_ns,
            device=st.st_dev,
        )

    def resolve(self, path: str) -> str:
        """The path with every symbolic link followed."""
        return os.path.realpath(path)

    def exposure(self, path: str) -> str:
        """Why others than root could put something else at the path, as a clause; empty where they cannot."""
        return exposure(path)

    def link_target(self, path: str) -> str:
        """What a symbolic link says. Raises HostError for anything else."""
        try:
            return os.readlink(path)
        except OSError as exc:
            raise HostError(f"{path} cannot be examined: {exc.strerror}") from exc

    def read(self, path: str, limit_bytes: int = 16 * 1024 * 1024) -> t.Optional[bytes]:
        """The content of a regular file, or None where nothing is there. Raises HostError where it cannot be read.

        The limit keeps a mistaken path (a log, a model) from filling the node's memory.
        """
        return regular_file.read_file(path, limit_bytes)

    def sha256(self, path: str) -> t.Optional[str]:
        """The digest of a regular file's content, read in pieces, or None where nothing is there. Raises HostError."""
        return regular_file.digest_of(path)

    def names(self, folder: str) -> t.List[str]:
        """The sorted names in a folder; empty where there is no such folder. Raises HostError where it cannot be read."""
        try:
            return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as exc:
            raise HostError(f"{folder} cannot be listed: {exc.strerror}") from exc

    def write(self, path: str, data: bytes, mode_if_new: int, mode: t.Optional[int] = None) -> None:
        """Replace the file's content in one step, keeping owner, mode, ACL and attributes; or make it, owned by us.

        mode: the permission bits to give it in the same step, whatever it had. A symbolic link is never followed: hand
        in what resolve() says where following is wanted.
        """
        replace_file(path, data, mode_if_new, mode)

    def make_folder(self, path: str, mode: int) -> None:
        """Make a folder, and what is missing above it as 0755; an existing folder is left as it is."""
        file_tree.make_folder(path, mode)

    def remove(self, path: str) -> None:
        """Remove a file, a link (not what it leads to) or a whole folder; what is gone already is no error."""
        file_tree.remove(path)

    def remove_leftovers(self, path: str) -> None:
        """Remove what a run that died has left beside the path: what was to take its place, or what was there before."""
        temporary.remove_stale(path)

    def rename(self, old: str, new: str) -> None:
        """Give a file or folder another name on the same file system; a file at the new name is replaced."""
        with as_host_error(f"{old} cannot be renamed to {new}"):
            swap.rename(old, new)

    def open_binary(self, path: str) -> t.IO[bytes]:
        """A regular file for reading, such as an archive. Raises HostError where there is none."""
        return regular_file.open_binary(path)

    def create(self, path: str, pieces: t.Iterable[bytes], mode: int) -> None:
        """Make a file that is not there yet from pieces of content; one that cannot be finished is removed."""
        regular_file.create_file(path, pieces, mode)

    def append(self, path: str, pieces: t.Iterable[bytes], mode_if_new: int) -> None:
        """Add pieces of content to a file as they come. What has come before a failure stays in it."""
        regular_file.append_file(path, pieces, mode_if_new)

    def place_file(self, source: str, path: str, mode: int, sha256: str) -> None:
        """Put a copy of the source at the path in one step. Raises HostError if the source has another digest."""
        file_tree.place_file(source, path, mode, sha256)

    def place_folder(self, source: str, path: str, files: t.Mapping[str, str], links: t.Mapping[str, str]) -> None:
        """Put a folder with copies of these files of the source (name -> sha256) and these links (name -> target) at the path."""
        file_tree.place_folder(source, path, files, links)

    def place_link(self, path: str, target: str) -> None:
        """Put a symbolic link at the path in one step."""
        file_tree.place_link(path, target)

    def snapshot(self, path: str, backup: str) -> str:
        """Remember at backup, where nothing may be, what is at the path; returns what kind of thing that is."""
        return file_tree.snapshot(path, backup)

    def restore(self, path: str, backup: str, kind: str) -> None:
        """Put back what snapshot() remembered, owner, mode and attributes included."""
        file_tree.restore(path, backup, kind)

    def free_bytes(self, folder: str) -> int:
        """What may still be written to the file system of an existing folder; what is reserved for root does not count."""
        with as_host_error(f"{folder} cannot be examined"):
            found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize

    def answers(self, port: int, path: str, timeout_seconds: float = 3.0) -> t.Optional[int]:
        """The HTTP status that a service of this host gives for a path; None where nothing answers."""
        return http_status(port, path, timeout_seconds)

    def systemd_properties(self, questions: t.Sequence[system_bus.Question], timeout_seconds: float = 5.0) -> t.List[t.List[bytes]]:
        """What systemd says on the system bus: for each question a variant for each name. Raises HostError where it does not.

        timeout_seconds: for each wait.
        """
        try:
            return system_bus.systemd_properties(questions, timeout_seconds)
        except (ImportError, OSError) as exc:
            raise HostError(f"systemd cannot be asked on the system bus: {exc}") from exc

    def lock(self, path: str, holder: str, wait_seconds: float) -> t.ContextManager[None]:
        """Hold a lock that the kernel releases when this process ends. Raises HostError naming the other holder.

        holder: who we are and since when, for the others.
        """
        return hold(self, path, holder, wait_seconds)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, 9)
    except (ProcessLookupError, PermissionError):
        process.kill()
    try:
        # A process in uninterruptible sleep cannot be reaped: give up rather than hang with it.
        process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        return
