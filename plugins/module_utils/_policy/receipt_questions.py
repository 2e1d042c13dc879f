# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Which commands a receipt has to ask again, which files are too young to be signed, and how old a receipt may be on which host.

The table is complete on purpose: a command that is not in it leaves a receipt that vouches for nothing.
"""

from __future__ import annotations

import hashlib
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit import NAMES

# The whole answer counts.
PLAIN = "plain"
# The whole answer counts, in whatever order its lines are.
LINES = "lines"
# Only what is read of `launchctl print` counts.
JOB = "job"
# The answer is another one only after the next boot, or when a file that is signed was changed.
FIXED = ""

_ASKED_AGAIN: t.Tuple[t.Tuple[t.Tuple[str, ...], str], ...] = (
    (("launchctl", "print"), JOB),
    (("launchctl", "print-disabled"), LINES),
    (("launchctl", "getenv"), PLAIN),
    (("systemctl", "--no-pager", "show"), PLAIN),
    (("systemctl", "--no-pager", "show-environment"), PLAIN),
    (("ps", "-o", "lstart="), PLAIN),
)
_SYSCTL = "/usr/sbin/sysctl"
BOOT_TIME = "kern.boottime"
# A sysctl of these names can be set at any time; the others say what the machine is.
_SETTABLE = frozenset((*NAMES, BOOT_TIME))

_SECOND_NS = 1_000_000_000
# Linux takes the time of the last tick of its clock (10 ms at most), APFS the exact one.
_TICK_NS = 50_000_000
# HFS+ and old file systems of Linux keep whole seconds, and FAT even ones.
_COARSE_NS = 2 * _SECOND_NS

# No run takes so long; what is this far ahead was not changed during it, but before the clock was set back.
_AHEAD_NS = 3600 * _SECOND_NS

# How long to wait, after a change, until nothing that it wrote is too young to be signed.
RIPE_SECONDS = 0.1


def way_to_ask(argv: t.Sequence[str], signed: t.Container[str]) -> t.Optional[str]:
    """How to ask again what a command has said; None where nobody knows. signed: files that are looked at anyway."""
    words = tuple(argv)
    for start, way in _ASKED_AGAIN:
        if words[: len(start)] == start:
            return way
    if words[:1] == (_SYSCTL,):
        names = [word for word in words[1:] if word != "-n"]
        return None if any("=" in name for name in names) else PLAIN if _SETTABLE.intersection(names) else FIXED
    if len(words) == 2 and words[0] in signed and words[1] == "--version":
        return FIXED
    return None


def is_ripe(ctime_ns: int, looked_at_seconds: float) -> bool:
    """Whether a file that is changed after it was looked at gets another ctime than it had: its clock has moved on since.

    Or back, and then it is not that time again for long.
    """
    granularity_ns = _COARSE_NS if ctime_ns % _SECOND_NS == 0 else _TICK_NS
    looked_at_ns = looked_at_seconds * _SECOND_NS
    return ctime_ns + granularity_ns < looked_at_ns or ctime_ns > looked_at_ns + _AHEAD_NS


def seconds_of_trust(max_age_hours: float, host: str) -> float:
    """How old a receipt may be on a host: between half and all of max_age_hours, always the same for one host.

    Receipts that were written in one run do not all go out of date in one run.
    """
    share = int.from_bytes(hashlib.sha256(host.encode("utf-8", "surrogatepass")).digest()[:4], "big") / 2**32
    return max_age_hours * 3600.0 * (1.0 - share / 2)
