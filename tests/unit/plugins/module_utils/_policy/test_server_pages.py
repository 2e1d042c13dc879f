# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import math
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import server_pages
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_pages import PAGE_SIZES, Page, Reading, parse_page


def page(number: int, ids: t.Iterable[int], total: int) -> Page:
    return Page(number, tuple({"id": one} for one in ids), total)


def test_the_server_takes_all_page_sizes_and_each_is_another():
    assert max(PAGE_SIZES) == 100
    assert len(set(PAGE_SIZES)) == len(PAGE_SIZES)
    assert server_pages.MOST_ITEMS == 100_000


@pytest.mark.parametrize("identity", [1, "mac-1:mps:0"])
def test_a_page(identity):
    items = [{"id": identity, "name": "a"}]
    data = {"items": items, "pagination": {"page": 2, "perPage": 100, "total": 101, "totalPage": 2}}
    assert parse_page(data) == Page(2, ({"id": identity, "name": "a"},), 101)


def test_an_empty_page():
    assert parse_page({"items": [], "pagination": {"page": 0, "total": 0}}) == Page(0, (), 0)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "x",
        {},
        {"items": []},
        {"pagination": {"page": 1, "total": 0}},
        {"items": {}, "pagination": {"page": 1, "total": 0}},
        {"items": [], "pagination": [1]},
        {"items": [], "pagination": {"page": 1}},
        {"items": [], "pagination": {"total": 1}},
        {"items": [], "pagination": {"page": "1", "total": 0}},
        {"items": [], "pagination": {"page": 1, "total": 0.5}},
        {"items": [], "pagination": {"page": 1, "total": -1}},
        {"items": [], "pagination": {"page": -1, "total": 0}},
        {"items": [], "pagination": {"page": True, "total": 0}},
        {"items": ["x"], "pagination": {"page": 1, "total": 1}},
        {"items": [{"name": "a"}], "pagination": {"page": 1, "total": 1}},
        {"items": [{"id": None}], "pagination": {"page": 1, "total": 1}},
        {"items": [{"id": 1}, None], "pagination": {"page": 1, "total": 2}},
    ],
)
def test_what_is_no_page(data):
    assert parse_page(data) is None


def test_nothing_is_whole_before_anything_is_read():
    assert Reading().whole is None


def test_an_empty_list_is_whole_at_once():
    reading = Reading()
    reading.begin()
    assert reading.add(page(1, [], 0)) is False
    assert reading.whole == []


def test_a_list_of_three_pages():
    reading = Reading()
    reading.begin()
    assert reading.add(page(1, [9, 8], 5)) is True
    assert reading.whole is None
    assert reading.add(page(2, [7, 6], 5)) is True
    assert reading.add(page(3, [5], 5)) is False
    assert reading.whole == [{"id": one} for one in (9, 8, 7, 6, 5)]


def test_a_list_that_ignores_pages_is_read_once():
    # GET /v1/models/{id}/instances gives all of them on each page.
    reading = Reading()
    reading.begin()
    assert reading.add(page(1, range(250), 250)) is False
    assert len(reading.whole or ()) == 250


def test_a_page_without_items_ends_a_reading():
    reading = Reading()
    reading.begin()
    assert reading.add(page(1, [1], 2)) is True
    assert reading.add(page(2, [], 2)) is False
    assert reading.whole is None


def test_a_reading_in_which_the_total_changes_is_given_up():
    # An item of page 1 is deleted, and the first of page 2 moves there, where it is not looked for again.
    reading = Reading()
    reading.begin()
    assert reading.add(page(1, [9, 8], 4)) is True
    assert reading.add(page(2, [6], 3)) is False
    assert reading.whole is None
    reading.begin()
    assert reading.add(page(1, [9, 7], 3)) is True
    assert reading.add(page(2, [6], 3)) is False
    assert reading.whole == [{"id": 9}, {"id": 7}, {"id": 6}]


def test_what_was_found_before_the_total_changed_is_forgotten():
    reading = Reading()
    for ids, total in (([1, 2], 3), ([3], 2)):
        reading.begin()
        reading.add(page(1, ids, total))
    assert reading.whole is None
    reading.add(page(2, [4], 2))
    assert reading.whole == [{"id": 3}, {"id": 4}]


def test_a_list_that_gets_empty_is_empty():
    reading = Reading()
    reading.begin()
    reading.add(page(1, [1], 2))
    assert reading.add(page(2, [], 0)) is False
    assert reading.whole == []


def test_what_two_readings_miss_is_in_one_of_them():
    reading = Reading()
    reading.begin()
    for number, ids in ((1, [1, 2]), (2, [2, 3])):
        assert reading.add(page(number, ids, 4)) is True
    assert reading.add(page(3, [], 4)) is False
    reading.begin()
    assert reading.add(page(1, [4, 3, 3], 4)) is True
    assert reading.whole == [{"id": one} for one in (1, 2, 3, 4)]


def test_the_newest_of_two_wins():
    reading = Reading()
    for name, other in (("old", 2), ("new", 3)):
        reading.begin()
        reading.add(Page(1, ({"id": 1, "name": name}, {"id": other}), 3))
    assert reading.whole == [{"id": 1, "name": "new"}, {"id": 2}, {"id": 3}]


def test_a_whole_reading_goes_before_what_all_of_them_found():
    reading = Reading()
    reading.begin()
    reading.add(page(1, [1, 2], 3))
    reading.begin()
    reading.add(page(1, [3, 4, 5], 3))
    assert reading.whole == [{"id": 3}, {"id": 4}, {"id": 5}]


def test_more_items_than_there_are_is_no_list():
    reading = Reading()
    reading.begin()
    assert reading.add(page(1, [1, 2], 1)) is False
    assert reading.whole is None


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1000])
def test_ties_that_the_database_orders_anew_for_each_query(count):
    """PostgreSQL sorts the first OFFSET + LIMIT rows, and ties come out in an order that depends on that number."""

    def rows(size: int, number: int) -> list[int]:
        bound = size * number
        ordered = sorted(range(count), key=lambda one: (one // 7, (one * (bound % 7 + 1)) % 7))
        return ordered[size * (number - 1) : bound]

    naive = {one for number in range(1, math.ceil(count / 100) + 1) for one in rows(100, number)}
    reading = Reading()
    for size in PAGE_SIZES:
        reading.begin()
        number, more = 0, True
        while more:
            number += 1
            more = reading.add(page(number, rows(size, number), count))
        if reading.whole is not None:
            break
    assert {item["id"] for item in reading.whole or ()} == set(range(count))
    assert (len(naive) < count) is (count > 100)
