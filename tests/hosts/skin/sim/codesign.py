# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""codesign(1): nothing on a simulated Mac is signed, and it says so."""

from __future__ import annotations

import os
import typing as t

from .common import complain


def main(arguments: t.List[str]) -> int:
    files = [word for word in arguments if not word.startswith("-")]
    if not files:
        complain("Usage: codesign -v [-v*] [-R=<req string>|-R <req file path>] path|[+]pid ...")
        return 2
    for path in files:
        complain(f"{path}: code object is not signed at all" if os.path.exists(path) else f"{path}: No such file or directory")
    return 1
