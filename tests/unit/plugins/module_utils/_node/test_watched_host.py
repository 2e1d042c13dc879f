# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult, Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.watched_host import _NO_LOOKS, WatchedHost
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost
from ansible_collections.metalfleet.gpustack.tests.unit.installations import shy


def host() -> MemoryHost:
    """A file, two links to it one after the other, and a link to a folder."""
    found = MemoryHost(files={"/real/file": b"x"})
    found.link("/links/second", "../real/file")
    found.link("/first", "links/second")
    found.link("/folder", "/real")
    return found


def looked_at(found: MemoryHost, *paths: str) -> dict[str, t.Any]:
    return {path: found.status(path) for path in paths}


@pytest.mark.parametrize("method", ["read", "sha256", "resolve"])
def test_what_is_looked_at_through_links(method: str) -> None:
    found = host()
    watched = WatchedHost(found)  # type: ignore[arg-type]
    assert getattr(watched, method)("/first") == getattr(found, method)("/first")
    assert watched.evidence.files == looked_at(found, "/first", "/links/second", "/real/file")
    assert None not in watched.evidence.files.values()


def test_a_folder_that_is_listed_through_a_link() -> None:
    found = host()
    watched = WatchedHost(found)  # type: ignore[arg-type]
    assert watched.names("/folder") == found.names("/folder")
    assert watched.evidence.files == looked_at(found, "/folder", "/real")


def test_a_link_that_is_looked_at_itself() -> None:
    found = host()
    for look in (lambda one: one.status("/first"), lambda one: one.link_target("/first")):
        watched = WatchedHost(found)  # type: ignore[arg-type]
        assert look(watched) == look(found)
        assert watched.evidence.files == looked_at(found, "/first")


def test_what_is_not_there_counts_too() -> None:
    found = host()
    found.link("/dead", "/nothing")
    watched = WatchedHost(found)  # type: ignore[arg-type]
    assert (watched.read("/nowhere"), watched.status("/never")) == (None, None)
    assert watched.resolve("/dead") == "/nothing"
    assert watched.evidence.files == {"/nowhere": None, "/never": None, "/dead": found.status("/dead"), "/nothing": None}


def test_a_circle_of_links_ends() -> None:
    found = host()
    found.link("/a", "/b")
    found.link("/b", "/a")
    watched = WatchedHost(found)  # type: ignore[arg-type]
    watched.resolve("/a")
    assert watched.evidence.files.keys() == {"/a", "/b"}


@pytest.mark.parametrize("path", ["/proc/7/environ", "/sys/kernel/x"])
def test_what_the_kernel_makes_up_is_remembered_as_it_is(path: str) -> None:
    found = MemoryHost(files={path: b"x"})
    watched = WatchedHost(found)  # type: ignore[arg-type]
    for _time in range(2):
        assert (watched.read(path), watched.read("/proc/none")) == (b"x", None)
    assert watched.evidence.contents == {path: b"x", "/proc/none": None}
    assert (watched.evidence.files, watched.evidence.gaps) == ({}, [])
    found._put(path, MemoryFile(b"y"))
    assert (watched.read(path), watched.evidence.contents[path]) == (b"y", b"x")
    assert watched.evidence.gaps == [f"{path} changed while it was looked at"]


def test_what_the_kernel_does_not_tell() -> None:
    found = MemoryHost(files={"/proc/7/environ": b"x"}, unreadable=["/proc/7/environ"])
    watched = WatchedHost(found)  # type: ignore[arg-type]
    for _time in range(2):
        with pytest.raises(HostError, match="cannot be read"):
            watched.read("/proc/7/environ")
    assert watched.evidence.gaps == ["/proc/7/environ cannot be read: Permission denied"]


def test_what_commands_say() -> None:
    answers = [CommandResult(0, "1", ""), CommandResult(0, "1", ""), CommandResult(0, "2", "")]
    left = list(answers)
    found = MemoryHost(commands={("ask", "me"): lambda: left.pop(0)})
    watched = WatchedHost(found)  # type: ignore[arg-type]
    assert [watched.run(["ask", "me"], timeout_seconds=5.0) for _time in answers] == answers
    assert watched.evidence.answers == {("ask", "me"): [answers[0], answers[2]]}
    assert watched.evidence.gaps == []
    with pytest.raises(HostError):
        watched.run(["no-such-program"])
    assert watched.evidence.gaps == ["no-such-program does not exist on this host"]


def test_the_signature_is_from_before_the_look() -> None:
    found = host()
    before = looked_at(found, "/real/file")
    read = found.read

    def read_and_write(path: str, limit_bytes: int = 1) -> bytes | None:
        content = read(path, limit_bytes)
        found._put("/real/file", MemoryFile(b"y"))
        return content

    found.read = read_and_write  # type: ignore[method-assign]
    watched = WatchedHost(found)  # type: ignore[arg-type]
    assert watched.read("/real/file") == b"x"
    # Nor does a later look take another one.
    watched.status("/real/file")
    assert watched.evidence.files == before != looked_at(found, "/real/file")


def test_the_digests_of_what_is_read_or_hashed() -> None:
    host = MemoryHost(files={"/a": b"1", "/b": b"2"})
    watched = WatchedHost(host)
    assert (watched.read("/a"), watched.sha256("/b"), watched.read("/none"), watched.sha256("/none")) == (
        *(b"1", hashlib.sha256(b"2").hexdigest()),
        *(None, None),
    )
    assert watched.evidence.digests == {"/a": hashlib.sha256(b"1").hexdigest(), "/b": hashlib.sha256(b"2").hexdigest()}
    assert (watched.sha256("/a"), watched.evidence.gaps) == (hashlib.sha256(b"1").hexdigest(), [])
    host.write("/a", b"3", 0o644)
    watched.read("/a")
    assert watched.evidence.gaps == ["/a changed while it was looked at"]


def test_since_when() -> None:
    found = host()
    watched = WatchedHost(found)  # type: ignore[arg-type]
    began = found.clock
    found.clock += 5.0
    watched.status("/first")
    assert watched.evidence.since == began


def test_what_cannot_be_examined_leaves_a_gap() -> None:
    found = shy(host(), "/real")
    watched = WatchedHost(found)  # type: ignore[arg-type]
    # Looking at it says the same as ever.
    with pytest.raises(HostError, match="/real/file cannot be examined"):
        watched.status("/real/file")
    assert watched.resolve("/first") == "/real/file"
    assert watched.evidence.files == looked_at(found, "/first", "/links/second")
    assert watched.evidence.gaps == ["/real/file cannot be examined: Permission denied"]


def test_everything_else_is_the_host() -> None:
    found = host()
    watched = WatchedHost(found)  # type: ignore[arg-type]
    assert (watched.system(), watched.effective_uid()) == (found.system(), found.effective_uid())
    watched.write("/real/new", b"z", 0o600)
    assert (found.files["/real/new"].content, watched.evidence.files) == (b"z", {})
    with watched.lock("/lock", "us", 0.0):
        assert found.locked == {"/lock": "us"}
    assert watched.evidence.gaps == []


def test_other_ways_to_look_leave_a_gap() -> None:
    """One that somebody adds to Host has to be taught to the receipt first."""
    found = host()
    watched = WatchedHost(found)  # type: ignore[arg-type]
    assert watched.answers(80, "/healthz") is None
    assert watched.evidence.gaps == ["the node was asked for answers, which no receipt can vouch for"]
    known = {"status", "link_target", "resolve", "read", "sha256", "names", "run"}
    looks = {"open_binary", "append", "snapshot", "free_bytes", "answers", "systemd_properties"}
    assert {name for name in vars(Host) if not name.startswith("_")} == known | looks | _NO_LOOKS
