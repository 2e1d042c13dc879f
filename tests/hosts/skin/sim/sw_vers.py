# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""sw_vers(1)."""

from __future__ import annotations

import typing as t

from .common import complain, profile


def main(arguments: t.List[str]) -> int:
    macos = profile()["macos"]
    facts = {"ProductName": "macOS", "ProductVersion": macos["version"], "BuildVersion": macos["build"]}
    if not arguments:
        for name, value in facts.items():
            print(f"{name}:\t\t{value}")
        return 0
    wanted = arguments[0].lstrip("-").lower()
    for name, value in facts.items():
        if name.lower() == wanted:
            print(value)
            return 0
    complain("Usage: sw_vers [--help|--productName|--productVersion|--productVersionExtra|--buildVersion]")
    return 1
