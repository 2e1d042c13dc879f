# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Archives of llama-box on this host: whether one is that of the lock, what is in it, and the content of its files."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import typing as t
import zipfile
import zlib

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.archive_listing import Entry, check
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import TAMPERED, Release

_PIECE_BYTES = 1024 * 1024
# What zipfile raises on archives that are cut or forged.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, OverflowError, RuntimeError, ValueError)


class Archive:
    """An open archive. Every failure is a BadInputError or HostError that names it."""

    def __init__(self, path: str, content: zipfile.ZipFile) -> None:
        self._path = path
        self._content = content

    def entries(self) -> t.Tuple[Entry, ...]:
        """What the archive says is in it, in its order."""
        return tuple(
            Entry(
                # zipfile cuts `filename` at a NUL.
                name=info.orig_filename,
                size_bytes=info.file_size,
                compressed_bytes=info.compress_size,
                unix_mode=info.external_attr >> 16,
                is_encrypted=bool(info.flag_bits & 0x1),
                method=info.compress_type,
            )
            for info in self._content.infolist()
        )

    def pieces(self, name: str) -> t.Iterator[bytes]:
        """The content of one of its files, never more than its entry says."""
        with _named(self._path), self._content.open(name) as file:
            yield from iter(lambda: file.read(_PIECE_BYTES), b"")


@contextlib.contextmanager
def open_archive(host: Host, path: str) -> t.Iterator[Archive]:
    """Open a zip archive of this host. Raises BadInputError for what is none, HostError for what cannot be read."""
    with host.open_binary(path) as file:
        with _named(path):
            content = zipfile.ZipFile(file)
        with content:
            yield Archive(path, content)


def verify_archive(host: Host, release: Release, path: str) -> None:
    """Raise BadInputError unless the file is the archive of which the lock has size and digest; nothing of it is opened."""
    size_bytes, digest = _size_and_digest(host, path)
    if (size_bytes, digest) != (release.size_bytes, release.sha256):
        raise BadInputError(
            f"{path} is not the archive of {release.title} that the lock names: it has {size_bytes} bytes with the sha256 {digest}, "
            f"and not {release.size_bytes} with {release.sha256}: {TAMPERED}, and if it is the lock that is wrong, {release.repair}"
        )


def verify_file(release: Release, name: str, path: str, digest: t.Optional[str]) -> None:
    """Raise BadInputError unless a file in the archive at this path has the digest of the lock."""
    if digest != release.files[name]:
        raise BadInputError(
            f"{name} in {path} has the sha256 {digest}, and not {release.files[name]} as the lock says of {release.title}; {release.repair}"
        )


def verify_files(host: Host, release: Release, path: str) -> None:
    """Raise BadInputError unless the files in the archive are those of the lock."""
    with open_archive(host, path) as archive:
        for name in check(archive.entries(), path, release.files):
            verify_file(release, name, path, _digest_of(archive.pieces(name)))


def describe_archive(host: Host, path: str, version: str, build: str, url: str) -> Release:
    """What a lock has to say of an archive. Raises BadInputError for one of which nothing may be unpacked."""
    size_bytes, digest = _size_and_digest(host, path)
    with open_archive(host, path) as archive:
        files = {name: _digest_of(archive.pieces(name)) for name in check(archive.entries(), path)}
    return Release(version, build, url, digest, size_bytes, files)


def _size_and_digest(host: Host, path: str) -> t.Tuple[int, str]:
    status, digest = host.status(path), host.sha256(path)
    if status is None or digest is None:
        raise HostError(f"{path} does not exist")
    return status.size_bytes, digest


def _digest_of(pieces: t.Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


@contextlib.contextmanager
def _named(path: str) -> t.Iterator[None]:
    try:
        yield
    except _DAMAGE as exc:
        raise BadInputError(f"{path} is not a zip archive that can be read ({exc}); remove it and get it again") from exc
