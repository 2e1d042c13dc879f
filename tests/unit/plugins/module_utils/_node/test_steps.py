# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps: what they change, and that undoing them leaves nothing of it."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import (
    Act,
    PlaceFile,
    PlaceFolder,
    PlaceLink,
    RemovePath,
    RestorePath,
    Undo,
    WriteFile,
    undo,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import CommandMissingError, HostError
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost

# sha256 of "new".
DIGEST = "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"
PATH = "/opt/tool/bin/x"


def host_with(path: str, file: t.Optional[MemoryFile]) -> MemoryHost:
    host = MemoryHost(files={"/source/new": b"new"})
    host.make_folder("/backups", 0o700)
    if file is not None:
        host._put(path, file)
    return host


def saved(host: MemoryHost, step: t.Any) -> Undo:
    """As the journal keeps it."""
    record: Undo = json.loads(json.dumps(step.save(host, "/backups/0")))
    return record


def seen(host: MemoryHost) -> t.Any:
    files = {path: (file.content, file.target, file.mode, file.uid, file.gid) for path, file in host.files.items()}
    return ({path: file for path, file in files.items() if not path.startswith("/backups")}, host.folders - {"/backups/0"})


STEPS = [
    WriteFile(PATH, b"new"),
    WriteFile(PATH, None),
    PlaceFile(PATH, "/source/new", DIGEST),
    PlaceFolder(PATH, "/source", {"new": DIGEST}, {"alias": "new"}),
    PlaceLink(PATH, "new"),
    RemovePath(PATH),
]


@pytest.mark.parametrize("file", [None, MemoryFile(b"old", mode=0o640, uid=5, gid=6)])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_every_step_can_be_undone_made_once_or_twice_or_not_at_all(step: t.Any, file: t.Optional[MemoryFile]) -> None:
    for times in range(3):
        host = host_with(PATH, file)
        before = seen(host)
        record = saved(host, step)
        afters = []
        for _time in range(times):
            step.apply(host)
            afters.append(seen(host))
        assert afters[1:] == afters[:1] * (times - 1)
        for _time in range(2):
            undo(host, record)
            assert seen(host) == before


@pytest.mark.parametrize(
    ("step", "content", "mode"),
    [
        (WriteFile(PATH, b"new"), b"new", 0o644),
        (WriteFile(PATH, b"", mode_if_new=0o600), b"", 0o600),
        (WriteFile(PATH, b"new", mode_if_new=0o644, mode=0o640), b"new", 0o640),
        (PlaceFile(PATH, "/source/new", DIGEST), b"new", 0o755),
        (PlaceFile(PATH, "/source/new", DIGEST, mode=0o644), b"new", 0o644),
    ],
)
def test_a_new_file_and_the_folders_above_it(step: t.Any, content: bytes, mode: int) -> None:
    host = host_with(PATH, None)
    record = saved(host, step)
    assert record == {"path": PATH, "kind": "absent", "backup": "/backups/0", "folders": ["/opt/tool/bin", "/opt/tool", "/opt"]}
    step.apply(host)
    assert (host.files[PATH].content, host.files[PATH].mode) == (content, mode)
    assert host.folder_modes["/opt/tool/bin"] == 0o755


@pytest.mark.parametrize(("mode", "found"), [(None, 0o640), (0o600, 0o600)])
def test_an_old_file_keeps_what_it_is_not_told(mode: t.Optional[int], found: int) -> None:
    host = host_with(PATH, MemoryFile(b"old", mode=0o640, uid=5, gid=6))
    step = WriteFile(PATH, b"new", mode_if_new=0o777, mode=mode)
    assert saved(host, step) == {"path": PATH, "kind": "file", "backup": "/backups/0", "folders": []}
    step.apply(host)
    file = host.files[PATH]
    assert (file.content, file.mode, file.uid, file.gid) == (b"new", found, 5, 6)


def test_a_folder_and_a_link() -> None:
    host = host_with(PATH, None)
    PlaceFolder(PATH, "/source", {"new": DIGEST}, {"alias": "new"}).apply(host)
    assert host.names(PATH) == ["alias", "new"]
    PlaceFolder(PATH, "/source", {"new": DIGEST}).apply(host)
    assert host.names(PATH) == ["new"]
    PlaceLink(PATH, "tool").apply(host)
    assert host.link_target(PATH) == "tool"
    RemovePath(PATH).apply(host)
    assert host.status(PATH) is None


@pytest.mark.parametrize("file", [None, MemoryFile(b"now", mode=0o600)])
def test_what_was_remembered_earlier_is_put_back_and_that_can_be_undone(file: t.Optional[MemoryFile]) -> None:
    host = host_with(PATH, file)
    host._put("/backups/earlier", MemoryFile(b"earlier", mode=0o640, uid=5, gid=6))
    host.make_folder("/opt/tool/bin", 0o755)
    before = seen(host)
    step = RestorePath(PATH, "/backups/earlier", "file")
    record = saved(host, step)
    for _time in range(2):
        step.apply(host)
        found = host.files[PATH]
        assert (found.content, found.mode, found.uid, found.gid) == (b"earlier", 0o640, 5, 6)
    undo(host, record)
    assert seen(host) == before
    RestorePath(PATH, "/backups/none", "absent").apply(host)
    assert host.status(PATH) is None


@pytest.mark.parametrize("step", [PlaceFile(PATH, "/source/new", "0" * 64), PlaceFolder(PATH, "/source", {"new": "0" * 64})])
def test_a_source_with_another_digest_changes_nothing_at_the_path(step: t.Any) -> None:
    host = host_with(PATH, MemoryFile(b"old"))
    with pytest.raises(HostError, match=r"^/source/new has the sha256 "):
        step.apply(host)
    assert host.files[PATH].content == b"old"


def test_folders_that_others_use_meanwhile_stay() -> None:
    host = host_with(PATH, None)
    step = WriteFile(PATH, b"new")
    record = saved(host, step)
    step.apply(host)
    host.create("/opt/tool/theirs", [b"x"], 0o644)
    undo(host, record)
    assert host.status("/opt/tool/bin") is None
    assert host.names("/opt/tool") == ["theirs"]


@pytest.mark.parametrize("there", ["file", "link"])
def test_what_others_put_where_a_folder_was_missing_stays(there: str) -> None:
    host = host_with(PATH, None)
    record = saved(host, WriteFile(PATH, b"new"))
    host._put("/opt/tool", MemoryFile(b"x") if there == "file" else MemoryFile(target="/source"))
    undo(host, record)
    assert "/opt/tool" in host.files


def test_a_path_in_no_folder_ends_the_search() -> None:
    host = MemoryHost()
    host.folders.clear()
    assert RemovePath("/x").save(host, "/backups/0")["folders"] == []
    assert RemovePath("x").save(host, "/backups/0")["folders"] == []


def test_an_act_and_the_command_that_undoes_it() -> None:
    done = []
    host = MemoryHost(commands={("undo", "it"): CommandResult(0, "", "")})
    step = Act(lambda: done.append("it"), ("undo", "it"))
    record = saved(host, step)
    assert (record, done) == ({"argv": ["undo", "it"]}, [])
    step.apply(host)
    assert done == ["it"]
    undo(host, record)
    assert host.calls == [("undo", "it")]


def test_an_act_that_needs_no_undoing() -> None:
    host = MemoryHost()
    record = saved(host, Act(lambda: None))
    assert record == {}
    undo(host, record)
    assert host.calls == []


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (CommandResult(3, "", "no\nsuch thing"), "undo it failed: rc 3: no such thing"),
        (CommandMissingError("undo does not exist on this host"), "undo does not exist on this host"),
    ],
)
def test_a_command_that_cannot_undo_says_so(reply: t.Any, text: str) -> None:
    host = MemoryHost(commands={("undo", "it"): reply})
    with pytest.raises(HostError) as caught:
        undo(host, {"argv": ["undo", "it"]})
    assert str(caught.value) == text


@pytest.mark.parametrize("argv", [["launchctl", "setenv", "NAME", "s3cret"], ["systemctl", "--no-pager", "set-environment", "NAME=s3cret"]])
def test_a_command_that_cannot_undo_does_not_show_the_value(argv: list[str]) -> None:
    host = MemoryHost(commands={tuple(argv): CommandResult(1, "", "NAME=s3cret: no room")})
    with pytest.raises(HostError) as caught:
        undo(host, {"argv": argv})
    assert str(caught.value).endswith("(not shown) failed: rc 1: NAME=(not shown): no room")
    assert "s3cret" not in str(caught.value)
