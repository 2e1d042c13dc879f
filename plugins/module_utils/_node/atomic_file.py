# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Replace a file in one step: a reader, and a machine that loses power, sees the old content or the new one.

AnsibleModule.atomic_move renames too, but it neither flushes to the disk nor keeps ACLs, and falls back to copying
in place when the rename is refused.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError

# copyfile(3) of macOS: COPYFILE_ACL | COPYFILE_STAT | COPYFILE_XATTR. Owner and times are set by STAT as well.
_COPYFILE_METADATA = 7


def replace_file(path: str, data: bytes, mode_if_new: int, mode: t.Optional[int] = None) -> None:
    """Write data beside path, give it what the old file has (owner, mode, ACL, extended attributes), flush, rename.

    Raises HostError with the reason; the old file is then still in place and the new one is gone.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.metalfleet")
    created = False
    try:
        old = _lstat(path)
        if old is not None and not stat.S_ISREG(old.st_mode):
            raise HostError(f"{path} is not a regular file and is not replaced")
        _remove_stale(temporary)
        # 0600 until the content is whole and the old file's mode is known to be wanted.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        created = True
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if old is None:
                os.fchmod(descriptor, mode_if_new)
            else:
                _copy_metadata(path, old, temporary, descriptor)
            if mode is not None:
                os.fchmod(descriptor, mode)
            _flush_to_disk(descriptor)
        os.rename(temporary, path)
        created = False
        _flush_folder(folder)
    except OSError as exc:
        raise HostError(f"{path} cannot be written: {_reason(exc)}") from exc
    finally:
        if created:
            os.unlink(temporary)


def _reason(exc: OSError) -> str:
    if exc.errno == errno.EACCES:
        return f"{exc.strerror} (is `become: true` missing?)"
    if exc.errno == errno.EPERM:
        return f"{exc.strerror} (is it marked immutable, or protected by macOS?)"
    return str(exc.strerror)


def _lstat(path: str) -> t.Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _remove_stale(temporary: str) -> None:
    """A process that died with our pid may have left its file; O_EXCL would refuse to reuse the name."""
    try:
        os.unlink(temporary)
    except FileNotFoundError:
        return


def _copy_metadata(path: str, old: os.stat_result, temporary: str, descriptor: int) -> None:
    os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
    copyfile = getattr(ctypes.CDLL(None, use_errno=True), "copyfile", None)
    if copyfile is not None:
        if copyfile(os.fsencode(path), os.fsencode(temporary), None, _COPYFILE_METADATA) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"its ACL and attributes cannot be copied: {os.strerror(number)}")
        # STAT copied the old modification time; a changed file must look changed to whoever watches it.
        os.utime(descriptor)
    elif hasattr(os, "listxattr"):
        # On Linux POSIX ACLs and the SELinux label are extended attributes.
        for attribute in _attributes(path):
            os.setxattr(descriptor, attribute, os.getxattr(path, attribute, follow_symlinks=False))


def _attributes(path: str) -> t.List[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError as exc:
        # A file system without extended attributes (NFS, FUSE, FAT) has none to lose.
        if exc.errno != errno.ENOTSUP:
            raise
        return []


def _flush_to_disk(descriptor: int) -> None:
    try:
        # On macOS fsync(2) only reaches the drive's cache; F_FULLFSYNC is its man page's own advice.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined,unused-ignore]
    except (AttributeError, OSError):
        # Not macOS, or a file system (network, FUSE) that does not know the call.
        os.fsync(descriptor)


def _flush_folder(folder: str) -> None:
    """Make the rename itself durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        # Some file systems refuse to flush a folder; the rename has happened, only its durability is theirs.
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
