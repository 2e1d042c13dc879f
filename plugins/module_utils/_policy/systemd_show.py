# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What `systemctl show` and `systemctl show-environment` say.

Sources: systemd src/shared/bus-print-properties.c, src/systemctl/systemctl-show.c and src/basic/escape.c
(shell_maybe_quote), v239 to v257.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

# Up to about v245 a value with a blank is not shown at all.
UNPRINTABLE = "[unprintable]"

_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ENVIRONMENT_FILE = re.compile(r"(?P<path>.*) \(ignore_errors=(?P<ignore>yes|no)\)\Z")


@dataclasses.dataclass(frozen=True)
class EnvironmentFile:
    """A file that systemd reads at each start. optional: it may be missing (`EnvironmentFile=-…`)."""

    path: str
    optional: bool


@dataclasses.dataclass(frozen=True)
class Shown:
    """The properties of a unit: name -> its values, one for each line that systemctl printed for it."""

    values: t.Mapping[str, t.Tuple[str, ...]]

    def text(self, name: str) -> str:
        """A property of one value; empty where it is not set or was not shown."""
        return self.values.get(name, ("",))[-1]

    def number(self, name: str) -> t.Optional[int]:
        """A property that is a number; None where it is not shown as one."""
        text = self.text(name)
        return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else None

    def words(self, name: str) -> t.Tuple[str, ...]:
        """A property that is a list of strings, unquoted."""
        return tuple(word for line in self.values.get(name, ()) for word in split_quoted(line))

    def environment_files(self) -> t.Tuple[EnvironmentFile, ...]:
        """EnvironmentFiles= in its order; called EnvironmentFile= by systemd before v241."""
        lines = self.values.get("EnvironmentFiles", ()) + self.values.get("EnvironmentFile", ())
        found = (_ENVIRONMENT_FILE.match(line) for line in lines)
        return tuple(EnvironmentFile(match.group("path"), match.group("ignore") == "yes") for match in found if match)


def parse_show(text: str) -> Shown:
    """Read the output of `systemctl show`; lines that are no property are left out."""
    values: t.Dict[str, t.Tuple[str, ...]] = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        if equals and re.fullmatch(r"[A-Za-z0-9]+", name):
            values[name] = values.get(name, ()) + (value,)
    return Shown(values)


def parse_environment(text: str) -> t.Dict[str, str]:
    """Read the output of `systemctl show-environment`: a variable in each line, its value quoted where it needs it."""
    variables: t.Dict[str, str] = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        if equals and name:
            variables[name] = "".join(split_quoted(value, blanks_part=False))
    return variables


def split_quoted(text: str, blanks_part: bool = True) -> t.List[str]:
    """Undo shell_maybe_quote: "…" (`systemctl show`) and $'…' (`show-environment`); blanks part the words.

    Text that is not well-formed is taken as it stands.
    """
    words: t.List[str] = []
    word: t.Optional[str] = None
    index = 0
    # Quotes that nothing closes: to look again behind each of many would take hours.
    unclosed: t.Set[str] = set()
    while index < len(text):
        char = text[index]
        if char == " " and blanks_part:
            if word is not None:
                words.append(word)
            word = None
            index += 1
            continue
        opening = "$'" if text.startswith("$'", index) else '"' if char == '"' else ""
        end = _closing(text, index + len(opening), opening[-1]) if opening and opening not in unclosed else None
        if end is None:
            unclosed.add(opening)
            word = (word or "") + char
            index += 1
        else:
            word = (word or "") + unescape(text[index + len(opening) : end])
            index = end + 1
    return words if word is None else [*words, word]


def unescape(text: str) -> str:
    """Undo the backslashes of shell_maybe_quote: control characters as in C, anything else stands for itself."""

    def replaced(match: t.Match[str]) -> str:
        escaped = match.group(1)
        return chr(int(escaped, 8)) if len(escaped) == 3 else _ESCAPES.get(escaped, escaped)

    # Bytes that are not UTF-8 are written in octal too; they come out as the character of that number.
    return re.sub(r"\\([0-7]{3}|.)", replaced, text, flags=re.DOTALL)


def _closing(text: str, start: int, quote: str) -> t.Optional[int]:
    """Where the quoted part that begins at start ends; None where it does not end."""
    found = re.compile(rf"(?:[^\\{quote}]|\\.)*{quote}", re.DOTALL).match(text, start)
    return found.end() - 1 if found is not None else None
