# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""system_profiler(8): the two data types that describe a Mac's chip and GPU."""

from __future__ import annotations

import json
import os
import time
import typing as t

from . import hardware
from .common import complain, profile, recorded

DEFAULT_TYPES = ["SPHardwareDataType", "SPDisplaysDataType"]
USAGE = "Usage: system_profiler [-listDataTypes]\n       system_profiler [-xml | -json] dataType1 ..."
JSON: t.Dict[str, t.Callable[[t.Dict[str, t.Any]], t.Dict[str, t.Any]]] = {
    "SPHardwareDataType": hardware.hardware_json,
    "SPDisplaysDataType": hardware.displays_json,
}
TEXT: t.Dict[str, t.Callable[[t.Dict[str, t.Any]], str]] = {
    "SPHardwareDataType": hardware.hardware_text,
    "SPDisplaysDataType": hardware.displays_text,
}


def _noise(facts: t.Dict[str, t.Any]) -> None:
    """macOS 26 tells standard error what it thinks of the CPU family (devMEremenko/XcodeBenchmark#664)."""
    if hardware.major(facts) < 26:
        return
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03d}"
    pid = os.getpid()
    complain(f"{stamp} system_profiler[{pid}:{pid * 1399}] hw.cpufamily: {facts['cpufamily'] & 0xFFFFFFFF:#x}")


def _system_profiler(arguments: t.List[str]) -> int:
    as_json = False
    types: t.List[str] = []
    words = iter(arguments)
    for word in words:
        if word == "-json":
            as_json = True
        elif word in ("-detailLevel", "-timeout"):
            next(words, None)
        elif word == "-listDataTypes":
            print("\n".join(["Available Datatypes:", *DEFAULT_TYPES]))
            return 0
        elif word.startswith("-"):
            complain(f"system_profiler: unknown option {word}\n{USAGE}")
            return 64
        else:
            types.append(word)
    facts = profile()
    known = [name for name in types or DEFAULT_TYPES if name in JSON]
    _noise(facts)
    if as_json:
        print(json.dumps({name: [JSON[name](facts)] for name in known}, indent=2, separators=(",", " : ")))
    else:
        print("".join(TEXT[name](facts) for name in known), end="")
    return 0


main = recorded("system_profiler", _system_profiler)
