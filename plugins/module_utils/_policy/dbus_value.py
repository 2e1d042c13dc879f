# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A value as D-Bus sends it.

Source: the D-Bus Specification, "Type System" and "Marshaling". Only types that properties of units have.
"""

from __future__ import annotations

import struct
import sys
import typing as t

_ORDER = "<" if sys.byteorder == "little" else ">"
# Type -> format of struct. Each is aligned to its size.
_NUMBERS = {"y": "B", "i": "i", "u": "I", "x": "q", "t": "Q"}
_STRINGS = ("s", "o")
_PAIR = "(sb)"


def parse_variant(data: bytes) -> t.Any:
    """The one value in a variant in this machine's byte order. An array is a list, but bytes where it is one of bytes.

    Raises ValueError for another type, and for what is no variant.
    """
    try:
        size = data[0]
        signature = data[1 : 1 + size].decode("ascii")
        value, end = _value(data, 2 + size, signature)
    except (struct.error, IndexError, UnicodeDecodeError) as exc:
        raise ValueError("no D-Bus variant") from exc
    if end != len(data):
        raise ValueError("more than a D-Bus variant")
    return value


def _value(data: bytes, at: int, signature: str) -> t.Tuple[t.Any, int]:
    """A value and where the next one begins."""
    if signature in _NUMBERS:
        return _number(data, at, _NUMBERS[signature])
    if signature == "b":
        number, at = _number(data, at, "I")
        return bool(number), at
    if signature in _STRINGS:
        size, at = _number(data, at, "I")
        if data[at + size : at + size + 1] != b"\0":
            raise ValueError("a D-Bus string without its end")
        return data[at : at + size].decode("utf-8", "surrogateescape"), at + size + 1
    if signature == _PAIR:
        at = _aligned(at, 8)
        text, at = _value(data, at, "s")
        flag, at = _value(data, at, "b")
        return (text, flag), at
    if signature[:1] == "a":
        return _array(data, at, signature[1:])
    raise ValueError(f"no D-Bus type that is known here: {signature!r}")


def _array(data: bytes, at: int, of: str) -> t.Tuple[t.Any, int]:
    size, at = _number(data, at, "I")
    if of == _PAIR:
        at = _aligned(at, 8)
    end = at + size
    if end > len(data):
        raise ValueError("a D-Bus array without its end")
    if of == "y":
        return data[at:end], end
    values = []
    while at < end:
        value, at = _value(data, at, of)
        values.append(value)
    return values, at


def _number(data: bytes, at: int, form: str) -> t.Tuple[int, int]:
    size = struct.calcsize(form)
    at = _aligned(at, size)
    number: int = struct.unpack_from(_ORDER + form, data, at)[0]
    return number, at + size


def _aligned(at: int, size: int) -> int:
    return at + -at % size
