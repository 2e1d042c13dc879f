# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Names that change hands in one step: at every moment a path is wholly what it was or wholly what it shall be.

Where the system cannot exchange two names, a folder's path is empty for a moment: what was there is moved aside first, and moved back
if the second step is refused. Who dies in that moment leaves it to the transaction's journal.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.os_errors import as_host_error
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.temporary import aside_name, discard, flush_folder, temporary_name
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.tree_links import ABSENT, FOLDER, kind_of, mirror

_AT_FDCWD = -100
# RENAME_EXCHANGE of renameat2(2) and RENAME_SWAP of renamex_np(2) have the same value.
_EXCHANGE = 2
# Kernels and file systems that cannot exchange two names; EXDEV is overlayfs, for a folder of a container's image.
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV)


def put_in_place(temporary: str, path: str) -> None:
    """Give the path to what is at temporary, beside it, whatever is there now. Raises OSError and HostError."""
    kinds = kind_of(path), kind_of(temporary)
    if FOLDER in kinds and kinds[0] != ABSENT:
        aside = _swap(temporary, path)
        flush_folder(os.path.dirname(path))
        discard(aside)
    else:
        rename(temporary, path)


def rename(old: str, new: str) -> None:
    """rename(2), durable, also where both names are links to one file: there it does nothing and says it succeeded."""
    one_file = _is_one_file(old, new)
    os.rename(old, new)
    if one_file:
        os.unlink(old)
    flush_folder(os.path.dirname(new))


def take_away(path: str) -> None:
    """Remove a folder, its name in one step first: nobody finds half of it. Raises OSError."""
    try:
        # An empty one is gone in one step, and what others put into it just now stays theirs.
        os.rmdir(path)
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    else:
        flush_folder(os.path.dirname(path))
        return
    temporary = temporary_name(path)
    try:
        os.rename(path, temporary)
    except OSError as exc:
        # overlayfs renames no folder of a container's image.
        if exc.errno != errno.EXDEV:
            raise
        temporary = path
    flush_folder(os.path.dirname(path))
    # Twice: others may remove what is in it at the same time, which is no error; what is left then, is one.
    discard(temporary)
    if os.path.lexists(temporary):
        with as_host_error(f"{path} was removed, but not what is left of it in {temporary}"):
            shutil.rmtree(temporary)


def _is_one_file(one: str, other: str) -> bool:
    try:
        here, there = os.lstat(one), os.lstat(other)
    except OSError:
        # rename(2) will say what is wrong with it, if anything.
        return False
    # A file with one link is found under two names where a file system ignores case.
    return stat.S_ISREG(here.st_mode) and here.st_nlink > 1 and os.path.samestat(here, there)


def _swap(temporary: str, path: str) -> str:
    """Put temporary in the place of the path; returns where what was there is now."""
    if _exchange(temporary, path):
        return temporary
    aside = aside_name(path)
    _move_aside(path, aside)
    try:
        os.rename(temporary, path)
    except BaseException:
        os.rename(aside, path)
        raise
    return aside


def _move_aside(path: str, aside: str) -> None:
    try:
        os.rename(path, aside)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        # overlayfs renames no folder of a container's image. What follows is more than one step, and there is no other way.
        mirror(FOLDER, path, aside, f"{path} cannot be replaced")
        try:
            shutil.rmtree(path)
        except BaseException:
            discard(path)
            os.rename(aside, path)
            raise


def _exchange(one: str, other: str) -> bool:
    """Exchange two names in one step; False where this system cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    if hasattr(library, "renamex_np"):
        status = library.renamex_np(*paths, ctypes.c_uint(_EXCHANGE))
    elif hasattr(library, "renameat2"):
        status = library.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], ctypes.c_uint(_EXCHANGE))
    else:
        return False
    number = ctypes.get_errno()
    if status != 0 and number not in _NO_EXCHANGE:
        raise OSError(number, os.strerror(number))
    return bool(status == 0)
