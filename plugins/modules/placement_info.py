#!/usr/bin/python
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: placement_info
short_description: Tell whether each model of a GPUStack server runs where it can, and what mends it
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Compares what a model needs (weights, KV cache and overhead) with the working set and the memory of the workers where GPUStack has
    put it, and gives a verdict for each model, with the reason and the command or variable that mends it.
  - What GPUStack claims for a model is not what the model needs. Where its estimator reckons with mmap, it leaves the weights of a
    Mac out, so that a model which fits on no machine is put on one (gpustack#1907). The weights are added here.
  - Reads the lists of workers, models and instances, a request for each hundred of them, however many models there are. Nothing is
    changed, and neither is a model started nor asked anything.
  - All verdicts and how they come about are in C(docs/placement.md) of the collection.
extends_documentation_fragment:
  - metalfleet.gpustack.attributes
  - metalfleet.gpustack.server
  - metalfleet.gpustack.nodes
  - metalfleet.gpustack.overrides
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
    details: This module changes nothing.
  idempotent:
    support: N/A
    details: This module changes nothing.
  platform:
    support: full
    platforms: all
options:
  names:
    description:
      - Names of the models to look at. Without them, all that have instances or should have some.
      - A name that no model has is returned in RV(missing) and is no failure, other than in M(metalfleet.gpustack.throughput).
      - All models count for what is on a worker together, whatever stands here.
    type: list
    elements: str
    default: []
  weights_bytes:
    description:
      - Sizes in bytes of the weights of models, by the model's name.
      - Without it, the size that llama-box told when the model ran last, which GPUStack keeps.
    type: dict
    default: {}
  labels:
    description:
      - Labels of models, by the model's name, which O(overrides) may go by, as the option C(labels) of an entry of
        O(metalfleet.gpustack.models#module:models). GPUStack never sees them.
      - A model that stands here is one that the play knows, so that an override may name it though the server does not have it.
    type: dict
    default: {}
  fail_on:
    description:
      - Findings with which the module fails, after it has looked at everything. The results are returned all the same.
    type: list
    elements: str
    choices: [fits_only_by_mmap, over_memory, over_working_set, mixed_llama_box, not_running, residency_alive, estimate_apart, unknown]
    default: []
seealso:
  - module: metalfleet.gpustack.model_info
  - module: metalfleet.gpustack.worker_info
  - module: metalfleet.gpustack.node_info
  - plugin: metalfleet.gpustack.mmap_decision
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Look whether all models run where they can
  metalfleet.gpustack.placement_info:
    server_url: https://gpustack.example.com
    username: admin
    password: "{{ vault_gpustack_password }}"
  delegate_to: localhost
  run_once: true
  register: placement

- name: Show it
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.verdict }}: {{ item.reason }}; {{ item.mend }}"
  loop: "{{ placement.models }}"
  loop_control:
    label: "{{ item.name }}"

# With what only the nodes know, that is llama-box, the residency variable, and how large their working set is
- name: Look at each node
  metalfleet.gpustack.node_info:
  become: true
  register: look

- name: Look at the hardware of each node
  metalfleet.gpustack.apple_silicon_facts:

- name: Put together what is known of it
  ansible.builtin.set_fact:
    fleet_node:
      name: "{{ inventory_hostname }}"
      apple_silicon: "{{ ansible_facts.apple_silicon }}"
      node: "{{ look.node }}"

- name: Fail if a model is one of gpustack#1907
  metalfleet.gpustack.placement_info:
    server_url: https://gpustack.example.com
    api_key: "{{ vault_gpustack_api_key }}"
    nodes: "{{ ansible_play_hosts | map('extract', hostvars, 'fleet_node') | list }}"
    fail_on: [fits_only_by_mmap, over_memory, mixed_llama_box, residency_alive]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
gpustack_version:
  description: Version of the server.
  returned: success
  type: str
  sample: 0.6.0
missing:
  description: Those of O(names) that no model has.
  returned: success
  type: list
  elements: str
  sample: []
models:
  description: The models, in the server's order.
  returned: success, and if a finding of O(fail_on) was found
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      type: str
      sample: deepseek-v3-0324-Q8_0
    verdict:
      description: >-
        V(fits), or the worst of RV(models[].findings), that is V(fits_only_by_mmap), V(over_memory), V(over_working_set),
        V(mixed_llama_box), V(not_running), V(residency_alive), V(estimate_apart) or V(unknown), from the worst on.
      type: str
      sample: fits_only_by_mmap
    reason:
      description: Why, in one sentence.
      type: str
      sample: >-
        the claim of 38.4 GiB on mac-1 leaves the weights out (GPUStack 0.6.0 reckons with mmap whatever the parameters say,
        gpustack#1907); with them the model needs 702.4 GiB, and mac-1 has a working set of 384.0 GiB (server) and 509.0 GiB of memory
        without GPUStack's reserve
    mend:
      description: What mends it, a command or a variable wherever there is one; empty where nothing has to be mended.
      type: str
      sample: >-
        set gpustack_models_spread_on_060: true in group_vars, then ansible-playbook metalfleet.gpustack.site -i inventory.yml; better
        upgrade GPUStack to 0.6.1 or newer
    weights_bytes:
      description: Size of its weights in bytes; V(null) where neither O(weights_bytes) nor the server says.
      type: int
      sample: 712964571136
    findings:
      description: All that is not as it should be, the worst first.
      type: list
      elements: dict
      contains:
        finding:
          description: What it is, one of the choices of O(fail_on).
          type: str
          sample: fits_only_by_mmap
        instance:
          description: The instance that it is about; V(null) where it is about the model.
          type: str
          sample: deepseek-v3-0324-Q8_0-0DQro
        worker:
          description: The worker that it is about; V(null) where it is about no single one.
          type: str
          sample: mac-1
        reason:
          description: Why, as in RV(models[].reason).
          type: str
          sample: GGML_METAL_NO_RESIDENCY stands on mac-1, so Metal keeps nothing of the model wired
        mend:
          description: What mends it, as in RV(models[].mend).
          type: str
          sample: ansible-playbook metalfleet.gpustack.site -i inventory.yml, which takes it out and restarts what runs with it
    not_known:
      description: What only nodes can tell and O(nodes) does not hold. It does not count for the verdict.
      type: list
      elements: str
      sample: ["mac-1: its llama-box is not known; give the facts of this node in nodes"]
    instances:
      description: Its instances.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the instance.
          type: str
          sample: deepseek-v3-0324-Q8_0-0DQro
        state:
          description: State as the server has it, such as V(running), V(downloading), V(pending) or V(error).
          type: str
          sample: running
        state_message:
          description: The server's words on it; V(null) where it has none.
          type: str
          sample: No available workers
        distributed:
          description: Whether it runs on several workers.
          type: bool
          sample: false
        claim_bytes:
          description: What GPUStack claims for it in bytes, RAM and GPU memory of all workers together; V(null) before it is scheduled.
          type: int
          sample: 41281807974
        need_least_bytes:
          description: What it needs at least, in bytes.
          type: int
          sample: 754246379110
        need_most_bytes:
          description: What it needs at most, in bytes; V(null) where that is not known, as without the size of its weights.
          type: int
          sample: 754246379110
        workers:
          description: What each worker that takes part has of it, the main one first.
          type: list
          elements: dict
          contains:
            name:
              description: Name of the worker.
              type: str
              sample: mac-1
            main:
              description: Whether it loads the model; the others serve it by RPC.
              type: bool
              sample: true
            claim_bytes:
              description: What GPUStack claims of it, in bytes.
              type: int
              sample: 41281807974
            need_least_bytes:
              description: What is needed of it at least, in bytes.
              type: int
              sample: 754246379110
            need_most_bytes:
              description: What is needed of it at most, in bytes; V(null) where that is not known.
              type: int
              sample: 754246379110
            gpu_indexes:
              description: Indexes of the GPUs of which something is claimed.
              type: list
              elements: int
              sample: [0]
            hidden_weights:
              description: Why the claim leaves the weights out; empty where it does not.
              type: str
              sample: GPUStack 0.6.0 reckons with mmap whatever the parameters say
            llama_box_version:
              description: The llama-box that serves its part, where O(nodes) or C(backend_version) tells; V(null) elsewhere.
              type: str
              sample: v0.0.139
            residency:
              description: Whether the residency variable stands on the node, V(present), V(absent) or V(unknown).
              type: str
              sample: absent
            working_set_bytes:
              description: Working set of the Mac, or memory of all GPUs of another machine, in bytes.
              type: int
              sample: 412316860416
            working_set_source:
              description: >-
                Where that is from, V(server), or as in M(metalfleet.gpustack.apple_silicon_facts) V(measured), V(wired_limit) or
                V(estimated).
              type: str
              sample: server
            usable_bytes:
              description: Memory without what GPUStack keeps back, in bytes.
              type: int
              sample: 546534588416
workers:
  description: All workers of the server, with all that was put there.
  returned: success, and if a finding of O(fail_on) was found
  type: list
  elements: dict
  contains:
    name:
      description: Name of the worker.
      type: str
      sample: mac-1
    models:
      description: Names of the models that have a part there.
      type: list
      elements: str
      sample: [deepseek-v3-0324-Q8_0]
    instances:
      description: Names of their instances.
      type: list
      elements: str
      sample: [deepseek-v3-0324-Q8_0-0DQro]
    claim_bytes:
      description: What GPUStack claims for them together, in bytes.
      type: int
      sample: 41281807974
    need_least_bytes:
      description: What they need together at least, in bytes.
      type: int
      sample: 754246379110
    need_most_bytes:
      description: What they need together at most, in bytes; V(null) where that is not known.
      type: int
      sample: 754246379110
    working_set_bytes:
      description: Working set of the Mac, or memory of all GPUs of another machine, in bytes.
      type: int
      sample: 412316860416
    working_set_source:
      description: Where that is from, as in RV(models[].instances[].workers[].working_set_source).
      type: str
      sample: server
    usable_bytes:
      description: Memory without what GPUStack keeps back, in bytes.
      type: int
      sample: 546534588416
"""

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import (
    fleet_nodes,
    mmap,
    model_decision,
    placement,
    placement_case,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import api, connection
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import failure

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    **connection.OPTIONS,
    "names": {"type": "list", "elements": "str", "default": []},
    "nodes": fleet_nodes.OPTION,
    "overrides": mmap.OVERRIDES_OPTION,
    "labels": {"type": "dict", "default": {}},
    "weights_bytes": {"type": "dict", "default": {}},
    "fail_on": {"type": "list", "elements": "str", "choices": list(placement.FINDINGS), "default": []},
}


def main() -> None:
    module = Module(argument_spec=ARGUMENT_SPEC, required_together=connection.REQUIRED_TOGETHER, supports_check_mode=True)
    try:
        problem, result, warnings = look(module.params)
    except GpustackError as exc:
        module.fail_json(**failure(exc, module._verbosity))
    for warning in warnings:
        module.warn(warning)
    if problem:
        module.fail_json(msg=problem, **result)
    module.exit_json(changed=False, **result)


def look(params: t.Mapping[str, t.Any]) -> tuple[str, dict[str, t.Any], list[str]]:
    """What fail_on does not put up with, "" where there is nothing of it, the module's result, and warnings."""
    nodes = fleet_nodes.parse_nodes(params["nodes"])
    weights_bytes = placement_case.declared_weights(params["weights_bytes"])
    overrides = mmap.overrides_from(params["overrides"])
    labels = placement_case.declared_labels(params["labels"])
    client = Client(connection.connection(params))
    version = client.check_version()
    fleet = api.read_fleet(client)
    cases, around = placement_case.survey(
        fleet.workers, fleet.models, fleet.instances, nodes, version.text, client.server_url, weights_bytes, overrides, labels
    )
    found, missing = placement.chosen(cases, params["names"])
    reports = [placement.judge(case, around) for case in found]
    result = {
        "gpustack_version": version.text,
        "missing": missing,
        "models": [placement.as_dict(report, around) for report in reports],
        "workers": placement.workers_as_dicts(around),
    }
    warnings = [version.warning] if version.warning else []
    names = {*(str(model.name) for model in fleet.models), *labels}
    warnings += model_decision.idle_overrides(overrides, names, list(labels.values()))
    return placement.failure_of(reports, params["fail_on"]), result, warnings


if __name__ == "__main__":
    main()
