# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import model_pin
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_pin import Pins, WorkerPins
from ansible_collections.metalfleet.gpustack.tests.unit.mmap_cases import model

PIN = "v0.0.139"
ASKED = {"backend_version": PIN}
WITHOUT: dict[str, t.Any] = {}
HAS = WorkerPins((PIN, "v0.0.144"), "0.6.2")
LACKS = WorkerPins(("v0.0.144",), "0.6.2")


def check(
    pins: Pins,
    workers: t.Sequence[str] = ("mac-1", "mac-2"),
    asked: t.Mapping[str, t.Any] = WITHOUT,
    before: t.Mapping[str, t.Any] = WITHOUT,
    version: str | None = PIN,
) -> list[str]:
    return model_pin.check(model(backend_version=version), workers, pins, asked, before)


def test_a_model_without_a_pin_is_right() -> None:
    assert check(Pins(frozenset(), {"mac-1": LACKS, "mac-2": LACKS}), version=None) == []


def test_a_pin_that_is_locked_and_on_all_workers_is_right() -> None:
    assert check(Pins(frozenset([PIN]), {"mac-1": HAS, "mac-2": HAS}), asked=ASKED) == []
    assert check(Pins(None, {"mac-1": HAS, "mac-2": HAS}), asked=ASKED) == []


NOT_LOCKED = (
    "backend_version v0.0.139 of the model synthetic is not in the lock file, which has {}: add it with the playbook "
    "metalfleet.gpustack.lock, or take one of these"
)
MISSING = (
    "backend_version v0.0.139 of the model synthetic is not on {}, where GPUStack would download it unverified: put it there first "
    "(role gpustack_node with gpustack_node_llama_box_version: v0.0.139)"
)
UNKNOWN = (
    "the model synthetic: whether {} has llama-box v0.0.139 is not known, and GPUStack downloads unverified what a worker lacks; "
    "give the facts of these nodes (nodes)"
)


@pytest.mark.parametrize(
    ("pins", "problems"),
    [
        (Pins(frozenset(["v0.0.144", "v0.0.140"])), [NOT_LOCKED.format("v0.0.140, v0.0.144")]),
        (Pins(frozenset()), [NOT_LOCKED.format("nothing")]),
        (Pins(None, {"mac-1": LACKS, "mac-2": HAS}), [MISSING.format("mac-1")]),
        (Pins(None, {"mac-1": LACKS, "mac-2": WorkerPins((), None)}), [MISSING.format("mac-1, mac-2")]),
        (
            Pins(frozenset(["v0.0.144"]), {"mac-1": LACKS, "mac-2": HAS}),
            [NOT_LOCKED.format("v0.0.144"), MISSING.format("mac-1")],
        ),
    ],
)
def test_a_wrong_pin_is_an_error_where_it_is_asked_for_and_else_a_warning(pins: Pins, problems: list[str]) -> None:
    assert check(pins) == problems
    assert check(pins, before=ASKED) == problems
    with pytest.raises(BadInputError) as caught:
        check(pins, asked=ASKED)
    assert str(caught.value) == problems[0]
    # Also where the model has it already: the user stands by it.
    with pytest.raises(BadInputError):
        check(pins, asked=ASKED, before=ASKED)


def test_workers_that_may_not_get_the_model_need_no_pin() -> None:
    pins = Pins(None, {"mac-1": HAS, "mac-2": LACKS})
    assert check(pins, ["mac-1"], ASKED) == []
    assert check(pins, [], ASKED) == []


@pytest.mark.parametrize("workers", [{}, {"mac-1": WorkerPins(), "mac-2": WorkerPins(None, "0.7.1")}])
def test_workers_of_which_nothing_is_known_are_a_warning_once(workers: dict[str, WorkerPins]) -> None:
    pins = Pins(frozenset([PIN]), workers)
    assert check(pins, asked=ASKED) == [UNKNOWN.format("mac-1, mac-2")]
    assert check(pins, asked=ASKED, before={"backend_version": "v0.0.136"}) == [UNKNOWN.format("mac-1, mac-2")]
    # What the server has already was said when it was set.
    assert check(pins, asked=ASKED, before=ASKED) == []
    assert check(pins, before=ASKED) == []
    assert check(pins, asked={"backend_version": None}) == []


def test_a_warning_names_the_unknown_workers_alone() -> None:
    assert check(Pins(None, {"mac-1": HAS}), asked=ASKED) == [UNKNOWN.format("mac-2")]


@pytest.mark.parametrize(
    ("gpustack_version", "pin", "lacking"),
    [
        # 0.7 runs its builtin program for a pin of that name.
        ("0.7.1", "v0.0.171", False),
        ("0.7.1", "v0.0.164", True),
        ("0.7.0", "v0.0.164", False),
        ("0.6.2", "v0.0.154", True),
        (None, "v0.0.171", True),
    ],
)
def test_a_pin_of_the_builtin_program_needs_no_program_of_its_own_in_0_7(gpustack_version: str | None, pin: str, lacking: bool) -> None:
    assert bool(check(Pins(None, {"mac-1": WorkerPins((), gpustack_version)}), ["mac-1"], version=pin)) is lacking
