# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Names and classes of Apple chips. Memory and GPU cores are always read from the machine, never looked up here."""

from __future__ import annotations

import dataclasses
import re
import typing as t

UNKNOWN = "unknown"
BASE_TIER = "base"

# "Apple M3 Ultra", "Apple M1 (Virtual)", and "Apple A18 Pro" of the MacBook Neo.
_NAME = re.compile(r"Apple (M([0-9]{1,3})|A[0-9]{1,3})(?: (Pro|Max|Ultra))?( \(Virtual\))?")

# Big Sur calls every chip "Apple processor" (archspec#38).
_NAMELESS = "Apple processor"

_MODELS_BY_CHIP: t.Dict[str, t.Tuple[str, ...]] = {
    "Apple M1": ("MacBookAir10,1", "MacBookPro17,1", "Macmini9,1", "iMac21,1", "iMac21,2"),
    "Apple M1 Pro": ("MacBookPro18,1", "MacBookPro18,3"),
    "Apple M1 Max": ("MacBookPro18,2", "MacBookPro18,4", "Mac13,1"),
    "Apple M1 Ultra": ("Mac13,2",),
    "Apple M2": ("Mac14,2", "Mac14,3", "Mac14,7", "Mac14,15"),
    "Apple M2 Pro": ("Mac14,9", "Mac14,10", "Mac14,12"),
    "Apple M2 Max": ("Mac14,5", "Mac14,6", "Mac14,13"),
    "Apple M2 Ultra": ("Mac14,8", "Mac14,14"),
    "Apple M3": ("Mac15,3", "Mac15,4", "Mac15,5", "Mac15,12", "Mac15,13"),
    "Apple M3 Pro": ("Mac15,6", "Mac15,7"),
    "Apple M3 Max": ("Mac15,8", "Mac15,9", "Mac15,10", "Mac15,11"),
    "Apple M3 Ultra": ("Mac15,14",),
    "Apple M4": ("Mac16,1", "Mac16,2", "Mac16,3", "Mac16,10", "Mac16,12", "Mac16,13"),
    "Apple M4 Pro": ("Mac16,7", "Mac16,8", "Mac16,11"),
    "Apple M4 Max": ("Mac16,5", "Mac16,6", "Mac16,9"),
    # The identifier of the M5 Ultra is not publicly known, so that chip is known by its name alone.
    "Apple M5": ("Mac17,2", "Mac17,3", "Mac17,4"),
    "Apple M5 Pro": ("Mac17,8", "Mac17,9"),
    "Apple M5 Max": ("Mac17,6", "Mac17,7"),
}

CHIP_BY_MODEL: t.Dict[str, str] = {model: chip for chip, models in _MODELS_BY_CHIP.items() for model in models}


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip as it is called, and its class.

    chip: the name, such as "Apple M3 Ultra"; None where nothing names it.
    family: "M3", "A18", or "unknown".
    generation: the number n of an Mn chip; None for every other chip.
    tier: "base", "pro", "max", "ultra", or "unknown".
    is_virtual: the name says that a hypervisor presents it.
    """

    chip: t.Optional[str]
    family: str
    generation: t.Optional[int]
    tier: str
    is_virtual: bool


def parse_chip(name: t.Optional[str]) -> Chip:
    """Classify a chip by its name. A name of an unknown form is kept, with family and tier "unknown"."""
    match = _NAME.fullmatch(name) if name else None
    if match is None:
        is_virtual = name is not None and name.endswith("(Virtual)")
        return Chip(chip=name or None, family=UNKNOWN, generation=None, tier=UNKNOWN, is_virtual=is_virtual)
    family, number, tier, virtual = match.groups()
    return Chip(
        chip=name,
        family=family,
        generation=int(number) if number else None,
        tier=tier.lower() if tier else BASE_TIER,
        is_virtual=virtual is not None,
    )


def identify_chip(names: t.Iterable[t.Optional[str]], model_identifier: t.Optional[str]) -> Chip:
    """Classify by the first name of a known form, else by the model identifier, else keep an unknown Apple name.

    The model decides after the names because Big Sur says "Apple processor" and translated processes may be told
    "VirtualApple @ 2.50GHz processor"; neither is a name.
    """
    candidates = [parse_chip(name) for name in names]
    for chip in candidates:
        if chip.family != UNKNOWN:
            return chip
    if model_identifier in CHIP_BY_MODEL:
        return parse_chip(CHIP_BY_MODEL[model_identifier])
    for chip in candidates:
        if chip.chip is not None and chip.chip.startswith("Apple ") and chip.chip != _NAMELESS:
            return chip
    return parse_chip(None)
