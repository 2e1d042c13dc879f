# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Fields of JSON objects that others wrote. Nothing here raises: what is not as it should be is None, and a problem says so."""

from __future__ import annotations

import math
import typing as t

_Value = t.TypeVar("_Value")


def kind_of(value: t.Any) -> str:
    """What a value of JSON is, without showing it: it may be a secret."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (int, float)):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"


class Fields:
    """The fields of one object. where: what it is, for problems. A field that is missing or null is None, and no problem."""

    def __init__(self, data: t.Any, where: str, problems: t.List[str]) -> None:
        self.where = where
        self.problems = problems
        self.raw: t.Dict[str, t.Any] = data if isinstance(data, dict) else {}
        if not isinstance(data, dict):
            problems.append(f"{where} is {kind_of(data)}, not an object")

    def text(self, key: str) -> t.Optional[str]:
        """A text as it is."""
        return self._read(key, "text", _text)

    def whole(self, key: str) -> t.Optional[int]:
        """A number without fraction, zero or more, of 64 bits."""
        return self._read(key, "a whole number", count_of)

    def number(self, key: str) -> t.Optional[float]:
        """A number, zero or more."""
        return self._read(key, "a number", _number)

    def flag(self, key: str) -> t.Optional[bool]:
        """True or false."""
        return self._read(key, "true or false", _flag)

    def texts(self, key: str) -> t.Optional[t.Tuple[str, ...]]:
        """A list of texts; None where one of them is something else, since what is left would mean something else."""
        return self._read(key, "a list of texts", lambda value: _every(value, _text))

    def wholes(self, key: str) -> t.Optional[t.Tuple[int, ...]]:
        """A list of whole numbers."""
        return self._read(key, "a list of whole numbers", lambda value: _every(value, count_of))

    def texts_by_name(self, key: str) -> t.Optional[t.Dict[str, str]]:
        """An object of texts."""
        return self._read(key, "an object of texts", _texts_by_name)

    def wholes_by_index(self, key: str) -> t.Optional[t.Dict[int, int]]:
        """An object of whole numbers by index, as {"0": 1073741824}."""
        return self._read(key, "an object of whole numbers by index", _wholes_by_index)

    def anything(self, key: str) -> t.Optional[t.Dict[str, t.Any]]:
        """An object as it is."""
        return self._read(key, "an object", lambda value: value if isinstance(value, dict) else None)

    def section(self, key: str) -> Fields:
        """The fields of an object within this one; there are none where it is missing."""
        value = self.raw.get(key)
        return Fields({} if value is None else value, f"{self.where}: {key}", self.problems)

    def sections(self, key: str) -> t.Optional[t.List[Fields]]:
        """The objects of a list. What is no object is left out, and a problem."""
        values = self._read(key, "a list", lambda value: value if isinstance(value, list) else None)
        if values is None:
            return None
        found = []
        for index, value in enumerate(values):
            where = f"{self.where}: {key}[{index}]"
            if isinstance(value, dict):
                found.append(Fields(value, where, self.problems))
            else:
                self.problems.append(f"{where} is {kind_of(value)}, not an object")
        return found

    def _read(self, key: str, wanted: str, read: t.Callable[[t.Any], t.Optional[_Value]]) -> t.Optional[_Value]:
        value = self.raw.get(key)
        if value is None:
            return None
        found = read(value)
        if found is None:
            self.problems.append(f"{self.where}: {key} is {kind_of(value)}, not {wanted}")
        return found


def index_of(text: str) -> t.Optional[int]:
    """The index that a key of an object names: JSON has no other keys than texts."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else None


def _text(value: t.Any) -> t.Optional[str]:
    return value if isinstance(value, str) else None


def count_of(value: t.Any) -> t.Optional[int]:
    """A whole number, zero or more, of 64 bits; None for everything else that a JSON document can hold."""
    # A bool is an int to Python. Nothing that is counted here needs more than 64 bits, and what has hundreds of digits cannot be divided.
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None


def _number(value: t.Any) -> t.Optional[float]:
    whole = count_of(value)
    if whole is not None:
        return float(whole)
    # json.loads takes NaN and Infinity.
    return value if isinstance(value, float) and math.isfinite(value) and value >= 0 else None


def _flag(value: t.Any) -> t.Optional[bool]:
    return value if isinstance(value, bool) else None


def _every(value: t.Any, read: t.Callable[[t.Any], t.Optional[_Value]]) -> t.Optional[t.Tuple[_Value, ...]]:
    if not isinstance(value, list):
        return None
    found = tuple(one for one in map(read, value) if one is not None)
    return found if len(found) == len(value) else None


def _texts_by_name(value: t.Any) -> t.Optional[t.Dict[str, str]]:
    if isinstance(value, dict) and all(isinstance(one, str) for one in value.values()):
        return value
    return None


def _wholes_by_index(value: t.Any) -> t.Optional[t.Dict[int, int]]:
    if not isinstance(value, dict):
        return None
    found = {index_of(key): count_of(one) for key, one in value.items()}
    pairs = {index: one for index, one in found.items() if index is not None and one is not None}
    return pairs if len(pairs) == len(value) else None
