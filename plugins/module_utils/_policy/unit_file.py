# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Read systemd's unit and drop-in files; find a variable in them, and take it out without touching anything else.

Sources: systemd src/shared/conf-parser.c (lines, sections, comments between continued lines), src/basic/extract-word.c
and escape.c (words), src/core/load-fragment.c (Environment=, PassEnvironment=), v239 to v257.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import re
import typing as t

_BLANKS = " \t\n\r"
_COMMENTS = "#;"
# A line ends at \n, \r or NUL, two different ones counting as one end (read_line_full in src/basic/fileio.c).
_PHYSICAL_LINE = re.compile(r"(?P<content>[^\n\r\0]*)(?P<end>\r\n|\n\r|[\n\r\0]|\Z)")
_C_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " ", "\\": "\\", '"': '"', "'": "'"}
_NUMBER_ESCAPE = re.compile(r"x(?P<x>[0-9A-Fa-f]{2})|u(?P<u>[0-9A-Fa-f]{4})|U(?P<U>[0-9A-Fa-f]{8})|(?P<o>[0-7]{3})")

# Key -> whether its words are unescaped as in C. PassEnvironment= takes the character after a backslash as it stands.
_KEYS = {"Environment": True, "PassEnvironment": False}


@dataclasses.dataclass(frozen=True)
class Word:
    """One word of a value: its text without quotes, and where it begins and ends in the value."""

    text: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class _Line:
    """One line of the file. content: without its end and without a byte order mark; offset: where content begins."""

    number: int
    offset: int
    content: str
    end: str

    @property
    def is_comment(self) -> bool:
        return self.content.lstrip(_BLANKS)[:1] in tuple(_COMMENTS)

    @property
    def is_continued(self) -> bool:
        return (len(self.content) - len(self.content.rstrip("\\"))) % 2 == 1

    @property
    def next_offset(self) -> int:
        return self.offset + len(self.content) + len(self.end)


@dataclasses.dataclass(frozen=True)
class Assignment:
    """A line of [Service] with its continuations, comments between them left out.

    words: those of the value, with their places in what systemd joins the lines to; value_is_sound: whether all of it
    could be split.
    """

    key: str
    value: str
    lines: t.Tuple[_Line, ...]
    words: t.Tuple[Word, ...]
    value_is_sound: bool

    def line_numbers(self, indices: t.Iterable[int]) -> t.List[int]:
        """On which lines of the file characters of the joined lines stand."""
        ends = list(itertools.accumulate(len(line.content) for line in self.lines))
        return [self.lines[bisect.bisect_right(ends, index)].number for index in indices]


def find_variable(text: str, name: str) -> t.Tuple[int, ...]:
    """The 1-based lines on which [Service] sets a variable (Environment=) or takes it from the manager (PassEnvironment=)."""
    return tuple(sorted({number for assignment in assignments(text, _KEYS) for number in _lines_of(assignment, name)}))


def strip_variable(text: str, name: str) -> t.Tuple[str, t.Tuple[int, ...]]:
    """The text without the variable, every other character kept, and the 1-based lines on which it stood.

    An assignment that nothing remains of goes as a whole: left empty it would take back all that stand before it.
    """
    parts: t.List[str] = []
    numbers: t.List[int] = []
    done = 0
    for assignment in assignments(text, _KEYS):
        found = _lines_of(assignment, name)
        if found:
            # Comments between continued lines are part of the text up to the assignment's end, but not of the assignment.
            parts += [text[done : assignment.lines[0].offset], _without(assignment, name, text)]
            done = assignment.lines[-1].next_offset
            numbers += found
    return "".join([*parts, text[done:]]), tuple(sorted(set(numbers)))


def split_words(value: str, unescape: bool = True) -> t.Tuple[t.Tuple[Word, ...], bool]:
    """Split a value as systemd does, and whether all of it could be: from a broken quote or escape on, it is ignored."""
    words: t.List[Word] = []
    index = _after_blanks(value, 0)
    while index < len(value):
        word = _word(value, index, unescape)
        if word is None:
            return tuple(words), False
        words.append(word)
        index = _after_blanks(value, word.end)
    return tuple(words), True


def _after_blanks(value: str, start: int) -> int:
    while start < len(value) and value[start] in _BLANKS:
        start += 1
    return start


def _word(value: str, start: int, unescape: bool) -> t.Optional[Word]:
    """The word that begins at start; None where a quote or an escape in it is broken."""
    index, quote = start, ""
    text: t.List[str] = []
    while index < len(value) and (quote or value[index] not in _BLANKS):
        char = value[index]
        index += 1
        if char == "\\":
            taken = _escaped(value, index, unescape)
            if taken is None:
                return None
            text.append(taken[0])
            index = taken[1]
        elif char == quote or (char in "\"'" and not quote):
            quote = "" if quote else char
        else:
            text.append(char)
    return None if quote else Word("".join(text), start, index)


def _escaped(value: str, index: int, unescape: bool) -> t.Optional[t.Tuple[str, int]]:
    """The character that value[index:], behind a backslash, stands for, and where to go on; None where it is not valid."""
    char = value[index : index + 1]
    known = _C_ESCAPES.get(char) if unescape else char
    if known:
        return known, index + 1
    match = _NUMBER_ESCAPE.match(value, index)
    if match is None or not unescape:
        return None
    digits = match.group("x") or match.group("u") or match.group("U")
    number = int(digits, 16) if digits else int(match.group("o"), 8)
    limit = 0x10FFFF if match.group("u") or match.group("U") else 0xFF
    return (chr(number), match.end()) if 0 < number <= limit else None


def _lines_of(assignment: Assignment, name: str) -> t.List[int]:
    return assignment.line_numbers(word.start for word in assignment.words if _names(word, name))


def _names(word: Word, name: str) -> bool:
    return word.text.partition("=")[0] == name


def _without(assignment: Assignment, name: str, text: str) -> str:
    """The assignment's part of the file without the variable."""
    comments = _comments_between(assignment, text)
    going = [word for word in assignment.words if _names(word, name)]
    if assignment.value_is_sound and len(going) == len(assignment.words):
        return "".join(comment for _number, comment in comments)
    kept: t.List[t.Tuple[_Line, str]] = []
    start = first_word = 0
    for line in assignment.lines:
        end = start + len(line.content)
        # A word can begin on one line and end on another one; those of other lines are not looked at, of which there can be many.
        while first_word < len(going) and going[first_word].end <= start:
            first_word += 1
        last_word = first_word
        while last_word < len(going) and going[last_word].start < end:
            last_word += 1
        here = going[first_word:last_word]
        kept.append((line, _cut(line, [(max(word.start - start, 0), word.end - start) for word in here])))
        start = end
    # A line goes when nothing but its continuation is left of it; the first one holds the key, so it always stays.
    staying = [(line, content) for line, content in kept if content == line.content or content.strip(_BLANKS + "\\")]
    last_line, last = staying[-1]
    if not assignment.lines[-1].is_continued and last_line.is_continued:
        # The last line went, so the one before it must not go on into whatever comes next.
        staying[-1] = (last_line, last[:-1].rstrip(_BLANKS))
    numbered = [(line.number, content + line.end) for line, content in staying]
    return "".join(part for _number, part in sorted([*numbered, *comments]))


def _comments_between(assignment: Assignment, text: str) -> t.List[t.Tuple[int, str]]:
    """The comment lines that stand between the assignment's own lines, with their numbers."""
    first, last = assignment.lines[0], assignment.lines[-1]
    return [
        (line.number, line.content + line.end)
        for line in _physical_lines(text[first.offset : last.next_offset], first.number, first.offset)
        if line.is_comment
    ]


def _cut(line: _Line, places: t.Sequence[t.Tuple[int, int]]) -> str:
    """One line of an assignment without what is at some places (from, to), and the blanks behind each."""
    backslash = "\\" if line.is_continued else ""
    body = line.content[: len(line.content) - len(backslash)]
    if places:
        begins = [begin for begin, _end in places[1:]]
        behind = [body[end:begin].lstrip(_BLANKS) for (_begin, end), begin in zip(places, [*begins, len(body)])]
        body = "".join([body[: places[0][0]], *behind])
        if not (behind[-1] or backslash):
            body = body.rstrip(_BLANKS)
    if body.lstrip(_BLANKS)[:1] in tuple(_COMMENTS) and body + backslash != line.content:
        # What stood behind the variable must not become a comment, which would take the words behind it away.
        body = '"" ' + body
    return body + backslash


def assignments(text: str, keys: t.Container[str]) -> t.Iterator[Assignment]:
    """The lines of [Service] that assign to one of the keys, in their order."""
    section = ""
    for lines in _logical_lines(text):
        joined = "".join(line.content[:-1] + " " if line.is_continued else line.content for line in lines)
        stripped = joined.strip(_BLANKS)
        if stripped.startswith("[") and stripped.endswith("]"):
            section = stripped[1:-1]
        key, equals, value = joined.partition("=")
        name = key.strip(_BLANKS)
        if section != "Service" or not equals or name not in keys:
            continue
        shift = len(key) + len(equals)
        words, is_sound = split_words(value, _KEYS.get(name, True))
        moved = tuple(Word(word.text, word.start + shift, word.end + shift) for word in words)
        yield Assignment(name, value.strip(_BLANKS), lines, moved, is_sound)


def _logical_lines(text: str) -> t.Iterator[t.Tuple[_Line, ...]]:
    """Lines joined with their continuations. systemd leaves comments out before it looks for a continuation."""
    pending: t.List[_Line] = []
    for line in _physical_lines(text, 1, 0):
        if line.is_comment:
            continue
        pending.append(line)
        if not line.is_continued:
            yield tuple(pending)
            pending = []
    if pending:
        yield tuple(pending)


def _physical_lines(text: str, number: int, offset: int) -> t.Iterator[_Line]:
    position = 1 if offset == 0 and text.startswith("\ufeff") else 0
    for line, match in enumerate(_PHYSICAL_LINE.finditer(text, position), start=number):
        if match.group():
            yield _Line(line, offset + match.start(), match.group("content"), match.group("end"))
