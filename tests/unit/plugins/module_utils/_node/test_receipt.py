# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import (
    FORMAT,
    digest_of,
    receipt_path,
    remove_receipt,
    signature,
    write_receipt,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceState
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.watched_host import WatchedHost
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost

WANTED = {"environment": {"variables": {"A": "1", "B": "2"}}, "wired_limit": None}


def test_the_digest_is_of_what_is_wanted_not_of_its_order() -> None:
    other = {"wired_limit": None, "environment": {"variables": {"B": "2", "A": "1"}}}
    assert digest_of(WANTED) == digest_of(other)
    assert digest_of(WANTED) != digest_of({**WANTED, "wired_limit": 0})
    assert digest_of({"a": ["1", "2"]}) != digest_of({"a": ["2", "1"]})
    assert len(digest_of({})) == 64


def test_a_signature_changes_with_the_file() -> None:
    host = MemoryHost(files={"/a": b"1", "/b": b"1"})
    first = signature(host, "/a")  # type: ignore[arg-type]
    status = host.status("/a")
    assert status is not None
    assert first == [status.inode, 1, status.mtime_ns, status.ctime_ns]
    assert signature(host, "/a") == first  # type: ignore[arg-type]
    assert signature(host, "/b") != first  # type: ignore[arg-type]
    host.write("/a", b"2", 0o644)
    assert signature(host, "/a") != first  # type: ignore[arg-type]
    assert signature(host, "/none") is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("system", "folder"), [("Darwin", "/var/db/metalfleet"), ("Linux", "/var/lib/metalfleet")])
def test_a_receipt(system: str, folder: str) -> None:
    modes = {}

    class Recorder(MemoryHost):
        def make_folder(self, path: str, mode: int) -> None:
            modes[path] = mode
            super().make_folder(path, mode)

    host = Recorder(system=system, files={"/etc/default/gpustack": b"A=1\n", f"{folder}x/kept": b"", f"{folder}/llama-box.json": b""})
    paths = {"/etc/default/gpustack", "/none", f"{folder}x/kept", folder, f"{folder}/llama-box.json"}
    assert receipt_path(host) == f"{folder}/receipt.json"  # type: ignore[arg-type]
    write_receipt(host, WANTED, paths, ServiceState(True, True, 12, "then"))  # type: ignore[arg-type]
    file = host.files[f"{folder}/receipt.json"]
    assert (file.mode, modes) == (0o600, {folder: 0o700})
    assert json.loads(file.content) == {
        "format": FORMAT,
        "wanted": digest_of(WANTED),
        "taken_seconds": host.now(),
        "files": {path: signature(host, path) for path in ("/etc/default/gpustack", "/none", f"{folder}x/kept")},  # type: ignore[arg-type]
        "service": {"pid": 12, "started": "then"},
    }
    write_receipt(host, WANTED, (), None)  # type: ignore[arg-type]
    assert json.loads(host.files[f"{folder}/receipt.json"].content)["service"] is None
    remove_receipt(host)  # type: ignore[arg-type]
    assert f"{folder}/receipt.json" not in host.files
    remove_receipt(host)  # type: ignore[arg-type]


def watched(**options: t.Any) -> t.Tuple[MemoryHost, WatchedHost]:
    host = MemoryHost(system="Linux", **options)
    return host, WatchedHost(host)  # type: ignore[arg-type]


def test_a_watched_host_says_what_was_looked_at_also_where_nothing_is() -> None:
    host, watch = watched(files={"/a/file": b"1", "/proc/1/stat": b"x", "/sys/class": b"y"})
    host.link("/a/link", "file")
    assert watch.status("/a/none") is None
    assert watch.read("/a/file") == b"1"
    assert watch.read("/b", limit_bytes=5) is None
    assert watch.sha256("/c") is None
    assert watch.names("/a") == ["file", "link"]
    assert watch.resolve("/a/link") == "/a/file"
    assert watch.link_target("/a/link") == "file"
    assert watch.read("/proc/1/stat") == b"x"
    assert watch.read("/sys/class") == b"y"
    assert watch.looked_at == {"/a/none", "/a/file", "/b", "/c", "/a", "/a/link"}


def test_the_rest_is_that_of_the_host() -> None:
    host, watch = watched(files={"/a": b"1"})
    watch.write("/b", b"2", 0o600)
    assert host.files["/b"].content == b"2"
    assert (watch.system(), watch.now(), watch.looked_at) == ("Linux", host.clock, set())
    with watch.lock("/lock", "us", 0.0):
        assert host.locked == {"/lock": "us"}
