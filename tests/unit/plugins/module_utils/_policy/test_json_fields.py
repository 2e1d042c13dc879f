# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import json_fields
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.json_fields import Fields


def fields(**values) -> Fields:
    return Fields(values, "it", [])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"),
        (True, "true or false"),
        ("", "text"),
        (0, "a number"),
        (0.5, "a number"),
        ([], "a list"),
        ({}, "an object"),
    ],
)
def test_kind_of_a_value_never_shows_it(value, kind):
    assert json_fields.kind_of(value) == kind


@pytest.mark.parametrize(
    ("read", "value", "found"),
    [
        ("text", "", ""),
        ("text", " a\nb ", " a\nb "),
        ("whole", 0, 0),
        ("whole", (1 << 63) - 1, (1 << 63) - 1),
        ("number", 0, 0.0),
        ("number", 99.5, 99.5),
        ("number", 0.0, 0.0),
        ("number", (1 << 63) - 1, float(1 << 63)),
        ("flag", True, True),
        ("flag", False, False),
        ("texts", [], ()),
        ("texts", ["--a", ""], ("--a", "")),
        ("wholes", [0, 1], (0, 1)),
        ("texts_by_name", {}, {}),
        ("texts_by_name", {"os": "linux"}, {"os": "linux"}),
        ("wholes_by_index", {}, {}),
        ("wholes_by_index", {"0": 5, "9999": 0}, {0: 5, 9999: 0}),
        ("anything", {}, {}),
        ("anything", {"a": [1]}, {"a": [1]}),
    ],
)
def test_reads_what_is_as_it_should_be(read, value, found):
    one = fields(key=value)
    result = getattr(one, read)("key")
    assert result == found
    assert type(result) is type(found)
    assert one.problems == []


@pytest.mark.parametrize(
    ("read", "value", "problem"),
    [
        ("text", 5, "it: key is a number, not text"),
        ("whole", True, "it: key is true or false, not a whole number"),
        ("whole", -1, "it: key is a number, not a whole number"),
        ("whole", 1 << 63, "it: key is a number, not a whole number"),
        ("whole", 1.0, "it: key is a number, not a whole number"),
        ("whole", "1", "it: key is text, not a whole number"),
        ("number", "1", "it: key is text, not a number"),
        ("number", True, "it: key is true or false, not a number"),
        ("number", -0.5, "it: key is a number, not a number"),
        ("number", -1, "it: key is a number, not a number"),
        ("number", 1 << 63, "it: key is a number, not a number"),
        ("number", json.loads("NaN"), "it: key is a number, not a number"),
        ("number", json.loads("Infinity"), "it: key is a number, not a number"),
        ("flag", 1, "it: key is a number, not true or false"),
        ("texts", "--a", "it: key is text, not a list of texts"),
        ("texts", ["--a", 5], "it: key is a list, not a list of texts"),
        ("texts", ["--a", None], "it: key is a list, not a list of texts"),
        ("wholes", [0, "1"], "it: key is a list, not a list of whole numbers"),
        ("wholes", [0, 1 << 63], "it: key is a list, not a list of whole numbers"),
        ("wholes", {}, "it: key is an object, not a list of whole numbers"),
        ("texts_by_name", {"a": 1}, "it: key is an object, not an object of texts"),
        ("texts_by_name", ["a"], "it: key is a list, not an object of texts"),
        ("wholes_by_index", {"a": 1}, "it: key is an object, not an object of whole numbers by index"),
        ("wholes_by_index", {"0": None}, "it: key is an object, not an object of whole numbers by index"),
        ("wholes_by_index", {"0": 5, "00": 5}, "it: key is an object, not an object of whole numbers by index"),
        ("wholes_by_index", [1], "it: key is a list, not an object of whole numbers by index"),
        ("anything", [], "it: key is a list, not an object"),
        ("sections", {}, "it: key is an object, not a list"),
    ],
)
def test_what_is_otherwise_is_none_and_a_problem(read, value, problem):
    one = fields(key=value)
    assert getattr(one, read)("key") is None
    assert one.problems == [problem]


@pytest.mark.parametrize(
    "read", ["text", "whole", "number", "flag", "texts", "wholes", "texts_by_name", "wholes_by_index", "anything", "sections"]
)
@pytest.mark.parametrize("values", [{}, {"key": None}])
def test_what_is_missing_is_none_and_no_problem(read, values):
    one = fields(**values)
    assert getattr(one, read)("key") is None
    assert one.problems == []


@pytest.mark.parametrize(
    ("text", "index"),
    [("0", 0), ("12", 12), ("9999", 9999), ("10000", None), ("", None), ("a", None), ("-1", None), ("²", None), ("\u0661", None)],
)
def test_index_of_a_key(text, index):
    assert json_fields.index_of(text) == index


def test_a_section_has_the_fields_of_an_object_within():
    one = fields(memory={"total": 5, "used": "x"})
    memory = one.section("memory")
    assert (memory.whole("total"), memory.whole("used"), memory.where) == (5, None, "it: memory")
    assert one.problems == ["it: memory: used is text, not a whole number"]


@pytest.mark.parametrize("values", [{}, {"memory": None}])
def test_a_missing_section_is_empty(values):
    one = fields(**values)
    assert one.section("memory").whole("total") is None
    assert one.problems == []


def test_a_section_that_is_no_object_is_empty_and_a_problem():
    one = fields(memory=[5])
    assert one.section("memory").raw == {}
    assert one.problems == ["it: memory is a list, not an object"]


def test_sections_leave_out_what_is_no_object():
    one = fields(gpus=[{"index": 1}, None, "x", {}])
    assert [gpu.whole("index") for gpu in one.sections("gpus") or ()] == [1, None]
    assert one.problems == ["it: gpus[1] is null, not an object", "it: gpus[2] is text, not an object"]


def test_a_problem_in_a_section_of_a_list_says_which_one():
    one = fields(gpus=[{}, {"index": "x"}])
    for gpu in one.sections("gpus") or ():
        gpu.whole("index")
    assert one.problems == ["it: gpus[1]: index is text, not a whole number"]


@pytest.mark.parametrize(("data", "kind"), [(None, "null"), ("x", "text"), ([], "a list")])
def test_what_is_no_object_has_no_fields(data, kind):
    problems: list[str] = []
    one = Fields(data, "it", problems)
    assert (one.raw, one.text("key"), problems) == ({}, None, [f"it is {kind}, not an object"])
