# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What may be unpacked from an archive: plain files with plain names, the ones expected and no others."""

from __future__ import annotations

import dataclasses
import stat
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import builds
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError

# The CUDA builds unpack to about 1 GiB, and programs to some four times their archive; deflate cannot do more than 1032.
LARGEST_UNPACKED_BYTES = 4 * 1024**3
LARGEST_RATIO = 200

# Stored and deflated. Others need modules (bz2, lzma) that a Python may be built without.
_METHODS = (0, 8)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One member of an archive as the archive describes it.

    unix_mode: with the bits of its type; 0 where it says none. method: how it is compressed, as the zip format numbers it.
    """

    name: str
    size_bytes: int
    compressed_bytes: int
    unix_mode: int = 0
    is_encrypted: bool = False
    method: int = 8


def check(entries: t.Sequence[Entry], archive: str, expected: t.Optional[t.Iterable[str]] = None) -> t.Tuple[str, ...]:
    """The names to unpack. Raises BadInputError for an archive of which nothing may be unpacked.

    archive: its path, for the message. expected: the names that the lock has; None where a lock is being made of it.
    """
    seen: t.Set[str] = set()
    for entry in entries:
        problem = _problem_of(entry)
        # Macs do not tell names apart by case.
        if not problem and entry.name.lower() in seen:
            problem = "is in it twice"
        if problem:
            raise _refusal(archive, f"{entry.name!r} {problem}")
        seen.add(entry.name.lower())
    size_bytes = sum(entry.size_bytes for entry in entries)
    compressed_bytes = sum(entry.compressed_bytes for entry in entries)
    if size_bytes > LARGEST_UNPACKED_BYTES:
        raise _refusal(archive, f"it unpacks to {size_bytes} bytes, and the limit is {LARGEST_UNPACKED_BYTES}")
    if size_bytes > LARGEST_RATIO * compressed_bytes:
        raise _refusal(archive, f"it unpacks to {size_bytes} bytes from {compressed_bytes}, and the limit is {LARGEST_RATIO} times")
    names = tuple(entry.name for entry in entries)
    if builds.PROGRAM not in names:
        raise _refusal(archive, f"there is no {builds.PROGRAM} in it")
    if expected is not None:
        wanted = set(expected)
        for what, difference in (("lacks", wanted.difference(names)), ("also holds", set(names) - wanted)):
            if difference:
                # Its digest is that of the lock, so the lock is at fault.
                raise BadInputError(
                    f"{archive} is not unpacked: by the lock it {what} {', '.join(sorted(difference))}; restore the lock from version "
                    "control, or take out its entry and run the playbook metalfleet.gpustack.lock again"
                )
    return names


def _problem_of(entry: Entry) -> str:
    """Why the entry may not be unpacked, as the end of a sentence that begins with its name; empty where it may."""
    kind = stat.S_IFMT(entry.unix_mode)
    if entry.is_encrypted:
        return "is encrypted"
    if entry.method not in _METHODS:
        return f"is compressed by method {entry.method}, which not every Python can read"
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind == stat.S_IFDIR or entry.name.endswith("/"):
        return "is a folder"
    if kind not in (0, stat.S_IFREG):
        return "is neither a file nor a folder"
    if entry.name.startswith("/"):
        return "is an absolute path"
    if "/" in entry.name or "\\" in entry.name:
        return "is a path, and not the name of a file"
    # What is left: drive letters, "..", NUL, control characters, names that no release has.
    return "" if builds.is_file_name(entry.name) else "is not the plain name of a file"


def _refusal(archive: str, problem: str) -> BadInputError:
    return BadInputError(f"{archive} is not unpacked: {problem}; get it again from https://github.com/gpustack/llama-box/releases")
