# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.chips import (
    CHIP_BY_MODEL,
    Chip,
    identify_chip,
    parse_chip,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("name", "family", "generation", "tier"),
    [
        ("Apple M1", "M1", 1, "base"),
        ("Apple M2 Pro", "M2", 2, "pro"),
        ("Apple M4 Max", "M4", 4, "max"),
        ("Apple M3 Ultra", "M3", 3, "ultra"),
        ("Apple M12 Ultra", "M12", 12, "ultra"),
        ("Apple A18 Pro", "A18", None, "pro"),
        ("Apple A19", "A19", None, "base"),
    ],
)
def test_classes_by_name(name, family, generation, tier):
    assert parse_chip(name) == Chip(name, family, generation, tier, is_virtual=False)


def test_a_virtual_chip_is_classified_and_marked():
    assert parse_chip("Apple M4 Max (Virtual)") == Chip("Apple M4 Max (Virtual)", "M4", 4, "max", is_virtual=True)


@pytest.mark.parametrize(
    "name",
    [
        "Apple processor",
        "Apple M",
        "Apple M1 Extreme",
        "Apple M1234",
        "Apple A1234",
        "Apple M1\n",
        " Apple M1",
        "apple m1",
        "VirtualApple @ 2.50GHz processor",
        "Intel(R) Core(TM) i9-9900K CPU @ 3.60GHz",
        "Apple S9 Pro",
        "Apple M\u0661",
    ],
)
def test_other_names_are_kept_and_unknown(name):
    assert parse_chip(name) == Chip(name, "unknown", None, "unknown", is_virtual=False)


def test_an_unknown_virtual_chip_is_still_virtual():
    assert parse_chip("Apple X1 (Virtual)") == Chip("Apple X1 (Virtual)", "unknown", None, "unknown", is_virtual=True)


@pytest.mark.parametrize("name", [None, ""])
def test_no_name(name):
    assert parse_chip(name) == Chip(None, "unknown", None, "unknown", is_virtual=False)


@given(st.text())
def test_no_text_is_a_failure(name):
    assert parse_chip(name).chip == (name or None)
    assert parse_chip("Apple " + name).chip == "Apple " + name


# The identifiers of each chip, written out here a second time: the table only names and classifies.
MODELS = {
    "Apple M1": "MacBookAir10,1 MacBookPro17,1 Macmini9,1 iMac21,1 iMac21,2",
    "Apple M1 Pro": "MacBookPro18,1 MacBookPro18,3",
    "Apple M1 Max": "MacBookPro18,2 MacBookPro18,4 Mac13,1",
    "Apple M1 Ultra": "Mac13,2",
    "Apple M2": "Mac14,2 Mac14,3 Mac14,7 Mac14,15",
    "Apple M2 Pro": "Mac14,9 Mac14,10 Mac14,12",
    "Apple M2 Max": "Mac14,5 Mac14,6 Mac14,13",
    "Apple M2 Ultra": "Mac14,8 Mac14,14",
    "Apple M3": "Mac15,3 Mac15,4 Mac15,5 Mac15,12 Mac15,13",
    "Apple M3 Pro": "Mac15,6 Mac15,7",
    "Apple M3 Max": "Mac15,8 Mac15,9 Mac15,10 Mac15,11",
    "Apple M3 Ultra": "Mac15,14",
    "Apple M4": "Mac16,1 Mac16,2 Mac16,3 Mac16,10 Mac16,12 Mac16,13",
    "Apple M4 Pro": "Mac16,7 Mac16,8 Mac16,11",
    "Apple M4 Max": "Mac16,5 Mac16,6 Mac16,9",
    "Apple M5": "Mac17,2 Mac17,3 Mac17,4",
    "Apple M5 Pro": "Mac17,8 Mac17,9",
    "Apple M5 Max": "Mac17,6 Mac17,7",
}


def test_the_table_of_models():
    assert {model: chip for chip, models in MODELS.items() for model in models.split()} == CHIP_BY_MODEL


def test_every_chip_of_the_table_has_a_class():
    assert all(parse_chip(chip).family != "unknown" for chip in CHIP_BY_MODEL.values())


def test_big_sur_is_resolved_by_its_model():
    assert identify_chip(["Apple processor"], "Macmini9,1") == parse_chip("Apple M1")
    assert identify_chip([None, "Apple processor"], "Mac13,2") == parse_chip("Apple M1 Ultra")


def test_a_name_beats_the_model():
    assert identify_chip(["Apple M2 Max"], "Mac15,14") == parse_chip("Apple M2 Max")


def test_the_first_name_of_a_known_form_counts():
    assert identify_chip([None, "Apple X1", "Apple M2", "Apple M3"], None) == parse_chip("Apple M2")


def test_the_model_beats_an_unknown_name():
    assert identify_chip(["Apple X1"], "Mac15,14") == parse_chip("Apple M3 Ultra")


def test_an_unknown_apple_chip_keeps_its_name():
    assert identify_chip([None, "Apple X1 (Virtual)", "Apple X2"], "Mac88,1") == parse_chip("Apple X1 (Virtual)")


@pytest.mark.parametrize("name", ["Apple processor", "VirtualApple @ 2.50GHz processor", "Intel(R) Core(TM) i5", None, "Apple"])
def test_what_is_no_name_of_an_apple_chip_is_dropped(name):
    assert identify_chip([name], "Mac88,1") == parse_chip(None)
