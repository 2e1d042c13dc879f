# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_record import (
    Placed,
    Record,
    parse_record,
    release_name,
    used_after,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Release

SHA = "1" * 64
BUILTIN = Placed("builtin", "v0.0.139", SHA, False, "builtin-0.6.2")
PINNED = Placed("pinned", "v0.0.168", SHA, True)
RECORD = Record({"/b": BUILTIN, "/a/llama-box": PINNED}, ("v0.0.139/darwin-arm64-metal", "v0.0.168/dl-darwin-arm64-metal"))


def content(**changed: t.Any) -> bytes:
    data = json.loads(RECORD.as_bytes())
    return json.dumps({**data, **changed}).encode()


def test_what_is_written_is_read() -> None:
    assert parse_record(RECORD.as_bytes()) == RECORD
    assert parse_record(Record().as_bytes()) == Record()


def test_the_file() -> None:
    assert Record({"/b": BUILTIN}, ("v0.0.139/darwin-arm64-metal",)).as_bytes() == (
        b'{\n "placed": {\n  "/b": {\n   "slot": "builtin",\n   "version": "v0.0.139",\n   "sha256": "' + SHA.encode() + b'",\n'
        b'   "in_folder": false,\n   "kept": "builtin-0.6.2"\n  }\n },\n "used": [\n  "v0.0.139/darwin-arm64-metal"\n ]\n}\n'
    )
    assert RECORD.as_bytes() == Record(dict(reversed(list(RECORD.placed.items()))), RECORD.used).as_bytes()


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"\xff",
        b"no json",
        b"[]",
        b"null",
        b"1",
        b"[" * 100000,
        content(placed=None),
        content(placed=[]),
        content(placed={"/a": []}),
        content(placed={"/a": {"slot": "builtin"}}),
        content(used=1),
        b"{}",
    ],
)
def test_what_cannot_be_understood_makes_nothing_ours(data: bytes | None) -> None:
    assert parse_record(data) == Record()


def test_nothing_that_is_read_leads_out_of_the_store() -> None:
    placed = json.loads(RECORD.as_bytes())["placed"]
    placed["/b"]["kept"] = "../../etc"
    placed["/a/llama-box"]["in_folder"] = 1
    used = ["../..", "v0.0.139", "v0.0.139/..", "v0.0.139/darwin-arm64-metal/..", 1, "v0.0.139/darwin-arm64-metal"]
    found = parse_record(content(placed=placed, used=used))
    assert found.placed["/b"].kept == ""
    assert found.placed["/a/llama-box"].in_folder is False
    assert found.used == ("v0.0.139/darwin-arm64-metal",)


def test_ours_is_what_we_put_there_and_is_there_still() -> None:
    assert RECORD.ours("/b", SHA) == BUILTIN
    assert RECORD.ours("/b", "2" * 64) is None
    assert RECORD.ours("/b", None) is None
    assert RECORD.ours("/c", SHA) is None


def test_release_name() -> None:
    assert release_name(Release("v0.0.139", "darwin-arm64-metal", "https://a.invalid", SHA, 1, {})) == "v0.0.139/darwin-arm64-metal"


@pytest.mark.parametrize(
    ("used", "in_slots", "keep", "expected"),
    [
        ((), ("a",), 2, ("a",)),
        (("a",), ("a",), 2, ("a",)),
        (("a", "b", "c"), ("d",), 2, ("d", "a", "b")),
        (("a", "b", "c"), ("c",), 2, ("c", "a", "b")),
        (("a", "b", "c"), ("b", "c", "b"), 0, ("b", "c")),
        (("a", "b"), (), 1, ("a",)),
    ],
)
def test_used_after(used: tuple[str, ...], in_slots: tuple[str, ...], keep: int, expected: tuple[str, ...]) -> None:
    assert used_after(used, in_slots, keep) == expected
