# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import pathlib
import types
import typing as t

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.metalfleet.gpustack.plugins.action.llama_box import ActionModule
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils import push as push_module

CONTENT = b"an archive"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NEEDS = {
    "changed": False,
    "archives_needed": [{"version": "v0.0.139", "build": "darwin-arm64-metal", "sha256": SHA256, "size_bytes": len(CONTENT)}],
}
DONE = {"changed": True}


class Action(ActionModule):  # type: ignore[misc,unused-ignore]
    """The action plugin with a node that answers as told."""

    def __init__(self, folder: pathlib.Path, answers: list[dict[str, t.Any]], **task: t.Any) -> None:
        options = {"archives_folder": str(folder), "version": "v0.0.139", "source": "push"}
        self._task = types.SimpleNamespace(**{"args": options, "async_val": 0, "check_mode": False, "action": "llama_box", **task})
        shell = types.SimpleNamespace(tmpdir=None, join_path=lambda *parts: "/".join(parts))
        self._connection = types.SimpleNamespace(_shell=shell)
        self._loader = types.SimpleNamespace(path_dwim=lambda path: path)
        self.answers = answers
        self.runs: list[tuple[str, dict[str, t.Any]]] = []
        self.transfers: list[str] = []
        self.removed: list[str | None] = []

    def _execute_module(self, module_name: str, module_args: dict[str, t.Any], task_vars: t.Any = None) -> dict[str, t.Any]:
        assert task_vars == {"a": 1}
        # As Ansible does it.
        module_args["_ansible_internal"] = True
        self.runs.append((module_name, module_args))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _make_tmp_path(self, remote_user: str | None = None) -> str:
        self._connection._shell.tmpdir = "/remote/tmp"
        return "/remote/tmp"

    def _transfer_file(self, local_path: str, remote_path: str) -> str:
        self.transfers.append(remote_path)
        return remote_path

    def _fixup_perms2(self, remote_paths: t.Any, remote_user: t.Any = None, execute: bool = True) -> None:
        pass

    def _remove_tmp_path(self, tmp_path: str | None, force: bool = False) -> None:
        self.removed.append(tmp_path)


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(push_module.C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    path = tmp_path / "archives/v0.0.139/llama-box-darwin-arm64-metal.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return tmp_path / "archives"


def run(action: Action) -> dict[str, t.Any]:
    result: dict[str, t.Any] = action.run(task_vars={"a": 1})
    return result


def test_a_node_that_lacks_nothing(folder: pathlib.Path) -> None:
    action = Action(folder, [DONE])
    assert run(action) == DONE
    assert [name for name, _options in action.runs] == ["metalfleet.gpustack.llama_box"]
    assert (action.transfers, action.removed) == ([], [None])
    assert "_ansible_internal" not in action._task.args


def test_a_node_that_lacks_an_archive(folder: pathlib.Path) -> None:
    action = Action(folder, [NEEDS, DONE])
    assert run(action) == DONE
    remote = f"/remote/tmp/{SHA256}.zip"
    assert action.transfers == [remote]
    first, second = [options for _name, options in action.runs]
    assert "archives" not in first
    assert second == {**first, "archives": {SHA256: remote}}
    assert action.removed == ["/remote/tmp"]


def test_there_is_no_third_run(folder: pathlib.Path) -> None:
    action = Action(folder, [NEEDS, NEEDS])
    with pytest.raises(AnsibleActionFail, match=r"^the archives were copied to the node, and the module there does not see them"):
        run(action)
    assert (len(action.runs), action.removed) == (2, ["/remote/tmp"])


def test_what_was_brought_is_removed_whatever_happens(folder: pathlib.Path) -> None:
    action = Action(folder, [NEEDS, OSError("the connection broke")])  # type: ignore[list-item]
    with pytest.raises(OSError, match="the connection broke"):
        run(action)
    assert action.removed == ["/remote/tmp"]


def test_a_failed_module_is_not_run_again(folder: pathlib.Path) -> None:
    failed = {"failed": True, "msg": "why"}
    action = Action(folder, [failed])
    assert run(action) == failed


def test_async_is_refused(folder: pathlib.Path) -> None:
    action = Action(folder, [DONE], async_val=60)
    with pytest.raises(AnsibleActionFail, match="async"):
        run(action)
    assert action.runs == []


def test_check_mode_reaches_the_module(folder: pathlib.Path) -> None:
    action = Action(folder, [DONE], check_mode=True)
    assert run(action) == DONE
