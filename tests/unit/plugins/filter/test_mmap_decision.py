# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.metalfleet.gpustack.plugins.filter import mmap_decision as plugin

mmap_decision = plugin.FilterModule().filters()["mmap_decision"]

GIB = 1024**3
FACTS = {
    "chip": "Apple M3 Ultra",
    "is_apple_silicon": True,
    "is_virtual": False,
    "memory_bytes": 512 * GIB,
    "working_set_bytes": 384 * GIB,
    "working_set_source": "wired_limit",
}
MACS = [{"name": "mac-1", "apple_silicon": FACTS}, {"name": "mac-2", "apple_silicon": FACTS}]
MODEL = {"name": "deepseek-v3-0324-Q8_0"}


def rule(model: t.Any = None, workers: t.Any = None, **options: t.Any) -> str:
    return str(mmap_decision(model or MODEL, MACS if workers is None else workers, **options)["rule"])


def test_1907() -> None:
    decision = mmap_decision(MODEL, MACS, gpustack_version="0.6.2", weights_bytes=664 * GIB)
    assert set(decision) >= {"flag", "rule", "reason", "evidence", "confidence", "advice", "worker", "overridden", "risk"}
    assert (decision["flag"], decision["rule"], decision["worker"]) == ("--no-mmap", "distributed", "mac-1")
    assert rule(gpustack_version="0.6.0", weights_bytes=664 * GIB) == "gpustack_060"


def test_where_the_need_comes_from() -> None:
    assert rule() == "unknown"
    assert rule(need_bytes=384 * GIB) == "within_working_set"
    assert rule(need_bytes=384 * GIB, weights_bytes=664 * GIB) == "within_working_set"
    assert rule(need_bytes=384 * GIB + 1) == "beyond_working_set"
    assert rule(weights_bytes=384 * GIB) == "unknown"
    assert rule(claim_bytes=384 * GIB) == "within_working_set"
    assert rule(claim_bytes=384 * GIB, weights_bytes=385 * GIB) == "distributed"
    assert rule({**MODEL, "meta": {"size": 664 * GIB}}) == "distributed"
    assert rule({**MODEL, "backend_parameters": ["--mmap"]}, claim_bytes=GIB, weights_bytes=400 * GIB) == "beyond_working_set"


def instance(claim_bytes: int, *others: int) -> dict[str, t.Any]:
    claims = [{"computed_resource_claim": {"ram": 0, "vram": {"0": size}}} for size in (claim_bytes, *others)]
    return {**claims[0], "distributed_servers": {"rpc_servers": claims[1:]}}


def test_instances_tell_the_claim_and_whether_the_model_is_spread() -> None:
    assert rule(instances=[instance(GIB), instance(385 * GIB)]) == "beyond_working_set"
    assert rule(instances=[instance(385 * GIB)], claim_bytes=GIB) == "within_working_set"
    assert rule(instances=[instance(GIB, GIB)]) == "distributed"
    assert rule(instances=[{}]) == "unknown"


def test_a_text_that_is_a_number_counts_as_one() -> None:
    assert rule(need_bytes=str(GIB)) == rule(weights_bytes="5", claim_bytes=str(GIB)) == "within_working_set"


def test_the_version_of_llama_box_comes_with_that_of_gpustack() -> None:
    workers = [{**MACS[0]}, {**MACS[1], "llama_box_version": "v0.0.139"}]
    warnings = mmap_decision(MODEL, workers, gpustack_version="0.6.2", weights_bytes=664 * GIB)["warnings"]
    assert len(warnings) == 1
    assert warnings[0].endswith(": v0.0.139, v0.0.154")


def test_an_old_llama_box_that_stays() -> None:
    options = {"need_bytes": 300 * GIB, "gpustack_version": "0.6.2"}
    model = {**MODEL, "backend_version": "v0.0.135", "distributed_inference_across_workers": False}
    assert rule(model, **options) == "within_working_set"
    assert rule(model, can_upgrade_llama_box=False, **options) == "old_llama_box"


OVERRIDES = [{"model": MODEL["name"], "mmap": "mmap", "reason": "rarely asked"}]


def test_overrides_win_but_not_under_strict() -> None:
    decision = mmap_decision(MODEL, MACS, need_bytes=GIB, overrides=OVERRIDES)
    assert (decision["flag"], decision["overridden"]) == ("--mmap", "within_working_set")
    assert decision["risk"].startswith("--mmap against the rule within_working_set")
    with pytest.raises(AnsibleFilterError) as caught:
        mmap_decision(MODEL, MACS, need_bytes=GIB, overrides=OVERRIDES, strict=True)
    assert str(caught.value).startswith(
        "mmap_decision: strict: the override by model name deepseek-v3-0324-Q8_0 for the model deepseek-v3-0324-Q8_0 is a risk, --mmap "
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": {"labels": {}}}, "a model has no name: the mmap policy decides by name, so set it"),
        ({"workers": [{}]}, "a worker has no name: give each the name that GPUStack's server knows it by"),
        ({"workers": {"name": "a"}}, "workers must be a list, not of type dict"),
        ({"instances": "x"}, "instances must be a list, not of type str"),
        ({"overrides": {"model": "a"}}, "overrides of the mmap policy are a list"),
        ({"need_bytes": 0}, "need_bytes must be a whole number of bytes above 0"),
        ({"need_bytes": True}, "need_bytes must be a whole number of bytes above 0"),
        ({"weights_bytes": "664 GiB"}, "weights_bytes must be a whole number of bytes above 0"),
        ({"claim_bytes": 1.5}, "claim_bytes must be a whole number of bytes above 0"),
        ({"claim_bytes": -1}, "claim_bytes must be a whole number of bytes above 0"),
    ],
)
def test_bad_input_is_one_clear_sentence(options: dict[str, t.Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        mmap_decision(**{"model": MODEL, "workers": MACS, **options})
    assert str(caught.value) == f"mmap_decision: {message}"


def test_options_are_documented_under_their_names() -> None:
    import inspect

    import yaml

    documented = set(yaml.safe_load(plugin.DOCUMENTATION)["options"]) - {"_input"}
    assert documented == set(inspect.signature(plugin.mmap_decision).parameters) - {"model"}
    assert set(yaml.safe_load(plugin.RETURN)["_value"]["contains"]) == set(mmap_decision(MODEL, MACS))
