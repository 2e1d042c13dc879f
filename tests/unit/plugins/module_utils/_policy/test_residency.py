# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the residency variable has to go, and how a place where it may hide is reported."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import (
    ABSENT,
    PRESENT,
    RESIDENCY_VARIABLE,
    UNKNOWN,
    Place,
    decide,
    left_over,
)


def test_the_names_are_those_of_ggml_and_of_the_documentation() -> None:
    assert RESIDENCY_VARIABLE == "GGML_METAL_NO_RESIDENCY"
    assert (PRESENT, ABSENT, UNKNOWN) == ("present", "absent", "unknown")


@pytest.mark.parametrize(
    ("wanted", "is_virtual", "remove", "reason"),
    [
        ("auto", False, True, "GGML_METAL_NO_RESIDENCY disables Metal residency sets by its mere presence"),
        (
            "auto",
            None,
            False,
            (
                "it cannot be told whether this is a virtual Mac, which may need GGML_METAL_NO_RESIDENCY to work at all, so the variable "
                "is left alone: set residency_variable to absent or to unmanaged"
            ),
        ),
        ("absent", None, True, "GGML_METAL_NO_RESIDENCY disables Metal residency sets by its mere presence"),
        ("unmanaged", None, False, "residency_variable is unmanaged"),
        ("auto", True, False, "this is a virtual Mac, whose paravirtual GPU may need GGML_METAL_NO_RESIDENCY to work at all"),
        ("absent", True, True, "GGML_METAL_NO_RESIDENCY disables Metal residency sets by its mere presence"),
        ("absent", False, True, "GGML_METAL_NO_RESIDENCY disables Metal residency sets by its mere presence"),
        ("unmanaged", False, False, "residency_variable is unmanaged"),
        ("unmanaged", True, False, "residency_variable is unmanaged"),
    ],
)
def test_decide(wanted: str, is_virtual: t.Optional[bool], remove: bool, reason: str) -> None:
    decision = decide(wanted, is_virtual)
    assert (decision.remove, decision.reason) == (remove, reason)
    assert decision.uncertain is (wanted == "auto" and is_virtual is None)


def test_a_place_as_module_result() -> None:
    assert Place("plist", "/x.plist", PRESENT, (3, 4), "why").as_dict() == {
        "kind": "plist",
        "where": "/x.plist",
        "state": "present",
        "lines": [3, 4],
        "reason": "why",
    }
    assert Place("plist", "/x.plist", UNKNOWN).as_dict()["lines"] == []
    assert Place("plist", "/x.plist", UNKNOWN).reason == ""


LEFT = (
    "GGML_METAL_NO_RESIDENCY is still present in {}. What the files and the service manager held is gone, so something else sets it:"
    " a model's own env in GPUStack's server, or a wrapper script"
)


@pytest.mark.parametrize(
    ("places", "models_follow", "failure", "warnings"),
    [
        ([], False, "", []),
        ([("process", "pid 7", ABSENT)], False, "", []),
        ([("process", "pid 7", PRESENT), ("config_file", "/c", PRESENT)], False, LEFT.format("pid 7, /c"), []),
        (
            [("process", "pid 7", PRESENT), ("process", "pid 8", PRESENT)],
            True,
            "",
            ["GGML_METAL_NO_RESIDENCY is left in pid 7, pid 8, which is seen to with the models"],
        ),
        (
            [("process", "pid 7", PRESENT), ("config_file", "/c", PRESENT), ("plist", "/p", UNKNOWN)],
            True,
            LEFT.format("/c"),
            [
                "GGML_METAL_NO_RESIDENCY is left in pid 7, which is seen to with the models",
                "GGML_METAL_NO_RESIDENCY is unknown, not absent, in /p",
            ],
        ),
        (
            [("plist", "/p", UNKNOWN), ("process", "pid 7", UNKNOWN)],
            False,
            "",
            ["GGML_METAL_NO_RESIDENCY is unknown, not absent, in /p, pid 7"],
        ),
    ],
)
def test_what_is_left(places: list[tuple[str, str, str]], models_follow: bool, failure: str, warnings: list[str]) -> None:
    assert left_over([Place(*place) for place in places], models_follow) == (failure, warnings)
