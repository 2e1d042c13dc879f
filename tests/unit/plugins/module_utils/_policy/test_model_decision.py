# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The policy asked with what the server's lists, and what a play knows of its nodes, say."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import model_decision
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.fleet_nodes import parse_nodes
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap import Decision, Override, overrides_from
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_decision import Known, Surroundings, facts_of, surroundings
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need, exactly
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import parse_instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import parse_worker
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import claim, instance, linux, mac, model

MACS = [parse_worker(mac(1)), parse_worker(mac(2))]
LINUX = [parse_worker(linux(3))]
NODE = {"installation": {"kind": "script"}, "gpustack_version": "0.6.0", "llama_box": [{"slot": "builtin", "version": "v0.0.130"}]}


def decide(
    raw: dict[str, t.Any],
    around: Surroundings,
    known: Known | None = None,
    instances: t.Sequence[dict[str, t.Any]] = (),
) -> Decision:
    return model_decision.decide_for(raw, [parse_instance(one) for one in instances], around, known)


def test_surroundings_are_the_servers_workers_with_what_their_nodes_say() -> None:
    nodes = parse_nodes([{"name": "studio-2.example.com", "node": NODE, "apple_silicon": {"is_virtual": True}}])
    override = Override("--mmap", model="model-1")
    around = surroundings("0.6.2", MACS, nodes, [override], strict=True, can_upgrade_llama_box=False)
    assert (around.gpustack_version, around.overrides, around.strict, around.can_upgrade_llama_box) == ("0.6.2", (override,), True, False)
    assert [(one.name, one.is_virtual, one.gpustack_version, one.llama_box_version) for one in around.workers] == [
        ("mac-1", False, "0.6.2", "v0.0.154"),
        ("mac-2", True, "0.6.0", "v0.0.130"),
    ]


def test_without_more_nothing_is_overridden_and_llama_box_can_be_upgraded() -> None:
    around = surroundings("0.7.1", [])
    assert around == Surroundings("0.7.1", (), (), False, True)


@pytest.mark.parametrize(
    ("changes", "backend"),
    [
        ({}, "llama-box"),
        ({"backend": None}, "llama-box"),
        ({"backend": ""}, "llama-box"),
        ({"backend": None, "local_path": "/models/a"}, "vllm"),
        ({"backend": None, "local_path": "/models/a", "categories": ["llm", "speech_to_text"]}, "vox-box"),
        ({"backend": None, "local_path": "/models/a", "categories": None}, "vllm"),
        ({"backend": "vllm", "categories": ["text_to_speech"]}, "vllm"),
        ({"backend": None, "source": "ollama_library"}, "llama-box"),
        ({"backend": None, "source": "huggingface", "huggingface_filename": "a.gguf"}, "llama-box"),
        ({"backend": None, "source": None}, None),
    ],
)
def test_what_serves_a_model(changes: dict[str, t.Any], backend: str | None) -> None:
    raw = model(**changes)
    assert model_decision.serving_backend(raw) == backend
    assert facts_of(raw, [], "0.6.2", Known()).backend == backend


def test_a_model_as_the_policy_knows_it() -> None:
    raw = model(1, worker_selector={"zone": "a"}, backend_version="v0.0.139", backend_parameters=["--lora=x"])
    facts = facts_of(raw, [], "0.6.2", Known(labels={"tier": "gold"}))
    assert (facts.name, facts.labels, facts.worker_selector, facts.backend_version) == (
        "model-1",
        {"tier": "gold"},
        {"zone": "a"},
        "v0.0.139",
    )
    assert (facts.lora, facts.wants_mmap, facts.need, facts.distributed) == (True, False, Need(), None)
    # Labels are the collection's own; what the server may have by this name is not asked.
    assert facts_of(model(labels={"tier": "tin"}), [], "0.6.2", Known()).labels == {}


SMALL, LARGE = claim(1, 99), claim(1, 199)


@pytest.mark.parametrize(
    ("version", "weights_gib", "known", "claims", "need"),
    [
        ("0.6.2", None, Known(), [], Need()),
        ("0.6.2", None, Known(), [SMALL], exactly(100 * GIB)),
        ("0.6.2", None, Known(), [SMALL, LARGE, None], exactly(200 * GIB)),
        ("0.6.2", None, Known(claim_bytes=50 * GIB), [SMALL], exactly(100 * GIB)),
        ("0.6.2", None, Known(claim_bytes=150 * GIB), [SMALL], exactly(150 * GIB)),
        ("0.6.2", None, Known(weights_bytes=7 * GIB), [], Need(7 * GIB)),
        ("0.6.2", 30, Known(), [], Need(30 * GIB)),
        # 0.6.0 leaves the weights out of what it claims.
        ("0.6.0", 300, Known(), [SMALL], exactly(400 * GIB)),
        ("0.6.0", 300, Known(weights_bytes=500 * GIB), [SMALL], exactly(600 * GIB)),
        ("0.6.0", None, Known(), [SMALL], Need(100 * GIB)),
    ],
)
def test_what_a_model_needs_comes_from_the_largest_claim(
    version: str, weights_gib: float | None, known: Known, claims: list[t.Any], need: Need
) -> None:
    instances = [parse_instance(instance(1, 1, one)) for one in claims]
    assert facts_of(model(1, weights_gib), instances, version, known).need == need


def test_an_instance_on_two_workers_proves_that_a_model_is_distributed() -> None:
    spread = parse_instance(instance(1, 1, SMALL, [(2, SMALL)]))
    assert facts_of(model(), [spread], "0.6.2", Known()).distributed is True


@pytest.mark.parametrize(
    ("workers", "version", "flag", "rule"),
    [
        (MACS, "0.6.2", "--no-mmap", "within_working_set"),
        (MACS, "0.6.0", "--no-mmap", "gpustack_060"),
        (LINUX, "0.6.2", None, "not_macos"),
        ([*LINUX, *MACS], "0.6.2", "--no-mmap", "within_working_set"),
    ],
)
def test_decisions(workers: list[t.Any], version: str, flag: str | None, rule: str) -> None:
    decision = decide(model(), surroundings(version, workers), Known(claim_bytes=10 * GIB, weights_bytes=9 * GIB))
    assert (decision.flag, decision.rule) == (flag, rule)


def test_a_decision_looks_at_the_instances() -> None:
    assert decide(model(), surroundings("0.6.2", MACS), None, [instance(1, 1, SMALL, [(2, SMALL)])]).rule == "distributed"
    assert decide(model(), surroundings("0.6.2", MACS)).rule == "unknown"


def test_a_decision_heeds_overrides_and_their_strictness() -> None:
    overrides = [Override("--mmap", labels={"tier": "gold"}, reason="measured")]
    gold = Known(labels={"tier": "gold"}, claim_bytes=GIB)
    decision = decide(model(), surroundings("0.6.2", MACS, (), overrides), gold)
    assert (decision.flag, decision.rule, decision.overridden) == ("--mmap", "override", "within_working_set")
    assert decide(model(), surroundings("0.6.2", MACS, (), overrides), Known(claim_bytes=GIB)).flag == "--no-mmap"
    with pytest.raises(BadInputError, match=r"^strict: the override by labels tier=gold for the model model-1 is a risk"):
        decide(model(), surroundings("0.6.2", MACS, (), overrides, strict=True), gold)


def test_a_llama_box_that_cannot_be_upgraded_needs_mmap() -> None:
    raw = model(backend_version="v0.0.130", distributed_inference_across_workers=False)
    known = Known(claim_bytes=300 * GIB)
    assert decide(raw, surroundings("0.6.2", MACS, can_upgrade_llama_box=False), known).rule == "old_llama_box"
    assert decide(raw, surroundings("0.6.2", MACS), known).rule == "within_working_set"


def test_a_distributed_model_is_warned_of_by_the_servers_version() -> None:
    spread = [instance(1, 1, SMALL, [(2, SMALL)])]
    assert any("GPUStack 0.6.0" in warning for warning in decide(model(), surroundings("0.6.0", MACS), None, spread).warnings)
    assert not any("GPUStack 0.6.0" in warning for warning in decide(model(), surroundings("0.6.2", MACS), None, spread).warnings)


def test_what_a_decision_takes_a_claim_for_depends_on_the_servers_version() -> None:
    known = Known(claim_bytes=600 * GIB, weights_bytes=500 * GIB)
    assert "needs 1100.0 GiB" in decide(model(), surroundings("0.6.0", MACS), known).refusal
    assert decide(model(), surroundings("0.6.2", MACS), known).refusal == ""


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"mmap": "mmap", "model": "chatt"}, "override 1 is for the model chatt, which neither the server nor the list of models has"),
        ({"mmap": "mmap", "model": "chat"}, ""),
        (
            {"mmap": "mmap", "labels": {"team": "b"}},
            "override 1 is for models with the labels team=b, which none in the list of models has",
        ),
        ({"mmap": "mmap", "labels": {"team": "a", "tier": "x"}}, "override 1 is for models with the labels team=a, tier=x, which none"),
        ({"mmap": "mmap", "labels": {"team": "a"}}, ""),
    ],
)
def test_an_override_for_no_model_is_said(entry: t.Any, said: str) -> None:
    found = list(model_decision.idle_overrides(overrides_from([entry]), ["chat"], [{}, {"team": "a", "site": "s"}]))
    assert [text.startswith(said) for text in found] == ([True] if said else [])
    by_name = model_decision.idle_overrides(overrides_from([entry]), ["chat"], None)
    assert [text.startswith(said) for text in by_name] == ([True] if said and "model" in entry else [])
