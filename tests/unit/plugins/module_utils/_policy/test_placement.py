# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import re
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import placement
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import (
    Json,
    claim,
    gpu,
    instance,
    judge,
    linux,
    mac,
    model,
    survey,
)

DOCUMENT = (pathlib.Path(__file__).resolve().parents[5] / "docs" / "placement.md").read_text("utf-8")
SPREAD = instance(what=claim(1, 19), others=[(2, claim(0, 356, offload=31))])


def test_the_order_of_findings() -> None:
    assert placement.FINDINGS == (
        "fits_only_by_mmap",
        "over_memory",
        "over_working_set",
        "mixed_llama_box",
        "not_running",
        "residency_alive",
        "estimate_apart",
        "unknown",
    )


def test_the_document_has_the_table() -> None:
    rows = re.findall(r"^\| ([a-z0-9_]+) \| (.*) \| .* \|$", DOCUMENT, re.MULTILINE)[1:]
    assert rows == [*((rule.finding, rule.condition) for rule in placement.RULES), ("fits", "nothing of all this")]


def test_the_worst_is_the_verdict_and_each_finding_is_there_once() -> None:
    nodes = [{"name": "mac-1", "node": {"residency": {"state": "present"}}}]
    the_model = model(env={"GGML_METAL_NO_RESIDENCY": "1"}, backend_parameters=["--mmap"], replicas=2)
    (report,) = judge(
        [mac(1)], [the_model], [instance(what=claim(1, 10), state="error"), instance(what=claim(1, 10), state="error")], nodes=nodes
    )
    assert report.verdict == "fits_only_by_mmap"
    assert [finding.finding for finding in report.findings] == [
        "fits_only_by_mmap",
        "not_running",
        "residency_alive",
        "residency_alive",
    ]


def test_what_fits() -> None:
    cases, around = survey([mac(1), mac(2)], [model(weights_gib=300)], [SPREAD])
    report = placement.judge(cases[0], around)
    assert (report.verdict, report.findings) == ("fits", ())
    told = placement.as_dict(report, around)
    workers = told["instances"][0].pop("workers")
    assert told == {
        "name": "model-1",
        "verdict": "fits",
        "reason": "it needs 19.0 GiB of 384.0 GiB on mac-1, 356.0 GiB of 384.0 GiB on mac-2",
        "mend": "",
        "weights_bytes": 300 * GIB,
        "findings": [],
        "not_known": [
            "mac-1: its llama-box and whether the residency variable stands there is not known; give the facts of this node in nodes",
            "mac-2: its llama-box and whether the residency variable stands there is not known; give the facts of this node in nodes",
        ],
        "instances": [
            {
                "name": "model-1-a",
                "state": "running",
                "state_message": None,
                "distributed": True,
                "claim_bytes": 376 * GIB,
                "need_least_bytes": 376 * GIB,
                "need_most_bytes": 376 * GIB,
            }
        ],
    }
    assert workers[0] == {
        "name": "mac-1",
        "main": True,
        "claim_bytes": 20 * GIB,
        "need_least_bytes": 20 * GIB,
        "need_most_bytes": 20 * GIB,
        "gpu_indexes": [0],
        "hidden_weights": "",
        "llama_box_version": None,
        "working_set_bytes": 384 * GIB,
        "working_set_source": "server",
        "usable_bytes": 509 * GIB,
        "residency": "unknown",
    }
    assert (workers[1]["name"], workers[1]["main"], workers[1]["claim_bytes"]) == ("mac-2", False, 356 * GIB)


def test_what_does_not_fit() -> None:
    nodes = [{"name": "mac-1", "node": {"llama_box": [{"slot": "builtin", "version": "v0.0.136"}], "residency": {"state": "absent"}}}]
    cases, around = survey([mac(1)], [model(backend_version="v0.0.139")], [instance(what=claim(1, 38))], "0.6.0", nodes)
    told = placement.as_dict(placement.judge(cases[0], around), around)
    assert told["verdict"] == told["findings"][0]["finding"] == "fits_only_by_mmap"
    assert (told["reason"], told["mend"]) == (told["findings"][0]["reason"], told["findings"][0]["mend"])
    assert (told["weights_bytes"], told["not_known"]) == (None, [])
    (part,) = told["instances"][0]["workers"]
    assert (part["need_least_bytes"], part["need_most_bytes"], part["residency"]) == (39 * GIB, None, "absent")
    assert (part["hidden_weights"], part["llama_box_version"]) == (
        "GPUStack 0.6.0 reckons with mmap whatever the parameters say",
        "v0.0.139",
    )


def test_before_it_is_scheduled() -> None:
    cases, around = survey([mac(1)], [model()], [instance(on=None, state="pending")])
    (told,) = placement.as_dict(placement.judge(cases[0], around), around)["instances"]
    assert told["workers"] == []
    assert (told["claim_bytes"], told["need_least_bytes"], told["need_most_bytes"]) == (None, 0, None)


def test_a_part_on_an_unknown_worker() -> None:
    cases, around = survey([], [model()], [instance(what=claim(1, 38))])
    (part,) = placement.as_dict(placement.judge(cases[0], around), around)["instances"][0]["workers"]
    assert [part[key] for key in ("working_set_bytes", "working_set_source", "usable_bytes", "residency")] == [None, None, None, "unknown"]


def test_what_fits_on_a_cpu() -> None:
    ones = [instance(what=claim(20, offload=0, unified=False), worker_name="linux-1")]
    cases, around = survey([linux(1)], [model()], ones)
    assert placement.as_dict(placement.judge(cases[0], around), around)["reason"] == "it needs 20.0 GiB of 62.0 GiB on linux-1"


@pytest.mark.parametrize(
    ("nodes", "not_known"),
    [
        ([], ["mac-1: whether the residency variable stands there is not known; give the facts of this node in nodes"]),
        ([{"name": "mac-1", "node": {"residency": {"state": "unknown"}}}], ["mac-1: whether"]),
        ([{"name": "mac-1", "node": {"residency": {"state": "absent"}}}], []),
        ([{"name": "mac-1", "node": {"residency": {"state": "present"}}}], []),
    ],
)
def test_what_only_nodes_can_tell(nodes: t.Any, not_known: t.List[str]) -> None:
    (report,) = judge([mac(1)], [model()], [instance(what=claim(1, 38))], nodes=nodes)
    assert len(report.not_known) == len(not_known)
    assert all(said.startswith(begin) for said, begin in zip(report.not_known, not_known))


def test_what_is_not_asked_of_nodes() -> None:
    (report,) = judge([mac(1)], [model(backend="vllm")], [instance(what=claim(1, 38))])
    assert report.not_known == ()
    cases, around = survey([mac(1)], [model(backend="vllm", backend_version="0.8.5")], [instance(what=claim(1, 38))])
    (told,) = placement.as_dict(placement.judge(cases[0], around), around)["instances"]
    assert told["workers"][0]["llama_box_version"] is None
    (report,) = judge([], [model()], [instance(what=claim(1, 38))])
    assert report.not_known == ()
    (report,) = judge([mac(1), mac(2)], [model(replicas=2)], [SPREAD, {**SPREAD, "name": "model-1-b"}])
    assert [said.partition(":")[0] for said in report.not_known] == ["mac-1", "mac-2"]
    assert report.not_known[0].count("its llama-box") == 1


def test_workers_with_all_that_is_there() -> None:
    ones = [SPREAD, instance(2, 2, claim(1, 10)), instance(2, 2, claim(1, 10), name="model-2-b")]
    _cases, around = survey([mac(1), mac(2), mac(3)], [model(1), model(2)], ones, "0.6.0")
    first, second, third = placement.workers_as_dicts(around)
    assert first == {
        "name": "mac-1",
        "working_set_bytes": 384 * GIB,
        "working_set_source": "server",
        "usable_bytes": 509 * GIB,
        "claim_bytes": 20 * GIB,
        "need_least_bytes": 20 * GIB,
        "need_most_bytes": None,
        "models": ["model-1"],
        "instances": ["model-1-a"],
    }
    assert (second["models"], second["instances"]) == (["model-1", "model-2"], ["model-1-a", "model-2-a", "model-2-b"])
    assert second["claim_bytes"] == second["need_least_bytes"] == 378 * GIB
    assert (third["models"], third["claim_bytes"], third["need_least_bytes"], third["need_most_bytes"]) == ([], 0, 0, 0)


def test_the_memory_of_several_gpus_is_shown_together() -> None:
    machine = linux(1, gpu(80, None, "NVIDIA H100", "cuda"), gpu(40, None, "NVIDIA A100", "cuda", 1))
    assert placement.workers_as_dicts(survey([machine], [], [])[1])[0]["working_set_bytes"] == 120 * GIB


MODELS = [model(1), model(2, replicas=0), model(3, replicas=0), model(4, replicas=None)]


@pytest.mark.parametrize(
    ("names", "found", "missing"),
    [
        ([], ["model-1", "model-3"], []),
        (["model-2", "model-1", "model-2"], ["model-1", "model-2"], []),
        (["z", "model-4", "a"], ["model-4"], ["a", "z"]),
    ],
)
def test_which_models_are_looked_at(names: t.List[str], found: t.List[str], missing: t.List[str]) -> None:
    cases, _around = survey([mac(1)], MODELS, [instance(3, 1, claim(1, 10))])
    chosen, unknown = placement.chosen(cases, names)
    assert ([case.name for case in chosen], unknown) == (found, missing)


def failure(fail_on: t.Collection[str], *models: Json) -> str:
    return placement.failure_of(judge([mac(1)], models, [instance(one["id"], 1, claim(1, 10)) for one in models]), fail_on)


def test_findings_that_nobody_asked_about_are_no_failure() -> None:
    parted = model(1, backend_parameters=["--mmap"])
    assert failure([], parted) == ""
    assert failure(["over_memory", "fits"], parted) == ""
    assert failure(["fits_only_by_mmap"], model(1)) == ""


def test_a_failure_tells_the_first_with_its_cure_and_names_the_others() -> None:
    models = [model(1), model(2, backend_parameters=["--mmap"]), model(3, backend_parameters=["-c", "x"]), model(4, replicas=2)]
    said = failure(["estimate_apart", "fits_only_by_mmap", "not_running"], *models)
    assert said.startswith("model model-2: fits_only_by_mmap: the claim of 11.0 GiB on mac-1 leaves the weights out (")
    assert said.endswith(
        "; ansible-playbook metalfleet.gpustack.site -i inventory.yml, which puts --no-mmap in place of --mmap and restarts the instance, "
        "unless an override asks for mmap (others with findings: model-3, model-4)"
    )
    assert failure(["not_running"], *models) == (
        "model model-4: not_running: it has 1 instances, and replicas is 2; run this again in a minute"
    )


def test_of_one_model_the_worst_that_counts_is_told() -> None:
    both = model(1, backend_parameters=["--mmap"], replicas=2)
    assert failure(["not_running", "fits_only_by_mmap"], both).startswith("model model-1: fits_only_by_mmap: ")
    assert failure(["not_running"], both).startswith("model model-1: not_running: ")
