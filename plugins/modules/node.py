#!/usr/bin/python
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node
short_description: Bring everything that GPUStack needs on a node to its state, in one transaction with one restart
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Does what M(metalfleet.gpustack.llama_box), M(metalfleet.gpustack.wired_limit) and M(metalfleet.gpustack.environment) do, for
    those of the three that are given, and restarts the service at most once.
  - Everything that is needed is fetched and verified before the first change. Each change is written down before it is made,
    so that the next run finishes what a run that died has left. Only one run at a time works on a node.
  - The node's health is measured before and after the restart. If it got worse, everything that was changed is put back, the
    service is restarted with its old files, and the module fails. A node that was sick before stays configured and is reported.
  - Where C(GGML_METAL_NO_RESIDENCY) is to be absent, every place in which it can hide is looked at once all is done. The module fails if
    it is anywhere, with everything that was changed left as it is now, and warns of places that it cannot see.
  - What the last run found is kept for M(metalfleet.gpustack.rollback).
  - A node that was found or brought to its state keeps a receipt. A later task that wants the same first compares that with the node,
    in one round trip and without sending the module, which is what makes frequent runs over many nodes cheap. See O(verify).
options:
  llama_box:
    description:
      - Which llama-box the node has. Left alone where it is not given.
    type: dict
    suboptions:
      state:
        description:
          - V(present) makes the slots hold the release.
          - V(absent) gives up what this module put on the node, and nothing else. GPUStack's own builtin llama-box comes back from
            the copy that was kept. Where there is none, GPUStack downloads it when it starts.
        type: str
        choices: [present, absent]
        default: present
      version:
        description: The version of llama-box, with its C(v). Needed unless O(llama_box.state=absent).
        type: str
      lock:
        description:
          - The content of the lock file C(llama_box.lock.yml), which the playbook C(metalfleet.gpustack.lock) writes.
          - Needed unless O(llama_box.state=absent).
        type: dict
      slots:
        description:
          - V(builtin) is what GPUStack runs for models without a C(backend_version), and for every RPC server. A change of it needs a
            restart.
          - V(pinned) is what GPUStack runs for models whose C(backend_version) is O(llama_box.version). It needs no restart.
          - GPUStack 0.7 has no pinned slot for its own version. Such models run the builtin one, whatever that is by now.
        type: list
        elements: str
        choices: [builtin, pinned]
        default: [builtin, pinned]
      toolkit:
        description:
          - What the build computes with, such as V(metal), V(avx2) or V(cuda-12.4).
          - V(auto) knows it for Macs and for hosts without an accelerator. For CUDA, CANN and the like, it depends on the version
            that is installed, so say it.
        type: str
        default: auto
      source:
        description:
          - V(download) lets the node download archives from the URLs in the lock, or from O(llama_box.base_url).
          - V(push) copies them from O(llama_box.archives_folder) of the controller, and only to nodes that lack them.
          - V(folder) takes them from O(llama_box.folder) on the node.
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
        description: A bearer token for the mirror, in place of O(llama_box.url_username) and O(llama_box.url_password).
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
          - A folder on the node with archives, for O(llama_box.source=folder).
          - An archive lies in C(VERSION/NAME.zip) or, as at GitHub, in C(gpustack/llama-box/releases/download/VERSION/NAME.zip).
        type: path
      archives_folder:
        description:
          - A folder on the controller with archives, for O(llama_box.source=push), laid out like O(llama_box.folder).
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
  wired_limit:
    description:
      - How much memory the GPU may wire. Left alone where it is not given.
    type: dict
    suboptions:
      state:
        description:
          - V(present) brings the limit to the wanted value.
          - V(absent) removes the daemon, and sets to macOS's own default what still has the value that the daemon had set. A value
            that somebody has set since is left alone.
        type: str
        choices: [present, absent]
        default: present
      limit_mib:
        description:
          - V(auto) or a number of MiB.
          - With V(auto), macOS keeps 3/32 of memory and at least 6 GiB, and the GPU may wire the rest, 475136 MiB of 512 GiB. A Mac
            with less than 32 GiB of memory is left to macOS's own default.
          - V(0) is macOS's own default, about 67 to 84 percent of memory. Without O(wired_limit.disable_wired_collector=true) it
            needs no daemon.
          - A number that leaves macOS less than 1/32 of memory, or less than 4 GiB, is refused unless it is not above the default.
        type: str
        default: auto
      disable_wired_collector:
        description:
          - Whether C(iogpu.disable_wired_collector) is set, too. It is left alone where this option is not given, except that a value
            which this module had set is taken back.
          - macOS 26 takes back the memory of the GPU about one second after its last use, so that the first tokens after a pause wait
            for the model. No release of llama-box has the heartbeat that llama.cpp has against it, and V(true) is the only other
            remedy. It is not the default because it also keeps macOS from taking back memory that it needs.
          - Before macOS 26 it is not needed, and nothing is set.
        type: bool
  environment:
    description:
      - The environment that GPUStack runs with. Left alone where it is not given; V({}) keeps C(GGML_METAL_NO_RESIDENCY) out of it
        and has no variables of ours.
    type: dict
    suboptions:
      state:
        description:
          - V(present) brings the environment to the wanted state.
          - V(absent) gives up what this module wrote, its block and the same variables in the property list, and touches
            nothing else.
        type: str
        choices: [present, absent]
        default: present
      variables:
        description:
          - Variables and their values. Text and whole numbers are taken; put V(true), V(1.0) and V(null) in quotes.
          - This and O(environment.secrets) and O(environment.content) are the whole of what is ours. A variable that an earlier
            run wrote and that is given no longer is removed.
          - The values appear in diffs. Use O(environment.secrets) for those that must not.
        type: dict
        default: {}
      secrets:
        description:
          - Variables whose values are never shown, such as C(HF_TOKEN).
          - A property list is readable by every user of a Mac unless O(environment.mode) says otherwise, and C(launchctl print)
            shows the environment of a loaded job to every user whatever the modes are.
        type: dict
        default: {}
      content:
        description:
          - Lines for the block as a template rendered them, comments (C(#) at the start of the line) and C(NAME=value).
          - Lines from O(environment.variables) and O(environment.secrets) follow them. A variable may come from one of the three only.
        type: str
        default: ''
      path:
        description:
          - The file. GPUStack's unit and C(install.sh) know only the default.
        type: path
        default: /etc/default/gpustack
      follow:
        description:
          - Whether to manage the file that O(environment.path) points to where it is a symbolic link. Otherwise a link is refused.
        type: bool
        default: false
      unmanaged:
        description:
          - V(keep) leaves every line that is not ours as it is.
          - V(remove) leaves only our block in the file. Other variables of the property list, such as the C(HOME) of the
            Desktop package, stay.
        type: str
        choices: [keep, remove]
        default: keep
      mode:
        description:
          - Permissions of the file and of the property list, as octal text such as V('0600').
          - Without it, both keep what they have, and a new file gets C(0600) if there are O(environment.secrets) and C(0644) otherwise.
        type: str
      residency_variable:
        description:
          - V(auto) takes C(GGML_METAL_NO_RESIDENCY) out except on virtual Macs, whose paravirtual GPU may need it.
          - V(absent) takes it out everywhere.
          - V(unmanaged) leaves it alone.
        type: str
        choices: [auto, absent, unmanaged]
        default: auto
  restart:
    description:
      - V(now) restarts the service, once, if something changed that it reads only at start, or if it still runs with the old
        state. B(This stops the models that run on the node.)
      - V(when_idle) restarts it only if no model runs on the node and no other node uses its GPUs. Otherwise, and with
        V(never), the module only says so, in RV(restart_pending), at each run until the service was restarted.
    type: str
    choices: [now, when_idle, never]
    default: now
  settle_seconds:
    description:
      - For how many seconds, after a restart, everything that worked before has to work without a break.
    type: float
    default: 10.0
  health_timeout_seconds:
    description:
      - For how many seconds, after a restart, to wait until everything that worked before works again. O(settle_seconds) come on top.
      - Before a restart, a service that was started less than this ago is given the rest of it to begin. What does not work yet could
        not be missed later.
    type: float
    default: 120.0
  lock_wait_seconds:
    description:
      - For how many seconds to wait for another run that works on this node. The failure says which one it is, and since when.
    type: float
    default: 60.0
  verify:
    description:
      - With V(auto), a node whose receipt says what is wanted now, and on which nothing has changed since, is not looked at again. Every
        file that decides counts, by inode, size, times, mode and owner, and so do those that must not be there. What no file shows
        is asked, which is the service's process, its environment and the sysctls. Anything else, also a change that does not matter,
        makes the module run.
      - Where the connection or the become method cannot feed a program to Python, and where become wants a password and pipelining is
        off, the module runs.
      - V(content) also reads all these files, in the same round trip, and compares their digests with those in the receipt. That is what
        finds a disk that returns other bytes than were written. O(receipt_max_age_hours=0) always runs the module.
    type: str
    choices: [auto, content]
    default: auto
  receipt_max_age_hours:
    description:
      - For how many hours a receipt counts. Each node has a share of its own, between half and all of it, so that a fleet that was
        set up in one run is not verified again in one run. With V(0) no receipt counts, and the module always runs.
    type: float
    default: 24.0
  receipt_for:
    description:
      - Filled in by the action plugin. It is a digest of what is wanted, with which the receipt is found to be about the same.
      - Leave it out. A run without it writes no receipt.
    type: str
  models_follow:
    description:
      - Where C(GGML_METAL_NO_RESIDENCY) is to be absent, the module looks for it in every place once all is done, and fails if it is
        anywhere. With this, a process of a model that has it from the model's own C(env) is a warning, since something else sees to the
        models. Places that cannot be seen are warned of.
      - In check mode it does so where nothing is to be changed; otherwise the module would first change what it looks at.
    type: bool
    default: false
  node_name:
    description:
      - Filled in by the action plugin. It is how warnings call the node, since Ansible shows one that several hosts share once, without
        their names. Leave it out.
    type: str
  role_variables:
    description:
      - Whether the options come from the variables of the role P(metalfleet.gpustack.gpustack_node#role). It is for that role's own task,
        which so needs no templates. Leave it out.
      - What the role has variables for is then taken from these alone, set or not. Other options, such as O(lock_wait_seconds), count as
        they are given.
    type: bool
    default: false
  service_name:
    description:
      - The label of the launchd job or the name of the systemd unit. By default C(ai.gpustack) on macOS and C(gpustack) on Linux.
      - A service that is named here has to exist.
    type: str
extends_documentation_fragment:
  - metalfleet.gpustack.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    support: full
    platforms: macos, linux
seealso:
  - module: metalfleet.gpustack.rollback
  - module: metalfleet.gpustack.node_info
  - name: gpustack issue 1907
    description: The report that this module makes impossible.
    link: https://github.com/gpustack/gpustack/issues/1907
"""

EXAMPLES = r"""
- name: The cure of gpustack#1907 on one node
  metalfleet.gpustack.node:
    llama_box:
      version: v0.0.139
      lock: "{{ lookup('metalfleet.gpustack.lock_file', 'llama_box.lock.yml') }}"
    wired_limit: {}
    environment: {}

- name: Prepare everything now, and restart when no model runs
  metalfleet.gpustack.node:
    llama_box:
      version: v0.0.139
      lock: "{{ lookup('metalfleet.gpustack.lock_file', 'llama_box.lock.yml') }}"
      source: push
      archives_folder: /srv/llama-box
    environment:
      variables:
        HF_ENDPOINT: https://hub.example.com
      secrets:
        HF_TOKEN: "{{ vault_hf_token }}"
    restart: when_idle
"""

RETURN = r"""
changes:
  description:
    - What was done, or in check mode would be done, in order. Names only, never values. Further keys are those of the module that
      does the same for one resource.
  returned: success
  type: list
  elements: dict
  contains:
    resource:
      description: What was changed, such as C(llama_box), C(boot_daemon), C(sysctl), C(environment_file), C(plist).
      type: str
      sample: environment_file
    where:
      description: The path or name.
      type: str
      sample: /etc/default/gpustack
    action:
      description: What was done to it.
      type: str
      sample: removed
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
  sample: [the running service still has GGML_METAL_NO_RESIDENCY]
health:
  description: The node before and after the restart; null where there was none. What was sick before is not undone.
  returned: success
  type: dict
  contains:
    before:
      description: Before the first change, in the same form as RV(health.after).
      type: dict
    after:
      description: After the restart.
      type: dict
      contains:
        running:
          description: Whether the service's main process runs.
          type: bool
          sample: true
        answering:
          description: Which parts of GPUStack say that they are well.
          type: list
          elements: str
          sample: [server, worker]
        rpc_servers:
          description: How many RPC servers of llama-box run steadily; null where that cannot be seen.
          type: int
          sample: 1
        detail:
          description: The service manager's own words.
          type: str
          sample: state = running
    sick:
      description: What a node that should work does not do, and did not do before either.
      type: list
      elements: str
      sample: []
receipt:
  description: How it was found out that the node is as wanted.
  returned: success
  type: dict
  contains:
    used:
      description: Whether all of this result is from the receipt, and the node was only compared with it.
      type: bool
      sample: true
    age_seconds:
      description: How long ago the node was looked at for that receipt; null where it was looked at now.
      type: int
      sample: 5400
    reason:
      description: Why the module was run instead, such as the first difference that was found. Empty where it was not.
      type: str
      sample: /etc/default/gpustack is not as it was
ansible_facts:
  description: Facts about the hardware. With RV(receipt.used), those of the time of the receipt.
  returned: success
  type: dict
  contains:
    apple_silicon:
      description: What M(metalfleet.gpustack.apple_silicon_facts) returns under this name, with its defaults.
      type: dict
llama_box:
  description: The llama-box programs, where the option was given.
  returned: when O(llama_box) is given
  type: dict
  contains:
    slots:
      description: The slots that are governed. With O(llama_box.state=absent), those that were.
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
      type: list
      elements: str
      sample: [v0.0.136/darwin-arm64-metal]
    toolkit:
      description: What the build computes with; null with O(llama_box.state=absent).
      type: str
      sample: metal
wired_limit:
  description: The wired limit, where the option was given.
  returned: when O(wired_limit) is given
  type: dict
  contains:
    applies:
      description: Whether this machine has a wired limit that can be set.
      type: bool
      sample: true
    reason:
      description: Why the limit is what it is, or why there is none.
      type: str
      sample: auto leaves macOS 49152 of 524288 MiB
    limit_mib_before:
      description: The limit that was found, in MiB; 0 is macOS's own default, null where there is none.
      type: int
      sample: 0
    limit_mib:
      description: The limit after this run, or in check mode after a run without it, in MiB.
      type: int
      sample: 475136
    boot_daemon:
      description:
        Whether the daemon is there after this run; null where O(wired_limit.state=present) leaves this machine alone and did not look.
      type: bool
      sample: true
    wired_collector_disabled:
      description: Whether C(iogpu.disable_wired_collector) is set after this run; null where this macOS has no such setting.
      type: bool
      sample: false
environment:
  description: The environment, where the option was given.
  returned: when O(environment) is given
  type: dict
  contains:
    path:
      description: The file that is governed, with links followed.
      type: str
      sample: /etc/default/gpustack
    residency:
      description: What was decided about C(GGML_METAL_NO_RESIDENCY).
      type: dict
      contains:
        remove:
          description: Whether it is to be absent.
          type: bool
          sample: true
        reason:
          description: Why.
          type: str
          sample: GGML_METAL_NO_RESIDENCY disables Metal residency sets by its mere presence
"""

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.failures import EXPECTED, message_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_box import ArchivesNeededError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.node import bring_to_state
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import environment_request, llama_box_request, wired_limit

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "llama_box": {"type": "dict", "options": llama_box_request.OPTIONS},
    "wired_limit": {"type": "dict", "options": wired_limit.OPTIONS},
    "environment": {"type": "dict", "options": environment_request.OPTIONS},
    "restart": {"type": "str", "choices": ["now", "when_idle", "never"], "default": "now"},
    "settle_seconds": {"type": "float", "default": 10.0},
    "health_timeout_seconds": {"type": "float", "default": 120.0},
    "lock_wait_seconds": {"type": "float", "default": 60.0},
    "service_name": {"type": "str"},
    "verify": {"type": "str", "choices": ["auto", "content"], "default": "auto"},
    "receipt_max_age_hours": {"type": "float", "default": 24.0},
    # Secrets are part of what it is a digest of.
    "receipt_for": {"type": "str", "no_log": True},
    "models_follow": {"type": "bool", "default": False},
    "node_name": {"type": "str"},
    "role_variables": {"type": "bool", "default": False},
}


def main() -> None:
    module = Module(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    host = Host()
    try:
        result, warnings = bring_to_state(host, module.params, module.check_mode)
    except ArchivesNeededError as exc:
        # Nothing was changed: the action plugin pushes them and comes back.
        module.exit_json(**exc.as_result())
    except EXPECTED as exc:
        module.fail_json(msg=message_of(exc, host))
    # Ansible shows a warning that several nodes share once, and without saying which.
    name = module.params["node_name"]
    for warning in warnings:
        module.warn(f"{name}: {warning}" if name else warning)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
