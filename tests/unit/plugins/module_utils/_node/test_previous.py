# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Going back to what the last transaction found."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.previous import Previous
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import (
    Act,
    PlaceFolder,
    PlaceLink,
    RemovePath,
    Step,
    WriteFile,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError, ServiceError
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile
from ansible_collections.metalfleet.gpustack.tests.unit.fault_points import (
    Mortal,
    MortalLinux,
    MortalMac,
    dying_run,
    own_files,
    run,
    state_of,
)

SYSTEMS = pytest.mark.parametrize("system", ["Darwin", "Linux"])
NOTHING = "no earlier state is kept: nothing was changed here since, or it was rolled back already"
NOW = 1_800_000_000
THEN = "2027-01-15 08:00:00 UTC"


@dataclasses.dataclass
class Change:
    """A resource that makes these steps."""

    steps: t.Sequence[Step]
    restarts: bool = False
    name: str = "change"

    def plan(self) -> Planned:
        changes = tuple({"resource": self.name} for _step in self.steps)
        return Planned(tuple(self.steps), changes, restart_reasons=("changed",) if self.restarts else (), replaced=self.restarts)

    def prepare(self) -> None:
        """All is there."""

    def check(self) -> t.Tuple[str, ...]:
        return ()

    def finish(self) -> t.Tuple[str, ...]:
        return ()


def node(system: str) -> Mortal:
    files: t.Dict[str, t.Union[bytes, MemoryFile]] = {
        "/a/file": MemoryFile(b"old", mode=0o640),
        "/a/folder/one": b"1",
        "/a/folder/two": MemoryFile(target="one"),
        "/a/link": MemoryFile(target="folder"),
        "/a/mode": b"same",
        "/a/gone": b"gone",
        "/source/new": b"new",
    }
    host: Mortal = MortalMac() if system == "Darwin" else MortalLinux()
    for path, content in files.items():
        host._put(path, content if isinstance(content, MemoryFile) else MemoryFile(content))
    host.kernel.update(limit="1", other="1")
    return host


def set_(host: Mortal, name: str, value: str) -> Act:
    def act() -> None:
        host.run(["kernel", "set", f"{name}={value}"])

    return Act(act, ("kernel", "set", f"{name}={host.kernel[name]}"))


def change_everything(host: Mortal, restarts: bool = False) -> None:
    new = "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"
    steps = [
        set_(host, "limit", "2"),
        WriteFile("/a/file", b"new"),
        PlaceFolder("/a/folder", "/source", {"new": new}),
        PlaceLink("/a/link", "elsewhere"),
        set_(host, "other", "2"),
        WriteFile("/a/mode", b"same", mode=0o600),
        RemovePath("/a/gone"),
        WriteFile("/made/below/file", b"made"),
        WriteFile("/a/file", b"newer"),
    ]
    run(host, [Change(steps, restarts)])


def roll_back(host: Mortal, force: bool = False, **options: t.Any) -> t.Dict[str, t.Any]:
    return run(host, [Previous(host, force)], **options).as_result()  # type: ignore[arg-type]


@SYSTEMS
def test_where_nothing_was_changed_there_is_nothing_to_go_back_to(system: str) -> None:
    host = node(system)
    before = state_of(host)
    result = roll_back(host)
    assert (result["changed"], result["rolled_back_to"], result["reason"], result["diff"]) == (False, None, NOTHING, [])
    assert (state_of(host), own_files(host)) == (before, [])


@SYSTEMS
def test_everything_is_put_back_the_last_change_first(system: str) -> None:
    host = node(system)
    before, folders = state_of(host), {folder for folder in host.folders if not folder.startswith("/proc")}
    change_everything(host)
    announced = run(host, [Previous(host, force=False)], check_mode=True).as_result()  # type: ignore[arg-type]
    result = roll_back(host)
    assert announced == {**result, "applied": False}
    assert (result["changed"], result["rolled_back_to"], result["reason"], result["restarted"]) == (True, THEN, "", False)
    assert [(change["where"], change["action"], change["name"]) for change in result["changes"]] == [
        ("/made/below/file", "restored", "absent"),
        ("/a/gone", "restored", "file"),
        ("/a/mode", "restored", "file"),
        ("kernel", "undone", "other"),
        ("/a/link", "restored", "link"),
        ("/a/folder", "restored", "folder"),
        ("/a/file", "restored", "file"),
        ("kernel", "undone", "limit"),
    ]
    assert {change["resource"] for change in result["changes"]} == {"previous"}
    assert result["diff"][0] == {
        "before_header": "/made/below/file",
        "after_header": "/made/below/file",
        "before": "",
        "after": "restored: absent\n",
    }
    assert result["diff"][3]["after"] == "undone: other\n"
    assert state_of(host) == before
    # Also the folders that were made for it.
    assert {folder for folder in host.folders if not folder.startswith(("/proc", "/var"))} == folders


@SYSTEMS
def test_a_second_time_nothing_changes(system: str) -> None:
    host = node(system)
    change_everything(host)
    roll_back(host)
    before = state_of(host)
    host.points.clear()
    result = roll_back(host)
    assert (result["changed"], result["rolled_back_to"], result["reason"]) == (False, None, NOTHING)
    assert (state_of(host), host.points, own_files(host)) == (before, [], [])


@SYSTEMS
def test_what_is_as_it_was_is_left_alone(system: str) -> None:
    host = node(system)
    change_everything(host)
    file = host.files["/a/gone"] = MemoryFile(b"gone")
    result = roll_back(host, force=True)
    assert "/a/gone" not in [change["where"] for change in result["changes"]]
    assert host.files["/a/gone"] is file


@SYSTEMS
def test_folders_in_which_others_have_put_something_stay(system: str) -> None:
    host = node(system)
    change_everything(host)
    host._put("/made/theirs", MemoryFile(b"x"))
    roll_back(host)
    assert "/made/below" not in host.folders
    assert host.files["/made/theirs"].content == b"x"


@SYSTEMS
def test_folders_that_cannot_be_looked_at_stay(system: str) -> None:
    host = node(system)
    change_everything(host)
    host.unreadable.add("/made/below")
    assert roll_back(host)["changed"] is True
    assert "/made/below" in host.folders


@SYSTEMS
@pytest.mark.parametrize(
    "edit", [lambda host: host.write("/a/file", b"edited", 0), lambda host: host.remove("/a/link"), lambda host: host.link("/a/gone", "x")]
)
def test_what_somebody_edited_is_given_up_only_if_asked(system: str, edit: t.Callable[[Mortal], None]) -> None:
    host = node(system)
    before = state_of(host)
    change_everything(host)
    edit(host)
    edited = state_of(host)
    with pytest.raises(BadInputError) as caught:
        roll_back(host)
    path = next(path for path in ("/a/file", "/a/link", "/a/gone") if path in str(caught.value))
    assert str(caught.value) == (
        f"{path} changed since the run that is to be rolled back; look at what was changed, and say force: true to give it up"
    )
    assert state_of(host) == edited
    roll_back(host, force=True)
    assert state_of(host) == before


@SYSTEMS
def test_all_that_was_edited_is_named(system: str) -> None:
    host = node(system)
    change_everything(host)
    host.write("/a/mode", b"x", 0)
    host.write("/a/file", b"x", 0)
    with pytest.raises(BadInputError, match=r"^/a/file and /a/mode changed since"):
        roll_back(host)


@SYSTEMS
def test_tidying_up_below_our_own_folder_is_no_edit(system: str) -> None:
    host = node(system)
    own = f"/var/{'db' if system == 'Darwin' else 'lib'}/metalfleet/llama-box.json"
    host._put(own, MemoryFile(b"1"))
    run(host, [Change([WriteFile(own, b"2")])])
    host.write(own, b"3", 0)
    assert roll_back(host)["changed"] is True
    assert host.files[own].content == b"1"


@SYSTEMS
def test_the_service_is_restarted_if_what_is_taken_back_needed_that(system: str) -> None:
    host = node(system)
    change_everything(host, restarts=True)
    result = roll_back(host)
    reason = f"the node goes back to its state before {THEN}"
    assert (result["restarted"], result["restart_reasons"], host.stops) == (True, [reason], 2)
    assert result["health"]["sick"] == []


@SYSTEMS
def test_also_if_somebody_else_did_it_for_the_change(system: str) -> None:
    host = node(system)
    run(host, [Change([WriteFile("/a/file", b"new")], restarts=True)], restart="never")
    assert run(host, [Change([])]).as_result()["restarted"] is True
    assert roll_back(host, restart="never")["restart_pending"] is True
    assert roll_back(host)["restarted"] is True
    assert (host.stops, own_files(host)) == (2, [])


@SYSTEMS
def test_going_back_is_undone_if_it_makes_the_node_worse(system: str) -> None:
    host = node(system)
    run(host, [Change([WriteFile("/a/file", b"new")], restarts=True)])
    after = state_of(host)
    host.kills = lambda _environment: host.files["/a/file"].content == b"old"
    with pytest.raises(ServiceError, match=r"; everything that was changed was put back, and the node works as before$"):
        roll_back(host)
    assert (state_of(host), host.is_up()) == (after, True)
    # It can be tried again.
    host.kills = lambda _environment: False
    assert roll_back(host)["changed"] is True
    assert host.files["/a/file"].content == b"old"


@SYSTEMS
def test_a_run_that_died_before_its_first_change_is_not_what_is_taken_back(system: str) -> None:
    host = node(system)
    before = state_of(host)
    change_everything(host)
    host.clock += 5.0
    dying_run(host, [Change([WriteFile("/a/file", b"newest")])], 3)
    assert own_files(host) == ["journal.json", "previous.json", "undo-"]
    assert roll_back(host)["rolled_back_to"] == THEN
    assert (state_of(host), own_files(host)) == (before, [])


@SYSTEMS
def test_what_cannot_be_compared_is_an_error_before_anything_is_changed(system: str) -> None:
    host = node(system)
    change_everything(host)
    after = state_of(host)
    host.unreadable.add("/a/file")
    with pytest.raises(HostError, match=r"^/a/file cannot be read"):
        roll_back(host)
    assert state_of(host) == after
