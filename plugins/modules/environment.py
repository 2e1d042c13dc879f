#!/usr/bin/python
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: environment
short_description: Govern the environment GPUStack runs with, and keep GGML_METAL_NO_RESIDENCY out of it
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Brings our variables in C(/etc/default/gpustack) to exactly what is given, brings the service's own copy of them (the
    launchd property list on macOS) to the same state, and restarts the service once if it runs with something else.
  - Takes C(GGML_METAL_NO_RESIDENCY) out of every place where it can hide. The mere presence of that variable keeps Metal
    from holding model weights in memory, which is one of the two causes of gpustack#1907 (a model that answers at 0.07
    tokens per second). The places are the file, in every spelling; other C(EnvironmentFile=) of the unit; unit files and
    drop-ins below C(/etc) and C(/run); the property list; the loaded job; and the service manager's own environment.
  - What the module writes stands in one block between two marker lines. Every other line, comment and byte of the file
    is kept in its place, unless it sets a variable that the module was given.
  - On Linux systemd reads the file at each start of the service. On macOS only GPUStack's C(install.sh) reads it. The
    module refuses a value that the two would read differently, and warns about lines that it finds and they do.
options:
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
      - This and O(secrets) and O(content) are the whole of what is ours. A variable that an earlier run wrote and that is
        given no longer is removed.
      - The values appear in diffs. Use O(secrets) for those that must not.
    type: dict
    default: {}
  secrets:
    description:
      - Variables whose values are never shown, such as C(HF_TOKEN).
      - A property list is readable by every user of a Mac unless O(mode) says otherwise, and C(launchctl print) shows the
        environment of a loaded job to every user whatever the modes are.
    type: dict
    default: {}
  content:
    description:
      - Lines for the block as a template rendered them, comments (C(#) at the start of the line) and C(NAME=value).
      - Lines from O(variables) and O(secrets) follow them. A variable may come from one of the three only.
    type: str
    default: ''
  path:
    description:
      - The file. GPUStack's unit and C(install.sh) know only the default.
    type: path
    default: /etc/default/gpustack
  follow:
    description:
      - Whether to manage the file that O(path) points to where it is a symbolic link. Otherwise a link is refused.
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
      - Without it, both keep what they have, and a new file gets C(0600) if there are O(secrets) and C(0644) otherwise.
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
      - V(now) restarts the service, once, if something changed that it reads only at start, or if it still runs with the
        old state. B(This stops the models that run on the node.)
      - V(when_idle) restarts it only if no model runs on the node and no other node uses its GPUs. Otherwise, and with
        V(never), the module only says so, in RV(restart_pending), at each run until the service was restarted.
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
      - A service that is named here has to exist. Where there is none of the default name, only the file is governed, and
        a warning says so.
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
  - module: metalfleet.gpustack.node_info
  - name: gpustack issue 1907
    description: The report this module exists for.
    link: https://github.com/gpustack/gpustack/issues/1907
"""

EXAMPLES = r"""
- name: Take the residency variable out of every place, and any variable that an earlier run of this module wrote
  metalfleet.gpustack.environment:

- name: Set two variables and a token
  metalfleet.gpustack.environment:
    variables:
      HF_ENDPOINT: https://hub.example.com
      HF_HUB_DOWNLOAD_TIMEOUT: 60
    secrets:
      HF_TOKEN: "{{ vault_hf_token }}"
    mode: "0600"

- name: Prepare the change now, restart in the maintenance window
  metalfleet.gpustack.environment:
    variables:
      HF_ENDPOINT: https://hub.example.com
    restart: never
  register: result

- name: Give up what this module wrote
  metalfleet.gpustack.environment:
    state: absent
"""

RETURN = r"""
path:
  description: The file that is governed, with links followed.
  returned: success
  type: str
  sample: /etc/default/gpustack
changes:
  description: What was done, or in check mode would be done, in order. Names only, never values.
  returned: success
  type: list
  elements: dict
  contains:
    resource:
      description: One of C(environment_file), C(plist), C(unit_file), C(manager_environment).
      type: str
      sample: plist
    where:
      description: The path of the file.
      type: str
      sample: /Library/LaunchDaemons/ai.gpustack.plist
    action:
      description: One of C(set), C(removed), C(taken_over), C(rewritten), C(mode).
      type: str
      sample: removed
    name:
      description: The variable.
      type: str
      sample: GGML_METAL_NO_RESIDENCY
    line:
      description: The line the variable stood on, counted from 1; null where there was none.
      type: int
      sample: 3
residency:
  description: What was decided about C(GGML_METAL_NO_RESIDENCY).
  returned: success
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
applied:
  description:
    - Whether RV(changes) were made. V(false) in check mode, also where only a task or a play asks for it, which
      C(ansible_check_mode) does not tell.
  returned: success
  type: bool
  sample: true
restarted:
  description: Whether the service was restarted, or in check mode would be.
  returned: success
  type: bool
  sample: true
restart_pending:
  description: Whether the service still has to be restarted by somebody for the state to take effect.
  returned: success
  type: bool
  sample: false
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
restart_reasons:
  description: Why it was or has to be restarted.
  returned: success
  type: list
  elements: str
  sample: [the running service still has GGML_METAL_NO_RESIDENCY]
"""

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.environment_setup import environment_resource
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.failures import EXPECTED, message_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.governed import governed_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.transaction import Options, carry_out
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_request import OPTIONS

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
    installation = governed_installation(host, params["service_name"], params["path"])
    resource, doubts = environment_resource(host, installation, params)
    outcome = carry_out(host, installation, [resource], Options(params["restart"], params["settle_seconds"]), check_mode)
    return outcome.as_result(), list(dict.fromkeys([*doubts, *installation.warnings, *outcome.warnings()]))


if __name__ == "__main__":
    main()
