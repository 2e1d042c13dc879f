# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Temporary names: what dead processes left goes, what others use stays, and nothing beyond a name is harmed."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import temporary
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.temporary import (
    aside_name,
    discard,
    flush_folder,
    flush_to_disk,
    remove_stale,
    temporary_name,
    whole_mode,
)


def dead_pid() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def refuse(*_arguments: t.Any, **_options: t.Any) -> t.Any:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_names_lie_beside_the_path(tmp_path: pathlib.Path) -> None:
    assert temporary_name(str(tmp_path / "x")) == f"{tmp_path}/.x.{os.getpid()}.metalfleet"
    assert aside_name(str(tmp_path / "x")) == f"{tmp_path}/.x.{os.getpid()}.old.metalfleet"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (".x.1.metalfleet", "x"),
        (".x.1.old.metalfleet", "x"),
        (".a.b.2.1.metalfleet", "a.b.2"),
        ("..unpacking.1.metalfleet", ".unpacking"),
        ("x.1.metalfleet", None),
        (".1.metalfleet", None),
        (".x.y.metalfleet", None),
        (".x.1.metalfleet.", None),
        ("", None),
    ],
)
def test_whose_a_temporary_name_is(name: str, path: t.Optional[str]) -> None:
    assert temporary.belongs_to(name) == path


def test_what_dead_processes_left_is_removed_whatever_it_is(tmp_path: pathlib.Path) -> None:
    pid = dead_pid()
    (tmp_path / f".x.{pid}.metalfleet" / "below").mkdir(parents=True)
    (tmp_path / f".x.{pid}.metalfleet" / "below" / "file").write_bytes(b"half")
    (tmp_path / f".x.{pid}.old.metalfleet").mkdir()
    (tmp_path / ".x.99999999999.metalfleet").write_bytes(b"half")
    (tmp_path / f".x.{os.getpid()}.metalfleet").symlink_to("elsewhere")
    kept = {
        f".x.{os.getppid()}.metalfleet",
        f".x.{os.getppid()}.old.metalfleet",
        f".x.{pid}.older.metalfleet",
        f".x.old.{pid}.metalfleet",
        f".y.{pid}.metalfleet",
        "x",
    }
    for name in kept:
        (tmp_path / name).write_bytes(b"kept")
    remove_stale(str(tmp_path / "x"))
    assert set(os.listdir(tmp_path)) == kept


def test_no_folder_has_nothing_stale(tmp_path: pathlib.Path) -> None:
    remove_stale(str(tmp_path / "none" / "x"))
    assert os.listdir(tmp_path) == []


def test_discard(tmp_path: pathlib.Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder" / "below").mkdir(parents=True)
    for name in ("link", "file", "folder", "none"):
        discard(str(tmp_path / name))
    assert os.listdir(tmp_path) == ["kept"]
    assert (tmp_path / "kept" / "file").read_bytes() == b"x"


def test_a_name_that_cannot_go_loses_its_content(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"secret")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        discard(str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == b""


def test_content_that_other_names_share_is_not_harmed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary name is often a hard link of what was remembered, or of the program that runs."""
    (tmp_path / "backup").write_bytes(b"remembered")
    os.link(tmp_path / "backup", tmp_path / "temporary")
    (tmp_path / "link").symlink_to("victim")
    (tmp_path / "victim").write_bytes(b"safe")
    os.mkfifo(tmp_path / "fifo")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        for name in ("temporary", "link", "fifo"):
            discard(str(tmp_path / name))
    assert (tmp_path / "backup").read_bytes() == b"remembered"
    assert (tmp_path / "victim").read_bytes() == b"safe"


def test_modes_are_as_asked_for_whatever_the_umask(tmp_path: pathlib.Path) -> None:
    before = os.umask(0o077)
    try:
        with whole_mode():
            os.mkdir(tmp_path / "folder", 0o755)
        assert os.umask(0o077) == 0o077
        with pytest.raises(ZeroDivisionError), whole_mode():
            raise ZeroDivisionError
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("number", "falls_back"), [(errno.ENOTSUP, True), (errno.EINVAL, True), (errno.ENOTTY, True), (errno.EIO, False), (errno.ENOSPC, False)]
)
def test_on_macos_a_disk_that_failed_is_not_asked_again(
    tmp_path: pathlib.Path, number: int, falls_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int, _command: int) -> None:
        raise OSError(number, os.strerror(number))

    flushed: t.List[int] = []
    monkeypatch.setattr(temporary.fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(temporary.fcntl, "fcntl", fail)
    monkeypatch.setattr(os, "fsync", flushed.append)
    with (tmp_path / "file").open("wb") as file:
        if falls_back:
            flush_to_disk(file.fileno())
            assert flushed == [file.fileno()]
        else:
            with pytest.raises(OSError, match=os.strerror(number)):
                flush_to_disk(file.fileno())
            assert flushed == []


def test_a_folder_s_names_reach_the_disk_itself_on_macos_too(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(temporary.fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(temporary.fcntl, "fcntl", lambda descriptor, command: calls.append((os.fstat(descriptor).st_ino, command)))
    flush_folder(str(tmp_path))
    assert calls == [(tmp_path.stat().st_ino, 51)]


def test_what_another_user_s_process_works_on_stays(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f".x.{dead_pid()}.metalfleet").write_bytes(b"half")
    # kill(2) says EPERM of a process that lives and is not ours.
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", refuse)
        remove_stale(str(tmp_path / "x"))
    assert len(os.listdir(tmp_path)) == 1
