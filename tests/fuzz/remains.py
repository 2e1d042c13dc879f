# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What lies on a node and was written by a run before, or by somebody who would like us to think so: records, receipts, archives."""

from __future__ import annotations

import contextlib
import io
import json
import stat
import types
import typing as t
import zipfile

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import journal, pending, receipt_check
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.archive import open_archive
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.release_store import ReleaseStore, Source
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import archive_listing
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_record import parse_record
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_answers import parse_refusal
from shapes import InputHost, Target, reshaped

_PENDING = {
    "pid": 7,
    "started": "x",
    "reasons": ["a"],
    "gone": ["B"],
    "stopping": False,
    "futile": "",
    "replaced": True,
    "was_idle": False,
}
_JOURNAL = {
    "started": 1763800000,
    "health": {"running": True, "answering": ["server"], "rpc_servers": 1, "detail": ""},
    "pending": _PENDING,
    "needs_restart": True,
    "rolls_back": 0,
    "restarting": False,
    "undoing": "",
    "left": {"/a": "0"},
    "records": [{"path": "/a", "backup": "/b/0", "kind": "file", "folders": []}, {"argv": ["sysctl", "a=1"], "redo": []}],
}
_RECORD = {
    "placed": {"/a": {"slot": "builtin", "version": "v0.0.139", "sha256": "0" * 64, "in_folder": False, "kept": "builtin-0.6.2"}},
    "used": ["v0.0.139/darwin-arm64-metal"],
}
_ADOPTED = {"files": {"llama-box": "0" * 64}, "links": {"llama-box-rpc-server": "llama-box"}}
_SALT = b"0" * 32


def _records(content: bytes) -> t.Any:
    host: t.Any = InputHost(content)
    record = parse_record(content)
    for name in record.used:
        assert ".." not in name.split("/")
    for placed in record.placed.values():
        assert "/" not in placed.kept
    assert parse_record(record.as_bytes()) == record
    parse_refusal(content.decode("utf-8", "replace"))
    return record, journal.read_journal(host), pending.read_pending(host), ReleaseStore(host, "/s", Source()).adopted("builtin-0.6.2")


def _shaped_records(data: bytes) -> t.Any:
    return _records(json.dumps(reshaped((_JOURNAL, _PENDING, _RECORD, _ADOPTED), data)).encode("utf-8", "surrogatepass"))


class _Machine:
    """There is the receipt, root's, and nothing else; every command fails."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def status(self, path: bytes) -> t.Any:
        kind, mode = (stat.S_IFREG, 0o600) if path == b"/v/receipt" else (stat.S_IFDIR, 0o755)
        if path not in (b"/v/receipt", b"/v", b"/"):
            raise FileNotFoundError(path)
        return types.SimpleNamespace(st_dev=1, st_ino=2, st_size=3, st_mtime_ns=4, st_ctime_ns=5, st_mode=kind | mode, st_uid=0, st_gid=0)

    def read(self, path: bytes) -> bytes:
        if path == b"/v/receipt":
            return self.data
        raise FileNotFoundError(path)

    def digest(self, path: bytes) -> bytes:
        raise FileNotFoundError(path)

    def names(self, path: bytes) -> t.List[bytes]:
        raise FileNotFoundError(path)

    def run(self, commands: t.Sequence[t.List[bytes]]) -> t.List[t.Tuple[int, bytes, bytes]]:
        return [(1, b"", b"no") for _command in commands]

    def properties(self, questions: t.Sequence[t.Any]) -> t.List[t.List[bytes]]:
        return [[b"no" for _name in names] for _path, _interface, names in questions]


def _receipt(data: bytes) -> t.Any:
    told = receipt_check.report(b"/v/receipt", (b"wanted", b"1.0.0", 3600.0, True), 1763800100.0, t.cast(t.Any, _Machine(data)))
    assert told.startswith((b"ok ", b"no "))
    if told.startswith(b"ok "):
        # Only who knows what is wanted can have written it; the seed is such a one.
        assert b"wanted " + receipt_check.seal(_SALT, b"wanted") in data or receipt_check.seal(b"", b"wanted") in data or b"salt " in data
        assert b"\nresult " in data
    return told


def _receipts() -> t.Tuple[bytes, ...]:
    head = [receipt_check.MAGIC + b" /usr/bin/python3", b"version 1.0.0", b"taken 1763800000", b"salt " + _SALT]
    sealed = b"wanted " + receipt_check.seal(_SALT, b"wanted")
    ask = b"ask plain " + receipt_check.seal(_SALT, receipt_check.answer(b"plain", 1, b"", b"no")) + b" sysctl\x1f-n\x1fx"
    bus = b"bus " + receipt_check.seal(_SALT, receipt_check.told([b"no", b"no"])) + b" /o i A,B"
    good = [*head, sealed, b"none /x", b"digest abc /x", ask, bus, b'result {"a": 1}', b"end", b""]
    strange = [
        *head,
        sealed,
        b"tree 7 X",
        b"clear plain X ps",
        b"file 1 2 3 4 5 600 0 0 /v/receipt",
        b"there /v",
        b"content 0 /y",
        b"gap x",
        b"end",
        b"",
    ]
    return b"\n".join(good), b"\n".join(strange)


def _archive(data: bytes) -> t.Any:
    with open_archive(t.cast(t.Any, InputHost(data)), "/x.zip") as archive:
        entries = archive.entries()
        names = archive_listing.check(entries, "/x.zip")
        assert not any("/" in name or "\\" in name or name in ("", ".", "..") for name in names)
        for entry in entries:
            if entry.size_bytes < 1 << 20:
                size = sum(len(piece) for piece in archive.pieces(entry.name))
                assert size <= entry.size_bytes, "a file is larger than its entry says"
    return names


def _archives() -> t.Tuple[bytes, ...]:
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for name, mode in (("libggml.dylib", 0o100755), ("../x", 0), ("link", stat.S_IFLNK | 0o777)):
            memory = io.BytesIO()
            with zipfile.ZipFile(memory, "w", method) as archive:
                archive.writestr("llama-box", b"#!/bin/sh\necho x\n" * 4)
                info = zipfile.ZipInfo(name)
                info.external_attr = mode << 16
                archive.writestr(info, b"y" * 9)
            found.append(memory.getvalue())
    return tuple(found)


def _raw_records(data: bytes) -> t.Any:
    with contextlib.suppress(ValueError):
        return _records(data)
    raise AssertionError("ValueError")


_SEEDS = tuple(json.dumps(one).encode() for one in (_JOURNAL, _PENDING, _RECORD, _ADOPTED))
TARGETS = (
    Target("records", _raw_records, (*_SEEDS, b"[" * 3000, b'{"started": Infinity}'), (HostError,), largest_bytes=4096),
    Target("records_reshaped", _shaped_records, tuple(bytes([first, 5, 9]) for first in range(4)), (HostError,), largest_bytes=32),
    Target("receipt", _receipt, _receipts()),
    Target("archive", _archive, _archives(), (BadInputError, HostError), names_names=True),
)
