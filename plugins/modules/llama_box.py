#!/usr/bin/python
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: llama_box
short_description: Pin the llama-box of a GPUStack node
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Puts one release of llama-box, the inference engine of GPUStack, into the places where GPUStack 0.6 and 0.7 look for it. The
    release and the SHA-256 of everything in it come from a lock file, and whatever does not have these digests is refused.
  - GPUStack itself checks neither the version nor a checksum of llama-box, and the RPC servers of distributed inference always
    run the builtin one. So a fleet that distributes models needs the same builtin llama-box on every worker.
  - An older release than the one in place is a downgrade. It is done and reported as such.
  - GPUStack's own record C(versions.json) is left alone. It has to go on naming GPUStack's own version, or GPUStack downloads
    that one again.
  - A transaction. If the node works worse after the restart than before, everything is put back.
options:
  state:
    description:
      - V(present) makes the slots hold the release.
      - V(absent) gives up what this module put on the node, and nothing else. GPUStack's own builtin llama-box comes back from
        the copy that was kept. Where there is none, GPUStack downloads it when it starts.
    type: str
    choices: [present, absent]
    default: present
  version:
    description: The version of llama-box, with its C(v). Needed unless O(state=absent).
    type: str
  lock:
    description:
      - The content of the lock file C(llama_box.lock.yml), which the playbook C(metalfleet.gpustack.lock) writes.
      - Needed unless O(state=absent).
    type: dict
  slots:
    description:
      - V(builtin) is what GPUStack runs for models without a C(backend_version), and for every RPC server. A change of it needs a
        restart.
      - V(pinned) is what GPUStack runs for models whose C(backend_version) is O(version). It needs no restart.
      - GPUStack 0.7 has no pinned slot for its own version. Such models run the builtin one, whatever that is by now.
    type: list
    elements: str
    choices: [builtin, pinned]
    default: [builtin, pinned]
  toolkit:
    description:
      - What the build computes with, such as V(metal), V(avx2) or V(cuda-12.4).
      - V(auto) knows it for Macs and for hosts without an accelerator. For CUDA, CANN and the like, it depends on the version that is
        installed, so say it.
    type: str
    default: auto
  source:
    description:
      - V(download) lets the node download archives from the URLs in the lock, or from O(base_url).
      - V(push) copies them from O(archives_folder) of the controller, and only to nodes that lack them.
      - V(folder) takes them from O(folder) on the node.
    type: str
    choices: [download, push, folder]
    default: download
  base_url:
    description: The URL of a mirror of V(https://github.com), as GPUStack's option C(--tools-download-base-url) takes it.
    type: str
  url_username:
    description: The user at the mirror.
    type: str
  url_password:
    description: The password at the mirror.
    type: str
  url_token:
    description: A bearer token for the mirror, in place of O(url_username) and O(url_password).
    type: str
  ca_path:
    description: A file on the node with the certificates to trust instead of those of the system.
    type: path
  use_proxy:
    description: Whether to use the proxy that the environment of the task names.
    type: bool
    default: true
  timeout_seconds:
    description: How long to wait for a connection, and during each silence of the server.
    type: int
    default: 30
  deadline_seconds:
    description: How long one archive may take in all. What has come until then stays, and the next run goes on from there.
    type: int
    default: 1800
  retries:
    description: How many attempts in a row may bring nothing, after the first. A download goes on where it was cut.
    type: int
    default: 4
  folder:
    description:
      - A folder on the node with archives, for O(source=folder).
      - An archive lies in C(VERSION/NAME.zip) or, as at GitHub, in C(gpustack/llama-box/releases/download/VERSION/NAME.zip).
    type: path
  archives_folder:
    description:
      - A folder on the controller with archives, for O(source=push), laid out like O(folder).
      - A relative path begins beside the first inventory, as that of the lock file does. Where the folder is only beside the
        playbook, it is taken from there.
    type: str
  archives:
    description:
      - The archives that were copied to the node, by SHA-256. The module's own action plugin fills it in. Leave it out.
    type: dict
  keep:
    description: How many releases to keep on the node besides those in the slots, to go back to without an archive.
    type: int
    default: 2
  sealed:
    description:
      - Whether to write into a signed application. The builtin llama-box of GPUStack's Desktop package lies in one. Otherwise
        such a change is refused.
      - It breaks the signature of the application, and macOS may forbid it even to root.
    type: bool
    default: false
  restart:
    description:
      - V(now) restarts the service, once, if the builtin llama-box changed. B(This stops the models that run on the node.)
      - V(when_idle) restarts it only if no model runs on the node and no other node uses its GPUs. Otherwise, and with V(never), the
        module only says so, in RV(restart_pending), at each run until the service was restarted.
    type: str
    choices: [now, when_idle, never]
    default: now
  settle_seconds:
    description:
      - For how many seconds, after a restart, everything that worked before has to work without a break. If it does not,
        all changes of this run are undone, the service is restarted with its old files, and the module fails.
      - Before a restart, a service that was started less than two minutes ago is given the rest of them to begin.
    type: float
    default: 10.0
  service_name:
    description:
      - The label of the launchd job or the name of the systemd unit. By default C(ai.gpustack) on macOS and C(gpustack)
        on Linux.
    type: str
extends_documentation_fragment:
  - metalfleet.gpustack.attributes
attributes:
  check_mode:
    support: full
    details: Needs no archive.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    support: full
    platforms: macos, linux
notes:
  - C(async) is not supported.
seealso:
  - module: metalfleet.gpustack.node_info
  - name: gpustack issue 1907
    description: Fixed, besides other things, by llama-box v0.0.139.
    link: https://github.com/gpustack/gpustack/issues/1907
"""

EXAMPLES = r"""
- name: Put llama-box v0.0.171 into both slots
  metalfleet.gpustack.llama_box:
    version: v0.0.171
    lock: "{{ lookup('metalfleet.gpustack.lock_file', 'llama_box.lock.yml') }}"

- name: The same on nodes that reach no network, from archives of the controller
  metalfleet.gpustack.llama_box:
    version: v0.0.171
    lock: "{{ lookup('metalfleet.gpustack.lock_file', 'llama_box.lock.yml') }}"
    source: push
    archives_folder: archives

- name: Only for models that ask for it by backend_version, from a mirror
  metalfleet.gpustack.llama_box:
    version: v0.0.144
    lock: "{{ lookup('metalfleet.gpustack.lock_file', 'llama_box.lock.yml') }}"
    slots: [pinned]
    base_url: https://mirror.example.com/github

- name: Give GPUStack its own llama-box back
  metalfleet.gpustack.llama_box:
    state: absent
"""

RETURN = r"""
slots:
  description: The slots that are governed. With O(state=absent), those that were.
  returned: success
  type: list
  elements: dict
  contains:
    slot:
      description: V(builtin) or V(pinned).
      type: str
      sample: builtin
    path:
      description: The program.
      type: str
      sample: /Users/admin/.local/pipx/venvs/gpustack/lib/python3.11/site-packages/gpustack/third_party/bin/llama-box/llama-box
    version_before:
      description: What was there; null where there was nothing, or nothing that says its version.
      type: str
      sample: v0.0.136
    version:
      description: What is there now; null where there is nothing.
      type: str
      sample: v0.0.139
    build:
      description: The build; null for GPUStack's own.
      type: str
      sample: darwin-arm64-metal
    sha256:
      description: Digest of the program that is there now; null where there is none.
      type: str
      sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
kept:
  description: Releases that stay on the node besides those in slots, the most recently used first.
  returned: success
  type: list
  elements: str
  sample: [v0.0.136/darwin-arm64-metal]
toolkit:
  description: What the build computes with; null with O(state=absent).
  returned: success
  type: str
  sample: metal
changes:
  description: What was done, or in check mode would be done, in order.
  returned: success
  type: list
  elements: dict
  contains:
    resource:
      description: Always C(llama_box).
      type: str
      sample: llama_box
    where:
      description: The program, or with O(state=absent) also a file or folder of the collection.
      type: str
      sample: /var/lib/gpustack/bin/llama-box_v0.0.139
    action:
      description: One of C(installed), C(upgraded), C(downgraded), C(repaired), C(removed).
      type: str
      sample: upgraded
    name:
      description: The slot, C(builtin) or C(pinned); with O(state=absent) also C(record) and C(releases), both of the collection.
      type: str
      sample: builtin
    from:
      description: The version before; null where it was not known, or there was none.
      type: str
      sample: v0.0.136
    to:
      description: The version now; null where nothing is left.
      type: str
      sample: v0.0.139
applied:
  description: Whether RV(changes) were made. V(false) in check mode.
  returned: success
  type: bool
  sample: true
restarted:
  description: Whether the service was restarted, or in check mode would be.
  returned: success
  type: bool
  sample: true
restart_pending:
  description: Whether the service still has to be restarted for the state to take effect.
  returned: success
  type: bool
  sample: false
restart_reasons:
  description: Why it was or has to be restarted.
  returned: success
  type: list
  elements: str
  sample: ["the builtin llama-box changes, and RPC servers run the old one until GPUStack starts anew"]
health:
  description:
    - The node before and after the restart, in the form that M(metalfleet.gpustack.environment) returns it; null where there was
      no restart.
  returned: success
  type: dict
"""

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.failures import EXPECTED, message_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.governed import governed_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_box import ArchivesNeededError, LlamaBox
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import state_folder
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.transaction import Options, carry_out
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_request import OPTIONS, parse_request

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    **OPTIONS,
    "restart": {"type": "str", "choices": ["now", "when_idle", "never"], "default": "now"},
    "settle_seconds": {"type": "float", "default": 10.0},
    "service_name": {"type": "str"},
}


def main() -> None:
    module = Module(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    host = Host()
    try:
        result, warnings = run(module.params, host, module.check_mode)
    except EXPECTED as exc:
        module.fail_json(msg=message_of(exc, host))
    for warning in warnings:
        module.warn(warning)
    module.exit_json(**result)


def run(params: t.Mapping[str, t.Any], host: Host, check_mode: bool) -> tuple[dict[str, t.Any], list[str]]:
    """Carry out the module on a host; returns its result and its warnings."""
    request = parse_request(params)
    installation = governed_installation(host, params["service_name"])
    resource = LlamaBox(host, installation, request, state_folder(host))
    try:
        outcome = carry_out(host, installation, [resource], Options(params["restart"], params["settle_seconds"]), check_mode)
    except ArchivesNeededError as exc:
        # For the action plugin, which brings them and runs the module again.
        return exc.as_result(), []
    return outcome.as_result(), list(dict.fromkeys([*installation.warnings, *outcome.warnings()]))


if __name__ == "__main__":
    main()
