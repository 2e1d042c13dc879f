# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replacing a file on a real file system: metadata kept, nothing left behind, the old file whole after every failure."""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib
import stat
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import atomic_file
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


@pytest.mark.parametrize(
    ("mode_if_new", "mode", "found"), [(0o644, None, 0o644), (0o600, None, 0o600), (0o644, 0o600, 0o600), (0o600, 0, 0)]
)
def test_a_new_file(tmp_path: pathlib.Path, mode_if_new: int, mode: t.Optional[int], found: int) -> None:
    old_umask = os.umask(0o077)
    try:
        replace_file(str(tmp_path / "file"), b"\0\xff\n", mode_if_new, mode)
    finally:
        os.umask(old_umask)
    assert mode_of(tmp_path / "file") == found
    (tmp_path / "file").chmod(0o600)
    assert (tmp_path / "file").read_bytes() == b"\0\xff\n"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(("mode", "found"), [(None, 0o640), (0o600, 0o600), (0, 0)])
def test_an_old_file_keeps_its_mode_unless_told(file: pathlib.Path, mode: t.Optional[int], found: int) -> None:
    inode = file.stat().st_ino
    replace_file(str(file), b"new", 0o777, mode)
    assert mode_of(file) == found
    assert file.stat().st_ino != inode
    file.chmod(0o600)
    assert file.read_bytes() == b"new"
    assert os.listdir(file.parent) == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_and_special_bits_are_kept(file: pathlib.Path) -> None:
    os.chown(file, 12345, 23456)
    file.chmod(0o6755)
    replace_file(str(file), b"new", 0o600)
    status = file.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 23456, 0o6755)


def test_who_reads_at_the_same_time_keeps_the_old_file(file: pathlib.Path) -> None:
    with file.open("rb") as reader:
        replace_file(str(file), b"new", 0o600)
        assert reader.read() == b"old"


def test_extended_attributes_are_kept(file: pathlib.Path) -> None:
    try:
        os.setxattr(file, "user.metalfleet", b"\0x")
    except OSError as exc:
        pytest.skip(f"no extended attributes here: {exc}")
    replace_file(str(file), b"new", 0o600)
    assert os.getxattr(file, "user.metalfleet") == b"\0x"


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EIO])
def test_a_file_system_without_extended_attributes(file: pathlib.Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: str, follow_symlinks: bool) -> t.List[str]:
        assert not follow_symlinks
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
        os.utime(target, (1, 1))
        ctypes.set_errno(errno.EPERM)
        return self.rc


def test_on_macos_copyfile_brings_acls_and_flags(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeLibrary(0)
    monkeypatch.setattr(ctypes, "CDLL", lambda _name, use_errno: library if use_errno else None)
    os.utime(file, (1, 1))
    replace_file(str(file), b"new", 0o600, 0o604)
    ((source, target, state, flags),) = library.calls
    assert (source, os.path.dirname(target), state) == (os.fsencode(file), os.fsencode(file.parent), None)
    # COPYFILE_ACL 1, COPYFILE_STAT 2, COPYFILE_XATTR 4 of copyfile.h.
    assert flags == 1 | 2 | 4
    # STAT copied the time as well, and a changed file must look changed.
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


def test_a_symbolic_link_is_neither_followed_nor_replaced(file: pathlib.Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    dangling = file.with_name("dangling")
    dangling.symlink_to(file.parent / "none")
    for path in (link, dangling, file.parent):
        with pytest.raises(HostError, match=f"^{path} is not a regular file and is not replaced$"):
            replace_file(str(path), b"new", 0o600)
    assert file.read_bytes() == b"old"
    assert sorted(os.listdir(file.parent)) == ["dangling", "file", "link"]


@pytest.mark.parametrize("plant", ["file", "link"])
def test_what_a_dead_process_left_is_removed_and_not_followed(file: pathlib.Path, plant: str) -> None:
    stale = file.with_name(f".file.{os.getpid()}.metalfleet")
    victim = file.with_name("victim")
    victim.write_bytes(b"safe")
    if plant == "file":
        stale.write_bytes(b"half")
    else:
        stale.symlink_to(victim)
    replace_file(str(file), b"new", 0o600)
    assert (file.read_bytes(), victim.read_bytes()) == (b"new", b"safe")
    assert sorted(os.listdir(file.parent)) == ["file", "victim"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EACCES, "Permission denied (is `become: true` missing?)"),
        (errno.EPERM, "Operation not permitted (is it marked immutable, or protected by macOS?)"),
        (errno.ENOSPC, "No space left on device"),
        (errno.EROFS, "Read-only file system"),
    ],
)
@pytest.mark.parametrize("call", ["open", "fchown", "fchmod", "fsync", "rename"])
def test_every_failure_leaves_the_old_file(file: pathlib.Path, number: int, text: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: t.Any, **_options: t.Any) -> t.Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(HostError) as caught:
            replace_file(str(file), b"new", 0o600)
    assert str(caught.value) == f"{file} cannot be written: {text}"
    assert (file.read_bytes(), mode_of(file)) == (b"old", 0o640)
    assert os.listdir(file.parent) == ["file"]


def test_the_content_is_on_the_disk_before_the_name_is(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        events.append("folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes")
        real_fsync(descriptor)

    def rename(source: str, target: str) -> None:
        events.append(f"rename to {os.path.basename(target)}")
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    replace_file(str(file), b"newer", 0o600)
    assert events == ["5 bytes", "rename to file", "folder"]


def test_on_macos_the_drive_s_cache_is_flushed(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(atomic_file.fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(atomic_file.fcntl, "fcntl", lambda descriptor, command: calls.append((os.fstat(descriptor).st_size, command)))
    replace_file(str(file), b"new", 0o600)
    assert calls == [(3, 51)]


def test_a_file_system_that_does_not_know_that_call_gets_fsync(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _command: int) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    flushed = []
    real_fsync = os.fsync
    monkeypatch.setattr(atomic_file.fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(atomic_file.fcntl, "fcntl", refuse)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (flushed.append(descriptor), real_fsync(descriptor)))
    replace_file(str(file), b"new", 0o600)
    assert len(flushed) == 2


@pytest.mark.parametrize(("number", "refused"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EBADF, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_flushed(file: pathlib.Path, number: int, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    if refused:
        with pytest.raises(HostError):
            replace_file(str(file), b"new", 0o600)
    else:
        replace_file(str(file), b"new", 0o600)
    # The rename has happened all the same.
    assert file.read_bytes() == b"new"
    assert os.listdir(file.parent) == ["file"]


def test_no_folder(tmp_path: pathlib.Path) -> None:
    with pytest.raises(HostError, match=r"cannot be written: No such file or directory$"):
        replace_file(str(tmp_path / "none" / "file"), b"", 0o600)


def test_no_descriptor_stays_open(file: pathlib.Path) -> None:
    before = os.open(os.devnull, os.O_RDONLY)
    os.close(before)
    replace_file(str(file), b"new", 0o600)
    with pytest.raises(HostError):
        replace_file(str(file.parent / "none" / "file"), b"new", 0o600)
    after = os.open(os.devnull, os.O_RDONLY)
    os.close(after)
    assert after == before
