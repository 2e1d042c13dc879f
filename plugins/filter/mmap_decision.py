# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: mmap_decision
short_description: Decide whether llama-box may map a model into memory
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Applies the mmap policy, C(docs/mmap.md), to a model and to all workers that GPUStack may put it on. The most careful answer
    is the model's - C(--no-mmap) before the backend's default before C(--mmap) - and the worker that forced it is named.
  - Decides only. Nothing is read from a server or a node, and nothing is changed.
positional: workers
options:
  _input:
    description:
      - The model, with the fields of GPUStack's API. C(name) is required; C(backend), C(backend_version), C(backend_parameters),
        C(worker_selector), C(gpu_selector), C(distributed_inference_across_workers) and C(meta.size) are read too.
      - C(labels), a dictionary of the collection's own, is what O(overrides) may go by.
    type: dict
    required: true
  workers:
    description:
      - The workers as GPUStack's server lists them, or dictionaries with C(name), and C(labels) where the model has a
        C(worker_selector).
      - C(apple_silicon), the facts of M(metalfleet.gpustack.apple_silicon_facts) of that node, is believed where it says something.
      - C(llama_box_version), C(gpustack_version) and C(reserve_bytes) of a worker are read too. Without them the worker is taken to
        run the server's GPUStack with the llama-box that this brings, and what GPUStack keeps back by default.
    type: list
    elements: dict
    required: true
  gpustack_version:
    description: Version of the GPUStack server.
    type: str
  need_bytes:
    description:
      - What the model needs in bytes, with its weights, its KV cache and the overhead.
      - Without it, it is derived from O(claim_bytes), O(weights_bytes) and the claim of O(instances).
    type: int
  weights_bytes:
    description: Size in bytes of the model's weights. Without it C(meta.size), which GPUStack knows of models that ran.
    type: int
  claim_bytes:
    description: What GPUStack's estimator claims for the model in bytes, RAM and VRAM together.
    type: int
  instances:
    description: The model's instances as the server lists them. One that is spread over workers makes the model a distributed one.
    type: list
    elements: dict
    default: []
  can_upgrade_llama_box:
    description: Whether the fleet may get a newer llama-box than it has.
    type: bool
    default: true
  overrides:
    description: What a person decided. The first one that covers the model wins over the policy.
    type: list
    elements: dict
    default: []
    suboptions:
      mmap:
        description: What to do; V(default) leaves it to the backend.
        type: str
        required: true
        choices:
          - no-mmap
          - default
          - mmap
      model:
        description: The model's name. Give either this or O(overrides[].labels).
        type: str
      labels:
        description: Labels, all of which a model has to have.
        type: dict
      reason:
        description: Why, for reports.
        type: str
  strict:
    description: Fail where an override is a risk.
    type: bool
    default: false
seealso:
  - module: metalfleet.gpustack.apple_silicon_facts
"""

EXAMPLES = r"""
# Prints --no-mmap by the rule distributed: 664 GiB of weights fit on none of two Macs with 512 GiB
- debug:
    msg: "{{ decision.flag }} by the rule {{ decision.rule }}: {{ decision.reason }}"
  vars:
    model:
      name: deepseek-v3-0324-Q8_0
    macs:
      - name: mac-1
        apple_silicon:
          chip: Apple M3 Ultra
          is_apple_silicon: true
          is_virtual: false
          memory_bytes: 549755813888
          working_set_bytes: 412316860416
          working_set_source: wired_limit
      - name: mac-2
        apple_silicon:
          chip: Apple M3 Ultra
          is_apple_silicon: true
          is_virtual: false
          memory_bytes: 549755813888
          working_set_bytes: 412316860416
          working_set_source: wired_limit
    decision: "{{ model | metalfleet.gpustack.mmap_decision(macs, gpustack_version='0.6.2', weights_bytes=712964571136) }}"

# The facts of all nodes of a play, and an override that is flagged as a risk
- debug:
    msg: "{{ decision.flag }}, {{ decision.risk }}"
  vars:
    macs:
      - name: "{{ inventory_hostname }}"
        apple_silicon: "{{ ansible_facts.apple_silicon | default({}) }}"
    decision: >-
      {{ {'name': 'archive'} | metalfleet.gpustack.mmap_decision(
           macs, need_bytes=8589934592, overrides=[{'model': 'archive', 'mmap': 'mmap', 'reason': 'rarely asked'}]) }}
"""

RETURN = r"""
_value:
  description: The decision.
  type: dict
  contains:
    flag:
      description: C(--no-mmap), C(--mmap), or V(null) where the backend's default is left alone.
      type: str
      sample: --no-mmap
    rule:
      description: Name of the rule that decided; V(override) where a person did.
      type: str
      sample: distributed
    reason:
      description: Why, in one sentence.
      type: str
      sample: the model runs on several workers, mac-1 among them, and with mmap the estimate leaves its weights out
    evidence:
      description: Where the rule comes from, that is issues, pull requests and source files. After an override that of the rule set aside.
      type: list
      elements: str
      sample:
        - gpustack#1907
    confidence:
      description: How sure the rule is, V(high), V(medium) or V(low).
      type: str
      sample: high
    advice:
      description: What else to do.
      type: list
      elements: str
      sample:
        - raise the wired limit of this node, else distribute the model
    worker:
      description: The worker whose answer was the most careful; V(null) where none may get the model.
      type: str
      sample: mac-1
    overridden:
      description: Name of the rule that an override set aside, or an empty text.
      type: str
      sample: ""
    risk:
      description: What mmap can cost where it is chosen, or an empty text.
      type: str
      sample: ""
    refusal:
      description: Why no worker can hold the model, or an empty text.
      type: str
      sample: ""
    conflict:
      description: That the model is distributed and its own C(backend_parameters) ask for mmap, or an empty text.
      type: str
      sample: ""
    warnings:
      description: What else is wrong, such as workers under Rosetta and mixed llama-boxes.
      type: list
      elements: str
      sample: []
    extra:
      description: Parameters that go with the flag.
      type: list
      elements: str
      sample: []
    verdicts:
      description: The answer for each worker that may get the model.
      type: list
      elements: dict
      contains:
        worker:
          description: Name of the worker.
          type: str
          sample: mac-1
        flag:
          description: As RV(_value.flag).
          type: str
          sample: --no-mmap
        rule:
          description: As RV(_value.rule).
          type: str
          sample: distributed
        reason:
          description: As RV(_value.reason).
          type: str
          sample: the model runs on several workers, mac-1 among them, and with mmap the estimate leaves its weights out
        confidence:
          description: As RV(_value.confidence).
          type: str
          sample: high
        refused:
          description: Whether the model is not to be put on this worker.
          type: bool
          sample: false
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap, mmap_facts, model_need
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, GpustackError


def mmap_decision(
    model: t.Any,
    workers: t.Any,
    gpustack_version: str | None = None,
    need_bytes: t.Any = None,
    weights_bytes: t.Any = None,
    claim_bytes: t.Any = None,
    instances: t.Any = (),
    can_upgrade_llama_box: bool = True,
    overrides: t.Any = (),
    strict: bool = False,
) -> dict[str, t.Any]:
    """The decision for a model, as a dictionary."""
    try:
        need_bytes = _size("need_bytes", need_bytes)
        weights_bytes = _size("weights_bytes", weights_bytes)
        claim_bytes = _size("claim_bytes", claim_bytes)
        claiming = _list("instances", instances) if claim_bytes is None else ()
        need = model_need.of_model(model, gpustack_version, claim_bytes, weights_bytes, claiming)
        decision = mmap.decide(
            mmap_facts.model_from_api(model, need if need_bytes is None else model_need.exactly(need_bytes), instances),
            [mmap_facts.worker_from_mapping(worker, gpustack_version) for worker in _list("workers", workers)],
            mmap.Versions(gpustack_version, can_upgrade_llama_box),
            mmap.overrides_from(overrides),
            strict,
        )
    except GpustackError as exc:
        raise AnsibleFilterError(f"mmap_decision: {exc}") from exc
    return decision.as_dict()


def _size(name: str, value: t.Any) -> int | None:
    """A size in bytes, which a template may have made a text."""
    if value is None:
        return None
    if isinstance(value, bool) or not str(value).isdecimal() or int(value) == 0:
        raise BadInputError(f"{name} must be a whole number of bytes above 0")
    return int(value)


def _list(name: str, value: t.Any) -> t.Sequence[t.Any]:
    if not isinstance(value, (list, tuple)):
        raise BadInputError(f"{name} must be a list, not of type {type(value).__name__}")
    return value


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., dict[str, t.Any]]]:
        """Their names."""
        return {"mmap_decision": mmap_decision}
