#!/usr/bin/python
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollback
short_description: Bring a node back to its state before the last run that changed it
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Puts back what the last run of M(metalfleet.gpustack.node), or of one of the smaller modules, found on the node, its releases of
    llama-box, environment and wired limit, and restarts the service if that run had restarted it.
  - It is a transaction like any other. If the node works worse afterwards, it is undone.
  - There is one state to go back to, and going back uses it up, so that a second run changes nothing. The inventory still says
    what it said. The next run of the role brings the node forward again, so change the inventory first.
options:
  force:
    description:
      - Whether to go back also where somebody has edited one of the files since. That edit is lost.
    type: bool
    default: false
  restart:
    description:
      - V(now) restarts the service, once, if the way back needs it. B(This stops the models that run on the node.)
      - V(when_idle) does so only if no model runs on the node and no other node uses its GPUs. Otherwise, and with V(never), the
        module only says in RV(restart_pending) that a restart is due.
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
  service_name:
    description:
      - The label of the launchd job or the name of the systemd unit. By default C(ai.gpustack) on macOS and C(gpustack) on Linux.
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
  - module: metalfleet.gpustack.node
"""

EXAMPLES = r"""
- name: Go back to what the last run found
  metalfleet.gpustack.rollback:

- name: Go back although somebody edited a file since
  metalfleet.gpustack.rollback:
    force: true
"""

RETURN = r"""
rolled_back_to:
  description: The time, in UTC, from before which the state is; null where there was none to go back to.
  returned: success
  type: str
  sample: 2026-11-22 21:47:19 UTC
reason:
  description: Why there was nothing to go back to; empty where there was.
  returned: success
  type: str
  sample: ""
changes:
  description: What was put back, or in check mode would be.
  returned: success
  type: list
  elements: dict
  contains:
    resource:
      description: Always C(previous).
      type: str
      sample: previous
    where:
      description: The path, or the command that undid something that is no file.
      type: str
      sample: /etc/default/gpustack
    action:
      description: C(restored) or C(undone).
      type: str
      sample: restored
    name:
      description: What was there, one of C(file), C(folder), C(link) and C(absent), or what the command was about.
      type: str
      sample: file
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
  description: Whether the service still has to be restarted for the old state to take effect.
  returned: success
  type: bool
  sample: false
restart_reasons:
  description: Why it was or has to be restarted.
  returned: success
  type: list
  elements: str
  sample: ["the node goes back to its state before 2026-11-22 21:47:19 UTC"]
health:
  description: The node before and after the restart, as M(metalfleet.gpustack.node) returns it; null where there was none.
  returned: success
  type: dict
"""

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.failures import EXPECTED, message_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.governed import governed_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.previous import Previous
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.transaction import Options, carry_out

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "force": {"type": "bool", "default": False},
    "restart": {"type": "str", "choices": ["now", "when_idle", "never"], "default": "now"},
    "settle_seconds": {"type": "float", "default": 10.0},
    "health_timeout_seconds": {"type": "float", "default": 120.0},
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
    installation = governed_installation(host, params["service_name"])
    options = Options(params["restart"], params["settle_seconds"], params["health_timeout_seconds"])
    outcome = carry_out(host, installation, [Previous(host, params["force"])], options, check_mode)
    return outcome.as_result(), list(dict.fromkeys([*installation.warnings, *outcome.warnings()]))


if __name__ == "__main__":
    main()
