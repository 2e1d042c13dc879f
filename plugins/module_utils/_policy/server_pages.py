# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.
"""Putting together a long list of which the server gives a page at a time.

It sorts by created_at alone (mixins/active_record.py), which has whole seconds, so that models made by one script are tied.
PostgreSQL then gives some of them twice and others never, each time the same ones (measured with 1000 rows, 7 a second: 4
were missing). Pages of another size are cut elsewhere, so what one reading misses is in another.
"""

from __future__ import annotations

import dataclasses
import typing as t

# perPage is 100 at most (schemas/common.py). Each reading is all of the list.
PAGE_SIZES = (100, 97, 89, 83, 79)
# No fleet has more; a server that says so is broken, or is none.
MOST_ITEMS = 100_000

Item = t.Dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Page:
    """One page: its number, its items, and how many there are in all."""

    number: int
    items: t.Tuple[Item, ...]
    total: int


def parse_page(data: t.Any) -> t.Optional[Page]:
    """The page that an answer is, None where it is none. Never raises."""
    pagination = data.get("pagination") if isinstance(data, dict) else None
    items = data.get("items") if isinstance(data, dict) else None
    if not isinstance(pagination, dict) or not isinstance(items, list):
        return None
    number, total = pagination.get("page"), pagination.get("total")
    if not _is_count(number) or not _is_count(total):
        return None
    if not all(isinstance(item, dict) and isinstance(item.get("id"), (int, str)) for item in items):
        return None
    return Page(number, tuple(items), total)


class Reading:
    """One or more readings of a list, until it is whole."""

    def __init__(self) -> None:
        self._total = -1
        self._found: t.Dict[t.Union[int, str], Item] = {}
        self._this: t.Dict[t.Union[int, str], Item] = {}

    def begin(self) -> None:
        """Another reading begins, of pages of another size."""
        self._this = {}

    def add(self, page: Page) -> bool:
        """Take a page; returns whether this reading is worth going on with."""
        if page.total != self._total:
            moved = bool(self._this)
            self._total, self._found, self._this = page.total, {}, {}
            if moved:
                # Something came or went, and what was on pages to come may be on those that are read.
                return False
        self._this.update((item["id"], item) for item in page.items)
        self._found.update(self._this)
        return bool(page.items) and len(self._this) < page.total

    @property
    def whole(self) -> t.Optional[t.List[Item]]:
        """All items, None where some are missing."""
        for found in (self._this, self._found):
            if len(found) == self._total:
                return list(found.values())
        return None


def _is_count(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
