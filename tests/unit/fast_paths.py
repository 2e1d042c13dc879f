# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program of the fast path on nodes in memory."""

from __future__ import annotations

import json
import sys
import types
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import receipt_check
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import receipt_path
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.release import VERSION
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wanted_digest import digest_of
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost

DAY_SECONDS = 24 * 3600.0
_KINDS = ((lambda one: one.is_symlink, 0o120000), (lambda one: one.is_file, 0o100000), (lambda one: one.is_directory, 0o040000))


class MemoryLive(receipt_check.Live):
    """What the program sees of a host in memory."""

    def __init__(self, host: MemoryHost) -> None:
        self.host = host

    def status(self, path: bytes) -> t.Any:
        found = self.host.status(path.decode())
        if found is None:
            raise FileNotFoundError(path)
        kind = next(bits for is_kind, bits in _KINDS if is_kind(found))
        return types.SimpleNamespace(
            st_dev=found.device,
            st_ino=found.inode,
            st_size=found.size_bytes,
            st_mtime_ns=found.mtime_ns,
            st_ctime_ns=found.ctime_ns,
            st_mode=kind | found.mode,
            st_uid=found.uid,
            st_gid=found.gid,
        )

    def read(self, path: bytes) -> bytes:
        content = self.host.read(path.decode())
        if content is None:
            raise FileNotFoundError(path)
        return content

    def digest(self, path: bytes) -> bytes:
        digest = self.host.sha256(path.decode())
        if digest is None:
            raise FileNotFoundError(path)
        return digest.encode()

    def target(self, path: bytes) -> bytes:
        return str(self.host.files[path.decode()].target).encode()

    def names(self, path: bytes) -> list[bytes]:
        return [name.encode() for name in self.host.names(path.decode())]

    def run(self, commands: t.Sequence[list[bytes]]) -> list[tuple[int, bytes, bytes]]:
        results = [self.host.run([word.decode() for word in argv]) for argv in commands]
        return [(one.rc, one.stdout.encode("utf-8", "surrogateescape"), one.stderr.encode("utf-8", "surrogateescape")) for one in results]

    def properties(self, questions: t.Sequence[t.Any]) -> list[list[bytes]]:
        try:
            return self.host.systemd_properties(questions)
        except HostError as exc:
            raise OSError(str(exc)) from exc


def compare(
    host: t.Any, max_age_seconds: float = DAY_SECONDS, version: str = VERSION, by_content: bool = False, **options: t.Any
) -> dict[str, t.Any] | str:
    """The result in the receipt, if the node is as it says and it is about these options; else why not."""
    wanted = str(digest_of(options))
    asked = (wanted.encode(), version.encode(), max_age_seconds, by_content)
    told = receipt_check.report(receipt_path(host).encode(), asked, host.now(), MemoryLive(host))
    word, _blank, rest = told.partition(b" ")
    assert word in (b"ok", b"no")
    return rest.decode() if word == b"no" else t.cast("dict[str, t.Any]", json.loads(rest.partition(b" ")[2]))


class Receipt(t.NamedTuple):
    """What a receipt says, read by other means than the program's."""

    heads: dict[str, str]
    files: dict[str, str | None]
    asked: dict[str, str]
    bus: dict[str, str]
    rest: list[str]
    result: dict[str, t.Any]


def receipt_of(host: t.Any) -> Receipt | None:
    """The receipt of a node; None where there is none."""
    file = host.files.get(receipt_path(host))
    if file is None:
        return None
    magic, *lines = file.content.decode().split("\n")
    assert (magic, lines[-2:]) == (f"metalfleet receipt 3 {sys.executable}", ["end", ""])
    found = Receipt({}, {}, {}, {}, [], {})
    for line in lines[:-2]:
        word, _blank, rest = line.partition(" ")
        if word in ("version", "taken", "salt", "wanted"):
            found.heads[word] = rest
        elif word == "none":
            found.files[rest] = None
        elif word == "file":
            found.files[rest.split(" ", 8)[8]] = " ".join(rest.split(" ", 8)[:8])
        elif word == "ask":
            way, digest, argv = rest.split(" ", 2)
            found.asked[argv.replace("\x1f", " ")] = f"{way} {digest}"
        elif word == "bus":
            digest, _path, interface, names = rest.split(" ")
            found.bus.update({f"{interface.rpartition('.')[2]}.{name}": digest for name in names.split(",")})
        elif word == "result":
            found.result.update(json.loads(rest))
        else:
            found.rest.append(line)
    return found
