# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replacing a file on a real file system: metadata kept, nothing left behind, the old file whole after every failure."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import types
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import atomic_file, temporary
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


@pytest.mark.parametrize(
    ("flags", "word"),
    [(0x2, "nouchg"), (0x4, "nouappnd"), (0x20000, "noschg"), (0x40000, "nosappnd"), (0x2 | 0x40000 | 0x8000, "nouchg,nosappnd")],
)
def test_on_macos_an_unchangeable_file_is_refused_before_anything_is_made(
    file: pathlib.Path, flags: int, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    real_lstat = os.lstat

    def lstat(path: t.Any) -> t.Any:
        status = real_lstat(path)
        return types.SimpleNamespace(st_mode=status.st_mode, st_uid=status.st_uid, st_gid=status.st_gid, st_flags=flags)

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", lstat)
        patch.setattr(os, "open", lambda *arguments: opened.append(arguments))
        with pytest.raises(HostError) as caught:
            replace_file(str(file), b"new", 0o600)
    assert str(caught.value) == f"{file} is marked immutable or append-only: run `chflags {word} {file}` first"
    assert opened == []
    assert file.read_bytes() == b"old"


def test_other_flags_of_macos_are_no_obstacle(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_lstat = os.lstat

    def lstat(path: t.Any) -> t.Any:
        status = real_lstat(path)
        # UF_HIDDEN and UF_NODUMP.
        return types.SimpleNamespace(st_mode=status.st_mode, st_uid=status.st_uid, st_gid=status.st_gid, st_flags=0x8001)

    monkeypatch.setattr(os, "lstat", lstat)
    replace_file(str(file), b"new", 0o600)
    assert file.read_bytes() == b"new"


@pytest.mark.parametrize(("mode", "modes"), [(None, [0o640]), (0o600, [0o600]), (0o666, [0o666])])
def test_the_mode_is_set_once_and_to_what_it_stays(
    file: pathlib.Path, mode: t.Optional[int], modes: t.List[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    before = []
    real_fchmod = os.fchmod

    def fchmod(descriptor: int, bits: int) -> None:
        before.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        seen.append(bits)
        real_fchmod(descriptor, bits)

    monkeypatch.setattr(os, "fchmod", fchmod)
    replace_file(str(file), b"new", 0o644, mode)
    assert (before, seen) == ([0o600], modes)


def test_a_folder_that_lets_nothing_go_keeps_no_secret(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An append-only folder refuses the rename and the removal."""

    def fail(*_arguments: t.Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    real_rename = os.rename
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        patch.setattr(os, "unlink", fail)
        with pytest.raises(HostError, match=f"^{file} cannot be written: Operation not permitted"):
            replace_file(str(file), b"new", 0o600)
        patch.setattr(os, "ftruncate", fail)
        real_rename(file.parent / f".file.{os.getpid()}.metalfleet", file.parent / "left")
        with pytest.raises(HostError, match=f"^{file} cannot be written: Operation not permitted"):
            replace_file(str(file), b"new", 0o600)
    assert file.read_bytes() == b"old"
    assert (file.parent / "left").read_bytes() == b""


def test_what_dead_processes_left_of_the_same_file_is_removed(file: pathlib.Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stale = [f".file.{ended.pid}.metalfleet", ".file.99999999999.metalfleet"]
    other = [f".file.{os.getppid()}.metalfleet", ".file.1.metalfleet", f".file2.{ended.pid}.metalfleet", f"file.{ended.pid}.metalfleet"]
    other += [".file.0.metalfleet", ".file.x.metalfleet", f".file.{ended.pid}.metalfleet2"]
    for name in stale + other:
        (file.parent / name).write_bytes(b"half")
    replace_file(str(file), b"new", 0o600)
    assert sorted(os.listdir(file.parent)) == sorted([*other, "file"])


def test_a_name_is_no_pattern_for_what_others_left(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".aXb.99999999999.metalfleet").write_bytes(b"half")
    replace_file(str(tmp_path / "a.b"), b"new", 0o600)
    assert sorted(os.listdir(tmp_path)) == [".aXb.99999999999.metalfleet", "a.b"]


def test_what_cannot_be_removed_stops_nothing(file: pathlib.Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (file.parent / f".file.{ended.pid}.metalfleet").mkdir()
    replace_file(str(file), b"new", 0o600)
    assert file.read_bytes() == b"new"


def test_a_folder_that_cannot_be_listed_stops_nothing(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: str) -> t.List[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", fail)
        replace_file(str(file), b"new", 0o600)
    assert file.read_bytes() == b"new"


@pytest.mark.parametrize("letter", ["i", "a"])
def test_on_linux_an_unchangeable_file_is_refused_in_words_that_help(file: pathlib.Path, letter: str) -> None:
    marked = subprocess.run(["chattr", f"+{letter}", file], check=False, capture_output=True) if shutil.which("chattr") else None
    if marked is None or marked.returncode != 0:
        pytest.skip("nobody can mark a file here")
    try:
        with pytest.raises(HostError) as caught:
            replace_file(str(file), b"new", 0o600)
    finally:
        subprocess.run(["chattr", f"-{letter}", file], check=True)
    assert str(caught.value) == f"{file} is marked immutable or append-only: run `chattr -{letter} {file}` first"
    assert (file.read_bytes(), os.listdir(file.parent)) == (b"old", ["file"])


def test_a_file_system_that_knows_no_such_marks(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: t.Any) -> None:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))

    monkeypatch.setattr(atomic_file.fcntl, "ioctl", fail)
    replace_file(str(file), b"new", 0o600)
    assert file.read_bytes() == b"new"


READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" "$1" && exec "$2" -c '
import sys
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.atomic_file import replace_file
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
try:
    replace_file(sys.argv[1], b"new", 0o600)
except HostError as exc:
    print(exc)
' "$1/file"
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root mounts, and unshare has to be there")
def test_a_real_file_system_that_is_read_only(file: pathlib.Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    argv = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(file.parent), sys.executable]
    result = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if "mount:" in result.stderr or "unshare:" in result.stderr:
        pytest.skip(f"no private mounts here: {result.stderr.strip()}")
    why = "Read-only file system (is it mounted so, or has it become so by itself, after an error of the disk?)"
    assert (result.stdout, result.stderr) == (f"{file} cannot be written: {why}\n", "")
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
        (errno.EACCES, "Permission denied"),
        (errno.EPERM, "Operation not permitted (is it marked immutable, or protected by macOS?)"),
        (errno.ENOSPC, "No space left on device (are space or inodes used up, as `df` and `df -i` say?)"),
        (errno.EROFS, "Read-only file system (is it mounted so, or has it become so by itself, after an error of the disk?)"),
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
    monkeypatch.setattr(temporary.fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(temporary.fcntl, "fcntl", lambda descriptor, command: calls.append((os.fstat(descriptor).st_ino, command)))
    replace_file(str(file), b"new", 0o600)
    assert calls == [(file.stat().st_ino, 51), (file.parent.stat().st_ino, 51)]


def test_a_file_system_that_does_not_know_that_call_gets_fsync(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _command: int) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    flushed = []
    real_fsync = os.fsync
    monkeypatch.setattr(temporary.fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(temporary.fcntl, "fcntl", refuse)
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
