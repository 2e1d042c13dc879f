# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap import Override
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_case import (
    Around,
    Case,
    Finding,
    Placed,
    declared_labels,
    declared_weights,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_parts import Part
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_rooms import Load, Room
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import URL, claim, instance, mac, model, survey


def test_names_for_people() -> None:
    assert (Case(Model(name="a")).name, Case(Model()).name) == ("a", "a model without a name")
    assert (Placed(Instance(name="a-1"), ()).name, Placed(Instance(), ()).name) == ("a-1", "an instance without a name")


MAPPED = ("--mmap",)


@pytest.mark.parametrize(
    ("override", "parameters", "keeps"),
    [
        (None, MAPPED, False),
        (Override("--no-mmap", model="a"), MAPPED, False),
        (Override("--mmap", model="a"), None, True),
        (Override("--mmap", model="a"), MAPPED, True),
        (Override(None, model="a"), MAPPED, True),
        (Override(None, model="a"), ("--no-mmap",), False),
        (Override(None, model="a"), None, False),
    ],
)
def test_whether_an_override_keeps_mmap(override: t.Optional[Override], parameters: t.Any, keeps: bool) -> None:
    case = Case(Model(name="a", backend_parameters=parameters), override=override)
    assert case.keeps_mmap is keeps


def test_overrides_go_by_names_and_by_labels_that_the_play_has() -> None:
    overrides = [Override("--mmap", model="model-2"), Override(None, labels={"use": "rare"})]
    labels = {"model-3": {"use": "rare"}, "model-1": {"use": "often"}}
    cases, _around = survey([mac(1)], [model(1), model(2), model(3)], [], overrides=overrides, labels=labels)
    assert [case.override for case in cases] == [None, *overrides]
    assert [case.override for case in survey([mac(1)], [model(3, labels={"use": "rare"})], [], overrides=overrides)[0]] == [None]


def test_labels_that_a_person_declares() -> None:
    assert declared_labels({"a": {"tier": 1}, "2": {}}) == {"a": {"tier": "1"}, "2": {}}
    assert declared_labels({}) == {}


@pytest.mark.parametrize("labels", [None, "x", ["x"]])
def test_labels_that_are_none(labels: t.Any) -> None:
    with pytest.raises(BadInputError) as caught:
        declared_labels({"a": labels})
    assert str(caught.value) == f"labels of the model a are of type {type(labels).__name__}: write a dictionary"


def test_distributed_is_what_has_several_parts() -> None:
    parts = (Part(1, "a", True), Part(2, "b", False))
    assert [Placed(Instance(), parts[:count]).distributed for count in range(3)] == [False, False, True]


def test_what_is_around_a_part() -> None:
    around = Around("0.6.2", rooms={1: Room("mac-1")}, loads={1: Load(())})
    assert around.room(Part(1, "a", True)) is around.rooms[1]
    assert around.load(Part(1, "a", True)) is around.loads[1]
    for elsewhere in (Part(2, "b", True), Part(None, "c", True)):
        assert (around.room(elsewhere), around.load(elsewhere)) == (None, Load())


def test_a_finding_as_data() -> None:
    assert Finding("unknown", "why", "how", worker="mac-1").as_dict() == {
        "finding": "unknown",
        "reason": "why",
        "mend": "how",
        "instance": None,
        "worker": "mac-1",
    }


def test_all_models_with_their_instances_among_all_workers() -> None:
    cases, around = survey(
        [mac(1), mac(2), {**mac(3), "id": None}],
        [model(1, weights_gib=664), model(2), model(3, weights_gib=5)],
        [
            instance(2, 2, claim(1, 10)),
            instance(1, 1, claim(1, 38)),
            instance(2, 1, claim(1, 20), name="model-2-b"),
            instance(9, 1, claim(1, 99)),
        ],
        "0.6.0",
        [{"name": "studio-2.example.com", "node": {"gpustack_version": "0.6.0"}}],
        {"model-2": 7, "model-3": 9},
    )
    assert [(case.name, [placed.name for placed in case.placed], case.weights_bytes) for case in cases] == [
        ("model-1", ["model-1-a"], 664 * GIB),
        ("model-2", ["model-2-a", "model-2-b"], 7),
        ("model-3", [], 9),
    ]
    assert (around.gpustack_version, around.server_url) == ("0.6.0", URL)
    assert {key: (room.worker, room.node.name if room.node else None) for key, room in around.rooms.items()} == {
        1: ("mac-1", None),
        2: ("mac-2", "studio-2.example.com"),
    }
    assert {key: [(one.model, one.instance) for one in load.tenants] for key, load in around.loads.items()} == {
        1: [("model-1", "model-1-a"), ("model-2", "model-2-b")],
        2: [("model-2", "model-2-a")],
    }
    # With the version, the weights and the parameters of the model itself.
    assert cases[0].placed[0].parts[0].need.least_bytes == 703 * GIB


def test_a_model_without_a_name_or_declared_weights() -> None:
    cases, around = survey([], [model(name=None)], [])
    assert (cases[0].name, cases[0].weights_bytes, around.rooms) == ("a model without a name", None, {})


@pytest.mark.parametrize(
    ("sizes", "found"),
    [({}, {}), ({"a": 5, "b": "712964571136"}, {"a": 5, "b": 712964571136}), ({7: 1}, {"7": 1})],
)
def test_declared_weights(sizes: t.Any, found: t.Any) -> None:
    assert declared_weights(sizes) == found


@pytest.mark.parametrize("size", [0, "0", -1, 1.5, True, None, "664 GiB", [], ""])
def test_what_is_no_size(size: t.Any) -> None:
    with pytest.raises(BadInputError) as caught:
        declared_weights({"ok": 1, "big": size})
    assert str(caught.value) == f"weights_bytes of the model big is {size!r}: write a whole number of bytes above 0"
