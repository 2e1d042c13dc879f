# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Placing, removing and making folders, on a real file system."""

from __future__ import annotations

import errno
import hashlib
import os
import pathlib
import stat

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import file_tree, swap
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.file_tree import (
    make_folder,
    place_file,
    place_folder,
    remove,
    restore,
    snapshot,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.tests.unit.trees import (
    KINDS,
    NEW_DIGEST,
    is_new,
    make_place,
    picture,
    plant,
    put,
    refusal,
    source_of,
)


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    return make_place(tmp_path)


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("new", KINDS)
@pytest.mark.parametrize("old", KINDS)
def test_everything_takes_the_place_of_everything_and_back(
    place: pathlib.Path, old: str, new: str, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(swap, "_exchange", lambda *_paths: False)
    path, backup = place / "x", place.parent / "backups" / "0"
    plant(path, old)
    before = picture(path, times=True)
    assert snapshot(str(path), str(backup)) == old
    assert picture(path, times=True) == before
    umask = os.umask(0o077)
    try:
        put(place, new)
    finally:
        os.umask(umask)
    assert is_new(place, new)
    assert os.listdir(place) == ([] if new == "absent" else ["x"])
    for _time in range(2):
        restore(str(path), str(backup), old)
        assert picture(path, times=True) == before
        assert os.listdir(place) == ([] if old == "absent" else ["x"])


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_planted_link_is_not_followed(place: pathlib.Path, kind: str) -> None:
    victim = place.parent / "victim"
    victim.write_bytes(b"safe")
    (place / f".x.{os.getpid()}.metalfleet").symlink_to(victim)
    (place / "x").symlink_to(victim)
    put(place, kind)
    assert is_new(place, kind)
    assert victim.read_bytes() == b"safe"
    assert os.listdir(place) == ["x"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_source_with_another_digest_changes_nothing(place: pathlib.Path, kind: str) -> None:
    plant(place / "x", "folder")
    before = picture(place / "x")
    source = place.parent / "source" / "new"
    source.write_bytes(b"damaged")
    found = hashlib.sha256(b"damaged").hexdigest()
    with pytest.raises(HostError) as caught:
        put(place, kind)
    assert str(caught.value) == (
        f"{source} has the sha256 {found} and not {NEW_DIGEST}: it was changed or is damaged, remove it and run again"
    )
    assert picture(place / "x") == before
    assert os.listdir(place) == ["x"]


@pytest.mark.parametrize(
    ("there", "words"), [("absent", "does not exist"), ("folder", "is not a regular file"), ("fifo", "is not a regular file")]
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_source_that_is_none(place: pathlib.Path, kind: str, there: str, words: str) -> None:
    source = place.parent / "source" / "new"
    source.unlink()
    if there == "fifo":
        os.mkfifo(source)
    else:
        plant(source, there)
    with pytest.raises(HostError) as caught:
        put(place, kind)
    assert str(caught.value) == f"{source} {words}"
    assert os.listdir(place) == []


def test_a_source_that_is_a_link(place: pathlib.Path) -> None:
    (place.parent / "source" / "new").rename(place.parent / "source" / "real")
    (place.parent / "source" / "new").symlink_to("real")
    put(place, "file")
    assert is_new(place, "file")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that opens and cannot be read")
def test_a_source_that_cannot_be_read_is_named(place: pathlib.Path) -> None:
    with pytest.raises(HostError, match=r"^/proc/self/mem cannot be read: Input/output error$"):
        place_file("/proc/self/mem", str(place / "x"), 0o755, NEW_DIGEST)
    assert os.listdir(place) == []


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "", ".", ".."])
def test_names_that_lead_out_of_a_folder(place: pathlib.Path, name: str) -> None:
    for files, links in (({name: NEW_DIGEST}, {}), ({}, {name: "new"})):
        with pytest.raises(HostError) as caught:
            place_folder(source_of(place), str(place / "x"), files, links)
        assert str(caught.value) == f"{place}/x cannot be written: {name!r} is not the name of a file in a folder"
    assert os.listdir(place) == []


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_no_folder_to_place_it_in(place: pathlib.Path, kind: str) -> None:
    place.rmdir()
    with pytest.raises(HostError) as caught:
        put(place, kind)
    assert str(caught.value) == f"{place}/x cannot be written: No such file or directory"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EACCES, "Permission denied"),
        (errno.EPERM, "Operation not permitted (is it marked immutable, or protected by macOS?)"),
        (errno.ENOSPC, "No space left on device (are space or inodes used up, as `df` and `df -i` say?)"),
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_refusal_says_where_and_what_to_do(
    place: pathlib.Path, kind: str, number: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "rename", refusal(number))
    with pytest.raises(HostError) as caught:
        put(place, kind)
    assert str(caught.value) == f"{place}/x cannot be written: {text}"
    assert os.listdir(place) == []


def test_a_device_is_neither_replaced_nor_removed_nor_remembered(place: pathlib.Path) -> None:
    os.mkfifo(place / "x")
    (place.parent / "source" / "new").unlink()
    for kind in KINDS:
        with pytest.raises(HostError) as caught:
            put(place, kind)
        assert str(caught.value) == f"{place}/x is neither a file nor a folder and is not replaced"
    with pytest.raises(HostError, match=r"/x is neither a file nor a folder and is not replaced$"):
        snapshot(str(place), str(place.parent / "backups" / "0"))
    assert os.listdir(place.parent / "backups") == []
    assert os.listdir(place) == ["x"]


def test_what_cannot_be_looked_at(place: pathlib.Path) -> None:
    with pytest.raises(HostError, match=r"cannot be examined: File name too long$"):
        remove(str(place / ("x" * 300)))


def test_remove(place: pathlib.Path) -> None:
    plant(place / "kept", "folder")
    (place / "link").symlink_to("kept")
    for name in ("link", "none", "kept/none", "kept/one/none"):
        remove(str(place / name))
    assert os.listdir(place) == ["kept"]
    assert (place / "kept" / "one").read_bytes() == b"1"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_cannot_be_removed(place: pathlib.Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(place / "x", kind)
    before = picture(place / "x")
    monkeypatch.setattr(os, "rename", refusal(errno.EBUSY))
    monkeypatch.setattr(os, "unlink", refusal(errno.EBUSY))
    with pytest.raises(HostError) as caught:
        remove(str(place / "x"))
    assert str(caught.value) == f"{place}/x cannot be removed: Device or resource busy"
    assert picture(place / "x") == before


@pytest.mark.parametrize("call", ["unlink", "rename"])
def test_what_goes_while_we_look_is_gone(place: pathlib.Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(place / "x", "file" if call == "unlink" else "folder")
    monkeypatch.setattr(os, call, refusal(errno.ENOENT))
    remove(str(place / "x"))


def test_make_folder(place: pathlib.Path) -> None:
    umask = os.umask(0o077)
    try:
        make_folder(str(place / "a" / "b" / "c"), 0o700)
        make_folder(str(place / "a" / "d"), 0o755)
    finally:
        os.umask(umask)
    assert [stat.S_IMODE((place / name).stat().st_mode) for name in ("a", "a/b", "a/b/c", "a/d")] == [0o755, 0o755, 0o700, 0o755]
    umask = os.umask(0)
    try:
        make_folder(str(place / "e" / "f" / "g"), 0o700)
    finally:
        os.umask(umask)
    assert [stat.S_IMODE((place / name).stat().st_mode) for name in ("e", "e/f", "e/f/g")] == [0o755, 0o755, 0o700]
    make_folder(str(place / "a"), 0o700)
    assert stat.S_IMODE((place / "a").stat().st_mode) == 0o755
    (place / "link").symlink_to("a")
    make_folder(str(place / "link"), 0o700)
    make_folder(str(place / "link" / "h"), 0o700)
    assert (place / "a" / "h").is_dir()


@pytest.mark.parametrize("there", ["file", "link"])
def test_no_folder_can_be_made_of_a_file(place: pathlib.Path, there: str) -> None:
    plant(place / "x", there)
    for path in (place / "x", place / "x" / "y", place / "x" / "y" / "z"):
        with pytest.raises(HostError) as caught:
            make_folder(str(path), 0o755)
        assert str(caught.value) == f"the folder {place}/x cannot be made: File exists"


def test_two_runs_make_one_folder(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_mkdir = os.mkdir

    def mkdir(path: str, mode: int) -> None:
        real_mkdir(path, mode)
        real_mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    make_folder(str(place / "x"), 0o755)
    assert (place / "x").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("old", [True, False])
def test_what_is_placed_belongs_to_whom_the_old_one_belonged_to_or_to_the_owner_of_the_folder(tmp_path: pathlib.Path, old: bool) -> None:
    source, home = tmp_path / "source", tmp_path / "home"
    source.mkdir()
    home.mkdir()
    os.chown(home, 1001, 1002)
    (source / "program").write_bytes(b"new")
    digest = hashlib.sha256(b"new").hexdigest()
    expected = (1001, 1002)
    if old:
        expected = (1003, 1004)
        (home / "file").write_bytes(b"old")
        (home / "folder").mkdir()
        (home / "link").symlink_to("nowhere")
        for name in ("file", "folder", "link"):
            os.chown(home / name, *expected, follow_symlinks=False)
    file_tree.place_file(str(source / "program"), str(home / "file"), 0o755, digest)
    file_tree.place_folder(str(source), str(home / "folder"), {"program": digest}, {"alias": "program"})
    file_tree.place_link(str(home / "link"), "file")
    for name in ("file", "folder", "folder/program", "folder/alias", "link"):
        status = os.lstat(home / name)
        assert (status.st_uid, status.st_gid) == expected, name
