# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the targets are made of: a parser, what it may raise, what it is fed with at first, and hosts that hold nothing but the input."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
import pathlib
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "unit" / "fixtures"
CAPTURES = pathlib.Path(os.environ.get("CAPTURES_DIR", ROOT.parent / "shared" / "captures"))

# No name of a variable holds it, and no message of ours.
CANARY = "c4n-4ry"


@dataclasses.dataclass(frozen=True)
class Target:
    """One parser.

    run: feeds it, raises AssertionError where a property does not hold, and returns what it made of the input. allowed: the
    parser's own documented errors. seeds: what the search starts from. largest_bytes: of an input. names_names: whether errors name
    what the input calls something (a member of an archive, a key, the path of a URL), so that they may hold any word of it.
    """

    name: str
    run: t.Callable[[bytes], t.Any]
    seeds: t.Tuple[bytes, ...]
    allowed: t.Tuple[t.Type[Exception], ...] = ()
    largest_bytes: int = 2048
    names_names: bool = False


def attempt(target: Target, data: bytes) -> None:
    """One execution. Whatever it raises is a finding."""
    first = _outcome(target, data)
    # Every eighth, since it doubles the cost.
    if len(data) % 8 == 0:
        assert repr(_outcome(target, data)) == repr(first), "the same input gives two answers"


def _outcome(target: Target, data: bytes) -> t.Any:
    try:
        return target.run(data)
    except target.allowed as exc:
        message = str(exc)
        assert message, "an error without a sentence"
        assert target.names_names or CANARY not in message, "an error shows what the input holds"
        return message


def text_of(data: bytes) -> str:
    """As Host.run() and env_readers.decode() have it."""
    return data.decode("utf-8", "surrogateescape")


def files(*patterns: str) -> t.Tuple[bytes, ...]:
    """Fixtures, and recordings where there are some, by patterns below their folders."""
    found = [path for pattern in patterns for folder in (FIXTURES, CAPTURES) for path in sorted(folder.glob(pattern))]
    return tuple(path.read_bytes() for path in found if path.is_file())


class InputHost:
    """A host on which every file holds the input."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def system(self) -> str:
        """Any will do."""
        return "Linux"

    def exposure(self, _path: str) -> str:
        """All is root's."""
        return ""

    def resolve(self, path: str) -> str:
        """There are no links."""
        return path

    def status(self, _path: str) -> None:
        """Of whom the file is, is not what is tried here."""

    def read(self, _path: str) -> bytes:
        """The input."""
        return self._data

    def open_binary(self, _path: str) -> t.IO[bytes]:
        """The input."""
        return io.BytesIO(self._data)

    def names(self, _folder: str) -> t.List[str]:
        """There is nothing beside it."""
        return []


# Values of types and sizes that JSON can have and an API has not.
_STRANGE: t.Tuple[t.Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, float("nan"), float("inf"), 1e308, [], {}, [[]], [{}], [None]),
    *(
        "",
        " ",
        "\0",
        "\n",
        "\ud800",
        "0",
        "-1",
        "1e999",
        "true",
        "../../etc/passwd",
        "/",
        "{{ 1 }}",
        "x" * 300,
        {"": ""},
        {"0": -1},
    ),
    *("0001-01-01T00:00:00", "9999-12-31T23:59:59.999999+00:00", "2026-11-22T11:25:14Z", ["a", 1], {"a": {"a": []}}, "v0.0.139"),
)


def reshaped(seeds: t.Sequence[t.Any], data: bytes) -> t.Any:
    """One of the seeds with parts of it replaced: the first byte says which seed, two bytes each say where and by what."""
    if not data:
        return None
    value = json.loads(json.dumps(seeds[data[0] % len(seeds)]))
    holder = {"": value}
    for where, what in zip(data[1::2], data[2::2]):
        _replace(holder, where, what)
    return holder[""]


def _replace(holder: t.Dict[str, t.Any], where: int, what: int) -> None:
    places = list(_places(holder))
    container, key = places[where * 7919 % len(places)] if len(places) > 256 else places[where % len(places)]
    if what == 0xFF and container is not holder:
        del container[key]
    elif what >= 0xF0 and len(places) < 256:
        # The whole in the place of a part, but not so often that it doubles without end.
        container[key] = json.loads(json.dumps(holder[""]))
    else:
        # A copy: a list that a later pair puts something into would be another one in the next input.
        container[key] = copy.deepcopy(_STRANGE[what % len(_STRANGE)])


def _places(value: t.Any) -> t.Iterator[t.Tuple[t.Any, t.Any]]:
    keys: t.Iterable[t.Any] = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
