# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""vm_stat(1): an idle machine's pages, in proportion to the profile's memory."""

from __future__ import annotations

import typing as t

from .common import profile

SHARES = (("free", 80), ("active", 5), ("inactive", 5), ("speculative", 1), ("throttled", 0), ("wired down", 4), ("purgeable", 1))


def main(_arguments: t.List[str]) -> int:
    facts = profile()
    size = 16384 if facts["arm64"] else 4096
    pages = facts["memory_bytes"] // size
    print(f"Mach Virtual Memory Statistics: (page size of {size} bytes)")
    for name, percent in SHARES:
        label = f"Pages {name}:"
        print(f"{label:<32}{pages * percent // 100:>16}.")
    return 0
