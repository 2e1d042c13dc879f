# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Reading regular files, and making files from pieces of content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.os_errors import as_host_error
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.temporary import discard, flush_folder, flush_to_disk, whole_mode
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError

_PIECE_BYTES = 1024 * 1024
# O_NONBLOCK: opening a planted FIFO must fail rather than hang.
_WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def open_regular(path: str, flags: int = 0) -> t.Optional[int]:
    """A descriptor of a regular file, or None where nothing is there. Raises HostError for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise HostError(f"{path} cannot be read: {exc.strerror}") from exc
    _refuse_irregular(descriptor, path)
    return descriptor


def open_binary(path: str, flags: int = 0) -> t.IO[bytes]:
    """A regular file for reading. Raises HostError where there is none."""
    descriptor = open_regular(path, flags)
    if descriptor is None:
        raise HostError(f"{path} does not exist")
    return os.fdopen(descriptor, "rb")


def read_file(path: str, limit_bytes: int) -> t.Optional[bytes]:
    """The content of a regular file, or None where nothing is there. Raises HostError."""
    descriptor = open_regular(path)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        try:
            data = file.read(limit_bytes + 1)
        except OSError as exc:
            raise HostError(f"{path} cannot be read: {exc.strerror}") from exc
    if len(data) > limit_bytes:
        raise HostError(f"{path} is larger than {limit_bytes} bytes, which no file of its kind is")
    return data


def pieces_of(path: str, flags: int = 0) -> t.Iterator[bytes]:
    """The content of a regular file, piece by piece. Raises HostError, also where there is no such file."""
    with open_binary(path, flags) as file:
        yield from _pieces(file, path)


def digest_of(path: str) -> t.Optional[str]:
    """The sha256 of a regular file's content, or None where nothing is there. Raises HostError."""
    descriptor = open_regular(path)
    if descriptor is None:
        return None
    digest = hashlib.sha256()
    with os.fdopen(descriptor, "rb") as file:
        for piece in _pieces(file, path):
            digest.update(piece)
    return digest.hexdigest()


def make_file(path: str, pieces: t.Iterable[bytes], finish: t.Callable[[int], None], failure: str) -> None:
    """Make a file that is not there yet, and see its content to the disk. One that could not be finished is removed.

    finish: gives the descriptor its mode and what else it needs, once the content is in it; until then the file is ours only.
    failure: what a HostError says has failed, such as "/etc/x cannot be written". What the pieces raise is not changed.
    """
    with as_host_error(failure):
        descriptor = os.open(path, _WRITE | os.O_CREAT | os.O_EXCL, 0o600)
    with _discarded_unless_done(path), os.fdopen(descriptor, "wb", buffering=0) as file:
        _write_pieces(file, pieces, failure)
        with as_host_error(failure):
            finish(descriptor)
            flush_to_disk(descriptor)


def create_file(path: str, pieces: t.Iterable[bytes], mode: int) -> None:
    """Make a file that is not there yet, its name seen to the disk as well."""
    failure = f"{path} cannot be written"
    make_file(path, pieces, lambda descriptor: os.fchmod(descriptor, mode), failure)
    with as_host_error(failure):
        flush_folder(os.path.dirname(path))


def append_file(path: str, pieces: t.Iterable[bytes], mode_if_new: int) -> None:
    """Add pieces of content to a file as they come. What has come before a failure stays in it."""
    failure = f"{path} cannot be written"
    with as_host_error(failure):
        try:
            with whole_mode():
                descriptor = os.open(path, _WRITE | os.O_APPEND | os.O_CREAT | os.O_EXCL, mode_if_new)
        except FileExistsError:
            descriptor = os.open(path, _WRITE | os.O_APPEND)
    _refuse_irregular(descriptor, path)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        _write_pieces(file, pieces, failure)
        with as_host_error(failure):
            flush_to_disk(descriptor)


def _pieces(file: t.IO[bytes], path: str) -> t.Iterator[bytes]:
    while True:
        try:
            piece = file.read(_PIECE_BYTES)
        except OSError as exc:
            raise HostError(f"{path} cannot be read: {exc.strerror}") from exc
        if not piece:
            return
        yield piece


def _write_pieces(file: t.IO[bytes], pieces: t.Iterable[bytes], failure: str) -> None:
    for piece in pieces:
        # Unbuffered, so that what an exception of the pieces leaves behind is what came; write(2) may take a part only.
        rest = memoryview(piece)
        while rest:
            with as_host_error(failure):
                rest = rest[file.write(rest) :]


def _refuse_irregular(descriptor: int, path: str) -> None:
    # Before fdopen, which refuses a folder in words of its own and leaves the descriptor open.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise HostError(f"{path} is not a regular file")


@contextlib.contextmanager
def _discarded_unless_done(path: str) -> t.Iterator[None]:
    try:
        yield
    except BaseException:
        discard(path)
        raise
