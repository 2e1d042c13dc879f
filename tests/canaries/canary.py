# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets that can be found again, in whatever form somebody has written them."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import typing as t

PREFIX = "zCanaryOfTheFleetz"
_PLAIN = re.compile(PREFIX.encode() + rb"(\d\d)", re.IGNORECASE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
# What a prefix becomes where none, one or two bytes stand before it, without the ends, which other bytes have a share in.
_BASE64_NEEDLES = tuple(base64.b64encode(b"\0" * before + PREFIX.encode())[4 if before else 0 :][:16] for before in range(3))
_HEX = re.compile(PREFIX.encode().hex().encode() + rb"((?:3\d){2})", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Canary:
    """A secret. name: where it is planted. rest: what comes after what it is found by, such as quotes, which others escape."""

    number: int
    name: str
    rest: str = ""

    @property
    def value(self) -> str:
        """The secret itself. What it is found by are letters and digits alone: no way of quoting changes these."""
        return f"{PREFIX}{self.number:02}{self.rest}"


class Found(t.NamedTuple):
    """A canary, and in which form it was found."""

    name: str
    form: str


class Aviary:
    """All canaries."""

    def __init__(self) -> None:
        self._by_number: dict[int, Canary] = {}
        self._digests: dict[bytes, Canary] = {}

    def add(self, name: str, rest: str = "") -> Canary:
        """A new one."""
        canary = Canary(len(self._by_number), name, rest)
        self._by_number[canary.number] = canary
        self._digests[hashlib.sha256(canary.value.encode()).hexdigest().encode()] = canary
        return canary

    def names(self) -> set[str]:
        """Of all."""
        return {canary.name for canary in self._by_number.values()}

    def find(self, data: bytes) -> set[Found]:
        """The canaries in some bytes: as they are however quoted, in base64 (as in Basic authentication), in hex, or as a plain digest."""
        found = {self._found(match.group(1), "plain") for match in _PLAIN.finditer(data)}
        found |= {self._found(bytes.fromhex(match.group(1).decode()), "hex") for match in _HEX.finditer(data)}
        if any(needle in data for needle in _BASE64_NEEDLES):
            found |= {self._found(number, "base64") for word in _BASE64.findall(data) for number in _decoded(word)}
        return found | {Found(canary.name, "sha256") for digest, canary in self._digests.items() if digest in data}

    def _found(self, number: bytes, form: str) -> Found:
        return Found(self._by_number[int(number)].name, form)


def _decoded(word: bytes) -> t.Iterator[bytes]:
    """The numbers of canaries in a word of base64, which may have begun anywhere."""
    standard = word.replace(b"-", b"+").replace(b"_", b"/")
    for start in range(4):
        whole = standard[start:]
        whole = whole[: len(whole) // 4 * 4]
        yield from (match.group(1) for match in _PLAIN.finditer(base64.b64decode(whole)))
