# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The actions model and models, which differ in the module that they run."""

from __future__ import annotations

import pathlib
import types
import typing as t

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.metalfleet.gpustack.plugins.action import model, models
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_options import PROGRESS_FILE
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils import watch

MODULES = {"metalfleet.gpustack.model": model, "metalfleet.gpustack.models": models}


def action(module: types.ModuleType, folder: pathlib.Path, **task: t.Any) -> t.Any:
    """The action plugin on the controller, with a module that writes a line."""

    class Action(module.ActionModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            options = {"args": {"name": "chat"}, "async_val": 0, "check_mode": False, "action": "model"}
            self._task = types.SimpleNamespace(**{**options, **task})
            self._play_context = types.SimpleNamespace(become=False)
            self._connection = types.SimpleNamespace(transport="local", _shell=types.SimpleNamespace(tmpdir=None))
            self.runs: list[tuple[str, t.Any]] = []

        def _make_tmp_path(self, remote_user: str | None = None) -> str:
            self._connection._shell.tmpdir = str(folder)
            return str(folder)

        def _execute_module(self, module_name: str, task_vars: t.Any = None) -> dict[str, t.Any]:
            self.runs.append((module_name, task_vars))
            (folder / PROGRESS_FILE).write_text("chat: created\n", "utf-8")
            return {"changed": True}

    return Action()


@pytest.mark.parametrize("name", list(MODULES))
@pytest.mark.parametrize("check_mode", [False, True])
def test_the_module_is_run_and_watched(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str, check_mode: bool) -> None:
    lines: list[str] = []
    monkeypatch.setattr(watch, "Display", lambda: types.SimpleNamespace(display=lines.append))
    found = action(MODULES[name], tmp_path, check_mode=check_mode)
    task_vars = {"inventory_hostname": "server-1"}
    assert found.run(task_vars=task_vars) == {"changed": True}
    assert (found.runs, lines) == ([(name, task_vars)], ["chat: created"])


@pytest.mark.parametrize("name", list(MODULES))
def test_without_variables(tmp_path: pathlib.Path, name: str) -> None:
    found = action(MODULES[name], tmp_path)
    assert found.run() == {"changed": True}
    assert found.runs == [(name, {})]


@pytest.mark.parametrize("name", list(MODULES))
def test_async_is_refused(tmp_path: pathlib.Path, name: str) -> None:
    found = action(MODULES[name], tmp_path, async_val=60)
    with pytest.raises(AnsibleActionFail, match="async"):
        found.run(task_vars={})
    assert found.runs == []


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"name": "a"}, {"name": "b", "backend_paramters": []}], "the model b has backend_paramters, which no model can have; did"),
        ([{"name": "a"}, {"replicas": 1}], "entry 2 of the models has no name; say which model it is"),
    ],
)
def test_a_mistake_is_said_with_the_entry(tmp_path: pathlib.Path, entries: t.Any, said: str) -> None:
    found = action(models, tmp_path, args={"models": entries})
    with pytest.raises(AnsibleActionFail) as caught:
        found.run(task_vars={})
    assert str(caught.value).startswith(said)
    assert found.runs == []
