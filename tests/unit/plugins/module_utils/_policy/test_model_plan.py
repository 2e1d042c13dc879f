# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans for a model of 100 GiB on two Macs with 384 GiB for their GPUs and GPUStack 0.6.2, unless a test says otherwise."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import model_plan
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.fleet_nodes import parse_nodes
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.instance_age import MARK, marked
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap import Override
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_decision import surroundings
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_pin import Pins, WorkerPins
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_plan import START_FIELDS, Plan, Rules
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_wanted import read_wanted
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance, parse_instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import MODEL_FIELDS, parse_model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import parse_worker
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB
from ansible_collections.metalfleet.gpustack.tests.unit.properties import PROPERTY
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import claim, gpu, instance, linux, mac, model, with_status
from hypothesis import assume, given
from hypothesis import strategies as st

Json = t.Dict[str, t.Any]

MACS = [mac(1), mac(2)]
VIRTUAL = with_status(mac(3, name="vm-3"), gpu_devices=[gpu(8, name="Apple Paravirtual device")])
LINUX = linux(4, gpu(24, name="NVIDIA RTX 4090", kind="cuda"))
RESIDENCY = "GGML_METAL_NO_RESIDENCY"
NOTHING: tuple[str, Json] = ("none", {})


def rules(
    version: str = "0.6.2",
    workers: t.Sequence[Json] = (),
    pins: Pins | None = None,
    spread: bool = False,
    nodes: t.Sequence[Json] = (),
    **more: t.Any,
) -> Rules:
    around = surroundings(version, [parse_worker(one) for one in workers or MACS], parse_nodes(list(nodes)), **more)
    return Rules(around, pins or Pins(), spread)


def plan(current: Json | None, options: Json | None = None, around: Rules | None = None, *instances: Json, **more: t.Any) -> Plan:
    """The plan for a model of the server, with what a user says of it in options."""
    wanted = None if options is None else read_wanted({"name": "model-1", "state": "present", **options})
    parsed = None if current is None else parse_model(current)
    return model_plan.plan_model(parsed, wanted, [parse_instance(one) for one in instances], around or rules(), **more)


def done(made: Plan) -> tuple[str, t.Mapping[str, t.Any]]:
    return made.action, made.fields


def problem(*arguments: t.Any, **more: t.Any) -> str:
    with pytest.raises(BadInputError) as caught:
        plan(*arguments, **more)
    return str(caught.value)


def existing(weights_gib: float | None = 100, **changes: t.Any) -> Json:
    """A model that is as the policy wants it on Macs."""
    return model(1, weights_gib, **{"backend_parameters": ["--no-mmap"], **changes})


FILE = {"source": "local_path", "local_path": "/models/1.gguf"}


# What there is to do.


def test_a_model_that_is_right_is_left_alone() -> None:
    made = plan(existing())
    assert (made.name, *done(made), made.restarts, made.warnings, made.refusal) == ("model-1", *NOTHING, False, (), "")
    assert made.decision is not None
    assert (made.decision.flag, made.decision.rule) == ("--no-mmap", "unknown")


def test_a_model_that_is_as_wanted_is_left_alone() -> None:
    assert done(plan(existing(), {**FILE, "replicas": 1, "backend": "llama-box", "worker_selector": {}, "env": {}})) == NOTHING


@pytest.mark.parametrize(("current", "action"), [(existing(), "delete"), (None, "none")])
def test_a_model_that_is_to_be_absent(current: Json | None, action: str) -> None:
    made = plan(current, {"state": "absent"})
    assert made == Plan("model-1", action)
    assert made.restarts is False


def test_a_model_is_created_with_what_is_asked_for_and_the_flag() -> None:
    made = plan(None, {**FILE, "replicas": 2, "backend_parameters": ["--ctx-size=8192"], "gpu_ids": [], "backend_version": ""})
    assert (made.name, made.action, made.restarts) == ("model-1", "create", False)
    assert made.fields == {"name": "model-1", **FILE, "replicas": 2, "backend_parameters": ["--no-mmap", "--ctx-size=8192"]}


def test_a_model_of_another_name_than_the_servers_is_none_of_its_models() -> None:
    assert plan(None, {"name": "other", **FILE}).fields["name"] == "other"
    assert plan(existing(name="Ünï cødé"), {"name": "Ünï cødé"}).name == "Ünï cødé"
    assert plan(existing(name="Ünï cødé")).name == "Ünï cødé"


def test_what_is_to_be_created_needs_a_source() -> None:
    assert problem(None, {"replicas": 1}) == (
        "the server has no model model-1, and to create it its source is needed; add source and what belongs to it"
    )


def test_only_what_differs_is_changed() -> None:
    made = plan(existing(), {"replicas": 2, "description": "for all", "cpu_offloading": True, "categories": ["llm"]})
    assert done(made) == ("update", {"replicas": 2, "description": "for all"})


# The flag.


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["--no-mmap"], None),
        ([], ["--no-mmap"]),
        (None, ["--no-mmap"]),
        (["--mmap"], ["--no-mmap"]),
        (["--mmap=true"], ["--no-mmap"]),
        (["--no-mmap", "--no-mmap"], ["--no-mmap"]),
        (["--no-mmap", "--mmap"], ["--no-mmap"]),
        (["--ctx-size=1", "--no-mmap", "-fa"], None),
        (["--ctx-size=1", "--mmap", "-fa"], ["--no-mmap", "--ctx-size=1", "-fa"]),
        (["-fa", "--no-mmap", "--ctx-size=1", "--mmap"], ["--no-mmap", "-fa", "--ctx-size=1"]),
    ],
)
@pytest.mark.parametrize("version", ["0.6.0", "0.6.2", "0.7.1"])
def test_the_flag_of_a_model_on_macs(version: str, before: list[str] | None, after: list[str] | None) -> None:
    made = plan(existing(backend_parameters=before), None, rules(version))
    assert done(made) == (NOTHING if after is None else ("update", {"backend_parameters": after}))
    assert made.restarts is (after is not None)


@pytest.mark.parametrize(
    ("version", "before", "after"),
    [
        ("0.6.2", [], None),
        ("0.6.2", ["--mmap", "--mmap"], None),
        ("0.6.2", ["--no-mmap"], None),
        ("0.7.1", None, None),
        # Breaks instances of 0.6.
        ("0.6.0", None, []),
        ("0.6.2", None, []),
    ],
)
def test_the_parameters_of_a_model_on_linux_are_its_own(version: str, before: list[str] | None, after: list[str] | None) -> None:
    made = plan(existing(backend_parameters=before), None, rules(version, [LINUX]))
    assert done(made) == (NOTHING if after is None else ("update", {"backend_parameters": after}))


def test_parameters_that_the_server_does_not_tell_are_none() -> None:
    current = existing()
    del current["backend_parameters"]
    assert done(plan(current)) == ("update", {"backend_parameters": ["--no-mmap"]})
    assert done(plan(current, None, rules(workers=[LINUX]))) == NOTHING


def test_asked_parameters_take_the_place_of_those_that_are_there() -> None:
    current = existing(backend_parameters=["--no-mmap", "--ctx-size=1"])
    assert done(plan(current, {"backend_parameters": ["-fa"]})) == ("update", {"backend_parameters": ["--no-mmap", "-fa"]})
    assert done(plan(current, {"backend_parameters": []})) == ("update", {"backend_parameters": ["--no-mmap"]})
    assert done(plan(current, {"backend_parameters": ["--ctx-size=1", "--no-mmap"]})) == (
        "update",
        {"backend_parameters": ["--ctx-size=1", "--no-mmap"]},
    )


def test_a_llama_box_that_cannot_be_upgraded_gets_mmap_and_mlock() -> None:
    current = existing(None, backend_version="v0.0.130", distributed_inference_across_workers=False, backend_parameters=["-fa"])
    made = plan(current, None, rules(can_upgrade_llama_box=False), instance(1, 1, claim(1, 299)))
    assert made.fields == {"backend_parameters": ["--mmap", "-fa", "--mlock"]}
    assert made.warnings == ("the model model-1: a workaround: mmap with --mlock, and an estimate without the weights",)


def test_a_selector_that_is_asked_for_decides_which_workers_count() -> None:
    labelled = rules(workers=[mac(1), {**LINUX, "labels": {"os": "linux", "zone": "a"}}])
    current = existing(backend_parameters=[])
    assert plan(current, None, labelled).fields == {"backend_parameters": ["--no-mmap"]}
    assert plan(current, {"worker_selector": {"zone": "a"}}, labelled).fields == {"worker_selector": {"zone": "a"}}


# Mmap that is asked for.


@pytest.mark.parametrize("parameters", [["--mmap"], ["--ctx-size=1", "--no-mmap", "--mmap"], ["--mmap=false"]])
def test_asking_for_mmap_on_macs_is_a_contradiction(parameters: list[str]) -> None:
    assert problem(existing(), {"backend_parameters": parameters}, rules(), claim_bytes=GIB) == (
        "backend_parameters of the model model-1 ask for mmap, and the rule within_working_set says --no-mmap: the model needs "
        "101.0 GiB, mac-1 has a working set of 384.0 GiB (server) and 509.0 GiB of memory without GPUStack's reserve; "
        "take --mmap out, or write an override with a reason (docs/mmap.md)"
    )
    assert "ask for mmap" in problem(None, {**FILE, "backend_parameters": parameters})


def test_asking_for_no_mmap_in_the_end_is_none() -> None:
    assert plan(existing(), {"backend_parameters": ["--mmap", "--no-mmap"]}).action == "none"


def test_asking_for_mmap_is_right_where_the_policy_does_not_mind() -> None:
    on_linux = rules(workers=[LINUX])
    assert plan(existing(), {"backend_parameters": ["--mmap"]}, on_linux).fields == {"backend_parameters": ["--mmap"]}
    overridden = rules(overrides=[Override("--mmap", model="model-1")])
    assert plan(existing(), {"backend_parameters": ["-fa", "--mmap"]}, overridden).fields == {"backend_parameters": ["-fa", "--mmap"]}
    left_alone = rules(overrides=[Override(None, model="model-1")])
    assert plan(existing(), {"backend_parameters": ["--mmap"]}, left_alone).fields == {"backend_parameters": ["--mmap"]}


# Overrides.


def test_an_override_wins_and_is_warned_of() -> None:
    made = plan(existing(), None, rules(overrides=[Override("--mmap", model="model-1", reason="measured")]), claim_bytes=GIB)
    assert made.fields == {"backend_parameters": ["--mmap"]}
    assert made.warnings == (
        (
            "the model model-1: --mmap against the rule within_working_set, which says --no-mmap: the model needs 101.0 GiB, mac-1 has a "
            "working set of 384.0 GiB (server) and 509.0 GiB of memory without GPUStack's reserve (overridden for this reason: measured)"
        ),
    )
    assert plan(existing(name="model-2"), None, rules(overrides=[Override("--mmap", model="model-1")])).action == "none"


def test_an_override_may_go_by_the_labels_that_the_user_gives() -> None:
    around = rules(overrides=[Override("--mmap", labels={"tier": "gold"})])
    assert plan(existing(), {"labels": {"tier": "gold"}}, around).fields == {"backend_parameters": ["--mmap"]}
    assert plan(None, {**FILE, "labels": {"tier": "gold"}}, around).fields["backend_parameters"] == ["--mmap"]
    assert plan(existing(), {"labels": {"tier": "tin"}}, around).action == "none"
    assert plan(existing(), None, around).action == "none"


def test_an_override_that_is_a_risk_is_an_error_where_that_is_strict() -> None:
    around = rules(overrides=[Override("--mmap", model="model-1")], strict=True)
    assert problem(existing(), None, around).startswith(
        "strict: the override by model name model-1 for the model model-1 is a risk, --mmap"
    )


# The environment.


@pytest.mark.parametrize(
    ("workers", "stays"),
    [
        (MACS, False),
        ([VIRTUAL], True),
        ([VIRTUAL, VIRTUAL], True),
        ([VIRTUAL, *MACS], False),
        ([LINUX], False),
        ([mac(1, labels={"os": "darwin"}, status={})], False),
    ],
)
@pytest.mark.parametrize("value", ["1", "0", ""])
def test_the_residency_variable_stays_on_virtual_macs_alone(workers: list[Json], value: str, stays: bool) -> None:
    made = plan(existing(env={"A": "1", RESIDENCY: value}), None, rules(workers=workers))
    assert done(made) == (NOTHING if stays else ("update", {"env": {"A": "1"}}))
    assert made.restarts is not stays


def test_the_residency_variable_goes_where_no_worker_may_get_the_model() -> None:
    made = plan(existing(env={RESIDENCY: "1"}, worker_selector={"no": "such"}), None, rules(workers=[VIRTUAL]))
    assert made.fields == {"env": {}}


def test_workers_that_may_not_get_the_model_have_no_say_about_its_environment() -> None:
    current = existing(env={RESIDENCY: "1"}, gpu_selector={"gpu_ids": ["vm-3:mps:0"]})
    assert plan(current, None, rules(workers=[VIRTUAL, *MACS])).action == "none"


@pytest.mark.parametrize("env", [None, {}, {"A": "1"}, [], "x"])
def test_an_environment_without_the_variable_is_left_alone(env: t.Any) -> None:
    assert done(plan(existing(env=env))) == NOTHING


def test_an_environment_that_is_not_told_is_none() -> None:
    current = existing()
    del current["env"]
    assert done(plan(current)) == NOTHING


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        (None, {}, None),
        ({}, {}, None),
        ({"A": "1"}, {"A": "1"}, None),
        ({"A": "1"}, {}, {}),
        ({"A": "1"}, {"A": "2"}, {"A": "2"}),
        (None, {"A": "2"}, {"A": "2"}),
        ({"A": "1", RESIDENCY: "1"}, {"A": "1"}, {"A": "1"}),
        # The mark is none of the user's.
        ({MARK: "x:1"}, {}, None),
        ({MARK: "x:1", "A": "1"}, {"A": "1"}, None),
        ({MARK: "x:1", "A": "1"}, {}, {}),
        ({MARK: "x:1"}, {"A": "1"}, {"A": "1"}),
    ],
)
def test_an_environment_that_is_asked_for_is_all_of_it(before: Json | None, asked: Json, after: Json | None) -> None:
    assert done(plan(existing(env=before), {"env": asked})) == (NOTHING if after is None else ("update", {"env": after}))


def test_a_mark_is_not_looked_at_and_not_sent_back() -> None:
    assert done(plan(existing(env={MARK: "x:1"}))) == NOTHING
    assert done(plan(existing(env={MARK: "x:1"}), {"replicas": 2})) == ("update", {"replicas": 2})
    assert done(plan(existing(env={MARK: "x:1", RESIDENCY: "1", "A": "1"}))) == ("update", {"env": {"A": "1"}})


def test_a_new_model_gets_the_environment_that_is_asked_for() -> None:
    made = plan(None, {**FILE, "env": {"A": "1"}, "secret_env": {"TOKEN": "xyzzy"}})
    assert made.fields["env"] == {"A": "1", "TOKEN": "xyzzy"}
    assert "xyzzy" not in repr(made)
    assert "env" not in plan(None, FILE).fields


# Other backends.


@pytest.mark.parametrize("workers", [MACS, [LINUX]])
@pytest.mark.parametrize("version", ["0.6.2", "0.7.1"])
@pytest.mark.parametrize("changes", [{"backend": "vllm"}, {"backend": None, "local_path": "/models/1"}])
def test_parameters_and_environment_of_other_backends_are_not_looked_at(version: str, workers: list[Json], changes: Json) -> None:
    for parameters in (["--mmap", "--ctx-size=abc"], None):
        current = existing(backend_parameters=parameters, env={RESIDENCY: "1"}, backend_version="0.8.5", **changes)
        made = plan(current, None, rules(version, workers, Pins(frozenset()), spread=True))
        assert (done(made), made.warnings) == (NOTHING, ())
        assert made.decision is not None
        assert made.decision.rule == "other_backend"


def test_a_user_may_change_both_for_other_backends() -> None:
    current = existing(backend="vllm", backend_parameters=None)
    made = plan(current, {"backend_parameters": ["--mmap"], "env": {"A": "1"}})
    assert done(made) == ("update", {"backend_parameters": ["--mmap"], "env": {"A": "1"}})
    assert plan(None, {"source": "huggingface", "huggingface_repo_id": "a/b"}).fields == {
        "name": "model-1",
        "source": "huggingface",
        "huggingface_repo_id": "a/b",
    }


# Spreading by hand.


def big(**changes: t.Any) -> Json:
    return existing(664, **changes)


PAIR = ["mac-1:mps:0", "mac-2:mps:0"]
UNDER_CLAIM = "the model model-1: GPUStack 0.6.0 cannot be told that the model is not mapped"
SMALL_CLAIM = instance(1, 1, claim(0, 38))


def test_a_model_that_fits_on_no_worker_is_spread_on_0_6_0_where_that_is_asked_for() -> None:
    made = plan(big(), None, rules("0.6.0", spread=True), SMALL_CLAIM)
    assert done(made) == ("update", {"gpu_selector": {"gpu_ids": PAIR}})
    assert made.restarts
    assert made.warnings[0].startswith(UNDER_CLAIM)
    # The decision is that for where the model will be.
    assert made.decision is not None
    assert made.decision.rule == "distributed"


@pytest.mark.parametrize(
    ("current", "options", "around"),
    [
        (big(), None, rules("0.6.0")),
        (big(), None, rules("0.6.2", spread=True)),
        (existing(), None, rules("0.6.0", spread=True)),
        (big(distributed_inference_across_workers=False), None, rules("0.6.0", spread=True)),
        (big(gpu_selector={"gpu_ids": PAIR[:1]}), None, rules("0.6.0", spread=True)),
        # Who takes the selection back does not want one.
        (big(), {"gpu_ids": []}, rules("0.6.0", spread=True)),
    ],
)
def test_and_else_it_is_not(current: Json, options: Json | None, around: Rules) -> None:
    made = plan(current, options, around, SMALL_CLAIM)
    assert done(made) == NOTHING
    assert not any(warning.startswith(UNDER_CLAIM) for warning in made.warnings)
    assert "" not in made.warnings


def test_a_new_model_is_spread_by_what_the_user_says_of_its_weights() -> None:
    made = plan(None, {**FILE, "weights_bytes": 664 * GIB}, rules("0.6.0", spread=True), claim_bytes=38 * GIB)
    assert made.fields["gpu_selector"] == {"gpu_ids": PAIR}
    made = plan(None, FILE, rules("0.6.0", spread=True), claim_bytes=38 * GIB)
    assert "gpu_selector" not in made.fields
    assert made.warnings[0].startswith("the model model-1 is left where GPUStack 0.6.0 puts it, since what it needs is not known")


def test_gpus_that_are_asked_for_are_selected() -> None:
    made = plan(big(), {"gpu_ids": PAIR[1:]}, rules("0.6.0", spread=True), SMALL_CLAIM)
    assert made.fields == {"gpu_selector": {"gpu_ids": PAIR[1:]}}


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        (None, [], "same"),
        ({"gpu_ids": []}, [], "same"),
        ({"gpu_ids": None}, [], "same"),
        ({}, [], "same"),
        ({"gpu_ids": PAIR}, [], None),
        ({"gpu_ids": PAIR}, PAIR[::-1], "same"),
        ({"gpu_ids": PAIR[::-1]}, PAIR, "same"),
        ({"gpu_ids": PAIR}, PAIR[:1], {"gpu_ids": PAIR[:1]}),
        (None, PAIR, {"gpu_ids": PAIR}),
    ],
)
def test_selected_gpus_are_a_set(before: Json | None, asked: list[str], after: t.Any) -> None:
    made = plan(existing(gpu_selector=before), {"gpu_ids": asked})
    assert done(made) == (NOTHING if after == "same" else ("update", {"gpu_selector": after}))


# The pin.


def test_a_pin_is_looked_at_on_the_workers_that_may_get_the_model() -> None:
    pins = Pins(frozenset(["v0.0.139"]), {"mac-1": WorkerPins(("v0.0.139",)), "mac-2": WorkerPins(())})
    pinned = existing(backend_version="v0.0.139")
    assert plan(pinned, None, rules(pins=pins)).warnings[0].startswith("backend_version v0.0.139 of the model model-1 is not on mac-2, ")
    assert plan({**pinned, "gpu_selector": {"gpu_ids": PAIR[:1]}}, None, rules(pins=pins)).warnings == ()
    asked = {"backend_version": "v0.0.139"}
    assert problem(existing(), asked, rules(pins=pins)).startswith("backend_version v0.0.139 of the model model-1 is not on mac-2, ")
    made = plan(existing(), {**asked, "gpu_ids": PAIR[:1]}, rules(pins=pins))
    assert made.fields == {"backend_version": "v0.0.139", "gpu_selector": {"gpu_ids": PAIR[:1]}}


def test_that_it_is_not_known_who_has_a_pin_is_said_when_it_is_set() -> None:
    asked = {"backend_version": "v0.0.139"}
    assert "whether mac-1, mac-2 has llama-box v0.0.139 is not known" in plan(existing(), asked).warnings[0]
    assert plan(existing(backend_version="v0.0.139"), asked).warnings == ()


def test_a_pin_is_taken_back() -> None:
    assert plan(existing(backend_version="v0.0.139"), {"backend_version": ""}).fields == {"backend_version": None}
    assert done(plan(existing(backend_version=None), {"backend_version": ""})) == NOTHING


# Sources.


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        ({}, {"local_path": "/models/2.gguf", "source": "local_path"}, {"local_path": "/models/2.gguf"}),
        (
            {},
            {"source": "huggingface", "huggingface_repo_id": "a/b", "huggingface_filename": "c.gguf"},
            {"source": "huggingface", "huggingface_repo_id": "a/b", "huggingface_filename": "c.gguf", "local_path": None},
        ),
        (
            {"source": "huggingface", "huggingface_repo_id": "a/b", "huggingface_filename": "c.gguf", "local_path": None},
            FILE,
            {**FILE, "huggingface_repo_id": None, "huggingface_filename": None},
        ),
        (
            {"source": "huggingface", "huggingface_repo_id": "a/b", "huggingface_filename": "c.gguf", "local_path": ""},
            {"source": "huggingface", "huggingface_repo_id": "a/b"},
            {"huggingface_filename": None},
        ),
    ],
)
def test_what_belonged_to_another_source_does_not_stay_behind(before: Json, asked: Json, after: Json) -> None:
    made = plan(existing(**before), {**asked, "backend": "llama-box"})
    assert done(made) == ("update", after)
    assert made.restarts


def test_a_new_source_decides_on_the_backend() -> None:
    current = existing(backend=None, backend_parameters=[])
    made = plan(current, {"source": "huggingface", "huggingface_repo_id": "a/b"})
    assert "backend_parameters" not in made.fields
    made = plan({**current, "local_path": "/models/1"}, FILE)
    assert made.fields == {"local_path": "/models/1.gguf", "backend_parameters": ["--no-mmap"]}


# Which changes reach running instances by a restart.


def test_the_fields_that_an_instance_reads_when_it_is_scheduled_or_started() -> None:
    rest = ["description", "name", "placement_strategy", "replicas", "restart_on_error"]
    assert sorted(set(MODEL_FIELDS) - START_FIELDS) == rest
    assert START_FIELDS.issubset(MODEL_FIELDS)


@pytest.mark.parametrize(
    ("asked", "restarts"),
    [
        ({"description": "x"}, False),
        ({"replicas": 3}, False),
        ({"categories": ["embedding"]}, True),
        ({"placement_strategy": "binpack"}, False),
        ({"restart_on_error": False}, False),
        ({"cpu_offloading": False}, True),
        ({"distributed_inference_across_workers": False}, True),
        ({"worker_selector": {"os": "darwin"}}, True),
        ({"gpu_ids": PAIR}, True),
        ({"backend_version": "v0.0.139"}, True),
        ({"backend_parameters": ["-fa"]}, True),
        ({"env": {"A": "1"}}, True),
        ({"description": "x", "cpu_offloading": False}, True),
    ],
)
def test_only_what_an_instance_reads_restarts_it(asked: Json, restarts: bool) -> None:
    made = plan(existing(), asked)
    assert made.action == "update"
    assert made.restarts is restarts


def test_only_an_update_restarts() -> None:
    assert not Plan("x", "create", {"env": {}}).restarts
    assert not Plan("x", "none").restarts
    assert Plan("x", "update", {"env": {}}).restarts


# What no worker can hold.


HUGE = {**FILE, "weights_bytes": 2000 * GIB}
REFUSAL = (
    "the model model-1 needs 2000.0 GiB or more, and the 2 workers that it may be put on have together 1018.0 GiB: "
    "add memory or workers, or take a smaller quantisation"
)


def test_a_model_that_cannot_fit_is_refused_unless_that_is_forced() -> None:
    made = plan(None, HUGE)
    assert (made.action, made.refusal) == ("create", REFUSAL)
    assert REFUSAL not in made.warnings
    made = plan(None, {**HUGE, "force": True})
    assert (made.action, made.refusal, REFUSAL in made.warnings) == ("create", "", False)


@pytest.mark.parametrize("options", [None, {}, {"force": True}])
def test_one_that_exists_is_only_reported(options: Json | None) -> None:
    made = plan(existing(2000), options)
    assert (done(made), made.refusal) == (NOTHING, "")
    assert made.warnings[-1] == REFUSAL
    assert plan(existing(), options).warnings == ()


NOWHERE = "no worker has what worker_selector and gpu_selector of the model model-1 ask for: change them or add such a worker"


def test_one_that_exists_is_not_moved_to_where_no_worker_is() -> None:
    made = plan(existing(), {"worker_selector": {"zone": "mars"}})
    assert (made.action, made.refusal, NOWHERE in made.warnings) == ("update", NOWHERE, False)
    made = plan(existing(), {"worker_selector": {"zone": "mars"}, "force": True})
    assert (made.action, made.refusal, NOWHERE in made.warnings) == ("update", "", True)


def test_of_one_that_is_nowhere_already_other_things_can_be_changed() -> None:
    lost = existing(worker_selector={"zone": "mars"})
    made = plan(lost, {"worker_selector": {"zone": "mars"}, "description": "of another world"})
    assert (made.action, made.refusal, NOWHERE in made.warnings) == ("update", "", True)
    assert plan(lost, {"worker_selector": {}}).refusal == ""


@pytest.mark.parametrize(
    ("before", "fields", "said"),
    [
        ({"backend_parameters": ["--mmap"]}, {"backend_parameters": ["--no-mmap"]}, ["--mmap was taken out"]),
        ({"backend_parameters": ["--mmap"]}, {"description": ""}, []),
        ({"backend_parameters": []}, {"backend_parameters": ["--no-mmap"]}, []),
        ({"backend_parameters": ["--no-mmap"]}, {"backend_parameters": ["--no-mmap", "--ctx-size=1"]}, []),
        ({"env": {RESIDENCY: "0", "A": "1"}}, {"env": {"A": "1"}}, [f"{RESIDENCY} was taken out of env"]),
        ({"env": {RESIDENCY: "0"}}, {"description": ""}, []),
        ({"env": None}, {"env": {RESIDENCY: "1"}}, []),
        ({}, {}, []),
    ],
)
def test_what_a_change_cures(before: Json, fields: Json, said: list[str]) -> None:
    assert model_plan.cures(before, fields) == said


def test_what_the_estimator_says_of_a_new_model_counts() -> None:
    assert plan(None, FILE, claim_bytes=2000 * GIB).refusal == REFUSAL
    assert plan(None, FILE, claim_bytes=100 * GIB).refusal == ""
    decision = plan(None, FILE, claim_bytes=100 * GIB).decision
    assert decision is not None
    assert decision.rule == "within_working_set"


def test_what_the_estimator_says_counts_without_a_users_wish_too() -> None:
    made = plan(existing(None), claim_bytes=2000 * GIB)
    assert made.warnings[-1] == REFUSAL


# Other warnings.


def test_parameters_that_the_estimator_refuses_are_named() -> None:
    made = plan(existing(backend_parameters=["--no-mmap", "--ctx-size=abc", "--parallel=x"]))
    assert done(made) == NOTHING
    assert [warning.partition(": GPUStack's estimator refuses it (")[0] for warning in made.warnings] == [
        "the model model-1: --ctx-size=abc",
        "the model model-1: --parallel=x",
    ]
    assert plan(existing(backend_parameters=["--no-mmap", "--ctx-size=abc"]), None, rules("0.6.0")).warnings == ()


def test_a_spelling_of_mmap_that_the_estimator_refuses_is_replaced_and_not_complained_of() -> None:
    made = plan(existing(backend_parameters=["--mmap=true"]))
    assert (made.fields, made.warnings) == ({"backend_parameters": ["--no-mmap"]}, ())


def test_warnings_of_the_decision_are_passed_on_each_once() -> None:
    nodes = [{"name": "mac-1", "apple_silicon": {"is_translated": True}}]
    around = rules(nodes=nodes, overrides=[Override("--mmap", model="model-1")])
    made = plan(existing(backend_parameters=["--mmap", "--ctx-size=abc", "--ctx-size=abc"]), None, around)
    assert [warning.split(":")[:2] for warning in made.warnings] == [
        ["mac-1 runs under Rosetta, wholly or in part", " it is decided as if it did not; install arm64 builds of Python and GPUStack"],
        ["the model model-1", " --mmap against the rule unknown, which says --no-mmap"],
        ["the model model-1", " --ctx-size=abc"],
    ]


def test_warnings_come_in_the_order_of_what_they_are_about() -> None:
    current = existing(664, backend_version="v0.0.130", backend_parameters=["--no-mmap", "--ctx-size=abc"])
    made = plan(current, None, rules(pins=Pins(frozenset())))
    assert [warning.split(":")[0] for warning in made.warnings] == [
        "the workers of a distributed model have different llama-boxes, which crash (gpustack#756)",
        "a distributed model needs llama-box v0.0.139 or newer, better v0.0.144 or v0.0.162",
        "backend_version v0.0.130 of the model model-1 is not in the lock file, which has nothing",
        "the model model-1",
    ]


# What the server puts in place of nothing.


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        (["llm"], [], "same"),
        ([], [], "same"),
        (None, [], "same"),
        (["llm", "embedding"], ["embedding", "llm"], "same"),
        (["llm"], ["embedding"], ["embedding"]),
        ([], ["llm"], ["llm"]),
    ],
)
def test_categories_are_a_set_and_without_any_the_scheduler_finds_them(before: list[str] | None, asked: list[str], after: t.Any) -> None:
    made = plan(existing(categories=before), {"categories": asked})
    assert done(made) == (NOTHING if after == "same" else ("update", {"categories": after}))


@pytest.mark.parametrize(
    ("changes", "asked", "after"),
    [
        ({"backend": "vllm", "worker_selector": {"os": "linux"}}, {"worker_selector": {}}, "same"),
        ({"backend": "vllm", "worker_selector": {"os": "linux"}}, {"worker_selector": {}, "gpu_ids": []}, "same"),
        ({"backend": "vllm", "worker_selector": {"os": "linux", "zone": "a"}}, {"worker_selector": {}}, {}),
        ({"backend": "vllm", "worker_selector": {"os": "linux"}}, {"worker_selector": {"zone": "a"}}, {"zone": "a"}),
        ({"backend": "vllm", "worker_selector": {}}, {"worker_selector": {"zone": "a"}}, {"zone": "a"}),
        ({"backend": "vllm", "worker_selector": None}, {"worker_selector": {}}, "same"),
        # A selection of no GPU is one to the server.
        ({"backend": "vllm", "worker_selector": {"os": "linux"}, "gpu_selector": {"gpu_ids": []}}, {"worker_selector": {}}, {}),
        (
            {"backend": "vllm", "worker_selector": {"os": "linux"}, "gpu_selector": {"gpu_ids": ["linux-4:cuda:0"]}},
            {"worker_selector": {}},
            {},
        ),
        ({"worker_selector": {"os": "linux"}}, {"worker_selector": {}}, {}),
    ],
)
def test_a_model_of_vllm_without_a_selector_gets_one_from_the_server(changes: Json, asked: Json, after: t.Any) -> None:
    made = plan(existing(**changes), asked, rules(workers=[LINUX, *MACS]))
    assert made.fields.get("worker_selector", "same") == after
    assert made.action == ("none" if after == "same" else "update")


@pytest.mark.parametrize("field", ["description", "huggingface_filename"])
def test_an_empty_text_is_none(field: str) -> None:
    assert done(plan(existing(**{field: None, **HUB}), {**HUB, field: ""})) == NOTHING
    assert done(plan(existing(**{**HUB, field: "x"}), {**HUB, field: ""})) == ("update", {field: ""})


HUB = {"source": "huggingface", "huggingface_repo_id": "a/b", "local_path": None}


def test_false_and_no_replicas_are_not_nothing() -> None:
    made = plan(existing(cpu_offloading=None, replicas=None), {"cpu_offloading": False, "replicas": 0})
    assert made.fields == {"cpu_offloading": False, "replicas": 0}


# For reports.


def test_what_is_shown_of_fields() -> None:
    fields = {
        "replicas": 2,
        "env": {"TOKEN": "xyzzy", "A": "1", MARK: "x:1"},
        "gpu_selector": {"gpu_ids": PAIR},
        "backend_parameters": ["-fa"],
    }
    assert list(model_plan.shown(fields).items()) == [
        ("backend_parameters", ["-fa"]),
        ("env", ["A", "TOKEN"]),
        ("gpu_ids", PAIR),
        ("replicas", 2),
    ]
    assert model_plan.shown({"env": None, "gpu_selector": None}) == {"env": None, "gpu_ids": []}
    assert model_plan.shown({"gpu_selector": {"gpu_ids": None}}) == {"gpu_ids": []}
    assert model_plan.shown({}) == {}


@pytest.mark.parametrize(
    ("before", "fields", "names"),
    [
        ({"env": {"A": "1"}}, {"replicas": 1}, []),
        ({"env": {"A": "1", "B": "2", "C": "3"}}, {"env": {"D": "4", "B": "2", "C": "4"}}, ["A", "C", "D"]),
        ({"env": {"A": "1", MARK: "x:1"}}, {"env": {"A": "1", MARK: "y:2"}}, []),
        ({"env": None}, {"env": {"A": "1"}}, ["A"]),
        ({}, {"env": {"A": "1"}}, ["A"]),
        ({"env": {"A": ""}}, {"env": None}, ["A"]),
        ({"env": {RESIDENCY: "1"}}, {"env": {}}, [RESIDENCY]),
    ],
)
def test_the_variables_that_a_change_is_about(before: Json, fields: Json, names: list[str]) -> None:
    assert model_plan.changed_names(before, fields) == names


def test_what_is_to_be_put_back() -> None:
    current = parse_model(existing(env={"A": "1"}, replicas=3))
    assert model_plan.previous_fields(current, ["env", "replicas", "description"]) == {
        "env": {"A": "1"},
        "replicas": 3,
        "description": None,
    }
    assert model_plan.previous_fields(current, []) == {}


# A second run has nothing to do.


def texts(*values: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), max_size=5)


PARAMETERS = texts(
    "--mmap", "--no-mmap", "--mmap=true", "--no-mmap=false", "true", "--ctx-size=8192", "--ctx-size", "8192", "-fa", "--mlock"
)
VARIABLES = st.dictionaries(st.sampled_from(["A", "B"]), st.sampled_from(["", "1"]))
RAW_VARIABLES = st.dictionaries(st.sampled_from(["A", "B", RESIDENCY, MARK]), st.sampled_from(["", "1", "a:1"]))
SELECTORS = st.dictionaries(st.sampled_from(["os", "zone"]), st.sampled_from(["linux", "darwin", "a"]), max_size=2)
GPUS = st.lists(st.sampled_from([*PAIR, "vm-3:mps:0", "linux-4:cuda:0"]), max_size=3, unique=True)
SOURCES: list[Json] = [
    {"source": "local_path", "local_path": "/models/1.gguf"},
    {"source": "local_path", "local_path": "/models/1"},
    {"source": "huggingface", "huggingface_repo_id": "a/b", "huggingface_filename": "c.gguf"},
    {"source": "huggingface", "huggingface_repo_id": "a/b"},
    {"source": "ollama_library", "ollama_library_model_name": "llama3"},
    {"source": "model_scope", "model_scope_model_id": "a/b", "model_scope_file_path": "c.gguf"},
]
CATEGORIES = texts("llm", "embedding", "speech_to_text")
BACKENDS = st.sampled_from(["llama-box", "vllm", "vox-box"])


def maybe(strategy: st.SearchStrategy[t.Any]) -> st.SearchStrategy[t.Any]:
    return st.one_of(st.none(), strategy)


CURRENT = st.fixed_dictionaries(
    {
        "backend": maybe(BACKENDS),
        "backend_parameters": maybe(PARAMETERS),
        "backend_version": st.sampled_from([None, "v0.0.130"]),
        "categories": maybe(CATEGORIES),
        "description": st.sampled_from([None, "", "x"]),
        "distributed_inference_across_workers": st.booleans(),
        "env": maybe(RAW_VARIABLES),
        "gpu_selector": maybe(st.one_of(st.just({}), GPUS.map(lambda gpus: {"gpu_ids": gpus}))),
        "meta": st.sampled_from([{}, {"size": 100 * GIB}, {"size": 664 * GIB}]),
        "worker_selector": maybe(SELECTORS),
    }
)
ASKED = st.fixed_dictionaries(
    {},
    optional={
        "backend": BACKENDS,
        "backend_parameters": PARAMETERS,
        "backend_version": st.sampled_from(["", "v0.0.130"]),
        "categories": CATEGORIES,
        "description": st.sampled_from(["", "x"]),
        "distributed_inference_across_workers": st.booleans(),
        "env": VARIABLES,
        "gpu_ids": GPUS,
        "replicas": st.integers(0, 2),
        "worker_selector": SELECTORS,
    },
)
OVERRIDES = st.lists(st.builds(Override, st.sampled_from(["--mmap", None, "--no-mmap"]), model=st.just("model-1")), max_size=1)
WORKERS = st.lists(st.sampled_from([*MACS, VIRTUAL, LINUX]), unique_by=lambda worker: worker["id"])


def served(before: Json, fields: t.Mapping[str, t.Any], restarted: t.Sequence[Instance]) -> Json:
    """A model after a POST or PUT of these fields, as the server keeps it and fills it in (server/controllers.py, scheduler.py)."""
    after = {**before, **fields}
    if after["backend_parameters"] is None and "backend_parameters" in fields:
        after["backend_parameters"] = []
    if restarted:
        after["env"] = marked(after["env"] or {}, restarted)
    after["categories"] = after["categories"] or ["llm"]
    if parse_model(after).serving_backend == "vllm" and not after["worker_selector"] and after["gpu_selector"] is None:
        after["worker_selector"] = {"os": "linux"}
    return after


@PROPERTY
@given(
    version=st.sampled_from(["0.6.0", "0.6.1", "0.6.2", "0.7.1"]),
    source=st.sampled_from(SOURCES),
    current=maybe(CURRENT),
    asked=maybe(ASKED),
    asked_source=st.sampled_from([{}, *SOURCES]),
    workers=WORKERS,
    overrides=OVERRIDES,
    flags=st.tuples(st.booleans(), st.booleans()),
)
def test_a_second_run_has_nothing_to_do(
    version: str,
    source: Json,
    current: Json | None,
    asked: Json | None,
    asked_source: Json,
    workers: list[Json],
    overrides: list[Override],
    flags: tuple[bool, bool],
) -> None:
    spread, can_upgrade = flags
    around = rules(version, workers, spread=spread, overrides=overrides, can_upgrade_llama_box=can_upgrade)
    options = None if asked is None else {**asked, **(asked_source if current is not None else source)}
    assume(current is not None or options is not None)
    empty = dict.fromkeys((*MODEL_FIELDS, "meta"))
    raw = None if current is None else {**empty, "id": 1, "name": "model-1", **source, **current}
    try:
        first = plan(raw, options, around)
    except BadInputError:
        assume(False)
    assert "" not in first.warnings
    restarted = [Instance(name="model-1-a", pid=1)] if first.restarts else []
    after = served(raw or empty, first.fields, restarted)
    second = plan(after, options, around)
    assert done(second) == NOTHING
