# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models and workers for the tests of the mmap policy: the Macs of gpustack#1907, whole and healthy unless a test says otherwise."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import ModelFacts, WorkerFacts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need, exactly
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB

MEMORY_BYTES = 512 * GIB
RESERVE_BYTES = 3 * GIB
USABLE_BYTES = MEMORY_BYTES - RESERVE_BYTES
WORKING_SET_BYTES = 384 * GIB
NEED = exactly(100 * GIB)


def mac(name: str = "mac-1", **changes: t.Any) -> WorkerFacts:
    """An M3 Ultra with 512 GiB, 384 of them for the GPU, GPUStack 0.6.2 and what it brings."""
    facts: t.Dict[str, t.Any] = {
        "os": "Darwin",
        "is_apple_silicon": True,
        "is_virtual": False,
        "chip": "Apple M3 Ultra",
        "memory_bytes": MEMORY_BYTES,
        "reserve_bytes": RESERVE_BYTES,
        "working_set_bytes": WORKING_SET_BYTES,
        "working_set_source": "wired_limit",
        "llama_box_version": "v0.0.154",
        "gpustack_version": "0.6.2",
    }
    return WorkerFacts(name, **{**facts, **changes})


def linux(name: str = "linux-1", **changes: t.Any) -> WorkerFacts:
    """A Linux machine with a GPU of another maker."""
    return WorkerFacts(name, **{"os": "linux", "is_apple_silicon": False, "memory_bytes": 64 * GIB, **changes})


def model(**changes: t.Any) -> ModelFacts:
    """A model of 100 GiB, all that concerns it known."""
    return ModelFacts(**{"name": "synthetic", "need": NEED, "lora": False, **changes})


def at_least(size_bytes: int) -> Need:
    """A need of which only the weights are known."""
    return Need(size_bytes)
