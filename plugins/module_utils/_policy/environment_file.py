# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Bring the text of /etc/default/gpustack to the wanted state, and lose nothing that is not ours.

What we write stands in one block between two marker lines. Everything else is kept byte for byte, in its order; only
lines that set a variable we manage, and the residency variable in every spelling, are taken out.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import env_readers
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError

_BEGIN = "# BEGIN managed by metalfleet.gpustack"
_END = "# END managed by metalfleet.gpustack"
# Not splitlines(): it also cuts at form feeds, U+2028 and others, which end no line for any reader of the file.
_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")
# The begin marker remembers what was added in front of it, so that giving up the block gives back the very same bytes.
_BEGIN_PATTERN = re.compile(re.escape(_BEGIN) + r"(?: \((new file|after (\d) added line ends?)\))?[ \t\r]*\Z")
_END_PATTERN = re.compile(re.escape(_END) + r"[ \t\r]*\Z")
_PROBE = "METALFLEET_PROBE=1\n"

# `export X`, `declare -x X`, `typeset -x X`, quotes around the name, `+=`, a byte order mark: none of them makes a
# variable for systemd, but install.sh copies some, and all of them mean that somebody wants the variable set.
_SPELLING = re.compile(
    r"""\ufeff?\s*(?:(?:export|declare|typeset|readonly|setenv|set|env)\s+(?:-\w+\s+)*)*["']?(?P<name>[A-Za-z_][A-Za-z0-9_]*)["']?\+?\s*\Z"""
)


@dataclasses.dataclass(frozen=True)
class Change:
    """One change of the file: action (removed, set, taken_over), the variable's name, the 1-based line it stood on or None."""

    action: str
    name: str
    line: t.Optional[int] = None


@dataclasses.dataclass(frozen=True)
class Merge:
    """The outcome. text: None where there is to be no file. dropped: variables that were ours and are no longer wanted."""

    text: t.Optional[str]
    changes: t.Tuple[Change, ...]
    dropped: t.Tuple[str, ...]
    warnings: t.Tuple[str, ...]


@dataclasses.dataclass
class _Rest:
    """What is not our block, while lines are taken out of it.

    lines: for each character of text the 1-based line of the file on which it stands. position: where our block stood.
    """

    text: str
    lines: t.List[int]
    position: t.Optional[int] = None

    def cut(self, start: int, end: int) -> None:
        self.text = self.text[:start] + self.text[end:]
        del self.lines[start:end]
        if self.position is not None:
            self.position -= max(0, min(self.position, end) - start)

    def cut_marker(self) -> bool:
        """Cut a line that became a marker when something on it was taken out: a carriage return had made it two for systemd."""
        start = 0
        for line in _LINE.findall(self.text):
            if is_marker(line.rstrip("\n")):
                self.cut(start, start + len(line))
                return True
            start += len(line)
        return False

    def take_out(self, names: t.Collection[str], reader: str) -> t.List[t.Tuple[str, int]]:
        """Cut every assignment of these names, in every spelling; returns names and lines in the order of the file."""
        taken = []
        # What is taken out in one reading may show more of the other.
        while found := _first_found(self.text, names, reader):
            for entry in reversed(found):
                taken.append((spelled_name(entry.key), self.lines[entry.start]))
                self.cut(entry.start, entry.end)
        return sorted(taken, key=lambda item: item[1])


@dataclasses.dataclass(frozen=True)
class _Begun:
    """A block whose end was not met yet: the line of its begin marker, what that remembers, and the block's lines so far."""

    line: int
    is_new: bool
    added: int
    lines: t.List[str]


@dataclasses.dataclass(frozen=True)
class _Split:
    """A file without our block: the rest, what the block held, and what was amiss."""

    rest: _Rest
    block: str
    made_by_us: bool
    warnings: t.Tuple[str, ...]


def spelled_name(key: str) -> str:
    """The variable's name that a key's text means, whatever its spelling; the key itself where it means none."""
    match = _SPELLING.match(key)
    return match.group("name") if match else key


def is_marker(line: str) -> bool:
    """Whether a line is one of the two that enclose our block."""
    return bool(_BEGIN_PATTERN.match(line) or _END_PATTERN.match(line))


def find_variable(data: bytes, name: str, reader: str) -> t.List[int]:
    """The 1-based lines on which a variable stands in an environment file, in every spelling."""
    return sorted({entry.line for reading in _readings(env_readers.decode(data), reader) for entry in _of_names(reading, {name})})


def take_out(text: str, names: t.Collection[str], reader: str) -> t.Tuple[str, t.Tuple[Change, ...]]:
    """The text without the lines that set these variables, in every spelling; a block of ours is nothing special here."""
    rest = _Rest(text, _line_numbers(text))
    changes = tuple(Change("removed", name, line) for name, line in rest.take_out(names, reader))
    return rest.text, changes


def merge(
    text: t.Optional[str],
    block_lines: t.Sequence[str],
    reader: str,
    remove: t.Collection[str],
    keep_unmanaged: bool = True,
) -> Merge:
    """The wanted text for a file that now holds text (None: no such file).

    block_lines: our lines, without line ends; none means that our block goes. reader: who reads the file on this host.
    remove: variables to take out wherever they stand, such as the residency variable.
    """
    split = _split(text or "")
    wanted = "".join(f"{line}\n" for line in block_lines)
    ours = env_readers.read_systemd(wanted).variables()
    before = env_readers.read_systemd(split.block).variables()
    dropped = tuple(sorted(set(before) - set(ours)))
    changes = [Change("removed", name) for name in dropped]
    changes += [Change("set", name) for name in sorted(ours) if ours[name] != before.get(name)]

    rest = split.rest
    taken = rest.take_out({*remove, *ours}, reader)
    while rest.cut_marker():
        taken += rest.take_out({*remove, *ours}, reader)
    for name, line in taken:
        changes.append(Change("removed" if name in remove else "taken_over", name, line))
    if not keep_unmanaged:
        kept = [line for char, line in zip(rest.text, rest.lines) if not char.isspace()]
        changes += [Change("removed", "(a line that is not ours)", line) for line in sorted(set(kept))]
        rest.cut(0, len(rest.text))

    result: t.Optional[str] = rest.text
    if wanted:
        result = _insert(rest, wanted, text is None or split.made_by_us)
        _refuse_if_ignored(result, reader)
    elif text is None or (split.made_by_us and not rest.text):
        result = None
    return Merge(result, tuple(changes), dropped, split.warnings)


def _readings(text: str, reader: str) -> t.List[env_readers.Reading]:
    """How the reader may read the text: which systemd it is, before 254 or after, is not known here."""
    if reader == env_readers.SYSTEMD:
        return [env_readers.read_systemd(text), env_readers.read_systemd(text, comment_continues=True)]
    return [env_readers.read_install_sh(text)]


def _of_names(reading: env_readers.Reading, names: t.Collection[str]) -> t.List[env_readers.Entry]:
    """The assignments of these names in the order of the file, also from a file that the reader refuses as a whole."""
    return [entry for entry in reading.entries if spelled_name(entry.key) in names]


def _first_found(text: str, names: t.Collection[str], reader: str) -> t.Optional[t.List[env_readers.Entry]]:
    """The assignments that the first reading finds which finds any (None: none does): those of two readings may overlap."""
    return next((found for found in (_of_names(reading, names) for reading in _readings(text, reader)) if found), None)


def _refuse_if_ignored(text: str, reader: str) -> None:
    for reading in _readings(text, reader):
        if reading.refused:
            raise BadInputError(f"{reading.refused}, so systemd would ignore the whole file with all that we write: correct it")


def _line_numbers(text: str) -> t.List[int]:
    return [number for number, line in enumerate(_LINE.findall(text), start=1) for _char in line]


def _split(text: str) -> _Split:
    outside: t.List[str] = []
    numbers: t.List[int] = []
    block: t.List[str] = []
    begun: t.Optional[_Begun] = None
    position: t.Optional[int] = None
    made_by_us = False
    added_at_end = 0
    warnings: t.List[str] = []

    def keep(lines: t.List[str], first_number: int) -> None:
        for number, line in enumerate(lines, start=first_number):
            outside.append(line)
            numbers.extend([number] * len(line))

    for number, line in enumerate(_LINE.findall(text), start=1):
        bare = line.rstrip("\n")
        match = _BEGIN_PATTERN.match(bare)
        if match:
            if begun is not None:
                warnings.append(_unpaired("begins", begun.line))
                keep(begun.lines, begun.line + 1)
            begun = _Begun(number, match.group(1) == "new file", int(match.group(2) or 0), [])
        elif _END_PATTERN.match(bare):
            if begun is None:
                warnings.append(_unpaired("ends", number))
                continue
            made_by_us |= begun.is_new
            added_at_end = begun.added
            position = len(numbers) if position is None else position
            block += begun.lines
            begun = None
        elif begun is not None:
            begun.lines.append(line)
        else:
            keep([line], number)
            # What follows the block stays on a line of its own, so the line ends we added stay as well.
            added_at_end = 0
    if begun is not None:
        warnings.append(_unpaired("begins", begun.line))
        keep(begun.lines, begun.line + 1)
    rest = _Rest("".join(outside), numbers, position)
    if rest.text.endswith("\n" * added_at_end):
        rest.cut(len(rest.text) - added_at_end, len(rest.text))
    return _Split(rest, "".join(block), made_by_us, tuple(warnings))


def _unpaired(verb: str, line: int) -> str:
    return f"line {line} {verb} a managed block that has no other end; the marker is taken out and the lines around it are kept"


def _insert(rest: _Rest, wanted: str, is_new: bool) -> str:
    """Put the block where both readers take its lines for what they are."""
    position = len(rest.text) if rest.position is None else rest.position
    head, tail = rest.text[:position], rest.text[position:]
    for added in ("", "\n", "\n\n"):
        starts = _last_starts(head + added)
        if all(start == len(head + added) for start in starts):
            break
    else:
        line = rest.lines[min(starts)]
        raise BadInputError(
            f"line {line} opens a quote that is never closed, so systemd would take every line below for its value: close the quote"
        )
    note = " (new file)" if is_new else f" (after {len(added)} added line end{'s' if len(added) > 1 else ''})" if added and not tail else ""
    return f"{head}{added}{_BEGIN}{note}\n{wanted}{_END}\n{tail}"


def _last_starts(head: str) -> t.List[int]:
    """Where the last assignment starts for each reader when one more line follows head: at its end, where it is taken for a line."""
    probe = head + _PROBE
    readings = [*_readings(probe, env_readers.SYSTEMD), env_readers.read_install_sh(probe)]
    # Where a reading has none, the line became a part of a comment in head, so head does not end at 0.
    return [max([0, *(entry.start for entry in reading.entries)]) for reading in readings]
