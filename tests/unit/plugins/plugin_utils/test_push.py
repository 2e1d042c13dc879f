# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pathlib
import re
import types
import typing as t

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import TAMPERED
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils import push as module
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.push import Needed, archives_needed, find_archive, push, run_with_archives

CONTENT = b"an archive"
NEEDED = Needed("v0.0.139", "darwin-arm64-metal", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
NAME = "llama-box-darwin-arm64-metal.zip"
PLACES = (f"v0.0.139/{NAME}", f"gpustack/llama-box/releases/download/v0.0.139/{NAME}")


@pytest.fixture(autouse=True)
def local_tmp(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    folder = tmp_path / "local-tmp"
    folder.mkdir()
    monkeypatch.setattr(module.C, "DEFAULT_LOCAL_TMP", str(folder))
    return folder


def place(folder: pathlib.Path, content: bytes = CONTENT, where: str = PLACES[0]) -> pathlib.Path:
    path = folder / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class Shell:
    def __init__(self, tmpdir: str | None = None) -> None:
        self.tmpdir = tmpdir

    def join_path(self, *parts: str) -> str:
        return "/".join(parts)


class Action:
    """What an action plugin offers."""

    def __init__(self, folder: pathlib.Path, tmpdir: str | None = None) -> None:
        self.done: list[tuple[t.Any, ...]] = []
        self._connection = types.SimpleNamespace(_shell=Shell(tmpdir))
        self._loader = types.SimpleNamespace(path_dwim=lambda path: str(folder / path))

    def _make_tmp_path(self) -> None:
        self.done.append(("tmp",))
        self._connection._shell.tmpdir = "/remote/tmp"

    def _transfer_file(self, source: str, target: str) -> None:
        self.done.append(("transfer", source, target))

    def _fixup_perms2(self, paths: t.Sequence[str]) -> None:
        self.done.append(("permissions", *paths))


def test_what_a_module_asks_for() -> None:
    one = {"version": "v0.0.139", "build": "darwin-arm64-metal", "sha256": NEEDED.sha256, "size_bytes": 10, "archive_name": NAME}
    assert archives_needed({"archives_needed": [one]}) == [NEEDED]
    assert archives_needed({"changed": False}) == []
    assert archives_needed({"archives_needed": None}) == []


@pytest.mark.parametrize(("name", "value"), [("version", "../../etc"), ("build", "x/../../../etc/passwd")])
def test_a_node_cannot_ask_for_other_files(name: str, value: str) -> None:
    one = {"version": "v0.0.139", "build": "darwin-arm64-metal", "sha256": NEEDED.sha256, "size_bytes": 10, name: value}
    with pytest.raises(
        AnsibleActionFail, match=rf"^the node asks for .*{re.escape(repr(value))}.*, which no archive of llama-box is called"
    ):
        archives_needed({"archives_needed": [one]})


@pytest.mark.parametrize("where", PLACES)
def test_where_an_archive_may_lie(tmp_path: pathlib.Path, where: str) -> None:
    path = place(tmp_path, where=where)
    assert find_archive(str(tmp_path), NEEDED) == str(path)


def test_an_archive_that_is_not_there(tmp_path: pathlib.Path) -> None:
    sentence = (
        "archives_folder: the archive of llama-box v0.0.139 (darwin-arm64-metal) is not on the controller, at "
        f"{tmp_path / PLACES[0]} or {tmp_path / PLACES[1]}; put it there, or use another source"
    )
    with pytest.raises(AnsibleActionFail, match=f"^{re.escape(sentence)}"):
        find_archive(str(tmp_path), NEEDED)


def test_an_archive_of_another_content(tmp_path: pathlib.Path) -> None:
    other = b"an Archive"
    path = place(tmp_path, other)
    sentence = (
        f"{path} on the controller is not the archive of llama-box v0.0.139 (darwin-arm64-metal) that the lock names: it has 10 bytes"
        f" with the sha256 {hashlib.sha256(other).hexdigest()}, and not 10 with {NEEDED.sha256}: {TAMPERED}"
    )
    with pytest.raises(AnsibleActionFail, match=f"^{re.escape(sentence)}"):
        find_archive(str(tmp_path), NEEDED)


def test_an_archive_of_another_size_is_not_read(tmp_path: pathlib.Path, local_tmp: pathlib.Path) -> None:
    place(tmp_path, CONTENT + b"!")
    with pytest.raises(AnsibleActionFail, match=r"it has 11 bytes with the sha256 another one, as its size shows, and not 10 with"):
        find_archive(str(tmp_path), NEEDED)
    assert list(local_tmp.iterdir()) == []


def test_an_archive_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    (tmp_path / PLACES[0]).mkdir(parents=True)
    with pytest.raises(
        AnsibleActionFail, match=rf"^{re.escape(str(tmp_path / PLACES[0]))} on the controller cannot be read: Is a directory"
    ):
        find_archive(str(tmp_path), NEEDED)


def _in_a_fork(folder: str, reads: t.Any) -> None:
    real = module.hashlib.sha256

    class Counting:
        def __init__(self, data: bytes = b"") -> None:
            self._digest = real(data)

        def update(self, data: bytes) -> None:
            with reads.get_lock():
                reads.value += 1
            self._digest.update(data)

        def hexdigest(self) -> str:
            return str(self._digest.hexdigest())

    module.hashlib = types.SimpleNamespace(sha256=Counting)  # type: ignore[assignment]
    find_archive(folder, NEEDED)


def test_forks_hash_an_archive_once(tmp_path: pathlib.Path) -> None:
    place(tmp_path)
    context = multiprocessing.get_context("fork")
    reads = context.Value("i", 0)
    forks = [context.Process(target=_in_a_fork, args=(str(tmp_path), reads)) for _fork in range(5)]
    for fork in forks:
        fork.start()
    for fork in forks:
        fork.join()
    assert [fork.exitcode for fork in forks] == [0] * 5
    assert reads.value == 1


def test_a_file_that_changed_is_hashed_again(tmp_path: pathlib.Path) -> None:
    path = place(tmp_path)
    find_archive(str(tmp_path), NEEDED)
    path.write_bytes(b"an Archive")
    os.utime(path, ns=(1, 1))
    with pytest.raises(AnsibleActionFail, match="is not the archive"):
        find_archive(str(tmp_path), NEEDED)


def test_what_a_fork_that_died_has_left_is_no_digest(tmp_path: pathlib.Path, local_tmp: pathlib.Path) -> None:
    place(tmp_path)
    find_archive(str(tmp_path), NEEDED)
    (shared,) = local_tmp.iterdir()
    assert shared.read_text() == NEEDED.sha256
    shared.write_text("abc")
    find_archive(str(tmp_path), NEEDED)
    assert shared.read_text() == NEEDED.sha256


def test_push(tmp_path: pathlib.Path) -> None:
    path = place(tmp_path / "archives")
    action = Action(tmp_path)
    given = {"archives_folder": "archives", "version": "v0.0.139"}
    remote = f"/remote/tmp/{NEEDED.sha256}.zip"
    assert push(action, given, [NEEDED]) == {**given, "archives": {NEEDED.sha256: remote}}
    assert given == {"archives_folder": "archives", "version": "v0.0.139"}
    assert action.done == [("tmp",), ("transfer", str(path), remote), ("permissions", "/remote/tmp", remote)]


@pytest.mark.parametrize("source", ["{0}/fleet/hosts.yml", "{0}/fleet/inventory"])
@pytest.mark.parametrize("below", [None, "llama_box"])
def test_a_relative_folder_is_beside_the_first_inventory(tmp_path: pathlib.Path, source: str, below: str | None) -> None:
    (tmp_path / "playbooks" / "archives").mkdir(parents=True)
    path = place(tmp_path / "fleet" / "archives")
    action, run_module = RunningAction(tmp_path / "playbooks"), Module(ASKS, {"changed": True})
    inner = {"archives_folder": "archives"}
    given = inner if below is None else {below: inner}
    run_with_archives(action, run_module, given, below, {"ansible_inventory_sources": [source.format(tmp_path), "/other/hosts"]})
    assert action.done[1][:2] == ("transfer", str(path))


def test_a_relative_folder_may_be_beside_the_playbook(tmp_path: pathlib.Path) -> None:
    path = place(tmp_path / "playbooks" / "archives")
    action = Action(tmp_path / "playbooks")
    push(action, {"archives_folder": "archives"}, [NEEDED], {"ansible_inventory_sources": [f"{tmp_path}/fleet/hosts.yml"]})
    assert action.done[1][:2] == ("transfer", str(path))


def test_a_relative_folder_that_is_nowhere_is_looked_for_beside_the_inventory(tmp_path: pathlib.Path) -> None:
    with pytest.raises(AnsibleActionFail, match=rf"is not on the controller, at {re.escape(str(tmp_path))}/fleet/archives/v0"):
        push(
            Action(tmp_path / "playbooks"),
            {"archives_folder": "archives"},
            [NEEDED],
            {"ansible_inventory_sources": [f"{tmp_path}/fleet/hosts.yml"]},
        )


def test_hosts_that_are_named_at_the_command_line_are_where_one_works(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place(tmp_path / "archives")
    monkeypatch.chdir(tmp_path)
    action = Action(tmp_path / "playbooks")
    push(action, {"archives_folder": "archives"}, [NEEDED], {"ansible_inventory_sources": ["mac1,"]})
    assert action.done[1][:2] == ("transfer", str(path))


def test_an_absolute_folder_is_taken_as_it_is(tmp_path: pathlib.Path) -> None:
    path = place(tmp_path / "archives")
    action = Action(tmp_path)
    push(action, {"archives_folder": f"{tmp_path}/archives"}, [NEEDED], {"ansible_inventory_sources": ["/fleet/hosts.yml"]})
    assert action.done[1][:2] == ("transfer", str(path))


def test_a_temporary_folder_that_is_there_is_used(tmp_path: pathlib.Path) -> None:
    place(tmp_path)
    action = Action(tmp_path, "/remote/earlier")
    push(action, {"archives_folder": "."}, [NEEDED])
    assert [step[0] for step in action.done] == ["transfer", "permissions"]
    assert action.done[0][2] == f"/remote/earlier/{NEEDED.sha256}.zip"


def test_nothing_is_sent_before_everything_was_found(tmp_path: pathlib.Path) -> None:
    place(tmp_path)
    action = Action(tmp_path)
    with pytest.raises(AnsibleActionFail, match=r"llama-box v0\.0\.144 \(darwin-arm64-metal\) is not on the controller"):
        push(action, {"archives_folder": "."}, [NEEDED, Needed("v0.0.144", "darwin-arm64-metal", "0" * 64, 1)])
    assert action.done == []


def test_no_folder_was_named(tmp_path: pathlib.Path) -> None:
    action = Action(tmp_path)
    with pytest.raises(
        AnsibleActionFail, match=r"^the node asks for archives, and archives_folder does not say where the controller has them"
    ):
        push(action, {"archives_folder": ""}, [NEEDED])
    assert action.done == []


ONE = {"version": "v0.0.139", "build": "darwin-arm64-metal", "sha256": NEEDED.sha256, "size_bytes": len(CONTENT)}
ASKS = {"changed": False, "archives_needed": [ONE]}
REMOTE = f"/remote/tmp/{NEEDED.sha256}.zip"


class Module:
    """A module on a node, which answers as told and keeps what it was given."""

    def __init__(self, *answers: dict[str, t.Any] | Exception) -> None:
        self.answers = list(answers)
        self.runs: list[dict[str, t.Any]] = []

    def __call__(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        self.runs.append(dict(options))
        # As Ansible does it.
        options["_ansible_internal"] = True
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class RunningAction(Action):
    def _remove_tmp_path(self, path: str | None) -> None:
        self.done.append(("remove", path))


@pytest.mark.parametrize("answer", [{"changed": True}, {"failed": True, "msg": "why"}, {"changed": True, "archives_needed": []}])
def test_a_module_that_asks_for_nothing_runs_once(tmp_path: pathlib.Path, answer: dict[str, t.Any]) -> None:
    action, run_module = RunningAction(tmp_path), Module(answer)
    given = {"archives_folder": "archives"}
    assert run_with_archives(action, run_module, given) == answer
    assert (run_module.runs, action.done) == ([given], [("remove", None)])


@pytest.mark.parametrize("below", [None, "llama_box"])
def test_a_module_that_asks_is_run_once_more(tmp_path: pathlib.Path, below: str | None) -> None:
    place(tmp_path / "archives")
    action, run_module = RunningAction(tmp_path), Module(ASKS, {"changed": True})
    inner = {"archives_folder": "archives", "version": "v0.0.139"}
    given = inner if below is None else {below: inner, "restart": "never"}
    before = repr(given)
    assert run_with_archives(action, run_module, given, below) == {"changed": True}
    told = {**inner, "archives": {NEEDED.sha256: REMOTE}}
    first, second = run_module.runs
    assert first == given
    assert second == (told if below is None else {**given, below: told})
    assert repr(given) == before
    assert [step[0] for step in action.done] == ["tmp", "transfer", "permissions", "remove"]
    assert action.done[-1] == ("remove", "/remote/tmp")


def test_a_module_that_asks_again_is_told_off(tmp_path: pathlib.Path) -> None:
    place(tmp_path / "archives")
    action, run_module = RunningAction(tmp_path), Module(ASKS, ASKS)
    with pytest.raises(
        AnsibleActionFail, match=r"^the archives were copied to the node, and the module there does not see them; run again with -vvv"
    ):
        run_with_archives(action, run_module, {"archives_folder": "archives"})
    assert (len(run_module.runs), action.done[-1]) == (2, ("remove", "/remote/tmp"))


@pytest.mark.parametrize("answers", [(OSError("broken"),), (ASKS, OSError("broken"))])
def test_what_was_copied_is_removed_whatever_happens(tmp_path: pathlib.Path, answers: tuple[t.Any, ...]) -> None:
    place(tmp_path / "archives")
    action, run_module = RunningAction(tmp_path), Module(*answers)
    with pytest.raises(OSError, match="broken"):
        run_with_archives(action, run_module, {"archives_folder": "archives"})
    assert action.done[-1] == ("remove", "/remote/tmp" if len(answers) == 2 else None)


def test_a_copy_that_fails_is_removed(tmp_path: pathlib.Path) -> None:
    place(tmp_path / "archives")
    action, run_module = RunningAction(tmp_path), Module(ASKS)

    def transfer(source: str, target: str) -> None:
        raise AnsibleActionFail(f"{target}: No space left on device")

    action._transfer_file = transfer  # type: ignore[method-assign]
    with pytest.raises(AnsibleActionFail, match="No space left"):
        run_with_archives(action, run_module, {"archives_folder": "archives"})
    assert (len(run_module.runs), action.done[-1]) == (1, ("remove", "/remote/tmp"))


def test_options_as_text_cannot_be_added_to(tmp_path: pathlib.Path) -> None:
    """Ansible takes a dictionary as JSON, too, as on its command line."""
    action, run_module = RunningAction(tmp_path), Module(ASKS)
    with pytest.raises(AnsibleActionFail, match=r"^llama_box: archives can be brought only where it is a dictionary, and this is text"):
        run_with_archives(action, run_module, {"llama_box": '{"archives_folder": "archives"}'}, "llama_box")
    assert (len(run_module.runs), action.done) == (1, [("remove", None)])
