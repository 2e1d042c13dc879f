# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host in memory does what the real one does, so that a test that passes on the first says something about the second."""

from __future__ import annotations

import hashlib
import pathlib
import re
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost

NEW = b"new"
DIGEST = hashlib.sha256(NEW).hexdigest()


class Ground:
    """A host and a folder of it, the same on both kinds."""

    def __init__(self, host: t.Any, base: str) -> None:
        self.host = host
        self.base = base
        for folder in ("full", "empty", "source", "backups"):
            host.make_folder(f"{base}/{folder}", 0o755)
        host.write(f"{base}/file", b"old", 0o640)
        host.write(f"{base}/full/file", b"below", 0o600)
        host.write(f"{base}/source/new", NEW, 0o644)
        host.place_link(f"{base}/link", "file")
        host.place_link(f"{base}/dangling", "none")

    def at(self, name: str) -> str:
        return f"{self.base}/{name}"

    def refusal(self, method: str, *arguments: t.Any) -> str:
        with pytest.raises(HostError) as caught:
            getattr(self.host, method)(*arguments)
        # What a real host says may be wrong with it is not for tests.
        return re.sub(r" \(is .*\?\)$", "", str(caught.value)).replace(self.base, "")

    def picture(self, name: str = "") -> t.Any:
        path = f"{self.base}/{name}".rstrip("/")
        status = self.host.status(path)
        if status is None:
            return None
        if status.is_directory:
            return (status.mode, {below: self.picture(f"{name}/{below}".lstrip("/")) for below in self.host.names(path)})
        if status.is_symlink:
            return self.host.link_target(path)
        return (status.mode, self.host.read(path))


@pytest.fixture(params=["real", "memory"])
def ground(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Ground:
    if request.param == "real":
        return Ground(Host(), str(tmp_path))
    return Ground(MemoryHost(files={"/base/.planted": MemoryFile()}), "/base")


def test_where_nothing_is(ground: Ground) -> None:
    host, none = ground.host, ground.at("none")
    assert (host.status(none), host.read(none), host.sha256(none), host.names(none)) == (None, None, None, [])
    assert (host.names(ground.at("file")), host.read(ground.at("file/below")), host.status(ground.at("file/below"))) == ([], None, None)
    host.remove(none)
    assert host.snapshot(none, ground.at("backups/0")) == "absent"
    host.restore(none, ground.at("backups/0"), "absent")
    assert ground.refusal("open_binary", none) == "/none does not exist"
    assert ground.refusal("link_target", ground.at("file")) == "/file cannot be examined: Invalid argument"


def test_what_is_no_file_is_not_read(ground: Ground) -> None:
    for method in ("read", "sha256", "open_binary"):
        assert ground.refusal(method, ground.at("full")) == "/full is not a regular file"


def test_make_folder(ground: Ground) -> None:
    ground.host.make_folder(ground.at("a/b/c"), 0o700)
    assert ground.picture("a") == (0o755, {"b": (0o755, {"c": (0o700, {})})})
    ground.host.make_folder(ground.at("a/b"), 0o700)
    assert ground.host.status(ground.at("a/b")).mode == 0o755
    for name in ("file", "file/below", "file/below/further"):
        assert ground.refusal("make_folder", ground.at(name), 0o755) == "the folder /file cannot be made: File exists"
    assert ground.refusal("make_folder", ground.at("dangling"), 0o755) == "the folder /dangling cannot be made: File exists"


@pytest.mark.parametrize("name", ["file", "full", "link", "dangling", "empty"])
def test_remove(ground: Ground, name: str) -> None:
    before = ground.picture()[1]
    ground.host.remove(ground.at(name))
    del before[name]
    assert ground.picture()[1] == before


def test_what_dead_runs_left_beside_a_path_goes(ground: Ground) -> None:
    before = ground.picture()
    host = ground.host
    for name in (".file.99999999999.metalfleet", ".full.99999999999.old.metalfleet"):
        host.write(ground.at(name), b"half", 0o600)
    host.make_folder(ground.at(".none.99999999999.metalfleet/below"), 0o700)
    for name in ("file", "full", "none"):
        host.remove_leftovers(ground.at(name))
    assert ground.picture() == before
    host.remove_leftovers(ground.at("no/folder"))


def test_rename(ground: Ground) -> None:
    host = ground.host
    host.rename(ground.at("file"), ground.at("other"))
    assert (ground.picture("file"), ground.picture("other")) == (None, (0o640, b"old"))
    host.rename(ground.at("source/new"), ground.at("other"))
    assert ground.picture("other") == (0o644, NEW)
    host.rename(ground.at("other"), ground.at("other"))
    assert ground.picture("other") == (0o644, NEW)
    host.rename(ground.at("full"), ground.at("empty"))
    assert (ground.picture("full"), ground.picture("empty")) == (None, (0o755, {"file": (0o600, b"below")}))
    host.rename(ground.at("link"), ground.at("dangling"))
    assert (ground.picture("link"), ground.picture("dangling")) == (None, "file")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("none", "x", "No such file or directory"),
        ("file", "none/x", "No such file or directory"),
        ("file", "empty", "Is a directory"),
        ("full", "file", "Not a directory"),
        ("empty", "full", "Directory not empty"),
    ],
)
def test_a_refused_rename(ground: Ground, old: str, new: str, words: str) -> None:
    before = ground.picture()
    assert ground.refusal("rename", ground.at(old), ground.at(new)) == f"/{old} cannot be renamed to /{new}: {words}"
    assert ground.picture() == before


def test_create(ground: Ground) -> None:
    ground.host.create(ground.at("x"), [b"a", b"b"], 0o604)
    assert ground.picture("x") == (0o604, b"ab")
    with ground.host.open_binary(ground.at("x")) as file:
        assert (file.read(1), file.seek(0), file.read()) == (b"a", 0, b"ab")
    for name in ("x", "full", "link", "dangling"):
        assert ground.refusal("create", ground.at(name), [b"c"], 0o600) == f"/{name} cannot be written: File exists"
    assert ground.refusal("create", ground.at("none/x"), [b"c"], 0o600) == "/none/x cannot be written: No such file or directory"
    assert ground.picture("x") == (0o604, b"ab")


def test_what_the_pieces_raise(ground: Ground) -> None:
    def pieces() -> t.Iterator[bytes]:
        yield b"a"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ground.host.create(ground.at("x"), pieces(), 0o600)
    assert ground.picture("x") is None
    with pytest.raises(ZeroDivisionError):
        ground.host.append(ground.at("x"), pieces(), 0o600)
    assert ground.picture("x") == (0o600, b"a")


def test_append(ground: Ground) -> None:
    ground.host.append(ground.at("x"), [b"a", b"b"], 0o604)
    ground.host.append(ground.at("x"), [], 0o600)
    ground.host.append(ground.at("x"), [b"c"], 0o600)
    assert ground.picture("x") == (0o604, b"abc")
    ground.host.append(ground.at("y"), [], 0o600)
    assert ground.picture("y") == (0o600, b"")
    assert ground.refusal("append", ground.at("full"), [b"c"], 0o600) == "/full cannot be written: Is a directory"
    assert ground.refusal("append", ground.at("link"), [b"c"], 0o600) == "/link cannot be written: Too many levels of symbolic links"
    assert ground.refusal("append", ground.at("none/x"), [b"c"], 0o600) == "/none/x cannot be written: No such file or directory"


@pytest.mark.parametrize("name", ["full", "link", "dangling"])
def test_write_replaces_files_only(ground: Ground, name: str) -> None:
    before = ground.picture()
    assert ground.refusal("write", ground.at(name), b"x", 0o600) == f"/{name} is not a regular file and is not replaced"
    assert ground.refusal("write", ground.at("none/x"), b"x", 0o600) == "/none/x cannot be written: No such file or directory"
    assert ground.picture() == before


@pytest.mark.parametrize("name", ["x", "file", "full", "link"])
def test_placing(ground: Ground, name: str) -> None:
    path, source = ground.at(name), ground.at("source")
    ground.host.place_file(f"{source}/new", path, 0o711, DIGEST)
    assert ground.picture(name) == (0o711, NEW)
    ground.host.place_folder(source, path, {"new": DIGEST}, {"alias": "new"})
    assert ground.picture(name) == (0o755, {"alias": "new", "new": (0o755, NEW)})
    ground.host.place_link(path, "else/where")
    assert ground.picture(name) == "else/where"
    ground.host.place_folder(source, path, {}, {})
    assert ground.picture(name) == (0o755, {})


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("place_file", ("{}/source/none", "{}/file", 0o755, DIGEST), "/source/none does not exist"),
        ("place_file", ("{}/full", "{}/file", 0o755, DIGEST), "/full is not a regular file"),
        ("place_file", ("{}/source/new", "{}/none/x", 0o755, DIGEST), "/none/x cannot be written: No such file or directory"),
        (
            "place_file",
            ("{}/source/new", "{}/file", 0o755, "0" * 64),
            f"/source/new has the sha256 {DIGEST} and not {'0' * 64}: it was changed or is damaged, remove it and run again",
        ),
        (
            "place_folder",
            ("{}/source", "{}/full", {"new": "0" * 64}, {}),
            f"/source/new has the sha256 {DIGEST} and not {'0' * 64}: it was changed or is damaged, remove it and run again",
        ),
        ("place_folder", ("{}/source", "{}/full", {"none": DIGEST}, {}), "/source/none does not exist"),
        ("place_folder", ("{}/source", "{}/none/x", {}, {}), "/none/x cannot be written: No such file or directory"),
        ("place_folder", ("{}/source", "{}/x", {"a/b": DIGEST}, {}), "/x cannot be written: 'a/b' is not the name of a file in a folder"),
        ("place_folder", ("{}/source", "{}/x", {}, {"..": "new"}), "/x cannot be written: '..' is not the name of a file in a folder"),
        ("place_link", ("{}/none/x", "new"), "/none/x cannot be written: No such file or directory"),
        ("snapshot", ("{}/file", "{}/none/0"), "/file cannot be remembered in /none/0: No such file or directory"),
        ("snapshot", ("{}/file", "{}/full"), "/file cannot be remembered in /full: something is there"),
        ("restore", ("{}/file", "{}/none", "file"), "/file cannot be put back: /none, where it was remembered, is gone"),
        ("restore", ("{}/file", "{}/full", "link"), "/file cannot be put back: /full, where it was remembered, is gone"),
        ("restore", ("{}/none/x", "{}/file", "file"), "/none/x cannot be put back: No such file or directory"),
        ("free_bytes", ("{}/none",), "/none cannot be examined: No such file or directory"),
    ],
)
def test_what_is_refused_changes_nothing(ground: Ground, method: str, arguments: t.Tuple[t.Any, ...], words: str) -> None:
    before = ground.picture()
    there = [argument.format(ground.base) if isinstance(argument, str) else argument for argument in arguments]
    assert ground.refusal(method, *there) == words
    assert ground.picture() == before


@pytest.mark.parametrize("name", ["x", "file", "full", "link"])
def test_remembering_and_putting_back(ground: Ground, name: str) -> None:
    host, path, backup = ground.host, ground.at(name), ground.at("backups/0")
    before, inode = ground.picture(name), (host.status(path) or host.status(ground.base)).inode
    kind = host.snapshot(path, backup)
    assert kind == {"x": "absent", "file": "file", "full": "folder", "link": "link"}[name]
    assert ground.picture("backups/0") == before
    host.restore(path, backup, kind)
    assert ground.picture(name) == before
    for change in ("file", "folder", "link", "absent"):
        if change == "file":
            host.place_file(ground.at("source/new"), path, 0o755, DIGEST)
            host.write(path, b"newer", 0o600)
        elif change == "folder":
            host.place_folder(ground.at("source"), path, {"new": DIGEST}, {})
        elif change == "link":
            host.place_link(path, "new")
        else:
            host.remove(path)
        assert ground.picture("backups/0") == before
        for _time in range(2):
            host.restore(path, backup, kind)
            assert ground.picture(name) == before
    if kind == "file":
        assert host.status(path).inode == inode
    host.remove(backup)
    assert ground.picture(name) == before


def test_room(ground: Ground) -> None:
    assert ground.host.free_bytes(ground.base) > 0


def test_a_lock(ground: Ground) -> None:
    path = ground.at("lock")
    with ground.host.lock(path, "us since noon", 0.0):
        assert ground.host.read(path) == b"us since noon"
        with pytest.raises(HostError) as caught, ground.host.lock(path, "them", 0.0):
            pass
        assert str(caught.value) == "another run works on this node: us since noon; wait until it has ended, and run again"
    with ground.host.lock(path, "them", 0.0):
        assert ground.host.read(path) == b"them"
    with pytest.raises(HostError) as caught, ground.host.lock(ground.at("none/lock"), "us", 0.0):
        pass
    assert str(caught.value).replace(ground.base, "") == "/none/lock cannot be locked: No such file or directory"
