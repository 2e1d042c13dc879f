# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision for a model on all its workers, overrides, and what else a decision says."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap import Decision, Override, Versions
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import ModelFacts, WorkerFacts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import exactly
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB
from ansible_collections.metalfleet.gpustack.tests.unit.mmap_cases import (
    MEMORY_BYTES,
    USABLE_BYTES,
    WORKING_SET_BYTES,
    at_least,
    linux,
    mac,
    model,
)

BIG = at_least(664 * GIB)
MACS = [mac("mac-1"), mac("mac-2")]


def decide(
    wanted: ModelFacts, workers: t.Iterable[WorkerFacts], version: str | None = "0.6.2", overrides: t.Sequence[Override] = (), **more: t.Any
) -> Decision:
    strict = more.pop("strict", False)
    return mmap.decide(wanted, workers, Versions(version, **more), overrides, strict)


def test_a_model_on_one_mac() -> None:
    assert mmap.decide(model(), [mac()], Versions("0.6.2")).as_dict() == {
        "flag": "--no-mmap",
        "rule": "within_working_set",
        "reason": "the model needs 100.0 GiB, mac-1 has a working set of 384.0 GiB (wired_limit) and 509.0 GiB of memory without "
        "GPUStack's reserve",
        "confidence": "high",
        "worker": "mac-1",
        "overridden": "",
        "risk": "",
        "refusal": "",
        "conflict": "",
        "evidence": ["llama.cpp#9244", "llama.cpp#11382", "gpustack#219"],
        "advice": [],
        "warnings": [],
        "extra": [],
        "verdicts": [
            {
                "worker": "mac-1",
                "flag": "--no-mmap",
                "rule": "within_working_set",
                "reason": "the model needs 100.0 GiB, mac-1 has a working set of 384.0 GiB (wired_limit) and 509.0 GiB of memory without "
                "GPUStack's reserve",
                "confidence": "high",
                "refused": False,
            }
        ],
    }


@pytest.mark.parametrize(
    ("workers", "flag", "rule", "worker"),
    [
        ([linux("b"), linux("a")], None, "not_macos", "a"),
        ([linux("a"), mac("z")], "--no-mmap", "within_working_set", "z"),
        ([mac("b", is_apple_silicon=False), linux("c")], None, "not_macos", "c"),
        ([mac("b"), mac("a")], "--no-mmap", "within_working_set", "a"),
        ([mac("b", is_virtual=True), mac("a")], "--no-mmap", "virtual_mac", "b"),
        ([mac("a"), WorkerFacts("b")], "--no-mmap", "within_working_set", "a"),
        ([linux("a"), WorkerFacts("b")], "--no-mmap", "unknown", "b"),
    ],
)
def test_the_most_careful_answer_is_the_models_and_names_its_worker(
    workers: list[WorkerFacts], flag: str | None, rule: str, worker: str
) -> None:
    for order in (workers, workers[::-1]):
        decision = decide(model(), order)
        assert (decision.flag, decision.rule, decision.worker) == (flag, rule, worker)
        assert [verdict.worker for verdict in decision.verdicts] == [facts.name for facts in order]


def test_mmap_is_the_least_careful_answer() -> None:
    old = model(backend_version="v0.0.130", need=exactly(300 * GIB), distributed=False)
    alone = decide(old, [mac()], can_upgrade_llama_box=False)
    assert (alone.flag, alone.rule, alone.extra) == ("--mmap", "old_llama_box", ("--mlock",))
    assert alone.risk == "a workaround: mmap with --mlock, and an estimate without the weights"
    assert decide(old, [mac()]).rule == "within_working_set"
    assert decide(old, [mac(), linux()], can_upgrade_llama_box=False).rule == "not_macos"


def test_workers_that_are_not_eligible_have_no_say() -> None:
    decision = decide(model(worker_selector={"os": "linux"}), [mac(), linux(labels={"os": "linux"})])
    assert (decision.flag, decision.worker, len(decision.verdicts)) == (None, "linux-1", 1)


@pytest.mark.parametrize(("backend", "flag", "rule"), [("llama-box", "--no-mmap", "unknown"), ("vllm", None, "other_backend")])
def test_without_an_eligible_worker_there_is_a_refusal(backend: str, flag: str | None, rule: str) -> None:
    decision = decide(model(worker_selector={"no": "such"}, backend=backend), MACS)
    assert (decision.flag, decision.rule, decision.worker, decision.verdicts) == (flag, rule, None, ())
    assert decision.reason == "there is no worker that the model synthetic may be put on"
    assert decision.refusal == (
        "no worker has what worker_selector and gpu_selector of the model synthetic ask for: change them or add such a worker"
    )


# 1907: 664 GiB of weights, two Macs with 512 GiB.


@pytest.mark.parametrize(
    ("changes", "workers", "version", "rule"),
    [
        ({}, MACS, "0.6.2", "distributed"),
        ({}, MACS, "0.7.1", "distributed"),
        ({}, MACS, None, "distributed"),
        ({}, MACS, "0.6.0", "gpustack_060"),
        ({"gpu_ids": ("mac-1:mps:0", "mac-2:mps:0")}, MACS, "0.6.0", "distributed"),
        ({"gpu_ids": ("mac-1:mps:0",)}, MACS, "0.6.0", "gpustack_060"),
        ({"gpu_ids": ("mac-1:mps:0",)}, MACS, "0.6.2", "beyond_memory"),
        ({"may_distribute": False}, MACS, "0.6.2", "beyond_memory"),
        ({"may_distribute": False, "gpu_ids": ("mac-1:mps:0", "mac-2:mps:0")}, MACS, "0.6.2", "beyond_memory"),
        ({}, MACS[:1], "0.6.2", "beyond_memory"),
        ({"distributed": True}, MACS[:1], "0.6.2", "distributed"),
        ({"distributed": False}, MACS, "0.6.2", "beyond_memory"),
        ({"need": exactly(USABLE_BYTES)}, MACS, "0.6.2", "beyond_working_set"),
        ({"need": exactly(USABLE_BYTES + 1)}, MACS, "0.6.2", "distributed"),
        ({"need": exactly(USABLE_BYTES + 1)}, [*MACS, mac("m", memory_bytes=MEMORY_BYTES + 1)], "0.6.2", "beyond_memory"),
        ({}, [*MACS, linux()], "0.6.2", "beyond_memory"),
    ],
)
def test_when_a_model_counts_as_distributed(changes: dict[str, t.Any], workers: list[WorkerFacts], version: str | None, rule: str) -> None:
    assert decide(model(**{"need": BIG, **changes}), workers, version).rule == rule


def test_a_model_that_asks_for_mmap_and_is_distributed_is_a_conflict() -> None:
    wanted = model(need=BIG, wants_mmap=True)
    assert decide(wanted, MACS).conflict == (
        "the model synthetic is distributed, and its backend_parameters ask for mmap: take --mmap out (gpustack#1907)"
    )
    assert decide(model(need=BIG), MACS).conflict == ""
    assert decide(model(wants_mmap=True), MACS).conflict == ""
    assert decide(wanted, MACS, "0.6.2", [Override("--mmap", model="synthetic")]).conflict == ""


@pytest.mark.parametrize(
    ("changes", "workers", "refusal"),
    [
        ({"need": exactly(2 * USABLE_BYTES)}, MACS, ""),
        ({"need": at_least(2 * USABLE_BYTES)}, MACS, ""),
        (
            {"need": at_least(2 * USABLE_BYTES + 1)},
            MACS,
            (
                "the model synthetic needs 1018.0 GiB or more, and the 2 workers that it may be put on have together 1018.0 GiB: "
                "add memory or workers, or take a smaller quantisation"
            ),
        ),
        ({"need": at_least(2 * USABLE_BYTES + 1)}, [*MACS, linux()], ""),
        ({"need": at_least(2 * USABLE_BYTES + 1)}, [*MACS, mac("mac-3", memory_bytes=None)], ""),
        ({"need": exactly(USABLE_BYTES + GIB), "may_distribute": False}, [mac("m", memory_bytes=MEMORY_BYTES + GIB), *MACS], ""),
        (
            {"need": exactly(USABLE_BYTES + GIB), "may_distribute": False},
            [mac("m", memory_bytes=MEMORY_BYTES - GIB), *MACS],
            (
                "the model synthetic needs 510.0 GiB or more, and the largest worker that it may be put on has 509.0 GiB: "
                "add memory or workers, or take a smaller quantisation"
            ),
        ),
        ({"need": exactly(USABLE_BYTES + GIB), "may_distribute": False, "distributed": True}, MACS, ""),
        ({"need": exactly(WORKING_SET_BYTES + 1)}, MACS, ""),
    ],
)
def test_what_fits_nowhere_is_refused(changes: dict[str, t.Any], workers: list[WorkerFacts], refusal: str) -> None:
    assert decide(model(**changes), workers).refusal == refusal


def test_rosetta_changes_nothing_but_a_warning() -> None:
    translated = [mac("a", is_translated=True, is_apple_silicon=False), mac("b", is_translated=None), linux("c", is_translated=True)]
    decision = decide(model(), translated)
    assert decision.rule == "within_working_set"
    assert decision.warnings == (
        "a runs under Rosetta, wholly or in part: it is decided as if it did not; install arm64 builds of Python and GPUStack",
    )


MIXED = "the workers of a distributed model have different llama-boxes, which crash (gpustack#756): "
OLD = "a distributed model needs llama-box v0.0.139 or newer, better v0.0.144 or v0.0.162: "
TOO_SMALL = (
    "the estimator of GPUStack 0.6.0 assumes mmap whatever the flag says, so what the main worker claims stays too small: "
    "keep other models off it, or upgrade GPUStack"
)


@pytest.mark.parametrize(
    ("boxes", "pinned", "version", "warnings"),
    [
        (("v0.0.154", "v0.0.154"), None, "0.6.2", ()),
        (("v0.0.154", "0.0.154"), "v0.0.154", "0.6.2", ()),
        (("v0.0.154", None), None, "0.6.2", ()),
        (("v0.0.154", "main"), "latest", "0.6.2", ()),
        (("v0.0.154", "v0.0.99"), None, "0.6.2", (f"{MIXED}v0.0.99, v0.0.154", f"{OLD}v0.0.99")),
        (("v0.0.154", "v0.0.154"), "v0.0.162", "0.6.2", (f"{MIXED}v0.0.154, v0.0.162",)),
        (("v0.0.139", "v0.0.139"), None, "0.6.2", ()),
        (("v0.0.138", "v0.0.138"), None, "0.6.2", (f"{OLD}v0.0.138",)),
        (("v0.0.136", "v0.0.138"), None, "0.6.2", (f"{MIXED}v0.0.136, v0.0.138", f"{OLD}v0.0.136, v0.0.138")),
        (("v0.0.139", "v0.0.139"), None, "0.6.0", (TOO_SMALL,)),
    ],
)
def test_versions_behind_a_distributed_model(
    boxes: tuple[str | None, str | None], pinned: str | None, version: str, warnings: tuple[str, ...]
) -> None:
    workers = [mac(name, llama_box_version=box) for name, box in zip("ab", boxes)]
    assert decide(model(distributed=True, backend_version=pinned), workers, version).warnings == warnings
    assert decide(model(distributed=False, backend_version=pinned), workers, version).warnings == ()


def test_warnings_of_both_kinds_come_together() -> None:
    workers = [mac("a", is_translated=True, llama_box_version="v0.0.136"), mac("b", llama_box_version="v0.0.136")]
    assert [text.split(" ", 1)[0] for text in decide(model(distributed=True), workers).warnings] == ["a", "a"]
    assert len(decide(model(distributed=True), workers).warnings) == 2


# Overrides.


@pytest.mark.parametrize(
    ("override", "covered"),
    [
        (Override(None, model="synthetic"), True),
        (Override(None, model="Synthetic"), False),
        (Override(None, model="other", labels={"tier": "x"}), False),
        (Override(None, labels={"tier": "x"}), True),
        (Override(None, labels={"tier": "x", "team": "y"}), True),
        (Override(None, labels={"tier": "x", "team": "z"}), False),
        (Override(None, labels={"no": "such"}), False),
    ],
)
def test_an_override_goes_by_name_or_by_all_its_labels(override: Override, covered: bool) -> None:
    assert override.covers(model(labels={"tier": "x", "team": "y"})) is covered


OVERRIDDEN = "overridden by model name synthetic: we said so"
SAID = "the model needs 100.0 GiB, mac-1 has a working set of 384.0 GiB (wired_limit) and 509.0 GiB of memory without GPUStack's reserve"
AGAINST_11 = f"against the rule within_working_set, which says --no-mmap: {SAID}"
AGAINST_1 = (
    "against the rule not_macos, which says the backend's default: linux-1 does not run macOS, and residency is a matter of Metal only"
)


@pytest.mark.parametrize(
    ("flag", "workers", "risk"),
    [
        ("--mmap", MACS, f"--mmap {AGAINST_11}"),
        (None, MACS, f"the backend's default {AGAINST_11}"),
        ("--no-mmap", MACS, ""),
        ("--mmap", [linux()], f"--mmap {AGAINST_1}"),
        (None, [linux()], ""),
        ("--no-mmap", [linux()], ""),
    ],
)
def test_an_override_wins_and_is_flagged_where_it_is_a_risk(flag: str | None, workers: list[WorkerFacts], risk: str) -> None:
    override = Override(flag, model="synthetic", reason="we said so")
    risk = risk and f"{risk} (overridden for this reason: we said so)"
    plain = decide(model(), workers)
    decision = decide(model(), workers, "0.6.2", [override])
    assert (decision.flag, decision.rule, decision.risk) == (flag, "override", risk)
    assert decision.reason == OVERRIDDEN
    assert (decision.overridden, decision.worker) == (plain.rule, plain.worker)
    assert (decision.evidence, decision.advice, decision.confidence) == (plain.evidence, plain.advice, plain.confidence)
    assert (decision.verdicts, decision.refusal, decision.warnings) == (plain.verdicts, plain.refusal, plain.warnings)
    if risk:
        with pytest.raises(BadInputError) as caught:
            decide(model(), workers, "0.6.2", [override], strict=True)
        assert str(caught.value) == (f"strict: the override by model name synthetic for the model synthetic is a risk, {risk}; take it out")
    else:
        assert decide(model(), workers, "0.6.2", [override], strict=True) == decision


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (Override("--mmap", model="a", reason="rarely asked"), "the override by model name a says mmap: rarely asked"),
        (Override("--no-mmap", model="a"), "the override by model name a says no-mmap"),
        (Override(None, labels={"x": "y"}, reason="r"), "the override by labels x=y says default: r"),
    ],
)
def test_what_an_override_says(override: Override, words: str) -> None:
    assert override.words() == words


def test_which_override_covers_a_model() -> None:
    first, second, third = Override("--mmap", model="b"), Override(None, labels={"x": "y"}), Override("--mmap", model="a")
    assert mmap.override_for([first, second, third], model(name="a", labels={"x": "y"})) is second
    assert mmap.override_for([first, second, third], model(name="a")) is third
    assert mmap.override_for([first], model(name="a")) is None


def test_strict_has_to_be_asked_for() -> None:
    assert mmap.decide(model(), MACS, Versions(), [Override("--mmap", model="synthetic")]).flag == "--mmap"


def test_strict_alone_fails_nothing() -> None:
    assert decide(model(), MACS, strict=True) == decide(model(), MACS)


def test_mmap_is_a_risk_also_where_the_table_says_so() -> None:
    old = model(backend_version="v0.0.130", need=exactly(300 * GIB), distributed=False)
    decision = decide(old, [mac()], "0.6.2", [Override("--mmap", model="synthetic")], can_upgrade_llama_box=False)
    assert decision.risk.startswith("--mmap against the rule old_llama_box, which says --mmap: llama-box v0.0.130 cannot be upgraded")
    assert decision.extra == ()


def test_the_first_override_that_covers_wins() -> None:
    overrides = [Override("--mmap", model="other"), Override(None, labels={"b": "2", "a": "1"}), Override("--mmap", model="synthetic")]
    decision = decide(model(labels={"a": "1", "b": "2"}), MACS, "0.6.2", overrides)
    assert decision.flag is None
    assert decision.reason == "overridden by labels a=1, b=2"


def test_an_override_of_a_distributed_model_wins_too() -> None:
    decision = decide(model(need=BIG), MACS, "0.6.2", [Override("--mmap", model="synthetic")])
    assert decision.flag == "--mmap"
    assert decision.risk.startswith("--mmap against the rule distributed, which says --no-mmap: ")


def test_overrides_of_a_play() -> None:
    entries = [
        {"model": "a", "mmap": "mmap", "reason": "r"},
        {"labels": {"tier": 1}, "mmap": "no-mmap"},
        {"model": "b", "labels": {}, "mmap": "default", "reason": None},
        {"model": "", "labels": {"x": "y"}, "mmap": "default"},
    ]
    assert mmap.overrides_from(entries) == [
        Override("--mmap", model="a", reason="r"),
        Override("--no-mmap", labels={"tier": "1"}),
        Override(None, model="b"),
        Override(None, labels={"x": "y"}),
    ]
    assert mmap.overrides_from(()) == []


ONE = "override 2 of the mmap policy"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("a", f"{ONE} is no dictionary: write mmap, and model or labels"),
        ({"model": "a", "mmap": "mmap", "z": 1, 5: 2}, f"{ONE} has unknown keys: 5, z; it may have mmap, model, labels and reason"),
        ({"model": "a"}, f"{ONE}: mmap must be one of no-mmap, default, mmap"),
        ({"model": "a", "mmap": "--mmap"}, f"{ONE}: mmap must be one of no-mmap, default, mmap"),
        ({"model": "a", "mmap": True}, f"{ONE}: mmap must be one of no-mmap, default, mmap"),
        ({"model": "a", "mmap": ["mmap"]}, f"{ONE}: mmap must be one of no-mmap, default, mmap"),
        ({"mmap": "mmap"}, f"{ONE} needs either the name of a model or labels"),
        ({"model": "a", "labels": {"b": "c"}, "mmap": "mmap"}, f"{ONE} needs either the name of a model or labels"),
        ({"model": 5, "mmap": "mmap"}, f"{ONE} needs either the name of a model or labels"),
        ({"model": "", "labels": ["x"], "mmap": "mmap"}, f"{ONE} needs either the name of a model or labels"),
    ],
)
def test_what_is_no_override_is_refused(entry: t.Any, message: str) -> None:
    with pytest.raises(BadInputError) as caught:
        mmap.overrides_from([{"model": "fine", "mmap": "default"}, entry])
    assert str(caught.value) == message


@pytest.mark.parametrize("entries", [None, {"model": "a"}, "a", 1])
def test_overrides_that_are_no_list_are_refused(entries: t.Any) -> None:
    with pytest.raises(BadInputError) as caught:
        mmap.overrides_from(entries)
    assert str(caught.value) == "overrides of the mmap policy are a list"
