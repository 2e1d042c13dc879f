# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""plutil(1): -lint, the one use this collection has for it."""

from __future__ import annotations

import plistlib
import typing as t
from xml.parsers import expat

from .common import complain


def _lint(path: str, silent: bool) -> int:
    try:
        with open(path, "rb") as file:
            plistlib.load(file)
    except FileNotFoundError:
        complain(f"{path}: file does not exist or is not readable or is not a regular file")
        return 1
    except (ValueError, expat.ExpatError) as error:
        print(f"{path}: {error}")
        return 1
    if not silent:
        print(f"{path}: OK")
    return 0


def main(arguments: t.List[str]) -> int:
    files = [word for word in arguments if not word.startswith("-")]
    if "-lint" not in arguments or not files:
        complain("plutil: this simulated Mac knows `plutil -lint [-s] FILE...` only")
        return 1
    return max(_lint(path, "-s" in arguments) for path in files)
