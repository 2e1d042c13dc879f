# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives that are made to do harm, on a real file system. The lock agrees with each of them, as if nobody had looked when it was made."""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import stat
import struct
import typing as t
import zipfile

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.archive import describe_archive, open_archive
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.release_store import ReleaseStore, Source
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Release
from ansible_collections.metalfleet.gpustack.tests.mirror import archives

VERSION, BUILD = "v0.0.139", "linux-amd64-avx2"
PROGRAM = archives.program(VERSION, BUILD)
# As a central directory has them: what begins an entry, and where in it the size is that the content shall have.
CENTRAL, SIZE_AT = b"PK\x01\x02", 24


def archive(*members: t.Tuple[str, bytes, int], level: int = 6) -> bytes:
    """name, content and mode of each member, after the program."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as content:
        for name, data, mode in (("llama-box", PROGRAM, stat.S_IFREG | 0o755), *members):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            # ZipInfo would turn a backslash or a NUL into something else on some systems.
            info.filename = info.orig_filename = name
            content.writestr(info, data, zipfile.ZIP_DEFLATED)
    return memory.getvalue()


FILE = stat.S_IFREG | 0o644
ATTACKS = {
    "folder above": archive(("../../../evil", b"x", FILE)),
    "folder above, by another separator": archive(("..\\..\\evil", b"x", FILE)),
    "absolute": archive(("/tmp/evil-of-an-archive", b"x", FILE)),
    "drive": archive(("C:evil", b"x", FILE)),
    "hidden": archive((".evil", b"x", FILE)),
    "option": archive(("-evil", b"x", FILE)),
    "dots": archive(("..", b"x", FILE)),
    "line feed": archive(("evil\nllama-box", b"x", FILE)),
    "terminal": archive(("evil\x1b[2J", b"x", FILE)),
    "folder": archive(("evil/", b"", stat.S_IFDIR | 0o777)),
    "in a folder": archive(("evil/file", b"x", FILE)),
    "link": archive(("libggml.so", b"/etc/shadow", stat.S_IFLNK | 0o777)),
    "link, then a file through it": archive(("evil", b"/tmp", stat.S_IFLNK | 0o777), ("evil/file", b"x", FILE)),
    "device": archive(("evil", b"", stat.S_IFCHR | 0o666)),
    "block device": archive(("evil", b"", stat.S_IFBLK | 0o666)),
    "pipe": archive(("evil", b"", stat.S_IFIFO | 0o666)),
    "socket": archive(("evil", b"", stat.S_IFSOCK | 0o666)),
    "twice": archive(("Llama-Box", b"x", FILE)),
    "bomb": archive(("evil", bytes(4 << 20), FILE), level=9),
}


def locked(folder: pathlib.Path, data: bytes) -> Release:
    """The release of which this is the archive, as a lock would have it that was made of it without looking."""
    where = folder / VERSION / f"llama-box-{BUILD}.zip"
    where.parent.mkdir()
    where.write_bytes(data)
    with zipfile.ZipFile(io.BytesIO(data)) as content:
        files = {}
        for info in content.infolist():
            files[info.orig_filename] = hashlib.sha256(PROGRAM if info.orig_filename == "llama-box" else b"x").hexdigest()
    return Release(VERSION, BUILD, f"https://example.com/{where.name}", hashlib.sha256(data).hexdigest(), len(data), files)


def tree(folder: pathlib.Path) -> t.Dict[str, t.Tuple[int, bytes]]:
    """Everything below a folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")
    }


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_nothing_of_it_is_unpacked(tmp_path: pathlib.Path, attack: str) -> None:
    given = tmp_path / "given"
    given.mkdir()
    release = locked(given, ATTACKS[attack])
    store = tmp_path / "state" / "releases"
    store.mkdir(parents=True)
    before = tree(tmp_path)
    with pytest.raises(BadInputError) as caught:
        ReleaseStore(Host(), str(store), Source(kind="folder", folder=str(given))).obtain(release)
    assert tree(tmp_path) == before
    assert not os.path.lexists("/tmp/evil-of-an-archive")
    message = str(caught.value)
    assert "is not unpacked: " in message
    assert message.isprintable()
    # Whoever makes a lock is told the same, and gets none.
    with pytest.raises(BadInputError, match="is not unpacked: "):
        describe_archive(Host(), str(given / VERSION / f"llama-box-{BUILD}.zip"), VERSION, BUILD, release.url)


def test_no_more_is_unpacked_than_the_archive_said(tmp_path: pathlib.Path) -> None:
    data = bytearray(archive(("evil", bytes(8 << 20), FILE)))
    last = data.rindex(CENTRAL)
    struct.pack_into("<L", data, last + SIZE_AT, 100_000)
    path = tmp_path / "box.zip"
    path.write_bytes(data)
    with open_archive(Host(), str(path)) as content:
        assert [entry.size_bytes for entry in content.entries()] == [len(PROGRAM), 100_000]
        pieces: t.List[bytes] = []
        with pytest.raises(BadInputError, match="is not a zip archive that can be read"):
            pieces.extend(content.pieces("evil"))
    assert sum(len(piece) for piece in pieces) <= 100_000


def test_no_file_has_more_rights_than_it_needs(tmp_path: pathlib.Path) -> None:
    everything = stat.S_IFREG | stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX | 0o777
    release = locked(tmp_path, archive(("helper", b"x", everything)))
    store = ReleaseStore(Host(), str(tmp_path / "releases"), Source(kind="folder", folder=str(tmp_path)))
    store.obtain(release)
    folder = pathlib.Path(store.folder_of(release))
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {"llama-box": 0o755, "helper": 0o755}
