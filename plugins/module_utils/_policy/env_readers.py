# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""How the two programs that read /etc/default/gpustack read it.

On Linux systemd reads it at each start of the service (EnvironmentFile=). On macOS GPUStack's install.sh reads it, once,
when it runs, and copies what it read into the launchd property list. They disagree about quotes, backslashes, comments,
line ends and more; both are modelled here so that we write only what both read alike, and can say where a file that we
find is read differently.

Sources: systemd src/basic/env-file.c and env-util.c (v252, and v254 for the end of comments); install.sh of GPUStack
0.6.0 to 0.7.1, function setup_launchd. The systemd model is tested against real systemd, the other against real shells.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

SYSTEMD = "systemd"
INSTALL_SH = "install_sh"

_NEWLINES = "\n\r"
_WHITESPACE = " \t\n\r"
# Without the text itself, which may be a part of a secret of several lines.
_NO_NAME = "what stands before its `=` is not a name that a variable can have"
_VALID_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One thing that stands in the file: an assignment, or text with a key's place but no `=` (value None).

    start and end are offsets into the text; text[start:end] holds whole lines, the line end included.
    problem says why the reader does not take the entry as it stands; empty where it does.
    """

    line: int
    start: int
    end: int
    key: str
    value: t.Optional[str]
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a reader makes of a file. refused: why it ignores the file as a whole; empty where it does not."""

    entries: t.Tuple[Entry, ...]
    refused: str = ""

    def variables(self) -> t.Dict[str, str]:
        """The variables that result, the last assignment winning."""
        if self.refused:
            return {}
        return {entry.key: entry.value for entry in self.entries if entry.value is not None and not entry.problem}


def decode(data: bytes) -> str:
    """The file's text; bytes that are not UTF-8 survive the way there and back."""
    return data.decode(errors="surrogateescape")


def encode(text: str) -> bytes:
    """The reverse of decode()."""
    return text.encode(errors="surrogateescape")


def is_valid_name(name: str) -> bool:
    """Whether a program can be given a variable of this name (systemd's env_name_is_valid, POSIX with lower case)."""
    return _VALID_NAME.match(name) is not None


def read(text: str, reader: str) -> Reading:
    """Read the text as the named reader does."""
    return read_systemd(text) if reader == SYSTEMD else read_install_sh(text)


def is_valid_utf8(text: str) -> bool:
    """systemd's utf8_is_valid on text from decode(): no stray bytes and no Unicode noncharacters."""
    return not any(0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or (code & 0xFFFE) == 0xFFFE for code in map(ord, text))


def _rejoined(text: str) -> str:
    """Bytes of one character may stand on both sides of a closing quote or an escaped line end: systemd joins bytes."""
    return decode(encode(text))


class _SystemdParser:
    """parse_env_file_internal() of systemd, with the offsets of what it finds. One method a state."""

    def __init__(self, text: str, comment_continues: bool) -> None:
        self.text = text
        self.comment_continues = comment_continues
        self.entries: t.List[Entry] = []
        self.state = self.pre_key
        self.start = self.counted = 0
        self.line = 1
        self.key = self.value = ""
        # Where in the value its trailing unquoted whitespace starts; None where it does not end in any.
        self.trailing: t.Optional[int] = None

    def run(self) -> t.List[Entry]:
        for index, char in enumerate(self.text):
            self.state(index, char)
        if self.state == self.key_state:
            self.finish(len(self.text), None)
        elif self.state in (
            self.pre_value,
            self.value_state,
            self.value_escape,
            self.single_quote,
            self.double_quote,
            self.double_quote_escape,
        ):
            self.finish_value(len(self.text))
        return self.entries

    def finish(self, end: int, value: t.Optional[str]) -> None:
        if self.text[end - 1 : end + 1] == "\r\n":
            end += 1
        key = _rejoined(self.key.rstrip(_WHITESPACE))
        value = None if value is None else _rejoined(value)
        problem = ""
        if value is not None:
            if not is_valid_utf8(key) or not is_valid_utf8(value):
                problem = "it is not valid UTF-8"
            elif not is_valid_name(key):
                problem = _NO_NAME
        else:
            problem = "it has no `=`"
        # From entry to entry: to count from the beginning each time takes minutes for a file of some thousands of lines.
        self.line += self.text.count("\n", self.counted, self.start)
        self.counted = self.start
        self.entries.append(Entry(self.line, self.start, end, key, value, problem))
        self.reset(end)

    def finish_value(self, end: int) -> None:
        self.finish(end, self.value[: self.trailing])

    def reset(self, start: int) -> None:
        self.start = start
        self.key = self.value = ""
        self.trailing = None
        self.state = self.pre_key

    def pre_key(self, index: int, char: str) -> None:
        if char in "#;":
            self.state = self.comment
        elif char in _NEWLINES:
            self.start = index + 1
        elif char not in _WHITESPACE:
            self.state = self.key_state
            self.key = char

    def key_state(self, index: int, char: str) -> None:
        if char in _NEWLINES:
            self.finish(index + 1, None)
        elif char == "=":
            self.state = self.pre_value
        else:
            self.key += char

    def pre_value(self, index: int, char: str) -> None:
        if char in _NEWLINES:
            self.finish_value(index + 1)
        elif char == "'":
            self.state = self.single_quote
        elif char == '"':
            self.state = self.double_quote
        elif char == "\\":
            self.state = self.value_escape
        elif char not in _WHITESPACE:
            self.state = self.value_state
            self.value += char

    def value_state(self, index: int, char: str) -> None:
        if char in _NEWLINES:
            self.finish_value(index + 1)
        elif char == "\\":
            self.state = self.value_escape
            self.trailing = None
        else:
            if char not in _WHITESPACE:
                self.trailing = None
            elif self.trailing is None:
                self.trailing = len(self.value)
            self.value += char

    def value_escape(self, index: int, char: str) -> None:
        del index
        self.state = self.value_state
        if char not in _NEWLINES:
            self.value += char

    def single_quote(self, index: int, char: str) -> None:
        del index
        if char == "'":
            self.state = self.pre_value
        else:
            self.value += char

    def double_quote(self, index: int, char: str) -> None:
        del index
        if char == '"':
            self.state = self.pre_value
        elif char == "\\":
            self.state = self.double_quote_escape
        else:
            self.value += char

    def double_quote_escape(self, index: int, char: str) -> None:
        del index
        self.state = self.double_quote
        if char in '"\\`$':
            self.value += char
        elif char != "\n":
            self.value += "\\" + char

    def comment(self, index: int, char: str) -> None:
        if char == "\\":
            self.state = self.comment_escape
        elif char in _NEWLINES:
            self.reset(index + 1)

    def comment_escape(self, index: int, char: str) -> None:
        if char in _NEWLINES and not self.comment_continues:
            self.reset(index + 1)
        else:
            self.state = self.comment


def read_systemd(text: str, comment_continues: bool = False) -> Reading:
    """Read as systemd does. Until v253 a backslash at the end of a comment continues it on the next line."""
    entries = _SystemdParser(text, comment_continues).run()
    if "\0" in text:
        return Reading(tuple(entries), "it holds a NUL byte")
    for entry in entries:
        if entry.value is not None and entry.problem == "it is not valid UTF-8":
            # One such line makes load_env_file() fail, and `EnvironmentFile=-` then ignores the file without a word.
            return Reading(tuple(entries), f"line {entry.line} is not valid UTF-8")
    return Reading(tuple(entries))


def read_install_sh(text: str) -> Reading:
    """Read as `while IFS='=' read -r key value` of install.sh does, and as the property list it writes is then read."""
    entries: t.List[Entry] = []
    start = 0
    for number, line in enumerate(text.split("\n"), start=1):
        end = start + len(line) + 1
        complete = end <= len(text)
        if not line.startswith("#") and line:
            entries.append(_install_sh_entry(number, start, min(end, len(text)), line, complete))
        start = end
    return Reading(tuple(entries))


def _install_sh_entry(number: int, start: int, end: int, line: str, complete: bool) -> Entry:
    key, equals, rest = line.partition("=")
    value = _shell_last_field(rest)
    if not complete:
        problem = "the last line has no line end"
    elif not equals:
        problem = "it has no `=` and becomes a variable with an empty value"
    elif not is_valid_name(key):
        problem = _NO_NAME
    else:
        problem = _copying_problem(value)
    return Entry(number, start, end, key, _strip_quotes(value) if equals else None, problem)


def _shell_last_field(rest: str) -> str:
    """What `read` gives its last variable: all that is left, but a single field loses the delimiter that ends it."""
    return rest[:-1] if rest.count("=") == 1 and rest.endswith("=") else rest


def _strip_quotes(value: str) -> str:
    r"""sed -e 's/^"//' -e 's/"$//' -e "s/^'//" -e "s/'$//", one after another."""
    for quote in ('"', "'"):
        if value.startswith(quote):
            value = value[1:]
        if value.endswith(quote):
            value = value[:-1]
    return value


def _copying_problem(value: str) -> str:
    """Why a value does not arrive in the property list as it stands; empty where it does."""
    if "\\" in value:
        return "its backslash is interpreted by echo and printf"
    if re.match(r"-[neE]+\Z", value):
        return "echo takes it for an option"
    if "&" in value or "<" in value or "]]>" in value:
        return "its `&`, `<` or `]]>` is copied into XML without escaping, which breaks the property list"
    if not is_valid_utf8(value):
        return "it is not valid UTF-8"
    if any((ord(char) < 0x20 and char != "\t") or 0x7F <= ord(char) <= 0x9F for char in value):
        return "it holds a control character"
    return ""
