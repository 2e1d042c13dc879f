# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import placement_mend as mend
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need, exactly
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_case import Case, Placed
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_parts import BY_VERSION, Part
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_rooms import Room
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB

UPGRADE = "upgrade GPUStack to 0.6.1 or newer"
SITE = "ansible-playbook metalfleet.gpustack.site -i inventory.yml"
PART = Part(1, "mac-1", True, hidden=BY_VERSION)
PLACED = Placed(Instance(), (PART,))


def test_a_change_and_its_command() -> None:
    assert mend.then_site("set a") == f"set a, then {SITE}"


@pytest.mark.parametrize(
    ("changes", "weights_bytes", "how"),
    [
        (
            {},
            5,
            f"set gpustack_models_spread_on_060: true in group_vars, then {SITE}; better upgrade GPUStack to 0.6.1 or newer",
        ),
        (
            {},
            None,
            f"set gpustack_models_spread_on_060: true, with weights_bytes of the model big, in group_vars, then {SITE}; better {UPGRADE}",
        ),
        (
            {"distributed_inference_across_workers": True, "gpu_ids": ("mac-1:mps:0",)},
            5,
            "upgrade GPUStack to 0.6.1 or newer, or let gpu_ids of the model big name GPUs of more workers",
        ),
        (
            {"distributed_inference_across_workers": False, "gpu_ids": ("mac-1:mps:0",)},
            5,
            f"upgrade GPUStack to 0.6.1 or newer, and set distributed_inference_across_workers: true for the model big, then {SITE}",
        ),
    ],
)
def test_hidden_weights_on_060(changes: t.Mapping[str, t.Any], weights_bytes: t.Optional[int], how: str) -> None:
    assert mend.hidden_weights(Case(Model(name="big", **changes), (PLACED,), weights_bytes), PLACED, PART) == how


CASE = Case(Model(name="big"))
LARGER = f"add a worker with room for the model big, or take a smaller quantisation of it, then {SITE}"
APART = f"keep the model big or another one off mac-1 by a worker_selector, then {SITE}"


def room(memory_gib: t.Optional[int] = 512, **changes: t.Any) -> Room:
    memory_bytes = None if memory_gib is None else memory_gib * GIB
    return Room(**{"worker": "mac-1", "is_mac": True, "is_virtual": False, "total_memory_bytes": memory_bytes, **changes})


@pytest.mark.parametrize(
    ("where", "needs", "variable"),
    [
        (room(), [exactly(464 * GIB)], "gpustack_node_wired_limit_state: present"),
        (room(), [exactly(464 * GIB + 1)], "gpustack_node_wired_limit_state: present and gpustack_node_wired_limit_mib: 475137"),
        (room(), [exactly(1), exactly(496 * GIB)], "gpustack_node_wired_limit_state: present and gpustack_node_wired_limit_mib: 507904"),
        (room(), [exactly(496 * GIB + 1)], ""),
        (room(), [Need(464 * GIB, None)], "gpustack_node_wired_limit_state: present"),
        # Below 32 GiB, auto leaves the default.
        (room(16), [exactly(12 * GIB)], "gpustack_node_wired_limit_state: present and gpustack_node_wired_limit_mib: 12288"),
        (room(16), [exactly(13 * GIB)], ""),
        (room(None), [exactly(1)], ""),
        (room(is_mac=False), [exactly(1)], ""),
        (room(is_virtual=True), [exactly(1)], ""),
        (room(), [], ""),
    ],
)
def test_the_wired_limit_that_would_do(where: Room, needs: t.List[Need], variable: str) -> None:
    alone = f"set {variable} in group_vars, then {SITE}" if variable else LARGER
    assert mend.too_much_gpu_memory(CASE, where, iter(needs)) == alone
    assert mend.too_much_together(CASE, where, iter(needs)) == (f"set {variable} in group_vars, or {APART}" if variable else APART)


def test_parameters_of_mmap_are_replaced_and_others_have_to_be_corrected() -> None:
    assert mend.refused_parameter(CASE, "--mmap true") == f"{SITE}, which puts --no-mmap in its place and restarts the instances"
    assert mend.refused_parameter(CASE, "-ctx") == f"correct -ctx in backend_parameters of the model big, then {SITE}"
