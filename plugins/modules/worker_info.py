#!/usr/bin/python
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: worker_info
short_description: Show the workers of a GPUStack server
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Returns the workers with their GPUs, memory, working set, RPC servers, labels and state, in one shape for GPUStack 0.6 and 0.7,
    together with what the play knows of their nodes.
  - Reads the list of workers, a request for each hundred of them.
extends_documentation_fragment:
  - metalfleet.gpustack.attributes
  - metalfleet.gpustack.server
  - metalfleet.gpustack.nodes
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
      - Names of the workers to return. Without them, all workers.
    type: list
    elements: str
    default: []
seealso:
  - module: metalfleet.gpustack.placement_info
  - module: metalfleet.gpustack.model_info
  - module: metalfleet.gpustack.node_info
  - module: metalfleet.gpustack.apple_silicon_facts
"""

EXAMPLES = r"""
- name: Read all workers
  metalfleet.gpustack.worker_info:
    server_url: https://gpustack.example.com
    username: admin
    password: "{{ vault_gpustack_password }}"
  delegate_to: localhost
  run_once: true
  register: found

- name: Name those that cannot take a part of a distributed model
  ansible.builtin.debug:
    msg: "{{ found.workers | rejectattr('rpc_servers') | map(attribute='name') }}"

# With what only the nodes know
- name: Look at each node
  metalfleet.gpustack.node_info:
  become: true
  register: look

- name: Read the worker of each node with its llama-box
  metalfleet.gpustack.worker_info:
    server_url: https://gpustack.example.com
    api_key: "{{ vault_gpustack_api_key }}"
    nodes:
      - name: "{{ inventory_hostname }}"
        node: "{{ look.node }}"
  delegate_to: localhost
"""

RETURN = r"""
gpustack_version:
  description: Version of the server.
  returned: success
  type: str
  sample: 0.6.2
missing:
  description: Those of O(names) that no worker has.
  returned: success
  type: list
  elements: str
  sample: []
nodes_without_worker:
  description: Names of those of O(nodes) that are no worker of the server.
  returned: success
  type: list
  elements: str
  sample: []
workers:
  description: The workers, in the server's order. What neither the server nor the node says is V(null).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the worker.
      type: str
      sample: mac-1
    id:
      description: Its id on the server.
      type: int
      sample: 1
    uuid:
      description: What it goes by since GPUStack 0.7.
      type: str
      sample: 676e2146-f9fd-4fe1-a027-cf3563bfa3cd
    hostname:
      description: Its host name.
      type: str
      sample: studio-1.example.com
    ip:
      description: The address at which the server reaches it.
      type: str
      sample: 10.0.0.11
    port:
      description: The port at which the server reaches it.
      type: int
      sample: 10150
    labels:
      description: Its labels, which C(worker_selector) of models goes by.
      type: dict
      sample:
        os: darwin
        arch: arm64
        worker-name: mac-1
    state:
      description: V(ready), V(not_ready) or V(unreachable).
      type: str
      sample: ready
    state_message:
      description: The server's words on it.
      type: str
      sample: Heartbeat lost
    heartbeat_time:
      description: When the server heard of it last, in UTC.
      type: str
      sample: "2026-11-22T11:37:02Z"
    os:
      description: Name of the kernel, such as C(Darwin) or C(Linux).
      type: str
      sample: Darwin
    os_name:
      description: Name of the operating system.
      type: str
      sample: macOS
    os_version:
      description: Version of the operating system.
      type: str
      sample: "15.5"
    cpu_count:
      description: Number of its CPU cores.
      type: int
      sample: 32
    is_apple_silicon:
      description: Whether it is a Mac with an Apple chip.
      type: bool
      sample: true
    is_virtual:
      description: Whether it is a virtual Mac.
      type: bool
      sample: false
    is_translated:
      description: Whether GPUStack runs under Rosetta there.
      type: bool
      sample: false
    chip:
      description: The chip of a Mac.
      type: str
      sample: Apple M3 Ultra
    memory_bytes:
      description: Its memory in bytes.
      type: int
      sample: 549755813888
    memory_used_bytes:
      description: Memory in use in bytes, as it was measured there.
      type: int
      sample: 8589934592
    memory_allocated_bytes:
      description: RAM in bytes that instances claim whose main worker it is.
      type: int
      sample: 103809024
    unified_memory:
      description: Whether CPU and GPU share one memory.
      type: bool
      sample: true
    reserved_memory_bytes:
      description: RAM in bytes that GPUStack gives to no model.
      type: int
      sample: 2147483648
    reserved_gpu_memory_bytes:
      description: GPU memory in bytes that GPUStack gives to no model.
      type: int
      sample: 1073741824
    usable_bytes:
      description: Memory of a Mac in bytes without both reserves; V(null) for other machines.
      type: int
      sample: 546534588416
    working_set_bytes:
      description: Metal's recommendedMaxWorkingSetSize of a Mac in bytes, how much memory its GPU may have.
      type: int
      sample: 412316860416
    working_set_source:
      description: >-
        Where RV(workers[].working_set_bytes) is from, V(server), or as in M(metalfleet.gpustack.apple_silicon_facts) V(measured),
        V(wired_limit) or V(estimated).
      type: str
      sample: server
    gpus:
      description: Its GPUs; V(null) until it has reported.
      type: list
      elements: dict
      contains:
        gpu_id:
          description: What C(gpu_selector) of models names it.
          type: str
          sample: mac-1:mps:0
        index:
          description: Its index on the worker.
          type: int
          sample: 0
        name:
          description: Its name.
          type: str
          sample: Apple M3 Ultra
        vendor:
          description: Its maker.
          type: str
          sample: Apple
        type:
          description: Its kind, such as V(mps) or V(cuda).
          type: str
          sample: mps
        memory_total_bytes:
          description: Its memory in bytes, of a Mac the working set.
          type: int
          sample: 412316860416
        memory_used_bytes:
          description: Its memory in use in bytes, as it was measured there.
          type: int
          sample: 41177998950
        memory_allocated_bytes:
          description: Its memory in bytes that instances claim whose main worker it is.
          type: int
          sample: 41177998950
        unified:
          description: Whether it shares the memory of the CPU.
          type: bool
          sample: true
    rpc_servers:
      description: Its RPC servers, without which it takes no part in a distributed model of llama-box.
      type: list
      elements: dict
      contains:
        gpu_index:
          description: Index of the GPU that it is for.
          type: int
          sample: 0
        port:
          description: Its port.
          type: int
          sample: 40064
        pid:
          description: Its process id there.
          type: int
          sample: 76
    node:
      description: What O(nodes) holds of its node; V(null) where it holds none that is this worker.
      type: dict
      contains:
        name:
          description: Name of the node in O(nodes).
          type: str
          sample: studio-1.example.com
        gpustack_version:
          description: Version of GPUStack there.
          type: str
          sample: 0.6.2
        llama_box_version:
          description: Version of the builtin llama-box, as it says itself. It serves RPC and all models without a C(backend_version).
          type: str
          sample: v0.0.154
        pinned_versions:
          description: The C(backend_version)s that it has a llama-box for; V(null) where that is not known.
          type: list
          elements: str
          sample: [v0.0.139]
        residency:
          description: Whether the residency variable stands there, V(present), V(absent) or V(unknown).
          type: str
          sample: absent
    problems:
      description: What the server said of it that could not be understood.
      type: list
      elements: str
      sample: []
"""

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import fleet_nodes
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import WorkerFacts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import Worker
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import api, connection
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import failure

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    **connection.OPTIONS,
    "names": {"type": "list", "elements": "str", "default": []},
    "nodes": fleet_nodes.OPTION,
}
# Under the same name there and here.
_AS_THE_SERVER_SAYS = (
    *("id", "uuid", "hostname", "ip", "port", "state", "state_message", "heartbeat_time", "os_name", "os_version", "cpu_count"),
    *("memory_used_bytes", "memory_allocated_bytes", "unified_memory", "reserved_memory_bytes", "reserved_gpu_memory_bytes"),
)
_WITH_THE_NODE = (
    *("name", "os", "is_apple_silicon", "is_virtual", "is_translated", "chip", "memory_bytes"),
    *("working_set_bytes", "working_set_source"),
)
_OF_A_NODE = ("name", "gpustack_version", "llama_box_version", "residency")


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
    nodes = fleet_nodes.parse_nodes(params["nodes"])
    client = Client(connection.connection(params))
    version = client.check_version()
    workers = api.read_workers(client)
    known = zip(workers, fleet_nodes.worker_facts(workers, nodes, version.text))
    found = [(worker, facts, fleet_nodes.node_of(worker, nodes)) for worker, facts in known]
    wanted = set(params["names"])
    matched = {node.name for _worker, _facts, node in found if node}
    result = {
        "gpustack_version": version.text,
        "missing": sorted(wanted - {facts.name for _worker, facts, _node in found}),
        "nodes_without_worker": [node.name for node in nodes if node.name not in matched],
        "workers": [_worker(*one) for one in found if not wanted or one[1].name in wanted],
    }
    return result, version.warning


def _worker(worker: Worker, facts: WorkerFacts, node: fleet_nodes.NodeFacts | None) -> dict[str, t.Any]:
    return {
        **{name: getattr(worker, name) for name in _AS_THE_SERVER_SAYS},
        **{name: getattr(facts, name) for name in _WITH_THE_NODE},
        "usable_bytes": facts.usable_bytes(),
        "labels": dict(worker.labels),
        "gpus": None if worker.gpus is None else [dataclasses.asdict(gpu) for gpu in worker.gpus],
        "rpc_servers": [dataclasses.asdict(server) for server in worker.rpc_servers],
        "node": _node(node) if node else None,
        "problems": list(worker.problems),
    }


def _node(node: fleet_nodes.NodeFacts) -> dict[str, t.Any]:
    pinned = None if node.pinned_versions is None else list(node.pinned_versions)
    return {**{name: getattr(node, name) for name in _OF_A_NODE}, "pinned_versions": pinned}


if __name__ == "__main__":
    main()
