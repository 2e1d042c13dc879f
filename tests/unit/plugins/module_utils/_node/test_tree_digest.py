# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.tree_digest import tree_digest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost

Files = t.Dict[str, t.Union[bytes, MemoryFile]]
FOLDER: Files = {"/x/a": b"1", "/x/sub/b": b"2", "/x/link": MemoryFile(target="a")}


def digest(files: Files, path: str = "/x") -> str:
    return tree_digest(MemoryHost(files=files), path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("files", "kind"), [({}, ""), ({"/x": b"1"}, "file:"), ({"/x": MemoryFile(target="/y")}, "link:/y"), (FOLDER, "folder:")]
)
def test_what_it_is_can_be_told(files: Files, kind: str) -> None:
    assert digest(files).startswith(kind)
    assert bool(digest(files)) is bool(kind)


def test_everything_in_a_folder_counts_and_its_name_does_not() -> None:
    moved = {path.replace("/x/", "/y/z/"): content for path, content in FOLDER.items()}
    assert digest(moved, "/y/z") == digest(FOLDER)
    others: t.List[Files] = [
        {**FOLDER, "/x/a": b"2"},
        {**FOLDER, "/x/sub/b": b"1"},
        {**FOLDER, "/x/link": MemoryFile(target="b")},
        {**FOLDER, "/x/link": b"a"},
        {**FOLDER, "/x/c": b""},
        {**FOLDER, "/x/a": MemoryFile(b"1", mode=0o755)},
        {path.replace("/sub/", "/bus/"): content for path, content in FOLDER.items()},
    ]
    assert len({digest(files) for files in [FOLDER, *others]}) == 8


def test_owners_and_permissions_count() -> None:
    files = [MemoryFile(b"1"), MemoryFile(b"1", mode=0o600), MemoryFile(b"1", uid=501), MemoryFile(b"1", gid=20), MemoryFile(b"2")]
    assert len({digest({"/x": file}) for file in files}) == 5


def test_what_cannot_be_read_is_an_error() -> None:
    host = MemoryHost(files=FOLDER, unreadable=["/x/sub/b"])
    with pytest.raises(HostError, match=r"^/x/sub/b cannot be read"):
        tree_digest(host, "/x")  # type: ignore[arg-type]
