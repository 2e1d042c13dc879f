# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files, folders and links for tests on a real file system, and what can be seen of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import stat
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.file_tree import (
    place_file,
    place_folder,
    place_link,
    remove,
)

NEW = b"new" * 1000
NEW_DIGEST = hashlib.sha256(NEW).hexdigest()
KINDS = ["absent", "file", "folder", "link"]


def plant(path: pathlib.Path, kind: str) -> None:
    """Put something with as many properties as can be there."""
    if kind == "file":
        _plant_file(path, b"old")
    elif kind == "link":
        path.symlink_to("where/ever")
        _give(path)
    elif kind == "folder":
        (path / "below" / "deeper").mkdir(parents=True)
        _plant_file(path / "one", b"1")
        _plant_file(path / "below" / "two", b"2")
        (path / "below" / "link").symlink_to("two")
        (path / "below").chmod(0o750)
        _mark(path / "below")
        _give(path / "below")
        path.chmod(0o711)


def picture(path: pathlib.Path, times: bool = False) -> t.Any:
    """All that has to come back: kind, mode, owner, attributes, content, and of files the inode."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    attributes = {}
    with contextlib.suppress(OSError):
        attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}
    seen = (status.st_mode, status.st_uid, status.st_gid, attributes, status.st_mtime_ns if times else 0)
    if stat.S_ISLNK(status.st_mode):
        return (seen[:3], os.readlink(path))
    if stat.S_ISDIR(status.st_mode):
        return (seen, {name: picture(path / name, times) for name in os.listdir(path)})
    return (seen, status.st_ino, path.read_bytes())


def make_place(folder: pathlib.Path) -> pathlib.Path:
    """The folder everything happens in; backups and sources lie beside it."""
    for name in ("place", "backups", "source"):
        (folder / name).mkdir()
    (folder / "source" / "new").write_bytes(NEW)
    return folder / "place"


def source_of(place: pathlib.Path) -> str:
    """Where the file new lies."""
    return str(place.parent / "source")


def put(place: pathlib.Path, kind: str) -> None:
    """Put something new at x."""
    path, source = str(place / "x"), source_of(place)
    if kind == "file":
        place_file(f"{source}/new", path, 0o755, NEW_DIGEST)
    elif kind == "folder":
        place_folder(source, path, {"new": NEW_DIGEST}, {"alias": "new"})
    elif kind == "link":
        place_link(path, "new/target")
    else:
        remove(path)


def is_new(place: pathlib.Path, kind: str) -> bool:
    """Whether put() has done it."""
    path = place / "x"
    if kind == "absent":
        return not os.path.lexists(path)
    if kind == "link":
        return path.is_symlink() and os.readlink(path) == "new/target"
    if kind == "file":
        status = path.lstat()
        return stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o755 and path.read_bytes() == NEW
    return (
        not path.is_symlink()
        and path.is_dir()
        and stat.S_IMODE(path.stat().st_mode) == 0o755
        and sorted(os.listdir(path)) == ["alias", "new"]
        and os.readlink(path / "alias") == "new"
        and stat.S_IMODE((path / "new").stat().st_mode) == 0o755
        and (path / "new").read_bytes() == NEW
    )


def refusal(number: int) -> t.Callable[..., t.Any]:
    """A system call that is refused."""

    def refuse(*_arguments: t.Any, **_options: t.Any) -> t.Any:
        raise OSError(number, os.strerror(number))

    return refuse


def _plant_file(path: pathlib.Path, content: bytes) -> None:
    path.write_bytes(content)
    _give(path)
    path.chmod(0o4751)
    _mark(path)
    os.utime(path, ns=(1_700_000_000_123_456_789, 1_700_000_001_987_654_321))


def _mark(path: pathlib.Path) -> None:
    with contextlib.suppress(OSError):
        os.setxattr(path, "user.metalfleet", b"\0kept")


def _give(path: pathlib.Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, 12345, 23456, follow_symlinks=False)
