#!/usr/bin/python
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: throughput
short_description: Prove that models of a GPUStack server answer, and measure how fast
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Sends each model a real request through GPUStack's OpenAI routes, as a user of it would, and fails if one of them stays silent. A
    model that GPUStack reports as running may be as good as dead, which was the symptom of gpustack#1907.
  - A model of the category C(llm) gets a chat with the answer streamed, and the time of the first token and tokens per second are
    measured by the clock of the host where the task runs. What a reasoning model thinks counts like what it says.
  - A model of the category C(embedding) has to give a vector of finite numbers that are not all zero, one of the category C(reranker) a
    result for each of three documents.
  - For images and speech there is no proof. Such models are V(skipped), with the reason.
  - Nothing is waited for, and a request that fails is not repeated. A model of which no instance runs is V(not_running).
  - The server's lists are read first, and no request is sent for a model that is not there or does not run, since GPUStack answers a
    request for an unknown model in a way that changes its answers to others until it is restarted.
options:
  models:
    description:
      - The models, each as its name or as a dictionary with the keys below.
      - C(name), the name of the model on the server.
      - C(category), by which it is asked, one of V(llm), V(embedding), V(reranker), V(image), V(speech_to_text) and V(text_to_speech). By
        default it is what the server says.
      - C(probe), whether it is asked at all, by default V(true).
      - C(min_tokens_per_second), in place of O(min_tokens_per_second).
      - C(max_first_token_seconds), how long the first token may take before the model counts as V(too_slow). For embeddings and
        rerankers it is the whole answer. By default only O(first_token_timeout_seconds) limits it.
      - A name that no model has is V(missing) and, with O(fail), a failure, other than in M(metalfleet.gpustack.placement_info), which
        only returns it.
    type: list
    elements: raw
    default: []
  all_models:
    description:
      - Whether all models of the server are asked, and not only those of O(models).
      - If it is not given, that is so where O(models) is empty.
    type: bool
  prompt:
    description:
      - What is asked. It is preceded by eight random digits, since engines keep what they computed for the beginning of a prompt, and
        the time to the first token would be that of the first request only.
      - To see how a model does at length, ask it something long.
    type: str
    default: Count from one to one hundred in words.
  max_tokens:
    description:
      - How many tokens a model may answer.
    type: int
    default: 64
  requests:
    description:
      - How often each model is asked, one request after another. What is returned is the median.
      - A model is asked at least as often as it has running instances, because the server hands them requests in turn, so that as a rule
        each of them has to answer. After a request without an answer it is not asked again.
    type: int
    default: 1
  concurrency:
    description:
      - How many models are asked at the same time, at most 32. Models that share a worker make each other slow, so measure with V(1).
    type: int
    default: 1
  first_token_timeout_seconds:
    description:
      - How long the first token may take, in seconds; for embeddings and rerankers the whole answer. After that the model is V(silent).
    type: float
    default: 60
  stall_timeout_seconds:
    description:
      - How long each further token may take, in seconds. After that the model is V(silent).
    type: float
    default: 10
  read_seconds:
    description:
      - How long an answer is read after its first token, in seconds. A model that has more to say is measured by what came until then.
    type: float
    default: 60
  min_tokens_per_second:
    description:
      - A model that is slower is V(too_slow). In gpustack#1907 it was 0.07. V(0) is no limit.
    type: float
    default: 1
  fail:
    description:
      - Whether the task fails if a model is neither V(answered) nor V(skipped).
    type: bool
    default: true
extends_documentation_fragment:
  - metalfleet.gpustack.attributes
  - metalfleet.gpustack.server
attributes:
  check_mode:
    support: partial
    details: Nothing on the server is changed, but a request costs tokens and time. In check mode none is sent, all that would be asked are
      V(skipped), and models that are not there or do not run are reported and no failure.
  diff_mode:
    support: N/A
    details: This module changes nothing.
  idempotent:
    support: N/A
    details: This module changes nothing.
  platform:
    support: N/A
    details: It talks to GPUStack's server from wherever it runs.
notes:
  - It takes at most the sum of O(first_token_timeout_seconds) and O(read_seconds) for each request, times the models divided by
    O(concurrency).
seealso:
  - module: metalfleet.gpustack.placement_info
  - name: gpustack issue 1907
    description: A model that runs and does not answer.
    link: https://github.com/gpustack/gpustack/issues/1907
"""

EXAMPLES = r"""
- name: Prove that every model of the server answers
  metalfleet.gpustack.throughput:
    server_url: https://gpustack.example.com
    api_key: "{{ vault_gpustack_api_key }}"
  delegate_to: localhost

- name: Ask for more of one model, and leave one alone
  metalfleet.gpustack.throughput:
    server_url: https://gpustack.example.com
    api_key: "{{ vault_gpustack_api_key }}"
    all_models: true
    models:
      - name: deepseek-v3
        min_tokens_per_second: 8
        max_first_token_seconds: 5
      - name: archive
        probe: false
  delegate_to: localhost

- name: Measure one model at length, and go on whatever comes of it
  metalfleet.gpustack.throughput:
    server_url: https://gpustack.example.com
    api_key: "{{ vault_gpustack_api_key }}"
    models: [deepseek-v3]
    prompt: "{{ lookup('ansible.builtin.file', 'long_question.txt') }}"
    max_tokens: 512
    requests: 5
    read_seconds: 300
    fail: false
  delegate_to: localhost
  register: measured
"""

RETURN = r"""
models:
  description: What came of each model, those of O(models) first, in their order.
  returned: success, and on failure once the server's lists were read
  type: list
  elements: dict
  contains:
    name:
      description: The model's name.
      type: str
      sample: deepseek-v3
    category:
      description: By which it was asked; null where it is not known.
      type: str
      sample: llm
    status:
      description:
        - V(answered).
        - V(silent), if nothing came, or nothing but blanks, or it stopped in the middle, or a vector or a result is missing.
        - V(too_slow), if it answered, and slower than is wanted.
        - V(refused), if the server or the engine said no, or could not be reached.
        - V(not_running), if no instance of it runs.
        - V(missing), if the server has no such model.
        - V(skipped), if it was not to be asked or could not be.
      type: str
      sample: answered
    reason:
      description: Why the status is what it is; empty where all is well.
      type: str
      sample: ""
    workers:
      description: Names of the workers that serve it, all parts of all running instances.
      type: list
      elements: str
      sample: [studio-1, studio-2]
    replicas:
      description: How many instances there are to be; null where there is no such model.
      type: int
      sample: 1
    running_instances:
      description: How many instances run.
      type: int
      sample: 1
    requests:
      description: How many requests were sent.
      type: int
      sample: 1
    first_token_seconds:
      description: Time from the request to the first token, or to the whole answer of an embedding model or a reranker, in seconds; null
        where none came. The median of all requests, as all that follows.
      type: float
      sample: 0.813
    seconds:
      description: Time from the request to the end of the answer, or until it was given up, in seconds.
      type: float
      sample: 7.204
    tokens:
      description: How many tokens the answer had; null for embedding models and rerankers.
      type: int
      sample: 64
    token_source:
      description: Who counted them. V(usage) and V(timings) are what the engine says; V(chunks) are the pieces that came, each of which
        may hold more than one token.
      type: str
      sample: usage
    tokens_per_second:
      description: Tokens after the first one, by the time from the first to the last; null for fewer than two. Where all came within
        50 milliseconds, since something in between collects them, all tokens by the whole time, and null for fewer than eight.
      type: float
      sample: 9.858
    engine_tokens_per_second:
      description: What the engine says of itself, where it does. A throttled or overloaded way to it does not show in it.
      type: float
      sample: 10.02
    answer_excerpt:
      description: At most 100 characters of the answer.
      type: str
      sample: One, two, three, four
failing:
  description: Names of the models that are neither V(answered) nor V(skipped).
  returned: success, and on failure once the server's lists were read
  type: list
  elements: str
  sample: []
summary:
  description: The result in one sentence, which is the message of a failure.
  returned: success, and on failure once the server's lists were read
  type: str
  sample: 2 of 3 models answered, 1 skipped
api_error:
  description: What the server said where it refused something before any model was asked, with C(status), C(reason) and C(message).
  returned: failure by the server
  type: dict
  sample:
    status: 401
    reason: Unauthorized
    message: Invalid authentication credentials
"""

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof import failing, sentence
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_request import OPTIONS, read_request
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import connection, errors
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.prover import prove

ARGUMENT_SPEC = {**connection.OPTIONS, **OPTIONS}


def main() -> None:
    module = Module(argument_spec=ARGUMENT_SPEC, required_together=connection.REQUIRED_TOGETHER, supports_check_mode=True)
    try:
        result, warning = run(module.params, module.check_mode)
    except GpustackError as exc:
        module.fail_json(**errors.failure(exc, module._verbosity))
    if warning:
        module.warn(warning)
    if result["failing"] and module.params["fail"] and not module.check_mode:
        module.fail_json(msg=result["summary"], **result)
    module.exit_json(**result)


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> t.Tuple[t.Dict[str, t.Any], str]:
    """Ask the models; returns the result, and what a person should know of the server's version."""
    request = read_request(params)
    client = Client(connection.connection(params))
    version = client.check_version()
    models = prove(client, request, check_mode)
    result = {"changed": False, "models": models, "failing": [model["name"] for model in failing(models)], "summary": sentence(models)}
    return result, version.warning


if __name__ == "__main__":
    main()
