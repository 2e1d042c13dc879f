# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names that change hands, with and without a system that exchanges two of them."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
import subprocess
import sys
import types
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import swap
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.file_tree import (
    remove,
    restore,
    snapshot,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.tests.unit.trees import (
    NEW,
    make_place,
    picture,
    plant,
    put,
    refusal,
)


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    return make_place(tmp_path)


def test_this_machine_exchanges_names(place: pathlib.Path) -> None:
    """Or else the tests above have tried one way twice."""
    (place / "a").mkdir()
    (place / "b").write_bytes(b"b")
    if not swap._exchange(str(place / "a"), str(place / "b")):
        pytest.skip("this file system cannot exchange two names")
    assert (place / "b").is_dir()
    assert (place / "a").read_bytes() == b"b"
    with pytest.raises(FileNotFoundError):
        swap._exchange(str(place / "a"), str(place / "none"))


def test_how_macos_exchanges_names(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def renamex_np(one: bytes, other: bytes, flags: t.Any) -> int:
        calls.append((one, other, flags.value))
        return 0

    monkeypatch.setattr(swap.ctypes, "CDLL", lambda _name, use_errno: types.SimpleNamespace(renamex_np=renamex_np))
    assert swap._exchange("/a", "/b")
    assert calls == [(b"/a", b"/b", 2)]
    monkeypatch.setattr(swap.ctypes, "CDLL", lambda _name, use_errno: types.SimpleNamespace())
    assert not swap._exchange("/a", "/b")


@pytest.mark.parametrize(
    ("number", "tolerated"), [(errno.ENOSYS, True), (errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EXDEV, True), (errno.EPERM, False)]
)
def test_a_refused_exchange(number: int, tolerated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def renameat2(*_arguments: t.Any) -> int:
        swap.ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(swap.ctypes, "CDLL", lambda _name, use_errno: types.SimpleNamespace(renameat2=renameat2))
    if tolerated:
        assert not swap._exchange("/a", "/b")
    else:
        with pytest.raises(PermissionError):
            swap._exchange("/a", "/b")


def test_without_exchange_a_refused_second_step_brings_the_old_folder_back(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(place / "x", "folder")
    before = picture(place / "x", times=True)
    real_rename = os.rename

    def rename(old: str, new: str) -> None:
        if new == str(place / "x") and not old.endswith(".old.metalfleet"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_rename(old, new)

    monkeypatch.setattr(swap, "_exchange", lambda *_paths: False)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(HostError) as caught:
        put(place, "folder")
    assert (
        str(caught.value) == f"{place}/x cannot be written: No space left on device (are space or inodes used up, as `df` and `df -i` say?)"
    )
    assert picture(place / "x", times=True) == before
    assert os.listdir(place) == ["x"]


def test_one_file_under_both_names_leaves_no_third(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rename(2) does nothing where both are links to one file."""
    path, backup = place / "x", place.parent / "backups" / "0"
    path.write_bytes(b"old")
    snapshot(str(path), str(backup))
    monkeypatch.setattr(
        "ansible_collections.metalfleet.gpustack.plugins.module_utils._node.file_tree.is_mirrored", lambda *_arguments: False
    )
    restore(str(path), str(backup), "file")
    assert os.listdir(place) == ["x"]
    swap.rename(str(backup), str(path))
    assert os.listdir(backup.parent) == []
    assert path.read_bytes() == b"old"


def test_a_file_s_only_name_is_never_removed(place: pathlib.Path) -> None:
    """On a file system that ignores case, x and X are one file with one link."""
    path = place / "x"
    path.write_bytes(b"old")
    swap.rename(str(path), str(path))
    assert path.read_bytes() == b"old"


OVERLAY = """
import os, sys
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import swap
host, top = Host(), sys.argv[1]
assert not swap._exchange(f"{top}/merged/a", f"{top}/merged/b"), "this overlay renames folders of the image"
digest = host.sha256(f"{top}/source/new")
print(host.snapshot(f"{top}/merged/a", f"{top}/merged/backup"))
host.place_folder(f"{top}/source", f"{top}/merged/a", {"new": digest}, {})
print(sorted(os.listdir(f"{top}/merged/a")))
host.restore(f"{top}/merged/a", f"{top}/merged/backup", "folder")
print(sorted(os.listdir(f"{top}/merged/a")), host.read(f"{top}/merged/a/below/two"))
host.remove(f"{top}/merged/b")
host.remove(f"{top}/merged/backup")
print(sorted(os.listdir(f"{top}/merged")))
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root mounts, and unshare has to be there")
def test_a_folder_of_a_container_s_image(tmp_path: pathlib.Path) -> None:
    """overlayfs neither exchanges nor renames the folders of its lower layer."""
    for name in ("lower", "upper", "work", "merged", "source"):
        (tmp_path / name).mkdir()
    plant(tmp_path / "lower" / "a", "folder")
    plant(tmp_path / "lower" / "b", "folder")
    (tmp_path / "source" / "new").write_bytes(NEW)
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work,redirect_dir=off"
    script = 'mount -t overlay overlay -o "$1" "$2/merged" && exec "$3" -c "$4" "$2"'
    argv = ["unshare", "-m", "sh", "-c", script, "sh", options, str(tmp_path), sys.executable, OVERLAY]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    result = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if "mount:" in result.stderr or "unshare:" in result.stderr or "renames folders" in result.stderr:
        pytest.skip(f"no such overlay here: {result.stderr.strip()}")
    assert (result.stdout.splitlines(), result.stderr) == (["folder", "['new']", "['below', 'one'] b'2'", "['a']"], "")


def test_a_folder_that_cannot_be_moved_aside_comes_back_when_it_cannot_be_emptied(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(place / "x", "folder")
    before = picture(place / "x")
    real_rename, real_rmtree = os.rename, shutil.rmtree

    def rename(old: str, new: str) -> None:
        if old == str(place / "x"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real_rename(old, new)

    def rmtree(path: str, ignore_errors: bool = False) -> None:
        if path == str(place / "x") and not ignore_errors:
            (place / "x" / "one").unlink()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real_rmtree(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(swap, "_exchange", lambda *_paths: False)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    with pytest.raises(HostError) as caught:
        put(place, "folder")
    assert str(caught.value) == f"{place}/x cannot be written: Input/output error"
    assert picture(place / "x") == before
    assert os.listdir(place) == ["x"]


def test_a_folder_that_cannot_be_renamed_is_removed_all_the_same(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(place / "x", "folder")
    monkeypatch.setattr(os, "rename", refusal(errno.EXDEV))
    remove(str(place / "x"))
    assert os.listdir(place) == []


def test_nobody_finds_half_a_folder(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real_rmtree = shutil.rmtree

    def rmtree(path: str, **options: t.Any) -> None:
        seen.append(os.path.lexists(place / "x"))
        real_rmtree(path, **options)

    plant(place / "x", "folder")
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    remove(str(place / "x"))
    assert seen == [False]


def test_what_is_left_of_a_folder_is_said(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rmtree(path: str, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    plant(place / "x", "folder")
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    with pytest.raises(HostError) as caught:
        remove(str(place / "x"))
    left = f"{place}/.x.{os.getpid()}.metalfleet"
    assert str(caught.value) == f"{place}/x was removed, but not what is left of it in {left}: Input/output error"
