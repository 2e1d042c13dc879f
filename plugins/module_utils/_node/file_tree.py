# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Files, folders and symbolic links as wholes: remember one, put it back, put another in its place in one step.

A program is never written in place: macOS caches code signatures by vnode and kills a process whose file was rewritten
(developer.apple.com/documentation/security/updating-mac-software), and Linux refuses with ETXTBSY. What is remembered is hard-linked, so
owner, ACL, flags and attributes come back with it, and it costs no space; for the same reason nothing here writes a file in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.exposure import beside, exposure
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.os_errors import as_host_error
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.regular_file import make_file, pieces_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.swap import put_in_place, take_away
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.temporary import (
    discard,
    flush_folder,
    remove_stale,
    temporary_name,
    whole_mode,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.tree_links import ABSENT, FOLDER, is_mirrored, kind_of, mirror
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError


def make_folder(path: str, mode: int) -> None:
    """Make a folder, and what is missing above it as 0755; an existing folder is left as it is."""
    with as_host_error(f"the folder {path} cannot be made"):
        if os.path.isdir(path):
            return
        above = os.path.dirname(path)
        if not os.path.isdir(above):
            make_folder(above, 0o755)
        try:
            with whole_mode():
                os.mkdir(path, mode)
        except FileExistsError:
            # Another run may have made it just now.
            if not os.path.isdir(path):
                raise
        flush_folder(above)


def snapshot(path: str, backup: str) -> str:
    """Remember at backup, where nothing may be, what is at the path. Returns its kind."""
    kind = kind_of(path)
    if kind == ABSENT:
        return kind
    failure = f"{path} cannot be remembered in {backup}"
    if kind_of(backup) != ABSENT:
        raise HostError(f"{failure}: something is there")
    done = False
    try:
        with as_host_error(failure):
            mirror(kind, path, backup, failure)
            flush_folder(os.path.dirname(backup))
        done = True
    finally:
        if not done:
            discard(backup)
    return kind


def restore(path: str, backup: str, kind: str) -> None:
    """Put back at the path what snapshot() remembered; nothing is done where it still is there."""
    remove_stale(path)
    if kind == ABSENT:
        remove(path)
        return
    # Of its folder: what is remembered may itself be a link of a user's.
    problem = exposure(beside(backup))
    if problem:
        raise HostError(f"{path} is not put back, since {backup} could be from others than root: {problem}")
    if kind_of(backup) != kind:
        raise HostError(f"{path} cannot be put back: {backup}, where it was remembered, is gone")
    # Undoing what could not be done in the first place must not fail for the same reason.
    with contextlib.suppress(OSError, HostError):
        if is_mirrored(kind, path, backup):
            return
    failure = f"{path} cannot be put back"
    with _in_place_of(path, failure) as temporary:
        mirror(kind, backup, temporary, failure)


def place_file(source: str, path: str, mode: int, sha256: str) -> None:
    """Put a copy of the source at the path. What is copied has this digest, or HostError is raised.

    The new file belongs to whom the old one belonged to, or to the owner of the folder: GPUStack 0.6 writes over its builtin
    llama-box at an upgrade (worker/tools_manager.py), and need not be root then.
    """
    failure = f"{path} cannot be written"
    with _in_place_of(path, failure) as temporary:
        _copy(source, temporary, mode, sha256, failure)
        _give(temporary, _owner(path))


def place_folder(source: str, path: str, files: t.Mapping[str, str], links: t.Mapping[str, str]) -> None:
    """Put a folder at the path that holds copies of these files of the source (name -> digest) and these links (name -> target).

    It belongs to whom the old one belonged to, as place_file() says.
    """
    failure = f"{path} cannot be written"
    for name in (*files, *links):
        if os.path.basename(name) != name or name in ("", ".", ".."):
            raise HostError(f"{failure}: {name!r} is not the name of a file in a folder")
    with _in_place_of(path, failure) as temporary:
        with whole_mode():
            os.mkdir(temporary, 0o755)
        for name, digest in files.items():
            _copy(os.path.join(source, name), os.path.join(temporary, name), 0o755, digest, failure)
        for name, target in links.items():
            os.symlink(target, os.path.join(temporary, name))
        for name in ("", *files, *links):
            _give(os.path.join(temporary, name), _owner(path))
        flush_folder(temporary)


def place_link(path: str, target: str) -> None:
    """Put a symbolic link at the path."""
    with _in_place_of(path, f"{path} cannot be written") as temporary:
        os.symlink(target, temporary)
        _give(temporary, _owner(path))


def remove(path: str) -> None:
    """Remove a file, a link or a whole folder; what is gone already is no error.

    Who died while it removed a folder has left it under another name: that goes as well.
    """
    kind = kind_of(path)
    if kind == ABSENT:
        remove_stale(path)
        return
    with as_host_error(f"{path} cannot be removed"), contextlib.suppress(FileNotFoundError):
        if kind == FOLDER:
            take_away(path)
        else:
            os.unlink(path)
        flush_folder(os.path.dirname(path))


@contextlib.contextmanager
def _in_place_of(path: str, failure: str) -> t.Iterator[str]:
    """A name to make something under, which then takes the place of the path."""
    kind_of(path)
    temporary = temporary_name(path)
    try:
        with as_host_error(failure):
            yield temporary
            put_in_place(temporary, path)
    finally:
        discard(temporary)


def _owner(path: str) -> t.Tuple[int, int]:
    status = os.lstat(path if os.path.lexists(path) else os.path.dirname(path))
    return status.st_uid, status.st_gid


def _give(path: str, owner: t.Tuple[int, int]) -> None:
    status = os.lstat(path)
    # Only root may give a file away, and only root has to.
    if (status.st_uid, status.st_gid) != owner and os.geteuid() == 0:
        os.chown(path, *owner, follow_symlinks=False)


def _copy(source: str, target: str, mode: int, sha256: str, failure: str) -> None:
    digest = hashlib.sha256()

    def pieces() -> t.Iterator[bytes]:
        for piece in pieces_of(source):
            digest.update(piece)
            yield piece

    make_file(target, pieces(), lambda descriptor: os.fchmod(descriptor, mode), failure)
    if digest.hexdigest() != sha256:
        raise HostError(
            f"{source} has the sha256 {digest.hexdigest()} and not {sha256}: it was changed or is damaged, remove it and run again"
        )
