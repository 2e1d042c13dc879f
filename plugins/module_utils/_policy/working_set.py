# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""recommendedMaxWorkingSetSize of a Mac's GPU: set by the wired limit, measured by ggml-metal, or estimated."""

from __future__ import annotations

import dataclasses
import decimal
import fractions
import math
import re
import typing as t

MEASURED = "measured"
WIRED_LIMIT = "wired_limit"
ESTIMATED = "estimated"

MIB = 1024 * 1024
GIB = 1024 * MIB

# Pages of Apple Silicon. Every recorded default is the share below, rounded up to a page: 8 GB -> 5726633984 bytes.
PAGE_BYTES = 16384

# Up to macOS 15, as logged by ggml-metal in h2oai/h2ogpt#1359, Mozilla-Ocho/llamafile#206 and llama.cpp#7159, among them
# an M1 Max (32 GB: 2/3) and an M1 Ultra (64 GB: 3/4).
LAST_OLD_MAJOR = 15
SMALL_MEMORY_BYTES = 36 * GIB
SMALL_SHARE = fractions.Fraction(2, 3)
LARGE_SHARE = fractions.Fraction(3, 4)

# macOS 26 with iogpu.wired_limit_mb = 0. 8 GB: an M1 on 26.3.2. 16 GB: M4 (llama.cpp#27667), M3 (AlexsJones/llmfit PR#754).
# 48 GB: a single report, to the percent. 64 GB: an M3 Max. 128 GB: an M4 Max, an M5 Max (antirez/ds4 PR#893). Between two
# points the share is interpolated; above the last one it is held, the careful side of a rising series.
SHARES_BY_GIB: t.Tuple[t.Tuple[int, fractions.Fraction], ...] = (
    (8, fractions.Fraction(2, 3)),
    (16, fractions.Fraction(74, 100)),
    (48, fractions.Fraction(78, 100)),
    (64, fractions.Fraction(81, 100)),
    (128, fractions.Fraction(84, 100)),
)

# No default known lies outside 66 to 84 % of memory. A value outside these bounds was measured while a wired limit was
# set that is set no longer, or on another machine.
LEAST_PLAUSIBLE = fractions.Fraction(60, 100)
MOST_PLAUSIBLE = fractions.Fraction(90, 100)

_LOG_LINE = re.compile(r"recommendedMaxWorkingSetSize *= *([0-9]{1,12}(?:\.[0-9]{1,6})?) MB\b")


@dataclasses.dataclass(frozen=True)
class LogText:
    """A log of llama-box: where it is, when it was last written (seconds since the epoch), and what it says."""

    path: str
    modified_seconds: float
    text: str


@dataclasses.dataclass(frozen=True)
class WorkingSet:
    """The working set in bytes and where it comes from; both None where nothing tells. problems: what was not used."""

    size_bytes: t.Optional[int] = None
    source: t.Optional[str] = None
    problems: t.Tuple[str, ...] = ()


def estimate_bytes(memory_bytes: int, macos_version: t.Optional[str]) -> int:
    """What macOS gives the GPU by default. Without a version, the rule of macOS 15, which is never the larger one."""
    if macos_version is None or int(macos_version.split(".")[0]) <= LAST_OLD_MAJOR:
        share = SMALL_SHARE if memory_bytes <= SMALL_MEMORY_BYTES else LARGE_SHARE
    else:
        share = _share_of_macos_26(fractions.Fraction(memory_bytes, GIB))
    return min(memory_bytes, math.ceil(memory_bytes * share / PAGE_BYTES) * PAGE_BYTES)


def _share_of_macos_26(memory_gib: fractions.Fraction) -> fractions.Fraction:
    share = SHARES_BY_GIB[0][1]
    for (low_gib, low_share), (high_gib, high_share) in zip(SHARES_BY_GIB, SHARES_BY_GIB[1:]):
        climbed_gib = min(max(memory_gib, fractions.Fraction(low_gib)), fractions.Fraction(high_gib)) - low_gib
        share += (high_share - low_share) * climbed_gib / (high_gib - low_gib)
    return share


def parse_log(text: str) -> t.Optional[int]:
    """The bytes of the last recommendedMaxWorkingSetSize in a log, or None.

    ggml-metal prints decimal megabytes with two digits. That is finer than a page, so rounding to whole pages gives the
    very number Metal reported: 498216.21 MB is 475136 MiB.
    """
    found = _LOG_LINE.findall(text)
    if not found:
        return None
    return round(decimal.Decimal(found[-1]) * 1000000 / PAGE_BYTES) * PAGE_BYTES


def resolve(
    memory_bytes: t.Optional[int],
    macos_version: t.Optional[str],
    wired_limit_bytes: t.Optional[int],
    log: t.Optional[LogText],
    boot_seconds: t.Optional[int],
) -> WorkingSet:
    """Take the wired limit if one is set, else what a log of this boot says, else the estimate."""
    if wired_limit_bytes:
        return WorkingSet(wired_limit_bytes, WIRED_LIMIT)
    if memory_bytes is None:
        return WorkingSet()
    measured_bytes = None if log is None else parse_log(log.text)
    if log is None or measured_bytes is None:
        return WorkingSet(estimate_bytes(memory_bytes, macos_version), ESTIMATED)
    problem = _why_not(measured_bytes, log, memory_bytes, boot_seconds)
    if not problem:
        return WorkingSet(measured_bytes, MEASURED)
    problem = f"the working set in {log.path} is not used: {problem}"
    return WorkingSet(estimate_bytes(memory_bytes, macos_version), ESTIMATED, (problem,))


def _why_not(size_bytes: int, log: LogText, memory_bytes: int, boot_seconds: t.Optional[int]) -> str:
    """Why a measured value cannot be trusted; empty where it can.

    A reboot clears the wired limit, so a log from before it may tell of another limit. GPUStack starts each log anew with
    the process that writes it (worker/rpc_server.py, worker/serve_manager.py), so the time of its last line will do.
    """
    if boot_seconds is None:
        return "kern.boottime is unknown, so the log may be older than this boot"
    if log.modified_seconds <= boot_seconds:
        return "the log is older than this boot"
    if not LEAST_PLAUSIBLE * memory_bytes <= size_bytes <= MOST_PLAUSIBLE * memory_bytes:
        return f"{size_bytes} bytes is no default of a machine with {memory_bytes} bytes of memory"
    return ""
