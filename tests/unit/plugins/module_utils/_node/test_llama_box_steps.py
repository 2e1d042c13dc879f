# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_box_steps import Todo, steps_for
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import PlaceFile, PlaceFolder, PlaceLink, RemovePath, undo
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_plan import Differences, Goal, Seen
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost

FILES = {"llama-box": "a" * 64, "libggml.dylib": "b" * 64}
FILE = Goal("builtin", "/t/llama-box", {"llama-box": "a" * 64}, "v0.0.139")
FOLDER = Goal("builtin", "/t/f/llama-box", FILES, "v0.0.171", True)
CONTENT, ACCESS, LINK = Differences(content=("x",)), Differences(access=("x",)), Differences(link=("x",))
IN_APPLICATION = Goal("builtin", "/Applications/A.app/Contents/llama-box", {}, None)


def todo(goal: Goal, differences: Differences) -> Todo:
    return Todo(goal, Seen(), differences)


@pytest.mark.parametrize("differences", [CONTENT, ACCESS])
def test_files_are_made_anew(differences: Differences) -> None:
    assert steps_for(todo(FILE, differences), "/s", False) == [PlaceFile("/t/llama-box", "/s/llama-box", "a" * 64, 0o755)]
    links = {"llama-box-rpc-server": "llama-box"}
    assert steps_for(todo(FOLDER, differences), "/s", False) == [PlaceFolder("/t/f", "/s", FILES, links)]


def test_the_link() -> None:
    assert steps_for(todo(FILE, LINK), "/s", False) == [PlaceLink("/t/llama-box-rpc-server", "llama-box")]
    assert steps_for(todo(FOLDER, LINK), "/s", False) == [PlaceLink("/t/f/llama-box-rpc-server", "llama-box")]
    both = Differences(content=("x",), link=("x",))
    assert [type(step) for step in steps_for(todo(FILE, both), "/s", False)] == [PlaceFile, PlaceLink]
    assert [type(step) for step in steps_for(todo(FOLDER, both), "/s", False)] == [PlaceFolder]


def test_removal() -> None:
    assert steps_for(todo(Goal("pinned", "/b/llama-box_v0.0.139"), CONTENT), "", False) == [RemovePath("/b/llama-box_v0.0.139")]
    assert steps_for(todo(Goal("pinned", "/b/f/llama-box", in_folder=True), CONTENT), "", False) == [RemovePath("/b/f")]


def test_no_difference_needs_no_step_and_no_leave() -> None:
    goal = Goal("builtin", IN_APPLICATION.path, FILES, "v0.0.171")
    assert steps_for(todo(goal, Differences()), "/s", False) == []


def test_restarts() -> None:
    assert todo(FILE, CONTENT).restarts
    assert not todo(FILE, ACCESS).restarts
    assert not todo(FILE, LINK).restarts
    assert not todo(Goal("pinned", "/p", FILES), CONTENT).restarts


def test_an_application_is_written_to_only_where_that_was_said() -> None:
    with pytest.raises(BadInputError, match=r"inside the signed application /Applications/A\.app; leave it alone with slots: \[pinned\],"):
        steps_for(todo(IN_APPLICATION, CONTENT), "", False)
    (step,) = steps_for(todo(IN_APPLICATION, CONTENT), "", True)
    host = MemoryHost(files={IN_APPLICATION.path: b"x"})
    record = step.save(host, "/backup")
    step.apply(host)
    assert host.status(IN_APPLICATION.path) is None
    undo(host, record)
    assert host.read(IN_APPLICATION.path) == b"x"


def test_macos_may_forbid_it_all_the_same() -> None:
    class Forbidding(MemoryHost):
        def remove(self, path: str) -> None:
            raise HostError(f"{path} cannot be removed: Operation not permitted")

    (step,) = steps_for(todo(IN_APPLICATION, CONTENT), "", True)
    sentence = (
        f"{IN_APPLICATION.path} cannot be removed: Operation not permitted; if it is macOS that forbids it, allow the program of"
        " Ansible's connection in System Settings, Privacy & Security, App Management, or say slots: [pinned]"
    )
    with pytest.raises(HostError, match=f"^{re.escape(sentence)}$"):
        step.apply(Forbidding())
