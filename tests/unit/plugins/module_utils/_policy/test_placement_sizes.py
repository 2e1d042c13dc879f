# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the size of a model comes to where it was put, with its reason and what mends it, word by word."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import placement_sizes
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap import Override
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_case import Finding
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import (
    Json,
    claim,
    gpu,
    instance,
    judge,
    linux,
    mac,
    model,
    with_status,
)

SITE = "ansible-playbook metalfleet.gpustack.site -i inventory.yml"
MACS = [mac(1), mac(2)]
MAC_HAS = "mac-1 has a working set of 384.0 GiB (server) and 509.0 GiB of memory without GPUStack's reserve"
BY_VERSION = "GPUStack 0.6.0 reckons with mmap whatever the parameters say"
LARGER = f"add a worker with room for the model model-1, or take a smaller quantisation of it, then {SITE}"
AGAIN = "GPUStack may put another model there"
BY_PARAMETERS = "the backend_parameters of the model turn mmap on"


def findings(*arguments: t.Any, **options: t.Any) -> t.List[Finding]:
    """Of the first model."""
    return list(judge(*arguments, **options)[0].findings)


def on_one(what: Json, the_model: t.Optional[Json] = None, **options: t.Any) -> t.List[Finding]:
    return findings(MACS, [the_model or model()], [instance(what=what)], **options)


def test_the_rows_in_their_order() -> None:
    assert [name for name, _holds in placement_sizes.ROWS] == [
        "fits_only_by_mmap",
        "over_memory",
        "over_working_set",
        "estimate_apart",
        "unknown",
    ]


def test_what_fits_is_not_mentioned() -> None:
    assert on_one(claim(1, 384)) == []


def test_1907_with_known_weights() -> None:
    assert on_one(claim(1, 38), model(weights_gib=664), version="0.6.0") == [
        Finding(
            "fits_only_by_mmap",
            f"the claim of 39.0 GiB on mac-1 leaves the weights out ({BY_VERSION}, gpustack#1907); with them the model needs 703.0 GiB, "
            f"and {MAC_HAS}",
            f"set gpustack_models_spread_on_060: true in group_vars, then {SITE}; better upgrade GPUStack to 0.6.1 or newer",
            "model-1-a",
            "mac-1",
        )
    ]


def test_1907_with_unknown_weights() -> None:
    assert on_one(claim(1, 38), model(backend_parameters=["--mmap"])) == [
        Finding(
            "fits_only_by_mmap",
            f"the claim of 39.0 GiB on mac-1 leaves the weights out ({BY_PARAMETERS}, gpustack#1907); how large they are is not known, so "
            "nothing shows that the model fits there",
            f"{SITE}, which puts --no-mmap in place of --mmap and restarts the instance, unless an override asks for mmap",
            "model-1-a",
            "mac-1",
        )
    ]


OVERRIDE = Override("--mmap", model="model-1", reason="rarely asked")
TAKE_OUT = "take the override by model name model-1 out of gpustack_models_overrides, then "
SAYS = "; the override by model name model-1 says mmap: rarely asked"


def test_hidden_weights_that_an_override_asks_for() -> None:
    (finding,) = on_one(claim(1, 38), model(backend_parameters=["--mmap"]), overrides=[OVERRIDE])
    assert finding.finding == "fits_only_by_mmap"
    assert finding.reason.endswith(f"so nothing shows that the model fits there{SAYS}")
    assert finding.mend == f"{TAKE_OUT}{SITE}, which puts --no-mmap in its place and restarts the instances"
    (finding,) = on_one(claim(1, 38), model(backend_parameters=["--mmap"], weights_gib=100), overrides=[OVERRIDE])
    assert (finding.finding, finding.reason.endswith(f"{AGAIN}{SAYS}")) == ("estimate_apart", True)
    assert finding.mend == f"{TAKE_OUT}{SITE}, which puts --no-mmap in its place and restarts the instances"


def test_an_override_that_leaves_mmap_to_the_backend_leaves_the_flag_where_it_is() -> None:
    override = Override(None, model="model-1")
    (finding,) = on_one(claim(1, 38), model(backend_parameters=["--mmap"]), overrides=[override])
    assert finding.reason.endswith("; the override by model name model-1 says default")
    assert finding.mend.startswith(TAKE_OUT)


def test_an_override_that_forbids_mmap_is_no_hindrance() -> None:
    (finding,) = on_one(claim(1, 38), model(backend_parameters=["--mmap"]), overrides=[Override("--no-mmap", model="model-1")])
    assert (finding.reason.endswith("nothing shows that the model fits there"), finding.mend.startswith(SITE)) == (True, True)


def test_an_old_claim_beside_an_override() -> None:
    (finding,) = on_one(claim(1, 38), model(weights_gib=664), overrides=[OVERRIDE])
    assert finding.reason.endswith(SAYS)
    assert finding.mend == f"{TAKE_OUT}{SITE}, which restarts instances that run with old parameters"


def test_what_060_does_an_override_does_not_change() -> None:
    (finding,) = on_one(claim(1, 38), model(weights_gib=664), version="0.6.0", overrides=[OVERRIDE])
    assert finding.reason.endswith(SAYS)
    assert finding.mend.startswith("set gpustack_models_spread_on_060: true")


@pytest.mark.parametrize(("weights", "row"), [(346, "estimate_apart"), (347, "fits_only_by_mmap")])
def test_hidden_weights_matter_where_they_do_not_fit(weights: int, row: str) -> None:
    # 38 GiB and the weights, of a working set of 384 GiB.
    assert [finding.finding for finding in on_one(claim(1, 38), model(weights_gib=weights), version="0.6.0")] == [row]


def test_hidden_weights_in_ram_count_too() -> None:
    # 310 of 620 GiB are not offloaded: 10 + 310 fit the GPU, and with 310 + 1 more they do not fit the memory.
    assert [finding.finding for finding in on_one(claim(1, 10, offload=31), model(weights_gib=620), version="0.6.0")] == [
        "fits_only_by_mmap"
    ]


def test_a_claim_that_is_too_small_for_what_fits() -> None:
    assert on_one(claim(1, 38), model(weights_gib=100), version="0.6.0") == [
        Finding(
            "estimate_apart",
            f"the claim of 39.0 GiB on mac-1 leaves the weights out ({BY_VERSION}), with which the model needs 139.0 GiB; GPUStack may put "
            "another model there",
            "upgrade GPUStack to 0.6.1 or newer; until then keep other models off mac-1 by their worker_selector",
            "model-1-a",
            "mac-1",
        )
    ]


def spread(weights_gib: t.Optional[float], version: str = "0.6.0") -> t.List[Finding]:
    one = instance(what=claim(1, 19), others=[(2, claim(0, 356, offload=31))])
    return findings(MACS, [model(weights_gib=weights_gib)], [one], version=version)


def test_a_spread_model_whose_main_claim_is_too_small() -> None:
    (unknown,), (known,), (too_large,) = spread(None), spread(664), spread(731)
    assert (unknown.finding, unknown.worker, unknown.reason) == (
        "estimate_apart",
        "mac-1",
        f"the claim of 20.0 GiB on mac-1 leaves its share of the weights out ({BY_VERSION}); GPUStack may put another model there",
    )
    assert (known.finding, known.reason) == (
        "estimate_apart",
        f"the claim of 20.0 GiB on mac-1 leaves its share of the weights out ({BY_VERSION}), with which the model needs 352.0 GiB; {AGAIN}",
    )
    assert known.mend == "upgrade GPUStack to 0.6.1 or newer; until then keep other models off mac-1 by their worker_selector"
    assert (too_large.finding, too_large.worker, too_large.mend) == ("fits_only_by_mmap", "mac-1", known.mend)


def test_an_old_claim_beside_new_parameters() -> None:
    (finding,) = on_one(claim(1, 38), model(weights_gib=664))
    assert (finding.finding, finding.mend) == ("fits_only_by_mmap", f"{SITE}, which restarts instances that run with old parameters")
    assert "(it is smaller than they are, so it was made with other parameters than the model has now, gpustack#1907)" in finding.reason


def test_more_than_the_memory() -> None:
    assert on_one(claim(126, 384), model(distributed_inference_across_workers=False)) == [
        Finding(
            "over_memory",
            f"the model needs 510.0 GiB of mac-1, and {MAC_HAS}",
            f"set distributed_inference_across_workers: true for the model model-1, then {SITE}",
            "model-1-a",
            "mac-1",
        )
    ]
    assert on_one(claim(125, 384)) == []
    assert on_one(claim(126, 384))[0].mend == LARGER


def test_more_than_the_working_set() -> None:
    assert on_one(claim(1, 385)) == [
        Finding(
            "over_working_set",
            f"the model needs 386.0 GiB of mac-1, and {MAC_HAS}",
            f"set gpustack_node_wired_limit_state: present in group_vars, then {SITE}",
            "model-1-a",
            "mac-1",
        )
    ]


def test_a_part_of_a_need_may_be_known_to_be_too_much() -> None:
    one = instance(what=claim(1, 385), others=[(2, None)])
    found = findings(MACS, [model()], [one], version="0.6.0")
    assert [(finding.finding, finding.worker) for finding in found] == [("fits_only_by_mmap", "mac-1"), ("unknown", "mac-2")]
    assert "how large they are is not known" in found[0].reason


def test_memory_that_is_not_one_is_looked_at_apart() -> None:
    machine = linux(1, gpu(80, None, "NVIDIA H100", "cuda"), gpu(80, None, "NVIDIA H100", "cuda", 1))
    one = instance(worker_name="linux-1")

    def of(ram: int, *gpus: int) -> t.List[Finding]:
        return findings(
            [machine], [model(weights_gib=999)], [{**one, "computed_resource_claim": claim(ram, *gpus, unified=False)}], version="0.6.0"
        )

    assert of(62, 80, 80) == []
    (over_memory,) = of(63, 1)
    (over_gpu,) = of(1, 1, 81)
    has = "linux-1 has 160.0 GiB of GPU memory and 62.0 GiB of memory without GPUStack's reserve"
    assert (over_memory.finding, over_memory.reason) == ("over_memory", f"the model needs 64.0 GiB of linux-1, and {has}")
    assert (over_gpu.finding, over_gpu.reason) == ("over_working_set", f"the model needs 83.0 GiB of linux-1, and {has}")
    assert over_gpu.mend == LARGER


TWO = [model(1), model(2)]


def test_two_models_that_fit_one_by_one() -> None:
    found = judge([mac(1)], TWO, [instance(1, 1, claim(1, 200)), instance(2, 1, claim(1, 190))])
    reason = "2 instances are on mac-1 (model-1, model-2), together they need 392.0 GiB and claim 392.0 GiB, and " + MAC_HAS
    assert [report.findings for report in found] == [
        (
            Finding(
                "over_working_set",
                reason,
                "set gpustack_node_wired_limit_state: present in group_vars, or keep the model "
                f"model-{number} or another one off mac-1 by a worker_selector, then {SITE}",
                f"model-{number}-a",
                "mac-1",
            ),
        )
        for number in (1, 2)
    ]


def test_two_instances_of_one_model_on_one_worker() -> None:
    found = findings([mac(1)], [model(replicas=2)], [instance(what=claim(1, 200)), instance(what=claim(1, 200), name="model-1-b")])
    assert [(finding.finding, finding.instance) for finding in found] == [
        ("over_working_set", "model-1-a"),
        ("over_working_set", "model-1-b"),
    ]
    assert found[0].reason.startswith("2 instances are on mac-1 (model-1), together they need 402.0 GiB")


def test_together_exactly_as_much_as_there_is() -> None:
    assert [report.findings for report in judge([mac(1)], TWO, [instance(1, 1, claim(1, 200)), instance(2, 1, claim(1, 184))])] == [(), ()]


def test_together_more_than_the_memory() -> None:
    found = judge([mac(1)], TWO, [instance(1, 1, claim(100, 200)), instance(2, 1, claim(100, 110))])
    assert [finding.finding for report in found for finding in report.findings] == ["over_memory", "over_memory"]
    assert found[1].findings[0].mend == f"keep the model model-2 or another one off mac-1 by a worker_selector, then {SITE}"


def test_ram_of_other_machines_is_added_up_without_their_gpus() -> None:
    machine = linux(1, gpu(80, None, "NVIDIA H100", "cuda"))
    ones = [instance(number, 1, claim(31, 40, unified=False), worker_name="linux-1") for number in (1, 2)]
    assert [report.findings for report in judge([machine], TWO, ones)] == [(), ()]
    ones[1]["computed_resource_claim"] = claim(32, 40, unified=False)
    assert [finding.finding for report in judge([machine], TWO, ones) for finding in report.findings] == ["over_memory"] * 2


def test_a_model_that_is_too_large_by_itself_is_said_once_and_disturbs_the_others() -> None:
    large, small = judge([mac(1)], TWO, [instance(1, 1, claim(1, 385)), instance(2, 1, claim(1, 10))])
    assert [finding.finding for finding in large.findings] == ["over_working_set"]
    assert large.findings[0].reason.startswith("the model needs 386.0 GiB of mac-1")
    assert [finding.finding for finding in small.findings] == ["over_working_set"]
    assert small.findings[0].reason.startswith("2 instances are on mac-1 (model-1, model-2)")


def test_hidden_weights_of_two_models_meet_on_one_worker() -> None:
    # What 0.6.0 does not see: 40 + 40 GiB are claimed, 440 are needed.
    models = [model(1, weights_gib=180), model(2, weights_gib=180)]
    found = judge([mac(1)], models, [instance(1, 1, claim(1, 39)), instance(2, 1, claim(1, 39))], "0.6.0")
    assert [[finding.finding for finding in report.findings] for report in found] == [["over_working_set", "estimate_apart"]] * 2
    assert "together they need 440.0 GiB and claim 80.0 GiB" in found[0].findings[0].reason


def test_a_part_by_rpc_counts_where_gpustack_does_not_count_it() -> None:
    spread_one = instance(1, 1, claim(1, 200), others=[(2, claim(0, 300, offload=31))])
    first, second = judge(MACS, TWO, [spread_one, instance(2, 2, claim(1, 100))])
    assert [(finding.finding, finding.worker) for finding in first.findings] == [("over_working_set", "mac-2")]
    assert [(finding.finding, finding.worker) for finding in second.findings] == [("over_working_set", "mac-2")]


def test_needs_that_are_open_are_at_least_as_much() -> None:
    models = [model(1, backend_parameters=["--mmap"]), model(2)]
    ones = [instance(1, 1, claim(1, 19), others=[(2, claim(0, 356, offload=31))]), instance(2, 1, claim(1, 370))]
    found = judge(MACS, models, ones)
    assert [finding.finding for finding in found[1].findings] == ["over_working_set"]
    assert "together they need at least 391.0 GiB and claim 391.0 GiB" in found[1].findings[0].reason


@pytest.mark.parametrize(
    ("workers", "one", "reason", "how"),
    [
        (
            [mac(2)],
            instance(what=claim(1, 10)),
            "mac-1 is not in the server's list of workers",
            "run this again when the worker is back",
        ),
        (
            MACS,
            instance(what=None),
            "the server does not say what mac-1 has to give to model-1-a",
            "run this again when it is scheduled",
        ),
        (
            [with_status(mac(1), memory=None)],
            instance(what=claim(1, 10)),
            "the server does not say how much memory mac-1 has",
            "give apple_silicon of this node in nodes",
        ),
        (
            [with_status(mac(1), gpu_devices=None)],
            instance(what=claim(1, 10)),
            "the server does not say how much GPU memory mac-1 has",
            "give apple_silicon of this node in nodes",
        ),
    ],
)
def test_what_cannot_be_told(workers: t.Any, one: Json, reason: str, how: str) -> None:
    assert findings(workers, [model()], [one]) == [Finding("unknown", reason, how, "model-1-a", "mac-1")]


def test_what_is_known_to_be_too_much_is_said_also_where_the_rest_is_not_known() -> None:
    silent = with_status(mac(1), memory=None)
    (finding,) = findings([silent], [model()], [instance(what=claim(1, 385))])
    assert finding.finding == "over_working_set"
    assert finding.mend == LARGER
    assert "mac-1 has a working set of 384.0 GiB (server) and an unknown amount of memory" in finding.reason
    silent = with_status(mac(1), gpu_devices=None)
    (finding,) = findings([silent], [model()], [instance(what=claim(1, 510))])
    assert finding.finding == "over_memory"
    assert "mac-1 has a working set of an unknown amount (unknown) and 509.0 GiB" in finding.reason


def test_together_where_only_the_memory_is_not_known() -> None:
    silent = with_status(mac(1), memory=None)
    found = judge([silent], TWO, [instance(1, 1, claim(1, 200)), instance(2, 1, claim(1, 190))])
    assert [[finding.finding for finding in report.findings] for report in found] == [["over_working_set", "unknown"]] * 2


def test_together_where_a_part_is_not_known() -> None:
    found = judge([mac(1)], TWO, [instance(1, 1, None), instance(2, 1, claim(1, 10))])
    assert [[finding.finding for finding in report.findings] for report in found] == [["unknown"], []]
    elsewhere = judge([mac(2)], TWO, [instance(1, 1, claim(1, 300)), instance(2, 1, claim(1, 300))])
    assert [[finding.finding for finding in report.findings] for report in elsewhere] == [["unknown"], ["unknown"]]
