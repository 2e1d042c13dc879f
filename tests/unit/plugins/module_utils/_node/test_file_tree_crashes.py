# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever call fails, and wherever a process dies: a path is wholly old or wholly new, and what was remembered comes back."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pathlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import swap
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import (
    PlaceFile,
    PlaceFolder,
    PlaceLink,
    RemovePath,
    WriteFile,
    undo,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.tests.unit.trees import NEW, NEW_DIGEST, picture, plant

HOST = Host()
# All that changes a file system or sees it to the disk.
CALLS = ["open", "link", "rename", "fsync", "mkdir", "symlink", "unlink", "rmdir", "fchmod", "fchown", "chown", "utime"]
KINDS = ["absent", "file", "folder", "link"]
ACTIONS = ["place_file", "place_folder", "place_link", "remove", "write"]
DIED = 99


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody cuts the power here, and thousands of real flushes take a minute."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@contextlib.contextmanager
def disturbed(monkeypatch: pytest.MonkeyPatch, number: int, act: t.Callable[[], None]) -> t.Iterator[t.List[str]]:
    """Do something instead of the n-th call, counted from 1; the list says which calls there were."""
    calls: t.List[str] = []

    def disturb(name: str, real: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def call(*arguments: t.Any, **options: t.Any) -> t.Any:
            calls.append(name)
            if len(calls) == number:
                act()
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, disturb(name, getattr(os, name)))
        patch.setattr(swap, "_exchange", disturb("exchange", swap._exchange))
        yield calls


def fail() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def die() -> None:
    os._exit(DIED)


class Ground:
    """A folder with the path x, and beside it what it is made of and where it is remembered."""

    def __init__(self, folder: pathlib.Path, old: str) -> None:
        self.folder = folder / "place"
        self.source = folder / "source"
        for made in (self.folder, self.source, folder / "backups"):
            made.mkdir(parents=True)
        self.path = self.folder / "x"
        self.backup = folder / "backups" / "0"
        (self.source / "new").write_bytes(NEW)
        plant(self.path, old)
        self.old = picture(self.path, times=True)

    def step(self, action: str) -> t.Any:
        path, source = str(self.path), str(self.source)
        return {
            "place_file": PlaceFile(path, f"{source}/new", NEW_DIGEST),
            "place_folder": PlaceFolder(path, source, {"new": NEW_DIGEST}, {"alias": "new"}),
            "place_link": PlaceLink(path, "new/target"),
            "remove": RemovePath(path),
            "write": WriteFile(path, NEW),
        }[action]

    def is_old(self) -> bool:
        return bool(picture(self.path, times=True) == self.old)

    def is_new(self, action: str) -> bool:
        if action == "remove":
            return not os.path.lexists(self.path)
        if action == "place_link":
            return self.path.is_symlink() and os.readlink(self.path) == "new/target"
        if action == "place_folder":
            whole = not self.path.is_symlink() and self.path.is_dir() and sorted(os.listdir(self.path)) == ["alias", "new"]
            return whole and (self.path / "new").read_bytes() == NEW
        return self.path.is_file() and not self.path.is_symlink() and self.path.read_bytes() == NEW

    def names(self) -> t.List[str]:
        return sorted(os.listdir(self.folder))


CASES = [
    (old, action)
    for old in KINDS
    for action in ACTIONS
    # Files are written in the place of files only, and to remove nothing takes no call.
    if (action != "write" or old in ("absent", "file")) and (old, action) != ("absent", "remove")
]
WITH_FOLDERS = [case for case in CASES if "folder" in "".join(case)]


@pytest.mark.parametrize(("old", "action", "exchange"), [*((*case, True) for case in CASES), *((*case, False) for case in WITH_FOLDERS)])
def test_a_step_whose_nth_call_fails(
    tmp_path: pathlib.Path, old: str, action: str, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(swap, "_exchange", lambda *_paths: False)
    for number in range(1, 200):
        ground = Ground(tmp_path / str(number), old)
        step = ground.step(action)
        record = step.save(HOST, str(ground.backup))
        with disturbed(monkeypatch, number, fail) as calls:
            try:
                step.apply(HOST)
            except HostError as exc:
                failure: t.Optional[HostError] = exc
            else:
                failure = None
        assert ground.is_old() or ground.is_new(action), (number, calls)
        # What is only tidying may fail without a word.
        assert failure is not None or ground.is_new(action)
        undo(HOST, record)
        assert ground.is_old(), (number, calls)
        assert ground.names() == ([] if old == "absent" else ["x"]), (number, calls)
        if len(calls) < number:
            assert number > 1
            return
    raise AssertionError("it never ends")


@pytest.mark.parametrize(("old", "action"), CASES)
def test_a_step_cut_off_before_its_nth_call(tmp_path: pathlib.Path, old: str, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a step is made of such calls, this is every moment at which a process can be killed."""
    for number in range(1, 200):
        ground = Ground(tmp_path / str(number), old)
        step = ground.step(action)
        record = step.save(HOST, str(ground.backup))
        died = in_a_process_that_dies(monkeypatch, number, functools.partial(step.apply, HOST))
        assert ground.is_old() or ground.is_new(action), number
        undo(HOST, record)
        assert ground.is_old(), number
        assert ground.names() == ([] if old == "absent" else ["x"]), number
        if not died:
            assert number > 1
            return
    raise AssertionError("it never ends")


@pytest.mark.parametrize("action", ["place_file", "place_folder"])
def test_without_exchange_a_folder_is_gone_at_worst_and_comes_back(
    tmp_path: pathlib.Path, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "_exchange", lambda *_paths: False)
    gone = 0
    for number in range(1, 200):
        ground = Ground(tmp_path / str(number), "folder")
        step = ground.step(action)
        record = step.save(HOST, str(ground.backup))
        died = in_a_process_that_dies(monkeypatch, number, functools.partial(step.apply, HOST))
        gone += not os.path.lexists(ground.path)
        assert ground.is_old() or ground.is_new(action) or not os.path.lexists(ground.path), number
        undo(HOST, record)
        assert ground.is_old(), number
        assert ground.names() == ["x"], number
        if not died:
            assert gone == 1
            return
    raise AssertionError("it never ends")


@pytest.mark.parametrize("copies", [False, True], ids=["links", "copies"])
@pytest.mark.parametrize("old", ["file", "folder", "link"])
def test_a_snapshot_whose_nth_call_fails(tmp_path: pathlib.Path, old: str, copies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if copies:
        monkeypatch.setattr(os, "link", no_links)
    for number in range(1, 200):
        ground = Ground(tmp_path / str(number), old)
        with disturbed(monkeypatch, number, fail) as calls:
            failure = ""
            try:
                HOST.snapshot(str(ground.path), str(ground.backup))
            except HostError as exc:
                failure = str(exc)
        if failure:
            assert failure.startswith(str(ground.path)), calls
            assert not os.path.lexists(ground.backup), calls
        else:
            # Only looking at the marks of a file may fail without a word.
            assert len(calls) < number or calls[number - 1] == "open", calls
        assert ground.is_old()
        if len(calls) < number:
            return
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("old", "new", "exchange"),
    [
        ("absent", "place_folder", True),
        ("file", "place_file", True),
        ("file", "place_folder", False),
        ("file", "remove", True),
        ("folder", "place_file", False),
        ("folder", "place_folder", True),
        ("folder", "place_folder", False),
        ("link", "place_folder", True),
    ],
)
def test_an_undo_whose_nth_call_fails_or_is_its_last(
    tmp_path: pathlib.Path, old: str, new: str, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(swap, "_exchange", lambda *_paths: False)
    for number in range(1, 200):
        ended = 0
        for end in (fail, die):
            ground = Ground(tmp_path / f"{number}-{end.__name__}", old)
            step = ground.step(new)
            record = step.save(HOST, str(ground.backup))
            step.apply(HOST)
            if end is fail:
                with disturbed(monkeypatch, number, fail) as calls, contextlib.suppress(HostError):
                    undo(HOST, record)
                ended += len(calls) < number
            else:
                ended += not in_a_process_that_dies(monkeypatch, number, functools.partial(undo, HOST, record))
            absent = not exchange and end is die and not os.path.lexists(ground.path)
            assert ground.is_old() or ground.is_new(new) or absent, (number, end)
            undo(HOST, record)
            assert ground.is_old(), (number, end)
            assert ground.names() == ([] if old == "absent" else ["x"]), (number, end)
        if ended:
            assert ended == 2
            return
    raise AssertionError("it never ends")


def in_a_process_that_dies(monkeypatch: pytest.MonkeyPatch, number: int, act: t.Callable[[], None]) -> bool:
    """Whether it came to the n-th call, and died there."""
    child = os.fork()
    if child == 0:
        try:
            with disturbed(monkeypatch, number, die):
                act()
        finally:
            os._exit(0)
    _pid, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) == DIED


def no_links(*_arguments: t.Any, **_options: t.Any) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
