# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each row at its boundaries, and that the first one that holds decides."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap_rows
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import WorkerFacts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_rows import ROWS, Case, first_row, reason_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need, exactly
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

BY_NAME = {row.name: row for row in ROWS}


def case(worker: WorkerFacts | None = None, distributed: bool | None = False, **changes: t.Any) -> Case:
    """A model of 100 GiB on a healthy Mac."""
    versions = {name: changes.pop(name) for name in ("gpustack_version", "can_upgrade_llama_box") if name in changes}
    return Case(model(**changes), worker or mac(), distributed, **versions)


def rule(*arguments: t.Any, **changes: t.Any) -> str:
    return first_row(case(*arguments, **changes)).name


def test_the_rows_stand_in_their_order_with_names_of_their_own() -> None:
    assert [(row.number, row.name) for row in ROWS] == [
        (0, "other_backend"),
        (1, "not_macos"),
        (2, "intel_mac"),
        (4, "virtual_mac"),
        (5, "distributed"),
        (6, "gpustack_060"),
        (7, "beyond_memory"),
        (8, "beyond_working_set"),
        (9, "lora"),
        (10, "old_llama_box"),
        (11, "within_working_set"),
        (12, "unknown"),
    ]


def test_what_the_rows_decide() -> None:
    assert {row.name for row in ROWS if row.flag is None} == {"other_backend", "not_macos", "intel_mac"}
    assert {row.name for row in ROWS if row.flag == "--mmap"} == {"old_llama_box"}
    assert {row.name for row in ROWS if row.flag == "--no-mmap"} == set(BY_NAME) - {
        "other_backend",
        "not_macos",
        "intel_mac",
        "old_llama_box",
    }
    assert {row.name for row in ROWS if row.refuses} == {"beyond_memory"}
    assert [(row.name, row.extra) for row in ROWS if row.risk or row.extra] == [("old_llama_box", ("--mlock",))]
    # A decision without evidence is that nothing is known.
    assert [row.name for row in ROWS if not row.evidence] == ["unknown"]
    assert {row.confidence for row in ROWS} == {"high", "medium", "low"}


@pytest.mark.parametrize(
    ("backend", "name"), [("vllm", "other_backend"), ("llama-box", "within_working_set"), (None, "within_working_set")]
)
def test_row_0_other_backend(backend: str | None, name: str) -> None:
    assert rule(backend=backend) == name


@pytest.mark.parametrize(
    ("system", "name"), [("linux", "not_macos"), ("windows", "not_macos"), ("Darwin", "within_working_set"), (None, "unknown")]
)
def test_row_1_not_macos(system: str | None, name: str) -> None:
    assert rule(mac(os=system)) == name
    assert rule(linux(), distributed=True, lora=True, gpustack_version="0.6.0") == "not_macos"


@pytest.mark.parametrize(
    ("system", "apple", "translated", "name"),
    [
        ("Darwin", False, None, "intel_mac"),
        ("Darwin", False, False, "intel_mac"),
        ("Darwin", False, True, "within_working_set"),
        ("Darwin", True, True, "within_working_set"),
        ("Darwin", None, None, "within_working_set"),
        (None, False, None, "unknown"),
    ],
)
def test_row_2_intel_mac(system: str | None, apple: bool | None, translated: bool | None, name: str) -> None:
    assert rule(mac(os=system, is_apple_silicon=apple, is_translated=translated)) == name


@pytest.mark.parametrize(("virtual", "name"), [(True, "virtual_mac"), (False, "within_working_set"), (None, "within_working_set")])
def test_row_4_virtual_mac(virtual: bool | None, name: str) -> None:
    assert rule(mac(is_virtual=virtual)) == name
    assert rule(mac(is_virtual=True), distributed=True) == "virtual_mac"
    assert rule(mac(is_virtual=True, is_apple_silicon=False)) == "intel_mac"


@pytest.mark.parametrize(("distributed", "name"), [(True, "distributed"), (False, "within_working_set"), (None, "within_working_set")])
def test_row_5_distributed(distributed: bool | None, name: str) -> None:
    assert rule(distributed=distributed) == name
    assert rule(distributed=True, gpustack_version="0.6.0", need=at_least(10 * MEMORY_BYTES)) == "distributed"
    assert rule(mac(os=None), distributed=True) == "unknown"


@pytest.mark.parametrize(
    ("server", "worker", "name"),
    [
        ("0.6.0", "0.6.2", "gpustack_060"),
        ("0.6.2", "v0.6.0", "gpustack_060"),
        ("0.6.2", "0.6.1", "within_working_set"),
        (None, None, "within_working_set"),
    ],
)
def test_row_6_gpustack_060(server: str | None, worker: str | None, name: str) -> None:
    assert rule(mac(gpustack_version=worker), gpustack_version=server) == name
    assert rule(mac(os=None), gpustack_version="0.6.0") == "unknown"
    assert rule(gpustack_version="0.6.0", need=at_least(MEMORY_BYTES)) == "gpustack_060"


@pytest.mark.parametrize(
    ("need", "name"),
    [
        (exactly(WORKING_SET_BYTES), "within_working_set"),
        (exactly(WORKING_SET_BYTES + 1), "beyond_working_set"),
        (exactly(USABLE_BYTES), "beyond_working_set"),
        (exactly(USABLE_BYTES + 1), "beyond_memory"),
        (at_least(USABLE_BYTES + 1), "beyond_memory"),
        (at_least(USABLE_BYTES), "unknown"),
        (at_least(1), "unknown"),
        (Need(1, WORKING_SET_BYTES), "within_working_set"),
        (Need(WORKING_SET_BYTES + 1, USABLE_BYTES), "beyond_working_set"),
        (Need(WORKING_SET_BYTES, USABLE_BYTES), "unknown"),
        (Need(WORKING_SET_BYTES + 1, USABLE_BYTES + 1), "unknown"),
        (Need(), "unknown"),
    ],
)
def test_rows_7_8_and_11_by_size(need: Need, name: str) -> None:
    assert rule(need=need) == name
    assert rule(need=need, distributed=None) == name


@pytest.mark.parametrize(
    ("changes", "need", "name"),
    [
        ({"memory_bytes": None}, 100, "within_working_set"),
        ({"memory_bytes": None}, 400, "unknown"),
        ({"working_set_bytes": None}, 100, "unknown"),
        ({"working_set_bytes": None}, 510, "beyond_memory"),
        ({"os": None}, 100, "unknown"),
        ({"os": None}, 400, "unknown"),
    ],
)
def test_a_size_that_is_not_known_holds_nothing(changes: dict[str, t.Any], need: int, name: str) -> None:
    assert rule(mac(**changes), need=exactly(need * GIB)) == name


@pytest.mark.parametrize(("lora", "name"), [(True, "lora"), (False, "within_working_set"), (None, "within_working_set")])
def test_row_9_lora(lora: bool | None, name: str) -> None:
    assert rule(lora=lora) == name
    assert rule(mac(os=None), lora=True) == "unknown"
    assert rule(lora=True, need=exactly(WORKING_SET_BYTES + 1)) == "beyond_working_set"


OLD: dict[str, t.Any] = {"can_upgrade_llama_box": False, "need": exactly(MEMORY_BYTES // 2 + 1), "backend_version": "v0.0.135"}


@pytest.mark.parametrize(
    ("worker", "changes", "name"),
    [
        ({}, {}, "old_llama_box"),
        ({}, {"backend_version": "v0.0.117"}, "old_llama_box"),
        ({}, {"backend_version": "v0.0.136"}, "within_working_set"),
        ({"llama_box_version": "v0.0.135"}, {"backend_version": None}, "old_llama_box"),
        ({"llama_box_version": None}, {"backend_version": None}, "within_working_set"),
        ({"llama_box_version": "v0.0.135"}, {"backend_version": "v0.0.154"}, "within_working_set"),
        ({}, {"backend_version": "latest"}, "within_working_set"),
        ({}, {"can_upgrade_llama_box": True}, "within_working_set"),
        ({}, {"need": exactly(MEMORY_BYTES // 2)}, "within_working_set"),
        ({}, {"need": Need(MEMORY_BYTES // 2, MEMORY_BYTES // 2 + 1)}, "within_working_set"),
        ({}, {"need": exactly(WORKING_SET_BYTES)}, "old_llama_box"),
        ({}, {"need": exactly(WORKING_SET_BYTES + 1)}, "beyond_working_set"),
        ({}, {"need": at_least(MEMORY_BYTES // 2 + 1)}, "unknown"),
        ({}, {"lora": None}, "within_working_set"),
        ({}, {"lora": True}, "lora"),
        ({}, {"distributed": None}, "within_working_set"),
        ({"is_virtual": None}, {}, "within_working_set"),
        ({"is_apple_silicon": None}, {}, "within_working_set"),
        ({"memory_bytes": None}, {}, "within_working_set"),
        ({"memory_bytes": MEMORY_BYTES + 2}, {}, "within_working_set"),
        ({"os": None}, {}, "unknown"),
    ],
)
def test_row_10_old_llama_box_wants_everything_known(worker: dict[str, t.Any], changes: dict[str, t.Any], name: str) -> None:
    assert rule(mac(**worker), **{**OLD, **changes}) == name


def reason(*arguments: t.Any, **changes: t.Any) -> str:
    found = case(*arguments, **changes)
    return reason_of(first_row(found), found)


def test_reasons_of_rows_that_say_the_same_of_every_model() -> None:
    assert reason(backend="vllm") == "the backend is vllm, and only llama-box has these flags"
    assert reason(linux()) == "linux-1 does not run macOS, and residency is a matter of Metal only"
    assert reason(mac(is_apple_silicon=False)) == "mac-1 is an Intel Mac, where ggml-metal has no residency sets"
    assert reason(mac(is_virtual=True)) == "mac-1 is a virtual Mac, whose paravirtual GPU can read stale weights from a mapped file"
    assert (
        reason(distributed=True) == "the model runs on several workers, mac-1 among them, and with mmap the estimate leaves its weights out"
    )
    assert reason(gpustack_version="0.6.0") == "GPUStack 0.6.0 does not pass --no-mmap to llama-box, so the model has to"
    assert reason(lora=True) == "the model has LoRA adapters; the help of llama-box says that they imply --no-mmap, its code does not do it"
    assert reason(**OLD) == "llama-box v0.0.135 cannot be upgraded, and it fails to load a model this large without mmap"


@pytest.mark.parametrize(
    ("worker", "need", "amount", "limits"),
    [
        (mac(), exactly(100 * GIB), "100.0 GiB", ("384.0 GiB (wired_limit)", "509.0 GiB")),
        (
            mac(working_set_source=None, memory_bytes=None),
            Need(GIB, 2 * GIB),
            "1.0 GiB to 2.0 GiB",
            ("384.0 GiB (unknown)", "an unknown amount"),
        ),
        (
            mac(working_set_bytes=None, working_set_source=None),
            at_least(664 * GIB),
            "at least 664.0 GiB",
            ("an unknown amount (unknown)", "509.0 GiB"),
        ),
    ],
)
def test_reasons_with_sizes(worker: WorkerFacts, need: Need, amount: str, limits: tuple[str, str]) -> None:
    assert reason(worker, need=need) == (
        f"the model needs {amount}, mac-1 has a working set of {limits[0]} and {limits[1]} of memory without GPUStack's reserve"
    )


@pytest.mark.parametrize(
    ("worker", "need", "missing"),
    [
        (
            WorkerFacts("new"),
            Need(),
            "its operating system, whether it is Apple Silicon, its working set, its memory, what the model needs",
        ),
        (mac("new", working_set_bytes=None), exactly(5), "its working set"),
        (mac("new", memory_bytes=None), at_least(5), "its memory, what the model needs"),
        (mac("new", os=None), exactly(5), "its operating system"),
    ],
)
def test_the_reason_of_the_last_row_says_what_is_not_known(worker: WorkerFacts, need: Need, missing: str) -> None:
    assert reason(worker, need=need) == f"of new is not known: {missing}"


def test_a_need_that_could_lie_on_either_side_of_a_limit_is_said_to_be_so() -> None:
    found = case(need=Need(WORKING_SET_BYTES, USABLE_BYTES))
    assert first_row(found).name == "unknown"
    assert reason_of(first_row(found), found) == (
        "the model needs 384.0 GiB to 509.0 GiB, mac-1 has a working set of 384.0 GiB (wired_limit) and 509.0 GiB of memory without "
        "GPUStack's reserve: this is too vague"
    )


@pytest.mark.parametrize(("size", "text"), [(None, "an unknown amount"), (GIB, "1.0 GiB"), (GIB // 2, "0.5 GiB"), (0, "0.0 GiB")])
def test_sizes_for_people(size: int | None, text: str) -> None:
    assert mmap_rows.gib(size) == text
