# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Where systemd and install.sh read a file differently: which line, and why. Values are never part of the answer."""

from __future__ import annotations

import dataclasses

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import env_readers


@dataclasses.dataclass(frozen=True)
class Difference:
    """A 1-based line and the reason why it does not mean the same to both readers."""

    line: int
    reason: str


def find_differences(text: str) -> list[Difference]:
    """Every line of the file that the two readers take differently, in the order of the file."""
    systemd = env_readers.read_systemd(text)
    if systemd.refused:
        return [Difference(1, f"systemd ignores the whole file, because {systemd.refused}; install.sh does not")]
    install_sh = env_readers.read_install_sh(text)
    by_line = {entry.line: entry for entry in systemd.entries}
    found = [_compare(entry, by_line.get(entry.line), systemd.entries, text) for entry in install_sh.entries]
    found += _carriage_returns(systemd, install_sh)
    found += _duplicates(systemd)
    found += _continued_comments(text)
    return sorted((difference for difference in found if difference is not None), key=lambda difference: difference.line)


def _compare(
    copied: env_readers.Entry, started: env_readers.Entry | None, entries: tuple[env_readers.Entry, ...], text: str
) -> Difference | None:
    if started is None:
        return Difference(copied.line, _why_only_copied(copied, entries, text))
    if started.problem and copied.problem:
        if copied.value is None:
            return Difference(copied.line, f"{copied.problem} for install.sh; systemd ignores the line")
        if started.problem == copied.problem:
            return None
        return Difference(copied.line, f"{copied.problem} (install.sh); {started.problem} (systemd)")
    if copied.problem:
        return Difference(copied.line, f"only systemd reads it as it stands; for install.sh {copied.problem}")
    # What install.sh copies as it stands has a name and no carriage return: systemd has nothing against it either.
    if (copied.key, copied.value) != (started.key, started.value):
        return Difference(copied.line, "its quotes or spaces mean different values to them")
    return None


def _why_only_copied(copied: env_readers.Entry, entries: tuple[env_readers.Entry, ...], text: str) -> str:
    content = text[copied.start : copied.end].strip()
    if not content:
        return "it holds only spaces, which install.sh takes for a variable"
    for entry in entries:
        if copied.start in range(entry.start, entry.end):
            return f"systemd takes it for a part of the value that starts on line {entry.line}; install.sh for a variable"
    return "systemd takes it for a comment; install.sh knows only comments that start the line with #"


def _carriage_returns(systemd: env_readers.Reading, install_sh: env_readers.Reading) -> list[Difference]:
    lines = {entry.line for entry in install_sh.entries}
    seen: set[int] = set()
    found = []
    for entry in systemd.entries:
        if entry.line in seen or entry.line not in lines:
            found.append(Difference(entry.line, "systemd starts a new line at a carriage return; install.sh does not"))
        seen.add(entry.line)
    return found


def _duplicates(systemd: env_readers.Reading) -> list[Difference]:
    first: dict[str, int] = {}
    found = []
    for entry in systemd.entries:
        if entry.value is None or entry.problem:
            continue
        if entry.key in first:
            reason = f"{entry.key} was set on line {first[entry.key]} already: systemd takes the last, install.sh copies both"
            found.append(Difference(entry.line, reason))
        first.setdefault(entry.key, entry.line)
    return found


def _continued_comments(text: str) -> list[Difference]:
    newer = env_readers.read_systemd(text).entries
    older = {entry.start for entry in env_readers.read_systemd(text, comment_continues=True).entries}
    return [
        Difference(entry.line, "systemd before 254 takes it for a part of the comment above, which ends with a backslash")
        for entry in newer
        if entry.start not in older
    ]
