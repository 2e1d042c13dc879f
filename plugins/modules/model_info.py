#!/usr/bin/python
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_info
short_description: Show the models of a GPUStack server with their instances
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Returns models and their instances, in one shape for GPUStack 0.6 and 0.7, and what llama-box and GPUStack's estimator make of each
    model's parameters, which are two things (gpustack#1907).
  - Reads the lists of workers, models and instances, a request for each hundred of them, however many models are asked for.
  - Of a model's environment only the names of the variables are returned, as people keep tokens in it.
extends_documentation_fragment:
  - metalfleet.gpustack.attributes
  - metalfleet.gpustack.server
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
      - Names of the models to return. Without them, all models.
    type: list
    elements: str
    default: []
seealso:
  - module: metalfleet.gpustack.placement_info
  - module: metalfleet.gpustack.worker_info
"""

EXAMPLES = r"""
- name: Read all models
  metalfleet.gpustack.model_info:
    server_url: https://gpustack.example.com
    username: admin
    password: "{{ vault_gpustack_password }}"
  delegate_to: localhost
  run_once: true
  register: found

- name: Show which models llama-box maps into memory
  ansible.builtin.debug:
    msg: "{{ found.models | selectattr('mmap.engine_uses_mmap') | map(attribute='name') }}"

- name: Wait until two models answer
  metalfleet.gpustack.model_info:
    server_url: https://gpustack.example.com
    api_key: "{{ vault_gpustack_api_key }}"
    names: [deepseek-v3-0324-Q8_0, bge-m3]
  delegate_to: localhost
  run_once: true
  register: found
  until: not found.missing and found.models | rejectattr('ready_replicas', 'gt', 0) | length == 0
  retries: 60
  delay: 10
"""

RETURN = r"""
gpustack_version:
  description: Version of the server.
  returned: success
  type: str
  sample: 0.6.2
missing:
  description: Those of O(names) that no model has.
  returned: success
  type: list
  elements: str
  sample: []
models:
  description: The models, in the server's order. What the server does not say is V(null).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      type: str
      sample: deepseek-v3-0324-Q8_0
    id:
      description: Its id on the server.
      type: int
      sample: 1
    description:
      description: What people wrote of it.
      type: str
      sample: for the support team
    source:
      description: Where its files come from, V(huggingface), V(ollama_library), V(model_scope) or V(local_path).
      type: str
      sample: local_path
    source_fields:
      description: What the source needs to know, under the API's own names.
      type: dict
      sample:
        local_path: /opt/models/deepseek-v3-0324-Q8_0.gguf
    categories:
      description: What it is good for.
      type: list
      elements: str
      sample: [llm]
    replicas:
      description: How many instances it should have.
      type: int
      sample: 1
    ready_replicas:
      description: How many of them run.
      type: int
      sample: 1
    backend:
      description: Backend that was chosen; V(null) where the server guesses it.
      type: str
      sample: llama-box
    serving_backend:
      description: Backend that serves it, chosen or guessed.
      type: str
      sample: llama-box
    backend_version:
      description: Version of the backend that is pinned; V(null) for the builtin one.
      type: str
      sample: v0.0.139
    backend_parameters:
      description: Parameters for the backend.
      type: list
      elements: str
      sample: [--no-mmap, --ctx-size=8192]
    mmap:
      description: What becomes of its parameters where they speak of mmap; V(null) for other backends than llama-box.
      type: dict
      contains:
        engine_uses_mmap:
          description: Whether llama-box maps the model into memory.
          type: bool
          sample: false
        estimator_assumes_mmap:
          description: Whether GPUStack's estimator leaves the weights out of what the model claims on a Mac.
          type: bool
          sample: false
        refused:
          description: Parameters for any of which the estimator ignores all of the model's, while llama-box gets them.
          type: list
          elements: dict
          contains:
            parameter:
              description: The parameter.
              type: str
              sample: --mmap=true
            reason:
              description: Why the estimator refuses it.
              type: str
              sample: >-
                GPUStack's estimator refuses it (argument --mmap/--no-mmap: ignored explicit argument 'true') and then ignores all
                parameters of the model
    env_names:
      description: Names of the variables that its processes get, sorted. Their values are not returned.
      type: list
      elements: str
      sample: [HF_TOKEN]
    residency_variable_in_env:
      description: Whether C(GGML_METAL_NO_RESIDENCY) is one of them, which takes Metal's residency sets away whatever its value.
      type: bool
      sample: false
    weights_bytes:
      description: Size of its weights in bytes, as llama-box told when it ran last.
      type: int
      sample: 712964571136
    placement_strategy:
      description: How instances are put on workers, V(spread) or V(binpack).
      type: str
      sample: spread
    cpu_offloading:
      description: Whether layers may be left to the CPU.
      type: bool
      sample: true
    distributed_inference_across_workers:
      description: Whether an instance may run on several workers.
      type: bool
      sample: true
    distributable:
      description: Whether the scheduler found that it can.
      type: bool
      sample: true
    worker_selector:
      description: Labels that a worker has to have.
      type: dict
      sample:
        zone: studio
    gpu_ids:
      description: GPUs that it is bound to; V(null) where it is not.
      type: list
      elements: str
      sample: ["mac-1:mps:0", "mac-2:mps:0"]
    restart_on_error:
      description: Whether instances are started again after an error.
      type: bool
      sample: true
    created_at:
      description: When it was created, in UTC.
      type: str
      sample: "2026-11-22T13:07:03Z"
    updated_at:
      description: When it, or what the server counts of it, was last changed, in UTC.
      type: str
      sample: "2026-11-22T13:07:10Z"
    problems:
      description: What the server said of it that could not be understood.
      type: list
      elements: str
      sample: []
    instances:
      description: Its instances.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the instance, by which to know it. Its id may have been another's before.
          type: str
          sample: deepseek-v3-0324-Q8_0-0DQro
        id:
          description: Its id on the server.
          type: int
          sample: 1
        state:
          description: >-
            V(pending), V(analyzing), V(scheduled), V(initializing), V(downloading), V(starting), V(running), V(error) or
            V(unreachable).
          type: str
          sample: running
        state_message:
          description: The server's words on it; V(null) where all is well.
          type: str
          sample: No available workers
        download_percent:
          description: How much of its files the main worker has, in percent.
          type: float
          sample: 100.0
        restart_count:
          description: How often it was restarted.
          type: int
          sample: 0
        last_restart_time:
          description: When it was restarted last, in UTC.
          type: str
          sample: "2026-11-22T13:07:03Z"
        created_at:
          description: When it was created, in UTC.
          type: str
          sample: "2026-11-22T13:07:03Z"
        updated_at:
          description: When its state was changed last, in UTC.
          type: str
          sample: "2026-11-22T13:07:10Z"
        distributed:
          description: Whether it runs on several workers.
          type: bool
          sample: false
        workers:
          description: The workers that take part, the main one first; none before it is scheduled.
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
              description: What the scheduler claims of it in bytes, RAM and GPU memory together; V(null) where it did not say.
              type: int
              sample: 41281807974
            ram_claim_bytes:
              description: What of that is RAM.
              type: int
              sample: 103809024
            gpu_claim_bytes:
              description: What of that is GPU memory.
              type: int
              sample: 41177998950
            gpu_ids:
              description: The GPUs that take part, as C(gpu_selector) names them.
              type: list
              elements: str
              sample: ["mac-1:mps:0"]
"""

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap_parameters, placement_parts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import SOURCE_FIELDS, Model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import api, connection
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import failure

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {**connection.OPTIONS, "names": {"type": "list", "elements": "str", "default": []}}
# Under the same name there and here.
_AS_THEY_ARE = (
    *("name", "id", "description", "source", "replicas", "ready_replicas", "backend", "serving_backend", "backend_version"),
    *("placement_strategy", "cpu_offloading", "distributed_inference_across_workers", "distributable", "restart_on_error"),
    *("created_at", "updated_at"),
)
_OF_AN_INSTANCE = (
    *("name", "id", "state", "state_message", "download_percent", "restart_count", "last_restart_time"),
    *("created_at", "updated_at", "distributed"),
)


def main() -> None:
    module = Module(argument_spec=ARGUMENT_SPEC, required_together=connection.REQUIRED_TOGETHER, supports_check_mode=True)
    try:
        result, warning = look(module.params)
    except GpustackError as exc:
        module.fail_json(**failure(exc, module._verbosity))
    if warning:
        module.warn(warning)
    module.exit_json(changed=False, **result)


def look(params: t.Mapping[str, t.Any]) -> tuple[dict[str, t.Any], str]:
    """The module's result, and a warning, empty where there is none."""
    client = Client(connection.connection(params))
    version = client.check_version()
    fleet = api.read_fleet(client)
    wanted = set(params["names"])
    models = [model for model in fleet.models if not wanted or model.name in wanted]
    instances: dict[int | None, list[Instance]] = {}
    for instance in fleet.instances:
        instances.setdefault(instance.model_id, []).append(instance)
    result = {
        "gpustack_version": version.text,
        "missing": sorted(wanted - {str(model.name) for model in models}),
        "models": [_model(model, instances.get(model.id, []), fleet, version.text) for model in models],
    }
    return result, version.warning


def _model(model: Model, instances: t.Sequence[Instance], fleet: api.Fleet, gpustack_version: str) -> dict[str, t.Any]:
    source_fields = SOURCE_FIELDS.get(model.source or "", ())
    return {
        **{name: getattr(model, name) for name in _AS_THEY_ARE},
        "source_fields": {name: getattr(model, name) for name in source_fields if getattr(model, name) is not None},
        "categories": list(model.categories),
        "backend_parameters": None if model.backend_parameters is None else list(model.backend_parameters),
        "mmap": _mmap(model, gpustack_version) if model.uses_llama_box else None,
        "env_names": sorted(model.env or {}),
        "residency_variable_in_env": RESIDENCY_VARIABLE in (model.env or {}),
        "weights_bytes": placement_parts.weights_of(model),
        "worker_selector": dict(model.worker_selector),
        "gpu_ids": None if model.gpu_ids is None else list(model.gpu_ids),
        "problems": [*model.problems, *(problem for instance in instances for problem in instance.problems)],
        "instances": [_instance(instance, model, fleet, gpustack_version) for instance in instances],
    }


def _mmap(model: Model, gpustack_version: str) -> dict[str, t.Any]:
    parameters = model.backend_parameters
    refused = mmap_parameters.estimator_rejects(parameters, gpustack_version)
    return {
        "engine_uses_mmap": mmap_parameters.engine_uses_mmap(parameters, gpustack_version),
        "estimator_assumes_mmap": mmap_parameters.estimator_assumes_mmap(parameters, gpustack_version),
        "refused": [{"parameter": parameter, "reason": reason} for parameter, reason in refused],
    }


def _instance(instance: Instance, model: Model, fleet: api.Fleet, gpustack_version: str) -> dict[str, t.Any]:
    parts = placement_parts.parts_of(instance, model, gpustack_version)
    workers = [_part(part, fleet) for part in parts]
    return {**{name: getattr(instance, name) for name in _OF_AN_INSTANCE}, "workers": workers}


def _part(part: placement_parts.Part, fleet: api.Fleet) -> dict[str, t.Any]:
    gpus = [gpu for worker in fleet.workers if worker.id == part.worker_id for gpu in worker.gpus or ()]
    return {
        "name": part.worker,
        "main": part.main,
        "claim_bytes": part.claim_bytes,
        "ram_claim_bytes": part.ram_claim_bytes if part.claimed else None,
        "gpu_claim_bytes": sum(part.gpu_claims_bytes.values()) if part.claimed else None,
        "gpu_ids": [gpu.gpu_id for gpu in gpus if gpu.index in part.gpu_claims_bytes and gpu.gpu_id],
    }


if __name__ == "__main__":
    main()
