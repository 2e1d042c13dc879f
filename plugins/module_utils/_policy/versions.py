# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Versions of GPUStack and of llama-box as numbers, and which GPUStack this collection is made for.

GPUStack 0.7 itself compares llama-box versions as strings, where v0.0.99 is newer than v0.0.157; that quirk is modelled
where it matters, in llama_box_layout, and nowhere else.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError

OLDEST_SUPPORTED = "0.6.0"
NEWEST_KNOWN = "0.7.1"

# PEP 440 ("0.7.0rc1", "0.6.0.post1") and git describe ("v0.0.136-3-gabc1234-dirty").
# No number is longer: Python refuses to read one of thousands of digits.
_VERSION = re.compile(
    r"""\s*v?(?P<release>\d{1,18}(?:\.\d{1,18})*)
        (?:[-._]?(?P<pre>dev|alpha|beta|a|b|rc|c)[-._]?(?P<pre_number>\d{0,18}))?
        (?P<rest>(?:(?:[-+]|\.post|\.dev).*)?)\s*\Z""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_LATER = re.compile(r"(?:[-.]post[-.]?(\d{0,18})|-(\d{1,18})-g[0-9a-f]+)", re.IGNORECASE)
_PRE_RANKS = {"dev": -4, "alpha": -3, "a": -3, "beta": -2, "b": -2, "rc": -1, "c": -1}


@dataclasses.dataclass(frozen=True)
class Version:
    """A version as numbers. release: (0, 6, 2). stage: negative before the release, 0 the release, 1 after it.

    dirty: it was built from a changed source tree, so that the numbers say little.
    """

    release: t.Tuple[int, ...]
    stage: int = 0
    stage_number: int = 0
    dirty: bool = False

    def key(self) -> t.Tuple[t.Tuple[int, ...], int, int]:
        """What versions are ordered by: 0.6 and 0.6.0 are the same."""
        release = self.release
        while release and release[-1] == 0:
            release = release[:-1]
        return release, self.stage, self.stage_number


@dataclasses.dataclass(frozen=True)
class Support:
    """Whether a GPUStack version is one this collection is made for: True, False, or None where that is not known."""

    supported: t.Optional[bool]
    reason: str = ""


def parse(text: t.Optional[str]) -> t.Optional[Version]:
    """The version that a text names, with or without `v`; None where it names none."""
    match = _VERSION.match(text or "")
    if match is None:
        return None
    release = tuple(int(part) for part in match.group("release").split("."))
    stage, number = 0, 0
    rest = match.group("rest")
    later = _LATER.match(rest)
    if match.group("pre"):
        stage, number = _PRE_RANKS[match.group("pre").lower()], int(match.group("pre_number") or 0)
    elif later:
        stage, number = 1, int(later.group(1) or later.group(2) or 0)
    return Version(release, stage, number, dirty="dirty" in rest.lower())


def compare(left: str, right: str) -> int:
    """-1, 0 or 1 as left is older than, equal to, or newer than right. Raises BadInputError for what is no version."""
    keys = []
    for text in (left, right):
        version = parse(text)
        if version is None:
            raise BadInputError(f"{text!r} is not a version; write it like v0.0.171 or 0.7.1")
        keys.append(version.key())
    return (keys[0] > keys[1]) - (keys[0] < keys[1])


def series(text: t.Optional[str]) -> t.Optional[t.Tuple[int, int]]:
    """The first two numbers, (0, 7) for 0.7.1 and its release candidates; None where they are not known.

    A build from a source tree calls itself 0.0.0 (gpustack/__init__.py): that says nothing of what it is.
    """
    version = parse(text)
    if version is None or len(version.release) < 2 or not any(version.release):
        return None
    return version.release[0], version.release[1]


def support(gpustack_version: t.Optional[str]) -> Support:
    """Whether this collection is made for a GPUStack version. A release candidate counts as its release."""
    version, numbers = parse(gpustack_version), series(gpustack_version)
    if version is None or numbers is None:
        what = f"GPUStack's version {gpustack_version!r} says nothing" if gpustack_version else "GPUStack's version is not known"
        return Support(None, f"{what}; this collection is made for {OLDEST_SUPPORTED} to {NEWEST_KNOWN}, check that it is one of these")
    name = f"GPUStack {str(gpustack_version).strip().lstrip('vV')}"
    if numbers[0] >= 2:
        return Support(
            False,
            f"{name} is not supported: since GPUStack 2 there is no llama-box and no worker on macOS; keep nodes with Metal GPUs, "
            f"and their server, on GPUStack {NEWEST_KNOWN}, or take this host out of the inventory of this collection",
        )
    if numbers < (0, 6):
        return Support(
            False,
            f"{name} is not supported: the oldest is {OLDEST_SUPPORTED}; upgrade GPUStack to {NEWEST_KNOWN}, "
            "or at least to 0.6.1, since 0.6.0 drops --no-mmap (gpustack#1907)",
        )
    if numbers > (0, 7):
        return Support(
            False,
            f"{name} is not supported: the newest that this collection knows is {NEWEST_KNOWN}; "
            "look for a newer release of this collection, or install that GPUStack",
        )
    if version != Version(version.release):
        return Support(True, f"{name} is not a plain release; it is treated like the release it belongs to")
    return Support(True)
