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
import re
import stat
import struct
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError

# copyfile(3) of macOS: COPYFILE_ACL | COPYFILE_XATTR. Not COPYFILE_STAT: it copies st_flags too, and what is marked immutable
# can neither be renamed nor removed.
_COPYFILE_METADATA = 1 | 4

# UF_IMMUTABLE, UF_APPEND, SF_IMMUTABLE, SF_APPEND of macOS's sys/stat.h, and how chflags(1) takes them away.
_UNCHANGEABLE = {0x2: "nouchg", 0x4: "nouappnd", 0x20000: "noschg", 0x40000: "nosappnd"}

_SELINUX = "security.selinux"
# Digests of the content and its metadata: the kernel makes new ones, the old ones would be wrong.
_INTEGRITY = ("security.ima", "security.evm")
_ACL = "system.posix_acl_access"
# linux/posix_acl_xattr.h: a version, then entries of tag, permissions and id; the tags that mode bits speak of.
_ACL_VERSION, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_ACL_USER_OBJ, _ACL_GROUP_OBJ, _ACL_MASK, _ACL_OTHER = 0x01, 0x04, 0x10, 0x20


def replace_file(path: str, data: bytes, mode_if_new: int, mode: t.Optional[int] = None) -> None:
    """Write data beside path, give it what the old file has (owner, mode, ACL, extended attributes), flush, rename.

    At no time can anybody read the new content who may not read the new file. Raises HostError with the reason; the old file is
    then still in place and the new one is gone.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.metalfleet")
    created = False
    try:
        old = _lstat(path)
        if old is not None and not stat.S_ISREG(old.st_mode):
            raise HostError(f"{path} is not a regular file and is not replaced")
        _refuse_unchangeable(path, old)
        _remove_stale(folder, name)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        created = True
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if mode is None:
                mode = mode_if_new if old is None else stat.S_IMODE(old.st_mode)
            if old is not None:
                os.fchown(descriptor, old.st_uid, old.st_gid)
                _copy_attributes(path, temporary, descriptor, mode)
            # Once, and last: writing, a new owner and an ACL all change mode bits.
            os.fchmod(descriptor, mode)
            _flush_to_disk(descriptor)
        os.rename(temporary, path)
        created = False
        _flush_folder(folder)
    except OSError as exc:
        raise HostError(f"{path} cannot be written: {_reason(exc)}") from exc
    finally:
        if created:
            _discard(temporary)


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


def _refuse_unchangeable(path: str, old: t.Optional[os.stat_result]) -> None:
    flags = getattr(old, "st_flags", 0)
    words = [word for flag, word in _UNCHANGEABLE.items() if flags & flag]
    if words:
        raise HostError(f"{path} is marked immutable or append-only: run `chflags {','.join(words)} {path}` first")


def _remove_stale(folder: str, name: str) -> None:
    """Remove what processes that died, perhaps with our pid, left of the same file: it may hold secrets."""
    try:
        names = os.listdir(folder)
    except OSError:
        # A folder that may only be written to; whether the file can be replaced shows soon.
        names = []
    for found in names:
        match = re.fullmatch(rf"\.{re.escape(name)}\.(\d+)\.metalfleet", found)
        if match is None or not _is_dead(int(match.group(1))):
            continue
        try:
            os.unlink(os.path.join(folder, found))
        except OSError:
            continue


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


def _discard(temporary: str) -> None:
    """An append-only folder lets no name go again; then at least the content has to."""
    for undo in (os.unlink, lambda path: os.truncate(path, 0)):
        try:
            undo(temporary)
            return
        except OSError:
            continue


def _copy_attributes(path: str, temporary: str, descriptor: int, mode: int) -> None:
    copyfile = getattr(ctypes.CDLL(None, use_errno=True), "copyfile", None)
    if copyfile is not None:
        if copyfile(os.fsencode(path), os.fsencode(temporary), None, _COPYFILE_METADATA) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"its ACL and attributes cannot be copied: {os.strerror(number)}")
    elif hasattr(os, "listxattr"):
        # On Linux POSIX ACLs and the SELinux label are extended attributes.
        wanted = _attributes(path)
        present = _attributes(descriptor)
        for name, value in wanted.items():
            bounded = _bounded_acl(value, mode) if name == _ACL else value
            if name not in _INTEGRITY and present.get(name) != bounded:
                _set_attribute(descriptor, name, bounded)
        if _ACL in present and _ACL not in wanted:
            # The folder's default ACL, which the mode's group bits would bring to life.
            os.removexattr(descriptor, _ACL)


def _attributes(file: t.Union[str, int]) -> t.Dict[str, bytes]:
    follow = isinstance(file, int)
    try:
        return {name: os.getxattr(file, name, follow_symlinks=follow) for name in os.listxattr(file, follow_symlinks=follow)}
    except OSError as exc:
        # A file system without extended attributes (NFS, FUSE, FAT) has none to lose.
        if exc.errno != errno.ENOTSUP:
            raise
        return {}


def _set_attribute(descriptor: int, name: str, value: bytes) -> None:
    try:
        os.setxattr(descriptor, name, value)
    except OSError as exc:
        # Some file systems (NFS, a mount with context=) show a label of their own and let nobody set one.
        if name != _SELINUX or exc.errno not in (errno.ENOTSUP, errno.EPERM):
            raise


def _bounded_acl(value: bytes, mode: int) -> bytes:
    """The ACL as chmod(2) to the mode would leave it: set as it was, it would open the file for a moment."""
    head, body = value[: _ACL_VERSION.size], value[_ACL_VERSION.size :]
    if len(body) % _ACL_ENTRY.size:
        return value
    entries = list(_ACL_ENTRY.iter_unpack(body))
    group = _ACL_MASK if any(tag == _ACL_MASK for tag, _permissions, _id in entries) else _ACL_GROUP_OBJ
    bits = {_ACL_USER_OBJ: mode >> 6 & 7, group: mode >> 3 & 7, _ACL_OTHER: mode & 7}
    return head + b"".join(_ACL_ENTRY.pack(tag, bits.get(tag, permissions), who) for tag, permissions, who in entries)


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
