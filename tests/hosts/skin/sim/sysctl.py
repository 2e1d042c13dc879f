# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""sysctl(8) of macOS: `sysctl [-n] [-a] [-w] name[=value] ...`; wrong names cost rc 1, the others are printed all the same."""

from __future__ import annotations

import os
import re
import struct
import sys
import typing as t

from . import hardware
from .common import complain, profile, read_json, recorded, write_json

# Values set here last until the next boot (/etc/sysctl.conf is ignored on a Mac); launchd forgets them when it starts again.
SET = "sysctl.json"
WRITABLE = re.compile(r"^(iogpu\.|debug\.iogpu\.)")
WIDE = ("hw.memsize", "debug.iogpu.wired_limit")


def _values() -> t.Dict[str, str]:
    """What the hardware says, what the profile has otherwise (null: this Mac lacks the OID), what was set since the boot."""
    facts = profile()
    values = {**hardware.sysctl_values(facts, read_json("boot.json")["time"]), **facts.get("sysctl", {}), **read_json(SET)}
    return {name: str(value) for name, value in values.items() if value is not None}


def _set(values: t.Dict[str, str], name: str, new: str, bare: bool) -> int:
    if name not in values:
        complain(f"sysctl: unknown oid '{name}'")
        return 1
    if not WRITABLE.match(name):
        complain(f"sysctl: oid '{name}' is read only")
        return 1
    if not re.match(r"^-?\d+$", new):
        complain(f"sysctl: invalid integer '{new}'")
        return 1
    start = values[name] if bare else f"{name}: {values[name]}"
    if os.geteuid() != 0:
        print(start)
        complain(f"sysctl: {name}: Operation not permitted")
        return 1
    print(f"{start} -> {new}")
    values[name] = new
    write_json(SET, {**read_json(SET), name: new})
    return 0


def _raw(name: str, value: str) -> bytes:
    """-b: as the kernel returns it; Ansible's uptime fact reads struct timeval this way."""
    if name == "kern.boottime":
        return struct.pack("<qq", *(int(word) for word in re.findall(r"\d+", value)[:2]))
    if re.match(r"^-?\d+$", value):
        return struct.pack("<q" if name in WIDE else "<i", int(value))
    return value.encode() + b"\0"


def _show_raw(values: t.Dict[str, str], name: str) -> int:
    if name not in values:
        complain(f"sysctl: unknown oid '{name}'")
        return 1
    sys.stdout.buffer.write(_raw(name, values[name]))
    return 0


def _show(values: t.Dict[str, str], name: str, bare: bool) -> int:
    """A name is an OID or a node above some."""
    found = [key for key in values if key == name or key.startswith(name.rstrip(".") + ".")]
    for key in found:
        print(values[key] if bare else f"{key}: {values[key]}")
    if not found:
        complain(f"sysctl: unknown oid '{name}'")
        return 1
    return 0


def _sysctl(arguments: t.List[str]) -> int:
    options = ""
    names: t.List[str] = []
    for word in arguments:
        if word.startswith("-") and not names:
            options += word[1:]
        else:
            names.append(word)
    unknown = [letter for letter in options if letter not in "nawAXb"]
    if unknown or not (names or "a" in options or "A" in options):
        if unknown:
            complain(f"sysctl: illegal option -- {unknown[0]}")
        complain("usage: sysctl [-bdehiNnoqx] name[=value] ...\n       sysctl [-bdehNnoqx] -a")
        return 1
    values = _values()
    if not names:
        for name, value in values.items():
            print(value if "n" in options else f"{name}: {value}")
        return 0
    codes = []
    for word in names:
        name, equals, new = word.partition("=")
        if equals:
            codes.append(_set(values, name, new, "n" in options))
        else:
            codes.append(_show_raw(values, name) if "b" in options else _show(values, name, "n" in options))
    sys.stdout.flush()
    return max(codes)


main = recorded("sysctl", _sysctl)
