# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What mends a finding: a command or a variable that can be copied, wherever there is one."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import wired_limit
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import Hardware
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_parameters import speaks_of_mmap
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_case import Around, Case, Placed
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_parts import BY_PARAMETERS, BY_SIZE, BY_VERSION, Part
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_rooms import Room
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import ERROR, PENDING, UNREACHABLE
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import MIB

# What is governed is the limit alone, and its value of now does not matter.
_LIVE = {wired_limit.LIMIT_MIB_NAME: 0}
SITE = "ansible-playbook metalfleet.gpustack.site -i inventory.yml"
UPGRADE = "upgrade GPUStack to 0.6.1 or newer"


def then_site(change: str) -> str:
    """A change of the inventory, and the command that brings it to the fleet."""
    return f"{change}, then {SITE}"


def flag_replaced(case: Case) -> str:
    """For parameters that ask for mmap."""
    return _without_override(case, f"{SITE}, which puts --no-mmap in its place and restarts the instances")


def _without_override(case: Case, how: str) -> str:
    """What the playbook does once no override keeps mmap."""
    if case.override is None or not case.keeps_mmap:
        return how
    return f"take the override by {case.override.origin()} out of gpustack_models_overrides, then {how}"


def hidden_weights(case: Case, placed: Placed, part: Part) -> str:
    """For a claim that leaves the weights out, without which the part does not fit."""
    if placed.distributed or part.hidden != BY_VERSION:
        return under_claimed(case, part)
    if case.model.distributed_inference_across_workers is False:
        return f"{UPGRADE}, and {then_site(f'set distributed_inference_across_workers: true for the model {case.name}')}"
    if case.model.gpu_ids:
        return f"{UPGRADE}, or let gpu_ids of the model {case.name} name GPUs of more workers"
    declared = "" if case.weights_bytes else f", with weights_bytes of the model {case.name},"
    return f"{then_site(f'set gpustack_models_spread_on_060: true{declared} in group_vars')}; better {UPGRADE}"


def under_claimed(case: Case, part: Part) -> str:
    """For a claim that leaves the weights out."""
    if part.hidden == BY_SIZE:
        return _without_override(case, f"{SITE}, which restarts instances that run with old parameters")
    if part.hidden == BY_PARAMETERS and case.keeps_mmap:
        return flag_replaced(case)
    if part.hidden == BY_PARAMETERS:
        return f"{SITE}, which puts --no-mmap in place of --mmap and restarts the instance, unless an override asks for mmap"
    return f"{UPGRADE}; until then keep other models off {part.worker} by their worker_selector"


def too_much_memory(case: Case) -> str:
    """For a part that its worker's memory cannot hold."""
    if case.model.distributed_inference_across_workers is False:
        return then_site(f"set distributed_inference_across_workers: true for the model {case.name}")
    return then_site(f"add a worker with room for the model {case.name}, or take a smaller quantisation of it")


def too_much_gpu_memory(case: Case, room: Room, needs: t.Iterable[Need]) -> str:
    """For a part that fits into the memory but not into the GPU's share of it."""
    variable = _wired_limit_variable(room, [need.least_bytes for need in needs])
    return then_site(f"set {variable} in group_vars") if variable else too_much_memory(case)


def too_much_together(case: Case, room: Room, needs: t.Iterable[Need]) -> str:
    """For models that fit one by one and not together."""
    apart = f"keep the model {case.name} or another one off {room.worker} by a worker_selector"
    variable = _wired_limit_variable(room, [need.least_bytes for need in needs])
    return then_site(f"set {variable} in group_vars, or {apart}" if variable else apart)


def _wired_limit_variable(room: Room, sizes_bytes: t.Sequence[int]) -> str:
    """The variable that lets the GPU of a Mac have as much; "" where macOS could not live with that."""
    if not room.is_mac or room.total_memory_bytes is None or not sizes_bytes:
        return ""
    hardware = Hardware(is_virtual=room.is_virtual, memory_bytes=room.total_memory_bytes)
    asked_mib = -(-max(sizes_bytes) // MIB)
    automatic = wired_limit.limit_mib(wired_limit.decide(wired_limit.Request(), hardware, _LIVE).values)
    if automatic is not None and automatic >= asked_mib:
        return "gpustack_node_wired_limit_state: present"
    try:
        given = wired_limit.decide(wired_limit.Request(limit_mib=asked_mib), hardware, _LIVE)
    except BadInputError:
        return ""
    return f"gpustack_node_wired_limit_state: present and gpustack_node_wired_limit_mib: {asked_mib}" if given.values else ""


def mixed_versions(case: Case, pinned: bool, newest: str) -> str:
    """For workers of one instance with different llama-boxes."""
    give = f"set gpustack_node_llama_box_version: {newest} in group_vars"
    if pinned:
        return then_site(f"take backend_version out of the model {case.name}, and {give}")
    return then_site(give)


def refused_parameter(case: Case, parameter: str) -> str:
    """For a parameter that only llama-box understands."""
    if speaks_of_mmap(parameter):
        return flag_replaced(case)
    return then_site(f"correct {parameter} in backend_parameters of the model {case.name}")


def measured_more(case: Case, part: Part) -> str:
    """For a GPU with more in use than is claimed of it."""
    return f"see what else uses the GPU of {part.worker}, and whether --ctx-size and --parallel of the model {case.name} are as meant"


def not_running(case: Case, around: Around, placed: Placed) -> str:
    """For an instance that does not run, by its state."""
    state, worker = placed.instance.state, placed.instance.worker_name
    if state == ERROR:
        command = f"curl -H \"Authorization: Bearer $GPUSTACK_API_KEY\" '{around.server_url}/v1/model-instances/{placed.instance.id}/logs'"
        return f"look into its log: {command}"
    if state == UNREACHABLE:
        return f"look at its worker: ansible {worker or 'all'} -i inventory.yml -b -m metalfleet.gpustack.node_info"
    if state == PENDING:
        return f"give the model {case.name} workers that have room for it and that its worker_selector and gpu_ids allow"
    return "wait until it runs"
