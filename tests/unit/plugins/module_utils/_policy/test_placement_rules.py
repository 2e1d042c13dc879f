# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap import Override
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_case import Finding
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_rules import Served, served_by
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import (
    URL,
    Json,
    claim,
    gpu,
    instance,
    judge,
    linux,
    mac,
    model,
    survey,
    with_status,
)

SITE = "ansible-playbook metalfleet.gpustack.site -i inventory.yml"
MACS = (mac(1), mac(2))
SPREAD = instance(what=claim(1, 19), others=[(2, claim(0, 30, offload=31))])


def node(number: int, builtin: t.Optional[str] = None, residency: str = "absent", version: t.Optional[str] = None, **more: t.Any) -> Json:
    """What a play knows of the node of mac-1, mac-2 …"""
    boxes = [] if builtin is None else [{"slot": "builtin", "version": builtin}]
    return {"name": f"mac-{number}", "node": {"llama_box": boxes, "residency": {"state": residency}, "gpustack_version": version}, **more}


def findings(the_model: Json, the_instance: t.Optional[Json], workers: t.Sequence[Json] = MACS, **options: t.Any) -> t.List[Finding]:
    return list(judge(workers, [the_model], [the_instance] if the_instance else [], **options)[0].findings)


def test_different_builtin_llama_boxes_behind_a_distributed_model() -> None:
    nodes = [node(1, "v0.0.136"), node(2, "v0.0.139")]
    assert findings(model(), SPREAD, nodes=nodes) == [
        Finding(
            "mixed_llama_box",
            "different llama-boxes serve it, which crashes distributed inference (gpustack#756): mac-1 v0.0.136, mac-2 v0.0.139",
            f"set gpustack_node_llama_box_version: v0.0.139 in group_vars, then {SITE}",
            "model-1-a",
        )
    ]


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        [node(1, "v0.0.136")],
        [node(1, "v0.0.136"), node(2)],
        [node(1, "v0.0.139"), node(2, "v0.0.139")],
        [node(1, "v0.0.139"), node(2, "0.0.139")],
    ],
)
def test_the_same_or_unknown_llama_boxes(nodes: t.Any) -> None:
    assert findings(model(), SPREAD, nodes=nodes) == []


def test_a_model_on_one_worker_and_one_of_another_backend_may_have_any() -> None:
    nodes = [node(1, "v0.0.136"), node(2, "v0.0.139")]
    assert findings(model(backend_version="v0.0.140"), instance(what=claim(1, 19)), nodes=nodes) == []
    assert findings(model(backend="vllm"), SPREAD, nodes=nodes) == []


def test_every_instance_is_looked_at() -> None:
    nodes = [node(1, "v0.0.136"), node(2, "v0.0.139")]
    three = [instance(what=claim(1, 19)), SPREAD, {**SPREAD, "name": "model-1-b"}]
    (report,) = judge(MACS, [model()], three, nodes=nodes)
    assert [(finding.finding, finding.instance) for finding in report.findings] == [
        ("mixed_llama_box", "model-1-a"),
        ("mixed_llama_box", "model-1-b"),
    ]
    (report,) = judge(MACS, [model()], [three[2], three[0], SPREAD], nodes=[nodes[0], {**nodes[1], "name": "mac-3"}])
    assert report.findings == ()


def test_which_llama_box_serves_a_part() -> None:
    nodes = [node(1, "v0.0.139"), node(2)]
    cases, around = survey(MACS, [model(), model(2, backend_version="v0.0.140")], [SPREAD, instance(2, 1, claim(1, 5))], nodes=nodes)
    main, other = cases[0].placed[0].parts
    assert served_by(cases[0], around, main) == Served("mac-1", "v0.0.139", False)
    assert served_by(cases[0], around, other) is None
    assert served_by(cases[1], around, main) == Served("mac-1", "v0.0.140", True)


def test_a_pin_moves_the_main_server_only() -> None:
    the_model, nodes = model(backend_version="v0.0.139"), [node(1, "v0.0.154"), node(2, "v0.0.154")]
    assert findings(the_model, SPREAD, nodes=nodes) == [
        Finding(
            "mixed_llama_box",
            "different llama-boxes serve it, which crashes distributed inference (gpustack#756): mac-1 v0.0.139 (backend_version), "
            "mac-2 v0.0.154",
            f"take backend_version out of the model model-1, and set gpustack_node_llama_box_version: v0.0.154 in group_vars, then {SITE}",
            "model-1-a",
        )
    ]
    assert findings(the_model, SPREAD, nodes=[node(1, "v0.0.154"), node(2, "v0.0.139")]) == []
    # Nobody knows what the other worker has.
    assert findings(the_model, SPREAD, nodes=nodes[:1]) == []


def test_a_pin_of_the_builtin_version_is_no_pin_in_07() -> None:
    the_model, nodes = model(backend_version="v0.0.171"), [node(1, "v0.0.139"), node(2, "v0.0.139")]
    assert findings(the_model, SPREAD, nodes=nodes, version="0.7.1") == []
    assert [finding.finding for finding in findings(the_model, SPREAD, nodes=nodes, version="0.6.2")] == ["mixed_llama_box"]
    nodes[0]["node"]["gpustack_version"] = "0.7.0"
    assert [finding.finding for finding in findings(the_model, SPREAD, nodes=nodes, version="0.7.1")] == ["mixed_llama_box"]
    assert [finding.finding for finding in findings(the_model, SPREAD, nodes=nodes, version=None)] == ["mixed_llama_box"]


def test_the_newest_by_number_is_proposed() -> None:
    found = findings(model(), SPREAD, nodes=[node(1, "v0.0.99"), node(2, "v0.0.139")])
    assert found[0].mend.startswith("set gpustack_node_llama_box_version: v0.0.139 in")
    found = findings(model(), SPREAD, nodes=[node(1, "unknown"), node(2, "v0.0.139")])
    assert found[0].mend.startswith("set gpustack_node_llama_box_version: v0.0.139 in")


def test_versions_that_are_none_are_compared_as_they_are() -> None:
    assert Served("a", "x", False).key == Served("b", "x", True).key != Served("c", "y", False).key


@pytest.mark.parametrize(
    ("changes", "reason", "how"),
    [
        (
            {"state": "pending", "state_message": "No suitable workers"},
            "model-1-a is pending: No suitable workers",
            "give the model model-1 workers that have room for it and that its worker_selector and gpu_ids allow",
        ),
        ({"state": "downloading", "download_progress": 41.5}, "model-1-a is downloading at 41.5 %", "wait until it runs"),
        ({"state": "downloading", "download_progress": None}, "model-1-a is downloading at 0 %", "wait until it runs"),
        ({"state": "starting", "download_progress": 41.5}, "model-1-a is starting", "wait until it runs"),
        ({"state": None}, "model-1-a is in an unknown state", "wait until it runs"),
        (
            {"state": "error", "state_message": "Inference server exited with code 1.", "id": 7},
            "model-1-a is error: Inference server exited with code 1.",
            f"look into its log: curl -H \"Authorization: Bearer $GPUSTACK_API_KEY\" '{URL}/v1/model-instances/7/logs'",
        ),
        (
            {"state": "unreachable"},
            "model-1-a is unreachable",
            "look at its worker: ansible mac-1 -i inventory.yml -b -m metalfleet.gpustack.node_info",
        ),
    ],
)
def test_an_instance_that_does_not_run(changes: Json, reason: str, how: str) -> None:
    assert findings(model(), instance(what=claim(1, 19), **changes)) == [Finding("not_running", reason, how, "model-1-a", "mac-1")]


def test_an_unreachable_instance_of_an_unknown_worker() -> None:
    (finding,) = findings(model(), instance(on=None, state="unreachable"))
    assert (finding.worker, finding.mend) == (None, "look at its worker: ansible all -i inventory.yml -b -m metalfleet.gpustack.node_info")


def test_instances_that_are_not_there() -> None:
    assert findings(model(replicas=0), None) == [
        Finding("not_running", "it has no instances, since replicas is 0", f"set replicas of the model model-1, then {SITE}")
    ]
    assert findings(model(replicas=None), None)[0].reason == "it has no instances, since replicas is 0"
    assert findings(model(replicas=2), None) == [
        Finding("not_running", "it has 0 instances, and replicas is 2", "run this again in a minute")
    ]
    assert findings(model(replicas=2), instance(what=claim(1, 19)))[0].reason == "it has 1 instances, and replicas is 2"
    assert findings(model(replicas=1), instance(what=claim(1, 19))) == []
    assert findings(model(replicas=0), instance(what=claim(1, 19))) == []


def alive(where: str, worker: str = "mac-1") -> Finding:
    return Finding(
        "residency_alive",
        f"GGML_METAL_NO_RESIDENCY stands {where}, so Metal keeps nothing of the model wired",
        f"{SITE}, which takes it out and restarts what runs with it",
        "model-1-a",
        worker,
    )


def test_the_residency_variable_on_a_node() -> None:
    nodes = [node(1), node(2, residency="present")]
    assert findings(model(), SPREAD, nodes=nodes) == [alive("on mac-2", "mac-2")]
    assert findings(model(), instance(what=claim(1, 19)), nodes=nodes) == []
    assert findings(model(backend="vllm"), SPREAD, nodes=nodes) == []
    assert findings(model(), SPREAD, nodes=[node(2, residency="unknown")]) == []


def test_each_worker_is_asked_for_the_residency_variable() -> None:
    virtual = node(1, apple_silicon={"is_virtual": True})
    present = node(2, residency="present")
    assert findings(model(), SPREAD, nodes=[virtual, present]) == [alive("on mac-2", "mac-2")]


def test_the_residency_variable_in_the_env_of_the_model() -> None:
    the_model = model(env={"GGML_METAL_NO_RESIDENCY": "0", "HF_TOKEN": "secret"})
    in_env = alive("in the model's env, which mac-1 starts it with")
    assert findings(the_model, SPREAD) == [in_env]
    assert findings(the_model, SPREAD, nodes=[node(1, residency="present")]) == [alive("on mac-1"), in_env]
    assert findings(model(env=None), SPREAD) == []


def test_the_residency_variable_where_it_does_no_harm() -> None:
    the_model = model(env={"GGML_METAL_NO_RESIDENCY": "1"})
    virtual = [node(1, residency="present", apple_silicon={"is_virtual": True})]
    assert findings(the_model, instance(what=claim(1, 19)), nodes=virtual) == []
    elsewhere = instance(what=claim(1, 19, unified=False), worker_name="linux-1")
    machine = linux(1, gpu(80, None, "NVIDIA H100", "cuda"))
    assert findings(the_model, elsewhere, [machine], nodes=[{**node(1, residency="present"), "name": "linux-1"}]) == []
    assert [finding.finding for finding in findings(the_model, instance(what=claim(1, 19)), [mac(2)])] == ["unknown"]


REFUSED = "GPUStack's estimator refuses it ({}) and then ignores all parameters of the model, while llama-box gets them"


def test_parameters_that_the_estimator_refuses() -> None:
    found = findings(model(backend_parameters=["--ctx-size", "abc", "--mmap=true"]), instance(what=claim(1, 19)))
    assert found == [
        Finding(
            "estimate_apart",
            "--ctx-size abc: " + REFUSED.format("argument --ctx-size/-c: invalid int value: 'abc'"),
            f"correct --ctx-size abc in backend_parameters of the model model-1, then {SITE}",
        ),
        Finding(
            "estimate_apart",
            "--mmap=true: " + REFUSED.format("argument --mmap/--no-mmap: ignored explicit argument 'true'"),
            f"{SITE}, which puts --no-mmap in its place and restarts the instances",
        ),
    ]


def test_060_refuses_nothing() -> None:
    found = findings(model(backend_parameters=["--mmap=true"], weights_gib=10), instance(what=claim(1, 19)), version="0.6.0")
    assert [finding.reason.split(" on ")[0] for finding in found] == ["the claim of 20.0 GiB"]


def test_parameters_of_models_that_are_nowhere_or_of_another_backend() -> None:
    parameters = ["--mmap=true"]
    assert [finding.finding for finding in findings(model(backend_parameters=parameters), None)] == ["not_running"]
    assert findings(model(backend_parameters=parameters, backend="vllm"), instance(what=claim(1, 19))) == []


# What 0.6.1 takes for an abbreviation and llama-box skips.
APART = model(backend_parameters=["--mmap", "--no-mm"])


def test_an_engine_that_maps_what_the_estimator_does_not() -> None:
    assert findings(APART, instance(what=claim(1, 19)), version="0.6.1") == [
        Finding(
            "estimate_apart",
            "llama-box maps the model into memory, and GPUStack's estimator reckons that it does not",
            f"{SITE}, which puts --no-mmap in its place and restarts the instances",
        )
    ]
    assert findings(APART, instance(what=claim(1, 19, unified=False)), version="0.6.1") == []
    assert findings(model(), instance(what=claim(1, 19)), version="0.6.1") == []


@pytest.mark.parametrize(
    ("parameters", "claimed", "version"),
    [(["--mmap"], 20, "0.6.2"), (["--mmap=true"], 19, "0.6.2"), (["--mmap", "--no-mm"], 19, "0.6.1")],
)
def test_what_an_override_asks_for_goes_when_the_override_goes(parameters: t.List[str], claimed: int, version: str) -> None:
    the_model, one = model(backend_parameters=parameters, weights_gib=15), instance(what=claim(1, claimed))
    overrides = [Override("--mmap", model="model-1", reason="rarely asked")]
    (finding,) = findings(the_model, one, version=version, overrides=overrides)
    assert finding.reason.endswith("; the override by model name model-1 says mmap: rarely asked")
    assert finding.mend == (
        f"take the override by model name model-1 out of gpustack_models_overrides, then {SITE}, which puts --no-mmap in its place and "
        "restarts the instances"
    )


def test_a_parameter_that_is_not_about_mmap_has_nothing_to_do_with_an_override() -> None:
    the_model = model(backend_parameters=["--ctx-size=abc"])
    overrides = [Override("--mmap", model="model-1", reason="rarely asked")]
    assert findings(the_model, instance(what=claim(1, 19)), overrides=overrides) == findings(the_model, instance(what=claim(1, 19)))


def used(gib: t.Optional[float]) -> t.List[Json]:
    return [with_status(mac(1), gpu_devices=[gpu(used_gib=gib)])]


@pytest.mark.parametrize(
    ("claimed", "in_use", "apart"),
    [(10, 12, False), (10, 12.5, True), (100, 110, False), (100, 110.5, True), (10, None, False), (10, 5, False)],
)
def test_a_gpu_with_more_in_use_than_is_claimed(claimed: int, in_use: t.Optional[float], apart: bool) -> None:
    found = findings(model(), instance(what=claim(1, claimed)), used(in_use))
    assert [finding.finding for finding in found] == ["estimate_apart"] * apart


def test_what_it_says_of_such_a_gpu() -> None:
    assert findings(model(), instance(what=claim(1, 10)), used(300)) == [
        Finding(
            "estimate_apart",
            "GPU 0 of mac-1 has 300.0 GiB in use, and all that is there claims 10.0 GiB",
            "see what else uses the GPU of mac-1, and whether --ctx-size and --parallel of the model model-1 are as meant",
            "model-1-a",
            "mac-1",
        )
    ]


def test_what_is_in_use_is_compared_with_all_that_is_claimed() -> None:
    both = [instance(1, 1, claim(1, 10)), instance(2, 1, claim(1, 90))]
    assert [report.findings for report in judge(used(105), [model(1), model(2)], both)] == [(), ()]
    assert [len(report.findings) for report in judge(used(120), [model(1), model(2)], both)] == [1, 1]


def test_each_worker_is_asked_for_what_is_in_use() -> None:
    busy = with_status(mac(2), gpu_devices=[gpu(used_gib=300), gpu(used_gib=300, index=1)])
    found = findings(model(), SPREAD, [busy])
    assert [(finding.finding, finding.worker) for finding in found] == [("estimate_apart", "mac-2"), ("unknown", "mac-1")]


def test_what_is_in_use_says_nothing_of_what_does_not_run_and_is_explained_by_hidden_weights() -> None:
    assert [finding.finding for finding in findings(model(), instance(what=claim(1, 10), state="starting"), used(300))] == ["not_running"]
    found = findings(model(weights_gib=100, backend_parameters=["--mmap"]), instance(what=claim(1, 10)), used(300))
    assert [finding.reason.split(" on ")[0] for finding in found] == ["the claim of 11.0 GiB"]
    assert [finding.finding for finding in findings(model(), instance(what=claim(1, 10)), [mac(2)])] == ["unknown"]


def test_mmap_that_was_asked_for_since_is_no_need_of_memory() -> None:
    """The weights are in the claim: nothing is too large, and nobody else on the worker is pushed out."""
    the_model, neighbour = model(1, 300, backend_parameters=["--mmap"]), model(2, 20)
    the_instance, other = instance(1, what=claim(1, 320)), instance(2, what=claim(1, 22))
    found, others = judge(MACS, [the_model, neighbour], [the_instance, other])
    assert list(found.findings) == [
        Finding(
            "estimate_apart",
            "its parameters turn mmap on now, and the claim on mac-1 was made without, which ends at its next restart",
            f"{SITE}, which puts --no-mmap in its place and restarts the instances",
            "model-1-a",
            "mac-1",
        )
    ]
    assert others.findings == ()
