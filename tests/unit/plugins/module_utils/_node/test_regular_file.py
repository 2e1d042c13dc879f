# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making files from pieces: whole or not at all, and nothing lost without a word."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import resource
import stat
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.regular_file import (
    append_file,
    create_file,
    make_file,
    open_binary,
    pieces_of,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError


@contextlib.contextmanager
def umask(bits: int) -> t.Iterator[None]:
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def largest_file(size_bytes: int) -> t.Iterator[None]:
    """As on a disk that is full after so many bytes: write(2) takes a part, and only the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Cut(Exception):
    """The network is gone."""


def cut_off(*pieces: bytes, error: BaseException) -> t.Iterator[bytes]:
    yield from pieces
    raise error


def mode_of(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def descriptors() -> int:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o755])
def test_create(tmp_path: pathlib.Path, mode: int) -> None:
    path = tmp_path / "file"
    with umask(0o077):
        create_file(str(path), [b"a", b"", b"bc"], mode)
    assert (path.read_bytes(), mode_of(path)) == (b"abc", mode)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("there", ["file", "link", "folder"])
def test_create_takes_the_place_of_nothing(tmp_path: pathlib.Path, there: str) -> None:
    path = tmp_path / "there"
    if there == "file":
        path.write_bytes(b"old")
    elif there == "link":
        path.symlink_to("victim")
    else:
        path.mkdir()
    with pytest.raises(HostError) as caught:
        create_file(str(path), [b"new"], 0o644)
    assert str(caught.value) == f"{path} cannot be written: File exists"
    assert os.listdir(tmp_path) == ["there"]
    assert there != "file" or path.read_bytes() == b"old"


@pytest.mark.parametrize("error", [Cut(), KeyboardInterrupt(), HostError("x"), ConnectionResetError(errno.ECONNRESET, "reset")])
def test_what_the_pieces_raise_is_raised_and_no_half_file_stays(tmp_path: pathlib.Path, error: BaseException) -> None:
    before = descriptors()
    with pytest.raises(type(error)) as caught:
        create_file(str(tmp_path / "file"), cut_off(b"half", error=error), 0o644)
    assert caught.value is error
    assert os.listdir(tmp_path) == []
    assert descriptors() == before


@pytest.mark.parametrize("sizes", [[5000], [3000, 3000], [4096, 1]])
def test_a_full_disk_is_noticed_at_the_last_piece_too(tmp_path: pathlib.Path, sizes: t.List[int]) -> None:
    with largest_file(4096), pytest.raises(HostError) as caught:
        create_file(str(tmp_path / "file"), [b"x" * size for size in sizes], 0o644)
    assert str(caught.value) == f"{tmp_path}/file cannot be written: File too large"
    assert os.listdir(tmp_path) == []
    with largest_file(4096), pytest.raises(HostError) as caught:
        append_file(str(tmp_path / "part"), [b"x" * size for size in sizes], 0o644)
    assert str(caught.value) == f"{tmp_path}/part cannot be written: File too large"
    assert (tmp_path / "part").stat().st_size == 4096


@pytest.mark.parametrize("call", ["open", "fchmod", "fsync"])
def test_a_refused_call_of_create(tmp_path: pathlib.Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: t.Any) -> t.Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(HostError) as caught:
            create_file(str(tmp_path / "file"), [b"new"], 0o644)
    assert str(caught.value) == f"{tmp_path}/file cannot be written: Input/output error"
    assert os.listdir(tmp_path) == []


def test_until_it_is_finished_a_file_is_ours_only(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    seen = []

    def finish(descriptor: int) -> None:
        seen.append((stat.S_IMODE(os.fstat(descriptor).st_mode), path.read_bytes()))

    make_file(str(path), [b"secret"], finish, "x")
    assert seen == [(0o600, b"secret")]


def test_the_name_and_the_content_of_a_new_file_are_durable(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    create_file(str(tmp_path / "file"), [b"new"], 0o644)
    assert flushed == [(tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino]
    append_file(str(tmp_path / "file"), [b"er"], 0o644)
    assert flushed[2:] == [(tmp_path / "file").stat().st_ino]


def test_append(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "part"
    with umask(0o077):
        append_file(str(path), [b"a", b"b"], 0o644)
    assert (path.read_bytes(), mode_of(path)) == (b"ab", 0o644)
    append_file(str(path), [b"c"], 0o600)
    assert (path.read_bytes(), mode_of(path)) == (b"abc", 0o644)


def test_what_came_before_the_network_went_stays(tmp_path: pathlib.Path) -> None:
    with pytest.raises(Cut):
        append_file(str(tmp_path / "part"), cut_off(b"12", b"34", error=Cut()), 0o600)
    assert (tmp_path / "part").read_bytes() == b"1234"


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("link", "cannot be written: Too many levels of symbolic links"),
        ("folder", "cannot be written: Is a directory"),
        ("fifo", "cannot be written: No such device or address"),
        ("device", "is not a regular file"),
    ],
)
def test_append_writes_to_files_only(tmp_path: pathlib.Path, there: str, words: str) -> None:
    path = tmp_path / "there"
    if there == "link":
        path.symlink_to("victim")
    elif there == "folder":
        path.mkdir()
    elif there == "fifo":
        os.mkfifo(path)
    elif os.geteuid() == 0:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    else:
        pytest.skip("only root makes devices")
    before = descriptors()
    with pytest.raises(HostError) as caught:
        append_file(str(path), [b"new"], 0o600)
    assert str(caught.value) == f"{path} {words}"
    assert os.listdir(tmp_path) == ["there"]
    assert descriptors() == before


def test_no_folder(tmp_path: pathlib.Path) -> None:
    for write in (create_file, append_file):
        with pytest.raises(HostError) as caught:
            write(str(tmp_path / "none" / "file"), [b"new"], 0o600)
        assert str(caught.value) == f"{tmp_path}/none/file cannot be written: No such file or directory"


def test_open_binary(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"\0\xff")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_binary(str(tmp_path / name)) as file:
            assert (file.read(), file.seek(0), file.read(1)) == (b"\0\xff", 0, b"\0")
    with pytest.raises(HostError, match=f"^{tmp_path}/none does not exist$"):
        open_binary(str(tmp_path / "none"))
    with pytest.raises(HostError, match=f"^{tmp_path} is not a regular file$"):
        open_binary(str(tmp_path))
    with pytest.raises(HostError, match=f"^{tmp_path}/link cannot be read: Too many levels of symbolic links$"):
        list(pieces_of(str(tmp_path / "link"), os.O_NOFOLLOW))
