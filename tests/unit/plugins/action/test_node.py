# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
import copy
import pathlib
import plistlib
import types
import typing as t

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.metalfleet.gpustack.plugins.action.node import ActionModule
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import receipt_check
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_box import ArchivesNeededError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import receipt_path
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wanted_digest import digest_of
from ansible_collections.metalfleet.gpustack.plugins.modules import node
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils import push as push_module
from ansible_collections.metalfleet.gpustack.tests.mirror import archives
from ansible_collections.metalfleet.gpustack.tests.unit import fake_kernel
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import PLIST
from ansible_collections.metalfleet.gpustack.tests.unit.fast_paths import MemoryLive, compare
from ansible_collections.metalfleet.gpustack.tests.unit.whole_nodes import BUILDS, VERSION, NodeMac, everything, lock_of, validated

BUILD = BUILDS["Darwin"][0]
RELEASE = lock_of("Darwin")["releases"][VERSION][BUILD]
ARCHIVE = archives.pack(archives.contents(VERSION, BUILD))
REMOTE = f"/remote/tmp/{RELEASE['sha256']}.zip"


VARS = {"inventory_hostname": "mac", "ansible_python_interpreter": "/usr/bin/python3"}


class Action(ActionModule):  # type: ignore[misc,unused-ignore]
    """The action plugin, which runs the real module on a node in memory. breaks: what a run raises, by its number.

    compared: how often the node was compared with its receipt.
    """

    def __init__(self, host: NodeMac, options: dict[str, t.Any], **task: t.Any) -> None:
        self.host = host
        defaults = {"async_val": 0, "check_mode": False, "action": "node", "delegate_to": None}
        self._task = types.SimpleNamespace(**{"args": options, **defaults, **task})
        shell = types.SimpleNamespace(tmpdir=None, join_path=lambda *parts: "/".join(parts))
        self._connection = types.SimpleNamespace(_shell=shell, become=None, has_pipelining=True)
        self._templar = types.SimpleNamespace(template=lambda value: value)
        self.compared = 0
        self._loader = types.SimpleNamespace(path_dwim=lambda path: path)
        self.runs: list[dict[str, t.Any]] = []
        self.transfers: list[tuple[str, str]] = []
        self.removed: list[str | None] = []
        self.breaks: dict[int, Exception] = {}

    def _execute_module(self, module_name: str, module_args: dict[str, t.Any], task_vars: t.Any = None) -> dict[str, t.Any]:
        assert (module_name, task_vars) == ("metalfleet.gpustack.node", VARS)
        self.runs.append(copy.deepcopy(module_args))
        # As Ansible does it.
        module_args["_ansible_internal"] = True
        given = {key: value for key, value in module_args.items() if key != "_ansible_internal"}
        if len(self.runs) in self.breaks:
            raise self.breaks[len(self.runs)]
        try:
            return node.bring_to_state(self.host, validated(node.ARGUMENT_SPEC, given), self._task.check_mode)[0]  # type: ignore[arg-type]
        except ArchivesNeededError as exc:
            return exc.as_result()

    def _low_level_execute_command(self, cmd: str, in_data: bytes) -> dict[str, t.Any]:
        # That of another host is not known.
        assert cmd == "/usr/bin/python3 -I -S -" or self._task.delegate_to
        self.compared += 1
        call = in_data.decode().rpartition("\n\nmain")[2].partition("\n")[0]
        mark, wanted, version, max_age_seconds, by_content = ast.literal_eval(call)
        asked = (wanted.encode(), version.encode(), max_age_seconds, by_content)
        told = receipt_check.report(receipt_path(self.host).encode(), asked, self.host.now(), MemoryLive(self.host))
        return {"rc": 0, "stdout": f"{mark} {told.decode()}\n", "stderr": ""}

    def _make_tmp_path(self, remote_user: str | None = None) -> str:
        self._connection._shell.tmpdir = "/remote/tmp"
        return "/remote/tmp"

    def _transfer_file(self, local_path: str, remote_path: str) -> str:
        self.transfers.append((local_path, remote_path))
        self.host.put(remote_path, pathlib.Path(local_path).read_bytes(), 0o600)
        return remote_path

    def _fixup_perms2(self, remote_paths: t.Any, remote_user: t.Any = None, execute: bool = True) -> None:
        pass

    def _remove_tmp_path(self, tmp_path: str | None, force: bool = False) -> None:
        self.removed.append(tmp_path)
        if tmp_path is not None:
            self.host.remove(tmp_path)


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Archives on the controller."""
    monkeypatch.setattr(push_module.C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    path = tmp_path / "archives" / VERSION / archives.archive_name(BUILD)
    path.parent.mkdir(parents=True)
    path.write_bytes(ARCHIVE)
    return tmp_path / "archives"


def action(folder: pathlib.Path, host: NodeMac | None = None, **task: t.Any) -> Action:
    host = host or NodeMac()
    options = everything(host)
    options["llama_box"].update(source="push", archives_folder=str(folder))
    del options["llama_box"]["folder"]
    return Action(host, options, **task)


def run(action: Action) -> dict[str, t.Any]:
    result: dict[str, t.Any] = action.run(task_vars=VARS)
    return result


def test_a_node_that_lacks_an_archive(folder: pathlib.Path) -> None:
    found = action(folder)
    given = copy.deepcopy(found._task.args)
    result = run(found)
    assert (result["changed"], result["restarted"], "archives_needed" in result) == (True, True, False)
    assert found.transfers == [(str(folder / VERSION / archives.archive_name(BUILD)), REMOTE)]
    first, second = found.runs
    assert first == {**given, "receipt_for": digest_of(given), "node_name": VARS["inventory_hostname"]}
    # Below the option that it belongs to, and nothing else is touched.
    assert second == {**first, "llama_box": {**first["llama_box"], "archives": {RELEASE["sha256"]: REMOTE}}}
    assert found._task.args == given
    assert (found.removed, REMOTE in found.host.files) == (["/remote/tmp"], False)


def test_a_node_that_lacks_nothing(folder: pathlib.Path) -> None:
    host = NodeMac()
    run(action(folder, host))
    found = action(folder, host)
    found._task.args["receipt_max_age_hours"] = 0
    assert run(found)["changed"] is False
    assert (len(found.runs), found.compared, found.transfers, found.removed) == (1, 0, [], [None])


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_node_that_is_as_its_receipt_says(folder: pathlib.Path, check_mode: bool) -> None:
    host = NodeMac()
    first = run(action(folder, host))
    assert first["receipt"] == {"used": False, "age_seconds": None, "reason": "there is no receipt"}
    host.clock += 90.0
    found = action(folder, host, check_mode=check_mode)
    fast = run(found)
    assert (found.compared, found.runs, found.transfers, found.removed) == (1, [], [], [])
    assert fast["receipt"] == {"used": True, "age_seconds": 90, "reason": ""}
    assert (fast["changed"], fast["applied"], fast["warnings"]) == (False, not check_mode, [])
    # The module says the same.
    other = action(folder, host, check_mode=check_mode)
    other._task.args["receipt_max_age_hours"] = 0
    slow = run(other)
    assert (len(other.runs), slow.pop("receipt")["reason"]) == (1, "receipt_max_age_hours is no number above 0")
    assert {**fast, "receipt": None} == {**slow, "receipt": None, "warnings": []}
    assert fast["ansible_facts"]["apple_silicon"]["model_identifier"] == "Mac15,14"


@pytest.mark.parametrize(("delegate_to", "name"), [(None, "mac"), ("mac-7", "mac-7")])
def test_warnings_name_the_node(folder: pathlib.Path, delegate_to: str | None, name: str) -> None:
    """Of the module and of a receipt alike: Ansible shows one that several nodes share once, and without saying which."""
    host = NodeMac()
    host.put("/Library/LaunchDaemons/com.example.limit.plist", b"<plist>iogpu.wired_limit_mb=1</plist>", 0o644)
    first = action(folder, host, delegate_to=delegate_to)
    run(first)
    assert {one["node_name"] for one in first.runs} == {name}
    found = action(folder, host, delegate_to=delegate_to)
    fast = run(found)
    assert (fast["receipt"]["used"], len(fast["warnings"])) == (True, 1)
    assert fast["warnings"][0].startswith(f"{name}: ")
    assert "com.example.limit.plist" in fast["warnings"][0]


def test_a_node_that_fails_for_what_is_left_says_why_its_receipt_did_not_count() -> None:
    host = NodeMac()
    content = plistlib.loads(host.files[PLIST].content)
    content["EnvironmentVariables"]["GGML_METAL_NO_RESIDENCY"] = "1"
    host.put(PLIST, plistlib.dumps(content), 0o644)
    host.start_anew()
    # The job goes on without its property list.
    host.remove(PLIST)
    result = run(Action(host, {"environment": {}}))
    assert (result["failed"], result["receipt"]) == (True, {"used": False, "age_seconds": None, "reason": "there is no receipt"})
    again = run(Action(host, {"environment": {}}))
    assert again["receipt"]["reason"].startswith("GGML_METAL_NO_RESIDENCY is present in system/ai.gpustack")


@pytest.mark.parametrize("end", ["/third_party/bin/llama-box/llama-box", "/llama-box_v0.0.139"])
def test_a_disk_that_returns_another_program(folder: pathlib.Path, end: str) -> None:
    """Its status says nothing of that, so that content alone finds it."""
    host = NodeMac()
    run(action(folder, host))
    (program,) = (path for path in host.files if path.endswith(end))
    host.files[program].content = host.files[program].content[::-1]
    for verify, runs in (("auto", 0), ("content", 1)):
        found = action(folder, host)
        found._task.args["verify"] = verify
        result = run(found)
        assert (len(found.runs), result["receipt"]["used"]) == (runs, runs == 0)
    assert result["receipt"]["reason"] == f"{program} holds something else than it did"


def test_a_node_that_is_not_as_its_receipt_says(folder: pathlib.Path) -> None:
    host = NodeMac()
    run(action(folder, host))
    host.kernel[fake_kernel.LIMIT] = 1
    found = action(folder, host)
    result = run(found)
    assert (found.compared, len(found.runs), result["changed"]) == (1, 1, True)
    assert result["receipt"]["reason"].startswith("`/usr/sbin/sysctl iogpu.wired_limit_mb")
    assert isinstance(compare(host, **found._task.args), dict)


def test_a_module_that_fails_says_nothing_of_receipts(folder: pathlib.Path) -> None:
    found = action(folder)
    found._execute_module = lambda *_arguments, **_options: {"failed": True, "msg": "why"}  # type: ignore[method-assign]
    assert run(found) == {"failed": True, "msg": "why"}


def test_a_node_whose_llama_box_is_not_given(folder: pathlib.Path) -> None:
    found = action(folder)
    del found._task.args["llama_box"]
    assert run(found)["changed"] is True
    assert (len(found.runs), found.transfers) == (1, [])


def test_check_mode_needs_no_archive(folder: pathlib.Path) -> None:
    found = action(folder, check_mode=True)
    result = run(found)
    assert (result["changed"], result["applied"], len(found.runs), found.transfers) == (True, False, 1, [])


def test_what_was_brought_is_removed_whatever_happens(folder: pathlib.Path) -> None:
    found = action(folder)
    found.breaks[2] = OSError("the connection broke")
    with pytest.raises(OSError, match="the connection broke"):
        run(found)
    assert (found.transfers[0][1], found.removed, REMOTE in found.host.files) == (REMOTE, ["/remote/tmp"], False)


def test_archives_that_the_controller_lacks(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    found = action(tmp_path / "empty")
    with pytest.raises(AnsibleActionFail, match=r"^archives_folder: the archive of llama-box v0\.0\.139 \(darwin-arm64-metal\) is not on"):
        run(found)
    assert (len(found.runs), found.host.stops, found.removed) == (1, 0, [None])


def test_async_is_refused(folder: pathlib.Path) -> None:
    found = action(folder, async_val=60)
    with pytest.raises(AnsibleActionFail, match="async"):
        run(found)
    assert found.runs == []
