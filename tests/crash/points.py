# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Points at which a run can be killed, read from the trace of one that was not."""

from __future__ import annotations

import collections
import dataclasses
import re
import typing as t

from calls import BEFORE, CALLS, DURING, MARK, changes_something

_LINE = re.compile(r"(\w+)\((.*)\)\s+= (\?|-?\d+)")
_UNFINISHED = re.compile(r"(\w+)\((.*)\)\s+= \?")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DESCRIPTOR = re.compile(r"(\d+)(?:,|$)")
# The first argument of these is a descriptor.
_INVISIBLE = ("write ", "pwrite64 ", "fsync ", "chmod ", "fchmod ", "chown ", "lchown ", "fchown ", "fsetxattr ", "utimensat ")
_BY_DESCRIPTOR = ("write", "pwrite64", "ftruncate", "fsync", "fchmod", "fchown", "fsetxattr", "fremovexattr")


@dataclasses.dataclass(frozen=True)
class Point:
    """name: call and path, or command, and which one of that name; without what differs from run to run. kill: for the agent."""

    name: str
    kill: t.Mapping[str, t.Any]


def points_of(trace: str) -> t.List[Point]:
    """The points of a run, in its order."""
    found: t.List[Point] = []
    numbers: t.Counter[str] = collections.Counter()
    names: t.Counter[str] = collections.Counter()
    for call, what in _deeds(trace):
        if call == "access":
            names[what] += 1
            for when in (BEFORE, DURING):
                found.append(
                    Point(_numbered(f"{when} {_steady(what)}", names[what]), {"command": what, "number": names[what], "when": when})
                )
            continue
        numbers[call] += 1
        if what:
            name = f"{call} {_steady(what)}"
            names[name] += 1
            found.append(Point(_numbered(name, names[name]), {"call": call, "number": numbers[call]}))
    return found


def died_at(trace: str) -> str:
    """The name, without a number, of the call at which a run was killed."""
    call, what = "", ""
    for call, what in _deeds(trace):  # noqa: B007 - the last one
        pass
    return f"{call} {_steady(what)}"


def bare(name: str) -> str:
    """A point's name without its number."""
    return re.sub(r" \(\d+\)$", "", name)


def spread(points: t.Sequence[Point], limit: int) -> t.List[Point]:
    """As many points, evenly spread over the run; all if there are no more. 0: all.

    Those that make a difference to who looks at names come first: commands and renames, before what is done to a file that nobody
    knows yet.
    """
    if not limit:
        return list(points)
    visible = [point for point in points if not point.name.startswith(_INVISIBLE)]
    others = [point for point in points if point.name.startswith(_INVISIBLE)]
    chosen = _evenly(visible, limit)
    chosen += _evenly(others, limit - len(chosen))
    return [point for point in points if point in chosen]


def _evenly(points: t.Sequence[Point], limit: int) -> t.List[Point]:
    if limit >= len(points):
        return list(points)
    return [points[number * len(points) // limit] for number in range(limit)]


def _deeds(trace: str) -> t.Iterator[t.Tuple[str, str]]:
    """Each call of CALLS with what it is about ("" where that is no file), and each command that changes something as `access`."""
    paths: t.Dict[str, str] = {}
    for line in trace.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        call, arguments, result = match.groups()
        texts = _TEXT.findall(arguments)
        descriptor = _DESCRIPTOR.match(arguments)
        if call == "openat":
            if not result.startswith("-"):
                paths[result] = texts[0]
        elif call == "close" and descriptor is not None:
            paths.pop(descriptor.group(1), None)
        elif call == "access":
            words = texts[0][len(MARK) :] if texts and texts[0].startswith(MARK) else ""
            if changes_something(words):
                yield call, words
        elif call in CALLS and call in _BY_DESCRIPTOR:
            yield call, paths.get(descriptor.group(1), "") if descriptor is not None else ""
        elif call in CALLS:
            yield call, " -> ".join(texts)


def _steady(text: str) -> str:
    """Without process numbers and times."""
    text = re.sub(r"\.\d+(\.old)?\.metalfleet", r".PID\1.metalfleet", text)
    return re.sub(r"\bundo-\d+", "undo-N", text)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} ({number})"
