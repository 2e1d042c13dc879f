#!/usr/bin/python
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: models
short_description: Bring all models of a GPUStack server to their state, with the mmap policy applied
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Does for a whole server what M(metalfleet.gpustack.model) does for one model. The server is read once, by a call for each hundred of
    workers, models and instances, and everything is planned before the first model is changed.
  - With O(all_models) the mmap policy is applied to every llama-box model of the server, also to those that are not listed.
  - Models that are not listed are never deleted, and nothing but the policy is applied to them.
options:
  models:
    description:
      - The models to create, change or delete.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - The model's name, by which GPUStack knows it and clients ask for it.
        type: str
        required: true
      state:
        description:
          - V(absent) deletes the model with its instances. Its files stay on the workers.
        type: str
        choices: [present, absent]
        default: present
      source:
        description:
          - Where the files come from. Needed to create a model.
        type: str
        choices: [huggingface, ollama_library, model_scope, local_path]
      huggingface_repo_id:
        description: Repository at Hugging Face.
        type: str
      huggingface_filename:
        description: File or pattern in it; one that ends in C(.gguf) is for llama-box.
        type: str
      ollama_library_model_name:
        description: Name in Ollama's library.
        type: str
      model_scope_model_id:
        description: Model at ModelScope.
        type: str
      model_scope_file_path:
        description: File or pattern in it.
        type: str
      local_path:
        description:
          - Absolute path of the file, the same on the server and on the workers. Without it on the server GPUStack cannot tell what
            the model needs.
        type: str
      description:
        description: A text for people.
        type: str
      replicas:
        description: How many instances there are to be. GPUStack makes one of a new model by default.
        type: int
      categories:
        description: What the model is for, such as C(llm), C(embedding) or C(reranker).
        type: list
        elements: str
      placement_strategy:
        description: Whether instances go to many workers or to few.
        type: str
        choices: [spread, binpack]
      cpu_offloading:
        description: Whether layers may be computed by the CPU.
        type: bool
      distributed_inference_across_workers:
        description: Whether an instance may be spread over several workers.
        type: bool
      worker_selector:
        description: Labels, all of which a worker must have to get the model.
        type: dict
      gpu_ids:
        description:
          - The GPUs to use, as C(WORKER:TYPE:INDEX), such as C(studio-1:mps:0). An empty list takes the selection back.
        type: list
        elements: str
      backend:
        description: What serves the model. GPUStack guesses it from the source.
        type: str
        choices: [llama-box, vllm, vox-box, ascend-mindie]
      backend_version:
        description:
          - Version of llama-box for the main server of each instance; the RPC servers go on with the builtin one. An empty text
            takes it back.
          - It has to be in O(lock), if that is given, and on all workers that may get the model and of which O(nodes) says what
            they have.
        type: str
      backend_parameters:
        description:
          - Parameters for llama-box, such as C(--ctx-size=8192). The policy's C(--no-mmap) is added, and need not be written here.
          - C(--mmap) is refused where the policy says otherwise; who wants it writes an entry of O(overrides).
          - A parameter that GPUStack's estimator refuses, such as C(--mmap=true) or C(--ctx-size=abc), makes it ignore all of them while
            llama-box gets them. That is reported as a warning.
        type: list
        elements: str
      env:
        description:
          - Environment of the model's main server, all of it. Without this and O(models[].secret_env) the environment is left as it
            is, but for C(GGML_METAL_NO_RESIDENCY), which is taken out.
        type: dict
      secret_env:
        description:
          - More of the environment, whose values are never shown. GPUStack itself writes them to its log in debug mode.
        type: dict
      restart_on_error:
        description: Whether GPUStack starts an instance again that failed.
        type: bool
      weights_bytes:
        description:
          - Size in bytes of the model's files, where you know it and the server does not yet, that is before the model ran for
            the first time.
        type: int
      labels:
        description: Labels of the collection's own, which O(overrides) may go by. GPUStack never sees them.
        type: dict
        default: {}
      force:
        description:
          - Create the model, or give it other selectors, although by GPUStack's word or by the policy's no worker can hold it then.
        type: bool
        default: false
  all_models:
    description:
      - Whether the mmap policy is applied to all models of the server, and not only to those in O(models).
    type: bool
    default: true
extends_documentation_fragment:
  - metalfleet.gpustack.attributes
  - metalfleet.gpustack.models
  - metalfleet.gpustack.nodes
  - metalfleet.gpustack.overrides
  - metalfleet.gpustack.server
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Of the environment only names are shown.
  idempotent:
    support: full
  platform:
    support: N/A
    details: It talks to GPUStack's server from wherever it runs.
notes:
  - The environment of a model whose parameters were changed gets a variable C(METALFLEET_INSTANCES_BEFORE), which names the instances
    that were there then. By it a later run tells which of them still have to be restarted, also after a run that was cut short.
seealso:
  - module: metalfleet.gpustack.model
  - module: metalfleet.gpustack.model_info
  - module: metalfleet.gpustack.placement_info
"""

EXAMPLES = r"""
- name: Apply the mmap policy to every model of the server
  metalfleet.gpustack.models:
    server_url: https://gpustack.example.com
    api_key: "{{ vault_gpustack_api_key }}"
  delegate_to: localhost

- name: See to two models and to no other, and let a person's decision win
  metalfleet.gpustack.models:
    server_url: https://gpustack.example.com
    api_key: "{{ vault_gpustack_api_key }}"
    all_models: false
    models:
      - name: chat
        replicas: 2
      - name: archive
        labels:
          use: rare
    overrides:
      - mmap: mmap
        labels:
          use: rare
        reason: asked once a month, and starts faster so
  delegate_to: localhost
"""

RETURN = r"""
models:
  description: What was found and done, for each model that was looked at.
  returned: success, and on failure once anything was begun
  type: list
  elements: dict
  contains:
    name:
      description: The model's name.
      type: str
      sample: deepseek-v3
    action:
      description: V(create), V(update), V(delete) or V(none).
      type: str
      sample: update
    changed:
      description: Whether the model or an instance of it was changed, or would be in check mode.
      type: bool
      sample: true
    fields:
      description: The fields that were sent, in GPUStack's words, with the selected GPUs as C(gpu_ids) and of C(env) only the names.
      type: dict
      sample:
        backend_parameters: [--no-mmap]
    env_changed:
      description: Names of the variables of the environment that were added, removed or set to another value.
      type: list
      elements: str
      sample: [GGML_METAL_NO_RESIDENCY]
    cures:
      description: What was taken out of the model of what makes gpustack#1907, in words.
      type: list
      elements: str
      sample: [--mmap was taken out]
    decision:
      description: What the mmap policy says of the model, as the filter P(metalfleet.gpustack.mmap_decision#filter), without C(verdicts).
      type: dict
      sample:
        flag: --no-mmap
        rule: distributed
        worker: studio-1
    restarted:
      description: Names of the instances that were ended to be started anew, or would be in check mode.
      type: list
      elements: str
      sample: [deepseek-v3-gTgVs]
    restart_pending:
      description: Names of the instances that go on with old parameters.
      type: list
      elements: str
      sample: []
    warnings:
      description: What a person should know of this model.
      type: list
      elements: str
      sample: []
progress:
  description: What was done and waited for, line by line, as it is shown while the module runs on the controller.
  returned: success, and on failure once anything was begun
  type: list
  elements: str
  sample:
    - "deepseek-v3: restarting deepseek-v3-gTgVs, which stops it"
    - "deepseek-v3: 0 of 1 running, deepseek-v3-x8Kp2 downloading 34.2 % on studio-1"
server_version:
  description: Version of GPUStack's server.
  returned: success, and on failure once anything was begun
  type: str
  sample: 0.6.2
applied:
  description: V(false) in check mode.
  returned: success, and on failure once anything was begun
  type: bool
  sample: true
api_error:
  description: What the server said where it refused something, with C(status), C(reason) and C(message).
  returned: failure by the server
  type: dict
  sample:
    status: 409
    reason: AlreadyExists
    message: Model 'chat' already exists
"""

from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_wanted import MODEL_OPTIONS, read_all
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.connection import REQUIRED_TOGETHER
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_options import RUN_OPTIONS, outcome

ARGUMENT_SPEC = {
    **RUN_OPTIONS,
    "models": {"type": "list", "elements": "dict", "default": [], "options": MODEL_OPTIONS},
    "all_models": {"type": "bool", "default": True},
}


def main() -> None:
    module = Module(argument_spec=ARGUMENT_SPEC, required_together=REQUIRED_TOGETHER, supports_check_mode=True)
    ended = outcome(
        module.params,
        lambda: read_all(module.params["models"]),
        module.params["all_models"],
        module.check_mode,
        module.tmpdir,
        module._verbosity,
    )
    for warning in ended.warnings:
        module.warn(warning)
    if ended.failed:
        module.fail_json(**ended.result)
    module.exit_json(**ended.result)


if __name__ == "__main__":
    main()
