# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A second self of a file, folder or symbolic link, to come back to."""

from __future__ import annotations

import errno
import os
import stat

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.atomic_file import copy_attributes, refuse_unchangeable
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.regular_file import digest_of, make_file, pieces_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.temporary import flush_folder
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError

ABSENT = "absent"
FILE = "file"
FOLDER = "folder"
LINK = "link"

# Another file system, one without hard links in its various words, or (EPERM on Linux) a file that is not ours.
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def kind_of(path: str) -> str:
    """What is at the path, links not followed. Raises HostError for what is none of the four, such as a device."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError as exc:
        raise HostError(f"{path} cannot be examined: {exc.strerror}") from exc
    for kind, is_kind in ((FILE, stat.S_ISREG), (FOLDER, stat.S_ISDIR), (LINK, stat.S_ISLNK)):
        if is_kind(mode):
            return kind
    raise HostError(f"{path} is neither a file nor a folder and is not replaced")


def mirror(kind: str, source: str, target: str, failure: str) -> None:
    """Make at target, where nothing is, what is at the source: files as hard links, so that all they have comes with them.

    Raises OSError, and HostError in words of its own or with this failure. What is marked immutable is refused: it could not be
    replaced either, and a copy of it would only put that off.
    """
    if kind in (FILE, FOLDER):
        refuse_unchangeable(source, os.lstat(source))
    if kind == FILE:
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as exc:
            if exc.errno not in _NO_LINK:
                raise
            pieces = pieces_of(source, os.O_NOFOLLOW)
            make_file(target, pieces, lambda descriptor: _liken(source, target, descriptor), failure)
    elif kind == LINK:
        status = os.lstat(source)
        os.symlink(os.readlink(source), target)
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    elif kind == FOLDER:
        os.mkdir(target, 0o700)
        for name in os.listdir(source):
            below = os.path.join(source, name)
            mirror(kind_of(below), below, os.path.join(target, name), failure)
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _liken(source, target, descriptor)
        finally:
            os.close(descriptor)
        flush_folder(target)


def is_mirrored(kind: str, path: str, backup: str) -> bool:
    """Whether the path still is, or is again, what mirror() made the backup of. May raise OSError and HostError."""
    if kind_of(path) != kind:
        return False
    now, then = os.lstat(path), os.lstat(backup)
    if kind == FILE and os.path.samestat(now, then):
        return True
    if (now.st_mode, now.st_uid, now.st_gid) != (then.st_mode, then.st_uid, then.st_gid):
        return False
    if kind == LINK:
        return os.readlink(path) == os.readlink(backup)
    if kind == FILE:
        # A copy has the times of what it was copied from.
        return (now.st_size, now.st_mtime_ns) == (then.st_size, then.st_mtime_ns) and digest_of(path) == digest_of(backup)
    names = sorted(os.listdir(backup))
    if sorted(os.listdir(path)) != names:
        return False
    pairs = [(os.path.join(path, name), os.path.join(backup, name)) for name in names]
    return all(is_mirrored(kind_of(there), here, there) for here, there in pairs)


def _liken(source: str, target: str, descriptor: int) -> None:
    status = os.lstat(source)
    os.fchown(descriptor, status.st_uid, status.st_gid)
    mode = stat.S_IMODE(status.st_mode)
    copy_attributes(source, target, descriptor, mode)
    # After the owner, which takes the special bits away.
    os.fchmod(descriptor, mode)
    os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
