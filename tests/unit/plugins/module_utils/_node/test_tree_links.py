# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remembering and putting back, on a real file system."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
import stat
import subprocess
import types
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import tree_links
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.file_tree import (
    remove,
    restore,
    snapshot,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.tests.unit.trees import (
    KINDS,
    make_place,
    picture,
    plant,
    put,
    refusal,
)


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    return make_place(tmp_path)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK])
@pytest.mark.parametrize("old", ["file", "folder"])
def test_without_hard_links_what_is_remembered_is_a_copy_with_all_it_had(
    place: pathlib.Path, old: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_inodes(seen: t.Any) -> t.Any:
        if isinstance(seen[1], dict):
            return (seen[0], {name: without_inodes(below) for name, below in seen[1].items()})
        return (seen[0], seen[-1])

    path, backup = place / "x", place.parent / "backups" / "0"
    plant(path, old)
    before = picture(path, times=True)
    monkeypatch.setattr(os, "link", refusal(number))
    snapshot(str(path), str(backup))
    assert without_inodes(picture(backup, times=True)) == without_inodes(before)
    restore(str(path), str(backup), old)
    assert picture(path, times=True) == before, "an untouched path is left alone"
    put(place, "file")
    restore(str(path), str(backup), old)
    assert without_inodes(picture(path, times=True)) == without_inodes(before)
    assert os.listdir(place) == ["x"]


def test_a_copy_is_nobody_s_until_it_is_like_what_it_was_made_of(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "x").write_bytes(b"secret")
    (place / "x").chmod(0o600)
    modes = []
    real_fchown = os.fchown

    def fchown(descriptor: int, uid: int, gid: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        real_fchown(descriptor, uid, gid)

    monkeypatch.setattr(os, "link", refusal(errno.EXDEV))
    monkeypatch.setattr(os, "fchown", fchown)
    snapshot(str(place / "x"), str(place / "y"))
    assert modes == [0o600]


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("old", ["file", "folder"])
def test_what_cannot_be_remembered_leaves_no_half_backup(
    place: pathlib.Path, old: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, backup = place / "x", place.parent / "backups" / "0"
    plant(path, old)
    before = picture(path)
    monkeypatch.setattr(os, "link", refusal(number))
    with pytest.raises(HostError, match=f"^{path} cannot be remembered in {backup}: {os.strerror(number)}"):
        snapshot(str(path), str(backup))
    assert os.listdir(backup.parent) == []
    assert picture(path) == before


@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_a_backup_takes_the_place_of_nothing(place: pathlib.Path, there: str) -> None:
    backup = place.parent / "backups" / "0"
    plant(place / "x", "file")
    plant(backup, there)
    before = picture(backup)
    with pytest.raises(HostError) as caught:
        snapshot(str(place / "x"), str(backup))
    assert str(caught.value) == f"{place}/x cannot be remembered in {backup}: something is there"
    assert picture(backup) == before


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_backup_that_is_gone_or_another_is_not_put_back(place: pathlib.Path, kind: str) -> None:
    backup = place.parent / "backups" / "0"
    plant(place / "x", "file")
    before = picture(place / "x")
    for there in {"absent", "file", "folder", "link"} - {kind}:
        plant(backup, there)
        with pytest.raises(HostError) as caught:
            restore(str(place / "x"), str(backup), kind)
        assert str(caught.value) == f"{place}/x cannot be put back: {backup}, where it was remembered, is gone"
        assert picture(place / "x") == before
        remove(str(backup))


def test_an_undo_of_what_was_never_done_needs_no_right_to_write(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that failed because nothing can be written there is undone with the others."""
    for number, kind in enumerate(["file", "folder", "link"]):
        path, backup = place / kind, place.parent / "backups" / str(number)
        plant(path, kind)
        snapshot(str(path), str(backup))
        with monkeypatch.context() as patch:
            for call in ("link", "rename", "symlink", "mkdir", "unlink"):
                patch.setattr(os, call, refusal(errno.EROFS))
            restore(str(path), str(backup), kind)


@pytest.mark.parametrize("change", ["content", "mode", "owner", "more", "fewer", "link", "kind", "fifo"])
def test_any_change_is_undone(place: pathlib.Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, backup = place / "x", place.parent / "backups" / "0"
    plant(path, "folder")
    # Of copies: what is changed in place would change a hard link as well.
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refusal(errno.EXDEV))
        snapshot(str(path), str(backup))
    file = path / "below" / "two"
    times = file.stat().st_mtime_ns
    if change == "content":
        file.write_bytes(b"3")
        os.utime(file, ns=(times, times))
        file.chmod(0o4751)
    elif change == "mode":
        file.chmod(0o755)
    elif change == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(path / "below", 1, 1)
    elif change == "more":
        (path / "below" / "deeper" / "more").write_bytes(b"")
    elif change == "fewer":
        file.unlink()
    elif change == "link":
        (path / "below" / "link").unlink()
        (path / "below" / "link").symlink_to("one")
    else:
        file.unlink()
        file.mkdir() if change == "kind" else os.mkfifo(file)
    restore(str(path), str(backup), "folder")
    assert file.read_bytes() == b"2"
    assert stat.S_IMODE(file.stat().st_mode) == 0o4751
    assert sorted(os.listdir(path / "below")) == ["deeper", "link", "two"]
    assert os.listdir(path / "below" / "deeper") == []
    assert os.readlink(path / "below" / "link") == "two"
    assert os.geteuid() != 0 or (path / "below").stat().st_uid == 12345
    assert os.listdir(place) == ["x"]


def test_a_remembered_file_is_not_written_by_what_follows(place: pathlib.Path) -> None:
    path, backup = place / "x", place.parent / "backups" / "0"
    path.write_bytes(b"old")
    snapshot(str(path), str(backup))
    assert path.samefile(backup)
    for kind in ("file", "folder", "link", "absent"):
        put(place, kind)
        assert backup.read_bytes() == b"old"


def test_a_folder_whose_files_share_an_inode(place: pathlib.Path) -> None:
    path, backup = place / "x", place.parent / "backups" / "0"
    plant(path, "folder")
    os.link(path / "one", path / "same")
    before = picture(path)
    snapshot(str(path), str(backup))
    put(place, "absent")
    restore(str(path), str(backup), "folder")
    assert picture(path) == before


def test_a_large_folder(place: pathlib.Path) -> None:
    path, backup = place / "x", place.parent / "backups" / "0"
    path.mkdir()
    for number in range(5000):
        (path / f"{number}").touch()
    before = picture(path)
    snapshot(str(path), str(backup))
    put(place, "folder")
    restore(str(path), str(backup), "folder")
    assert picture(path) == before
    remove(str(path))
    assert os.listdir(place) == []


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="needs POSIX ACLs")
def test_a_folder_s_default_acl_comes_back_and_spreads_to_nothing_else(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of version 2: the owner rwx, the user 12345 rwx, the group r-x, a mask rwx, others none.
    entries = [(1, 7, 0xFFFFFFFF), (2, 7, 12345), (4, 5, 0xFFFFFFFF), (0x10, 7, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF)]
    acl = b"\2\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + who.to_bytes(4, "little") for tag, bits, who in entries
    )
    backups = place.parent / "backups"
    plant(place / "plain", "folder")
    plant(place / "x", "folder")
    try:
        os.setxattr(place / "x", "system.posix_acl_default", acl)
        os.setxattr(backups, "system.posix_acl_default", acl)
    except OSError as exc:
        pytest.skip(f"no ACLs here: {exc}")
    before = picture(place / "x"), picture(place / "plain")
    monkeypatch.setattr(os, "link", refusal(errno.EXDEV))
    for name in ("x", "plain"):
        snapshot(str(place / name), str(backups / name))
        remove(str(place / name))
        restore(str(place / name), str(backups / name), "folder")
    after = picture(place / "x"), picture(place / "plain")
    for old, new in zip(before, after):
        assert new[0] == old[0]
        assert {name: below[0] for name, below in new[1].items()} == {name: below[0] for name, below in old[1].items()}


@pytest.mark.parametrize("letter", ["i", "a"])
@pytest.mark.parametrize("marked", ["x", "x/below", "x/below/two"])
def test_what_is_marked_immutable_is_refused_while_nothing_is_changed(place: pathlib.Path, marked: str, letter: str) -> None:
    """A copy of it could be made, and everything after that would fail: the change, and undoing it."""
    path, backup = place / "x", place.parent / "backups" / "0"
    plant(path, "folder")
    mark = subprocess.run(["chattr", f"+{letter}", place / marked], check=False, capture_output=True) if shutil.which("chattr") else None
    if mark is None or mark.returncode != 0:
        pytest.skip("nobody can mark a file here")
    try:
        with pytest.raises(HostError) as caught:
            snapshot(str(path), str(backup))
        assert str(caught.value) == (f"{place}/{marked} is marked immutable or append-only: run `chattr -{letter} {place}/{marked}` first")
        assert os.listdir(backup.parent) == []
    finally:
        subprocess.run(["chattr", f"-{letter}", place / marked], check=True)


@pytest.mark.parametrize("flag", [0x2, 0x20000])
def test_on_macos_too(place: pathlib.Path, flag: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "x").write_bytes(b"old")
    real_lstat = os.lstat

    def lstat(path: t.Any) -> t.Any:
        status = real_lstat(path)
        return types.SimpleNamespace(st_mode=status.st_mode, st_uid=status.st_uid, st_gid=status.st_gid, st_flags=flag)

    monkeypatch.setattr(os, "lstat", lstat)
    with pytest.raises(HostError, match=r"is marked immutable or append-only: run `chflags no.chg "):
        snapshot(str(place / "x"), str(place / "y"))
    monkeypatch.undo()
    assert os.listdir(place) == ["x"]


def test_a_link_planted_after_the_look_is_not_followed(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = place.parent / "secret"
    secret.write_bytes(b"secret")
    (place / "x").write_bytes(b"old")

    def swap_for_a_link(*_arguments: t.Any, **_options: t.Any) -> None:
        (place / "x").unlink()
        (place / "x").symlink_to(secret)
        raise OSError(errno.EXDEV, "")

    monkeypatch.setattr(os, "link", swap_for_a_link)
    with pytest.raises(HostError, match=f"^{place}/x cannot be read: Too many levels of symbolic links$"):
        snapshot(str(place / "x"), str(place.parent / "backups" / "0"))
    assert os.listdir(place.parent / "backups") == []


def test_kinds(place: pathlib.Path) -> None:
    for kind in KINDS:
        plant(place / kind, kind)
        assert tree_links.kind_of(str(place / kind)) == kind
    assert tree_links.kind_of(str(place / "file" / "below")) == "absent"
