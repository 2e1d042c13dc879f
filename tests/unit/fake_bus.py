# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd replies on the system bus, made from what systemctl shows.

Types are those of org.freedesktop.systemd1(5); bus_recordings.py has a reply of a real one of each.
"""

from __future__ import annotations

import struct
import typing as t

MANAGER_PATH = b"/org/freedesktop/systemd1"
MANAGER = b"org.freedesktop.systemd1.Manager"
_TYPES = {
    b"org.freedesktop.systemd1.Unit": {
        **dict.fromkeys("LoadState ActiveState SubState UnitFileState FragmentPath".split(), "s"),
        "DropInPaths": "as",
        "InvocationID": "ay",
    },
    b"org.freedesktop.systemd1.Service": {
        "MainPID": "u",
        "ExecMainStartTimestampMonotonic": "t",
        "EnvironmentFiles": "a(sb)",
        "Result": "s",
        "ExecMainStatus": "i",
    },
}


def variant(signature: str, value: t.Any) -> bytes:
    """The body of a reply to Get."""
    head = struct.pack("=B", len(signature)) + signature.encode() + b"\0"
    return _with(head, signature, value)


def properties(interface: bytes, names: t.Sequence[bytes], shown: str) -> list[bytes]:
    """A reply for each name, from what `systemctl show` says."""
    lines = [line.partition("=")[::2] for line in shown.splitlines()]
    replies = []
    for name in names:
        signature = _TYPES[interface][name.decode()]
        said = [value for found, value in lines if found == name.decode()]
        value: t.Any = said[-1] if said else ""
        if signature in "uti":
            value = int(value)
        elif signature == "ay":
            value = bytes.fromhex(value)
        elif signature == "as":
            value = value.split()
        elif signature == "a(sb)":
            value = [(line.partition(" (ignore_errors=")[0], line.endswith("yes)")) for line in said if line]
        replies.append(variant(signature, value))
    return replies


def _with(data: bytes, signature: str, value: t.Any) -> bytes:
    if signature in "ybiut":
        form = {"y": "B", "b": "I", "i": "i", "u": "I", "t": "Q"}[signature]
        return _padded(data, struct.calcsize(f"={form}")) + struct.pack(f"={form}", value)
    if signature == "s":
        text: bytes = value.encode("utf-8", "surrogateescape")
        return _padded(data, 4) + struct.pack("=I", len(text)) + text + b"\0"
    if signature == "(sb)":
        return _with(_with(_padded(data, 8), "s", value[0]), "b", value[1])
    of = signature[1:]
    data = _padded(data, 4) + bytes(4)
    at = len(data) - 4
    if of == "(sb)":
        data = _padded(data, 8)
    start = len(data)
    for one in value:
        data = _with(data, of, one)
    return data[:at] + struct.pack("=I", len(data) - start) + data[at + 4 :]


def _padded(data: bytes, size: int) -> bytes:
    return data + bytes(-len(data) % size)
