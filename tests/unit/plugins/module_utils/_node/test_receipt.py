# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import (
    FORMAT,
    digest_of,
    receipt_path,
    remove_receipt,
    signature,
    write_receipt,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceState
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
    signed: t.Dict[str, t.Optional[t.List[int]]] = {"/none": None, folder: [1], f"{folder}/llama-box.json": [2]}
    # As of before somebody wrote.
    signed.update({"/etc/default/gpustack": [3, 4, 5, 6], f"{folder}x/kept": [7, 8, 9, 10]})
    assert receipt_path(host) == f"{folder}/receipt.json"  # type: ignore[arg-type]
    write_receipt(host, WANTED, signed, 12.5, ServiceState(True, True, 12, "then"))  # type: ignore[arg-type]
    file = host.files[f"{folder}/receipt.json"]
    assert (file.mode, modes) == (0o600, {folder: 0o700})
    assert json.loads(file.content) == {
        "format": FORMAT,
        "wanted": digest_of(WANTED),
        "taken_seconds": 12.5,
        "files": {"/etc/default/gpustack": [3, 4, 5, 6], "/none": None, f"{folder}x/kept": [7, 8, 9, 10]},
        "service": {"pid": 12, "started": "then"},
    }
    write_receipt(host, WANTED, {}, 1.0, None)  # type: ignore[arg-type]
    assert json.loads(host.files[f"{folder}/receipt.json"].content)["service"] is None
    remove_receipt(host)  # type: ignore[arg-type]
    assert f"{folder}/receipt.json" not in host.files
    remove_receipt(host)  # type: ignore[arg-type]


def test_the_signature_of_a_real_file(tmp_path: pathlib.Path) -> None:
    host, path = Host(), tmp_path / "file"
    assert signature(host, str(path)) is None
    path.write_bytes(b"one")
    status = path.lstat()
    first = signature(host, str(path))
    assert first == [status.st_ino, 3, status.st_mtime_ns, status.st_ctime_ns]
    assert signature(host, str(path)) == first
    # Somebody puts size and time of change back.
    while path.lstat().st_ctime_ns == status.st_ctime_ns:
        path.write_bytes(b"two")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = signature(host, str(path))
    assert again is not None
    assert (again[:3], again == first) == (first[:3], False)
    other = tmp_path / "other"
    other.write_bytes(b"one")
    other.rename(path)
    renamed = signature(host, str(path))
    assert renamed is not None
    assert renamed[0] != first[0]
