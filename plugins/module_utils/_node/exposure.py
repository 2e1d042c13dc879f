# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Who else than root could put something else at a path: a folder above it that others may change, or a link of theirs."""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host

# As many as Linux follows (path_resolution(7)); macOS follows 32.
_MOST_LINKS = 40


def exposure(path: str) -> str:
    """What is wrong with a folder above the path, or with a link on the way to it, as a clause; empty where nothing is.

    What is not there is no fault: who may make it is decided by the folders above. What belongs to whoever runs this is not either.
    """
    trusted = {0, os.geteuid()}
    at, rest, links = "/", _parts(path), 0
    problem = _of_folder("/", os.lstat("/"), trusted, is_last=len(rest) < 2)
    while rest and not problem:
        name = rest.pop(0)
        here = os.path.dirname(at) if name == ".." else os.path.join(at, name)
        try:
            status = os.lstat(here)
        except OSError:
            # Nothing is there, or it cannot be looked at; then it cannot be read or written either.
            return ""
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if status.st_uid not in trusted:
                return f"the link {here} belongs to the user {status.st_uid}"
            if links > _MOST_LINKS:
                return f"the link {here} leads to itself"
            target = os.readlink(here)
            at, rest = "/" if target.startswith("/") else at, _parts(target) + rest
            continue
        at = here
        if rest:
            problem = _of_folder(here, status, trusted, is_last=len(rest) == 1)
    return problem


def refuse_exposed(host: Host, path: str, otherwise: str = "", follows: bool = True) -> None:
    """Raise BadInputError if others than root could put something else at the path.

    otherwise: what else may be done about it. follows: whether what a link there leads to is managed, or the link is replaced.
    """
    problem = host.exposure(path if follows else beside(path))
    if problem:
        raise BadInputError(
            f"{path} is not managed, since others than root could put another file there: {problem}; make it root's alone (chown"
            f" root, chmod go-w){otherwise}"
        )


def beside(path: str) -> str:
    """A path of whose exposure the folder alone decides, where a link at the other path is not followed."""
    return os.path.join(os.path.dirname(path), "-")


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _of_folder(folder: str, status: os.stat_result, trusted: set[int], is_last: bool) -> str:
    if status.st_uid not in trusted:
        return f"the folder {folder} belongs to the user {status.st_uid}"
    mode = status.st_mode
    # Of a group root's own (wheel on macOS) is none but root.
    writers = "everybody" if mode & stat.S_IWOTH else f"the group {status.st_gid}" if mode & stat.S_IWGRP and status.st_gid != 0 else ""
    # Where nobody may rename what belongs to others, as in /tmp, the next folder is safe if it is root's.
    if not writers or (mode & stat.S_ISVTX and not is_last):
        return ""
    return f"{writers} may write the folder {folder}"
