# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Names beside a path for what is not finished yet, and flushing to the disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import typing as t

# What temporary_name() and aside_name() give: the path's own name, then a process.
_NAME = re.compile(r"\.(.+?)\.(\d+)(\.old)?\.metalfleet", re.DOTALL)


def temporary_name(path: str) -> str:
    """The name beside the path under which this process makes what shall be there. Nothing is there."""
    folder, name = os.path.split(path)
    remove_stale(path)
    return os.path.join(folder, f".{name}.{os.getpid()}.metalfleet")


def aside_name(path: str) -> str:
    """The name beside the path for what is there now, while something else takes its place. To be asked for after temporary_name()."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{os.getpid()}.old.metalfleet")


def belongs_to(name: str) -> t.Optional[str]:
    """The name of the path beside which a process made something of this name; None for any other name."""
    match = _NAME.fullmatch(name)
    return match.group(1) if match is not None else None


def remove_stale(path: str) -> None:
    """Remove what processes that died, perhaps with our pid, left beside the path: it may hold secrets, or be large."""
    folder, name = os.path.split(path)
    try:
        names = os.listdir(folder)
    except OSError:
        # A folder that may only be written to; whether the file can be replaced shows soon.
        names = []
    for found in names:
        match = _NAME.fullmatch(found)
        if match is not None and match.group(1) == name and _is_dead(int(match.group(2))):
            discard(os.path.join(folder, found))


@contextlib.contextmanager
def whole_mode() -> t.Iterator[None]:
    """Make files and folders with the mode asked for, whatever the umask: a chmod(2) afterwards may come too late."""
    umask = os.umask(0)
    try:
        yield
    finally:
        os.umask(umask)


def discard(path: str) -> None:
    """Remove a file, link or folder as far as that can be done; nothing is no error."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    for undo in (os.unlink, _empty):
        try:
            undo(path)
            return
        except OSError:
            continue


def flush_to_disk(descriptor: int) -> None:
    """See the content of a file to the disk."""
    try:
        # On macOS fsync(2) only reaches the drive's cache; F_FULLFSYNC is its man page's own advice.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined,unused-ignore]
    except (AttributeError, OSError) as exc:
        # A disk that could not write says so once: fsync(2) after it would succeed.
        if isinstance(exc, OSError) and exc.errno in (errno.EIO, errno.ENOSPC):
            raise
        # Not macOS, or a file system (network, FUSE) that does not know the call.
        os.fsync(descriptor)


def flush_folder(folder: str) -> None:
    """Make new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flush_to_disk(descriptor)
    except OSError as exc:
        # Some file systems refuse to flush a folder; the rename has happened, only its durability is theirs.
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _empty(path: str) -> None:
    """An append-only folder lets no name go again; then at least the content has to, unless it is that of other names too."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_nlink == 1:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _is_dead(pid: int) -> bool:
    """Whether no other process has the pid."""
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False
