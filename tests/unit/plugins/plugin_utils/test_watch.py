# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pathlib
import threading
import types
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_options import PROGRESS_FILE, Progress
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils import watch
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.watch import run_and_show, show_lines

MODULE = "metalfleet.gpustack.models"


class Display:
    """What is shown, and what somebody waits for to be shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.changed = threading.Condition()

    def display(self, line: str) -> None:
        with self.changed:
            self.lines.append(line)
            self.changed.notify_all()

    def wait_for(self, *lines: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.lines == list(lines), 10), self.lines


class Action:
    """What an action plugin offers, with a module that does as told while it runs."""

    def __init__(self, folder: pathlib.Path, transport: str = "local", become: bool = False, tmpdir: str | None = None) -> None:
        self.folder = folder
        self._connection = types.SimpleNamespace(transport=transport, _shell=types.SimpleNamespace(tmpdir=tmpdir))
        self._play_context = types.SimpleNamespace(become=become)
        self.made = 0
        self.runs: list[tuple[str, t.Any]] = []
        self.module: t.Callable[[Progress], dict[str, t.Any]] = lambda _say: {"changed": False}

    def _make_tmp_path(self) -> None:
        self.made += 1
        self._connection._shell.tmpdir = str(self.folder)

    def _execute_module(self, module_name: str, task_vars: t.Any = None) -> dict[str, t.Any]:
        self.runs.append((module_name, task_vars))
        return self.module(Progress(self._connection._shell.tmpdir or str(self.folder)))


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Display:
    shown = Display()
    monkeypatch.setattr(watch, "Display", lambda: shown)
    monkeypatch.setattr(watch, "_POLL_SECONDS", 0.01)
    return shown


HOST = {"inventory_hostname": "server-1"}


def test_lines_are_shown_while_the_module_runs(tmp_path: pathlib.Path, display: Display) -> None:
    action = Action(tmp_path)

    def module(say: Progress) -> dict[str, t.Any]:
        display.wait_for()
        say("chat: created")
        display.wait_for("chat: created")
        say("chat: 0 of 1 running, chat-a downloading 34.2 % on ünit")
        say("chat: 1 of 1 running")
        display.wait_for(*say.lines)
        return {"changed": True, "progress": say.lines}

    action.module = module
    assert run_and_show(action, MODULE, HOST) == {"changed": True, "progress": display.lines}
    assert (action.runs, action.made, len(display.lines)) == ([(MODULE, HOST)], 1, 3)


def test_a_temporary_folder_that_is_there_is_used(tmp_path: pathlib.Path, display: Display) -> None:
    action = Action(tmp_path, tmpdir=str(tmp_path))
    action.module = lambda say: say("a line") or {"changed": True}
    run_and_show(action, MODULE, HOST)
    assert (action.made, display.lines) == (0, ["a line"])


def test_what_is_said_at_the_end_is_shown(tmp_path: pathlib.Path, display: Display, monkeypatch: pytest.MonkeyPatch) -> None:
    # However long the pauses are.
    monkeypatch.setattr(watch, "_POLL_SECONDS", 60.0)
    action = Action(tmp_path)
    action.module = lambda say: say("a line") or {}
    run_and_show(action, MODULE, {})
    assert display.lines == ["a line"]


def test_a_module_that_says_nothing(tmp_path: pathlib.Path, display: Display) -> None:
    action = Action(tmp_path)
    assert run_and_show(action, MODULE, HOST) == {"changed": False}
    assert (display.lines, os.listdir(tmp_path)) == ([], [])


def test_a_module_that_breaks_leaves_no_reader_behind(tmp_path: pathlib.Path, display: Display) -> None:
    action = Action(tmp_path)

    def module(say: Progress) -> dict[str, t.Any]:
        say("a line")
        raise OSError("the connection broke")

    action.module = module
    before = threading.active_count()
    with pytest.raises(OSError, match="the connection broke"):
        run_and_show(action, MODULE, HOST)
    assert (display.lines, threading.active_count()) == (["a line"], before)


@pytest.mark.parametrize("options", [{"transport": "ssh"}, {"become": True}])
def test_elsewhere_the_module_is_run_as_usual(tmp_path: pathlib.Path, display: Display, options: dict[str, t.Any]) -> None:
    action = Action(tmp_path, **options)
    action.module = lambda say: say("a line") or {"changed": True}
    assert run_and_show(action, MODULE, HOST) == {"changed": True}
    # Whose folder would not be ours to read.
    assert (action.runs, action.made, display.lines) == ([(MODULE, HOST)], 0, [])


def test_half_a_line_is_shown_when_it_is_whole(tmp_path: pathlib.Path) -> None:
    path, ended, shown = tmp_path / PROGRESS_FILE, threading.Event(), list[str]()
    ended.set()
    for content, lines in (("one\ntw", ["one"]), ("o\nthree\r\n", ["one"])):
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(content)
        shown.clear()
        show_lines(str(path), ended, shown.append)
        assert shown[:1] == lines
    assert shown == ["one", "two", "three"]


def test_letters_that_are_none_are_no_error(tmp_path: pathlib.Path) -> None:
    path, ended, shown = tmp_path / PROGRESS_FILE, threading.Event(), list[str]()
    path.write_bytes(b"a\xff\n")
    ended.set()
    show_lines(str(path), ended, shown.append)
    assert shown == ["a\ufffd"]
