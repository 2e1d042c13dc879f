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

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.json_fields import count_of

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
    if not isinstance(data, dict):
        return None
    pagination, items = data.get("pagination"), data.get("items")
    if not isinstance(pagination, dict) or not isinstance(items, list):
        return None
    if not all(isinstance(item, dict) and isinstance(item.get("id"), (int, str)) for item in items):
        return None
    number, total = count_of(pagination.get("page")), count_of(pagination.get("total"))
    return None if number is None or total is None else Page(number, tuple(items), total)


@dataclasses.dataclass
class Reading:
    """One or more readings of a list, until it is whole."""

    _total: int = dataclasses.field(default=-1, init=False)
    _found: t.Dict[t.Union[int, str], Item] = dataclasses.field(default_factory=dict, init=False)
    _this: t.Dict[t.Union[int, str], Item] = dataclasses.field(default_factory=dict, init=False)

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
