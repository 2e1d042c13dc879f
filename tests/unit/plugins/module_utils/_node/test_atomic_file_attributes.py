# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replacing a file on a real file system: its ACL, its label and its other attributes stay, and open nothing on their way."""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib
import stat
import struct
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.atomic_file import replace_file
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError


def mode_of(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    return path


def test_extended_attributes_are_kept(file: pathlib.Path) -> None:
    try:
        os.setxattr(file, "user.metalfleet", b"\0x")
    except OSError as exc:
        pytest.skip(f"no extended attributes here: {exc}")
    replace_file(str(file), b"new", 0o600)
    assert os.getxattr(file, "user.metalfleet") == b"\0x"


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EIO])
def test_a_file_system_without_extended_attributes(file: pathlib.Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: t.Union[str, int], follow_symlinks: bool) -> t.List[str]:
        assert follow_symlinks is isinstance(file, int)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "listxattr", refuse, raising=False)
    if number == errno.ENOTSUP:
        replace_file(str(file), b"new", 0o600)
        assert file.read_bytes() == b"new"
    else:
        with pytest.raises(HostError, match=f"^{file} cannot be written: Input/output error$"):
            replace_file(str(file), b"new", 0o600)
        assert file.read_bytes() == b"old"


class FakeLibrary:
    """The C library of macOS as far as this module asks for it."""

    def __init__(self, rc: int) -> None:
        self.rc = rc
        self.calls: t.List[t.Tuple[bytes, bytes, None, int]] = []

    def copyfile(self, source: bytes, target: bytes, state: None, flags: int) -> int:
        self.calls.append((source, target, state, flags))
        ctypes.set_errno(errno.EPERM)
        return self.rc


def test_on_macos_copyfile_brings_acls_and_attributes_only(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeLibrary(0)
    monkeypatch.setattr(ctypes, "CDLL", lambda _name, use_errno: library if use_errno else None)
    os.utime(file, (1, 1))
    replace_file(str(file), b"new", 0o600, 0o604)
    ((source, target, state, flags),) = library.calls
    assert (source, os.path.dirname(target), state) == (os.fsencode(file), os.fsencode(file.parent), None)
    # COPYFILE_ACL 1 and COPYFILE_XATTR 4 of copyfile.h. COPYFILE_STAT 2 would copy the flags, an immutable one among them.
    assert flags == 1 | 4
    assert file.stat().st_mtime > 1
    assert mode_of(file) == 0o604


def test_on_macos_an_acl_that_cannot_be_copied_stops_it(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name, use_errno: FakeLibrary(-1) if use_errno else None)
    with pytest.raises(HostError) as caught:
        replace_file(str(file), b"new", 0o600)
    assert str(caught.value) == (
        f"{file} cannot be written: its ACL and attributes cannot be copied: Operation not permitted"
        " (is it marked immutable, or protected by macOS?)"
    )
    assert file.read_bytes() == b"old"
    assert os.listdir(file.parent) == ["file"]


ACL = "system.posix_acl_access"
# Version 2; entries of (tag, permissions, id): user::rw-, user:1:r--, group::r--, mask::r--, other::r--.
WIDE_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry) for entry in [(1, 6, 2**32 - 1), (2, 4, 1), (4, 4, 2**32 - 1), (16, 4, 2**32 - 1), (32, 4, 2**32 - 1)]
)


@pytest.fixture
def with_acl(file: pathlib.Path) -> pathlib.Path:
    try:
        os.setxattr(file, ACL, WIDE_ACL)
    except OSError as exc:
        pytest.skip(f"no POSIX ACLs here: {exc}")
    return file


@pytest.mark.parametrize(("mode", "found"), [(None, 0o644), (0o600, 0o600), (0o640, 0o640)])
def test_an_acl_is_kept_and_opens_nothing_on_its_way(
    with_acl: pathlib.Path, mode: t.Optional[int], found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    real_setxattr = os.setxattr

    def setxattr(descriptor: int, name: str, value: bytes) -> None:
        real_setxattr(descriptor, name, value)
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

    monkeypatch.setattr(os, "setxattr", setxattr)
    replace_file(str(with_acl), b"new", 0o600, mode)
    assert modes == [found]
    assert mode_of(with_acl) == found
    entries = {entry[:2] for entry in struct.iter_unpack("<HHI", os.getxattr(with_acl, ACL)[4:])}
    assert {(2, 4), (4, 4)} <= entries


def test_an_acl_of_the_folder_opens_no_file_that_had_none(file: pathlib.Path) -> None:
    try:
        os.setxattr(file.parent, "system.posix_acl_default", WIDE_ACL)
    except OSError as exc:
        pytest.skip(f"no POSIX ACLs here: {exc}")
    replace_file(str(file), b"new", 0o600)
    assert ACL not in os.listxattr(file)
    assert mode_of(file) == 0o640


class Attributes:
    """Extended attributes of a file (by path) and of the one that is to replace it (by descriptor)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, old: t.Dict[str, bytes], new: t.Optional[t.Dict[str, bytes]] = None) -> None:
        self.old, self.new = old, dict(new or {})
        self.refused: t.Dict[str, int] = {}
        self.written: t.List[str] = []
        monkeypatch.setattr(os, "listxattr", lambda file, **_options: list(self._of(file)), raising=False)
        monkeypatch.setattr(os, "getxattr", self._get, raising=False)
        monkeypatch.setattr(os, "setxattr", self._set, raising=False)

    def _of(self, file: t.Union[str, int]) -> t.Dict[str, bytes]:
        return self.new if isinstance(file, int) else self.old

    def _get(self, file: t.Union[str, int], name: str, **_options: t.Any) -> bytes:
        if name not in self._of(file):
            raise OSError(errno.ENODATA, "No data available")
        return self._of(file)[name]

    def _set(self, _descriptor: int, name: str, value: bytes) -> None:
        if name in self.refused:
            raise OSError(self.refused[name], os.strerror(self.refused[name]))
        self.written.append(name)
        self.new[name] = value


def test_attributes_that_are_equal_and_those_of_integrity_are_left(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = {"security.selinux": b"etc_t", "security.ima": b"digest of the old content", "security.evm": b"x", "user.a": b"1", "user.b": b""}
    attributes = Attributes(monkeypatch, old, {"security.selinux": b"etc_t"})
    replace_file(str(file), b"new", 0o600)
    assert attributes.written == ["user.a", "user.b"]


@pytest.mark.parametrize(
    ("name", "number", "tolerated"),
    [
        ("security.selinux", errno.ENOTSUP, True),
        ("security.selinux", errno.EPERM, True),
        ("security.selinux", errno.EIO, False),
        ("user.a", errno.ENOTSUP, False),
        ("system.posix_acl_access", errno.EPERM, False),
    ],
)
def test_a_label_that_cannot_be_set_is_tolerated_and_nothing_else(
    file: pathlib.Path, name: str, number: int, tolerated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    attributes = Attributes(monkeypatch, {name: WIDE_ACL})
    attributes.refused[name] = number
    if tolerated:
        replace_file(str(file), b"new", 0o600)
        assert file.read_bytes() == b"new"
    else:
        with pytest.raises(HostError, match=f"^{file} cannot be written: "):
            replace_file(str(file), b"new", 0o600)
        assert file.read_bytes() == b"old"
    assert os.listdir(file.parent) == ["file"]


def test_an_acl_that_is_none_is_copied_as_it_is(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = Attributes(monkeypatch, {ACL: b"\2\0\0\0odd"})
    replace_file(str(file), b"new", 0o600)
    assert attributes.new == {ACL: b"\2\0\0\0odd"}
