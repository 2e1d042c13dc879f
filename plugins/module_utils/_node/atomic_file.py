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
import struct
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.os_errors import reason
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.temporary import (
    discard,
    flush_folder,
    flush_to_disk,
    temporary_name,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError

# copyfile(3) of macOS: COPYFILE_ACL | COPYFILE_XATTR. Not COPYFILE_STAT: it copies st_flags too, and what is marked immutable
# can neither be renamed nor removed.
_COPYFILE_METADATA = 1 | 4

# UF_IMMUTABLE, UF_APPEND, SF_IMMUTABLE, SF_APPEND of macOS's sys/stat.h, and how chflags(1) takes them away.
_UNCHANGEABLE = {0x2: "nouchg", 0x4: "nouappnd", 0x20000: "noschg", 0x40000: "nosappnd"}

# FS_IMMUTABLE_FL and FS_APPEND_FL of linux/fs.h with the letters of chattr(1), and FS_IOC_GETFLAGS of 64-bit machines.
_UNCHANGEABLE_LINUX = {0x10: "i", 0x20: "a"}
_GETFLAGS = 0x80086601

_SELINUX = "security.selinux"
# Digests of the content and its metadata: the kernel makes new ones, the old ones would be wrong.
_INTEGRITY = ("security.ima", "security.evm")
_ACL = "system.posix_acl_access"
_DEFAULT_ACL = "system.posix_acl_default"
# linux/posix_acl_xattr.h: a version, then entries of tag, permissions and id; the tags that mode bits speak of.
_ACL_VERSION, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_ACL_USER_OBJ, _ACL_GROUP_OBJ, _ACL_MASK, _ACL_OTHER = 0x01, 0x04, 0x10, 0x20


def replace_file(path: str, data: bytes, mode_if_new: int, mode: t.Optional[int] = None) -> None:
    """Write data beside path, give it what the old file has (owner, mode, ACL, extended attributes), flush, rename.

    At no time can anybody read the new content who may not read the new file. Raises HostError with the reason; the old file is
    then still in place and the new one is gone.
    """
    temporary = ""
    created = False
    try:
        old = _lstat(path)
        if old is not None and not stat.S_ISREG(old.st_mode):
            raise HostError(f"{path} is not a regular file and is not replaced")
        refuse_unchangeable(path, old)
        temporary = temporary_name(path)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        created = True
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if mode is None:
                mode = mode_if_new if old is None else stat.S_IMODE(old.st_mode)
            if old is not None:
                os.fchown(descriptor, old.st_uid, old.st_gid)
                copy_attributes(path, temporary, descriptor, mode)
            # Once, and last: writing, a new owner and an ACL all change mode bits.
            os.fchmod(descriptor, mode)
            flush_to_disk(descriptor)
        os.rename(temporary, path)
        created = False
        flush_folder(os.path.dirname(path))
    except OSError as exc:
        raise HostError(f"{path} cannot be written: {reason(exc)}") from exc
    finally:
        if created:
            discard(temporary)


def _lstat(path: str) -> t.Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def refuse_unchangeable(path: str, old: t.Optional[os.stat_result]) -> None:
    """Raise HostError, saying how to change that, for what is marked so that not even root replaces it. old: its lstat."""
    flags = getattr(old, "st_flags", None)
    if old is None:
        return
    if flags is not None:
        words = [word for flag, word in _UNCHANGEABLE.items() if flags & flag]
        if words:
            raise HostError(f"{path} is marked immutable or append-only: run `chflags {','.join(words)} {path}` first")
    else:
        flags = _linux_flags(path)
        letters = "".join(letter for flag, letter in _UNCHANGEABLE_LINUX.items() if flags & flag)
        if letters:
            raise HostError(f"{path} is marked immutable or append-only: run `chattr -{letters} {path}` first")


def _linux_flags(path: str) -> int:
    answer = bytearray(struct.calcsize("l"))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        fcntl.ioctl(descriptor, _GETFLAGS, answer)
    except OSError:
        # A file system without such flags.
        return 0
    finally:
        os.close(descriptor)
    return int(struct.unpack_from("I", answer)[0])


def copy_attributes(path: str, temporary: str, descriptor: int, mode: int) -> None:
    """Give temporary, a file or folder that is open as descriptor, the ACL and the extended attributes of path."""
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
        for name in (_ACL, _DEFAULT_ACL):
            if name in present and name not in wanted:
                # From the folder's default ACL; the mode's group bits would bring it to life.
                os.removexattr(descriptor, name)


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
