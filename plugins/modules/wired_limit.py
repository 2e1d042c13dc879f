#!/usr/bin/python
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: wired_limit
short_description: Set how much memory the GPU of a Mac may wire, now and after each boot
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Sets C(iogpu.wired_limit_mb), which is exactly what Metal reports as C(recommendedMaxWorkingSetSize) and GPUStack as the
    memory of the GPU. On macOS 13 this is C(debug.iogpu.wired_limit), in bytes.
  - The kernel forgets the limit at a reboot, and macOS ignores C(/etc/sysctl.conf) since version 11. So the module also keeps
    C(/Library/LaunchDaemons/org.metalfleet.wired-limit.plist), a daemon that runs C(sysctl) once at boot.
  - The limit takes effect at once, and the service is never restarted for it. What a process of llama-box computed at its start
    stays as it is until it is started again.
  - GPUStack's C(install.sh) sets a limit of its own each time it runs, until the next boot. Run it with
    C(INSTALL_SKIP_IOGPU_WIRED_LIMIT=1) to leave the limit to this module.
  - Linux, Macs with Intel chips, virtual Macs and versions of macOS that have no such limit are left alone. That is no failure,
    RV(applies) is V(false) and RV(reason) says why.
options:
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
      - V(0) is macOS's own default, about 67 to 84 percent of memory. Without O(disable_wired_collector=true) it needs no daemon.
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
    platforms: macos
seealso:
  - module: metalfleet.gpustack.apple_silicon_facts
  - name: llama.cpp pull request 17766
    description: How macOS 26 unwires memory, with measurements.
    link: https://github.com/ggml-org/llama.cpp/pull/17766
"""

EXAMPLES = r"""
- name: Leave macOS what it needs and the GPU the rest
  metalfleet.gpustack.wired_limit:

- name: Set a limit of our own, and keep macOS 26 from unwiring models between two requests
  metalfleet.gpustack.wired_limit:
    limit_mib: 491520
    disable_wired_collector: true

- name: Go back to macOS's own default, whoever has set another limit
  metalfleet.gpustack.wired_limit:
    limit_mib: 0

- name: Give up what this module set
  metalfleet.gpustack.wired_limit:
    state: absent
"""

RETURN = r"""
applies:
  description: Whether this machine has a wired limit that can be set.
  returned: success
  type: bool
  sample: true
reason:
  description: Why the limit is what it is, or why there is none.
  returned: success
  type: str
  sample: auto leaves macOS 49152 of 524288 MiB
limit_mib_before:
  description: The limit that was found, in MiB; 0 is macOS's own default, null where there is none.
  returned: success
  type: int
  sample: 0
limit_mib:
  description: The limit after this run, or in check mode after a run without it, in MiB.
  returned: success
  type: int
  sample: 475136
boot_daemon:
  description: Whether the daemon is there after this run; null where O(state=present) leaves this machine alone and did not look.
  returned: success
  type: bool
  sample: true
wired_collector_disabled:
  description: Whether C(iogpu.disable_wired_collector) is set after this run; null where this macOS has no such setting.
  returned: success
  type: bool
  sample: false
changes:
  description: What was done, or in check mode would be done, in order.
  returned: success
  type: list
  elements: dict
  contains:
    resource:
      description: C(sysctl) or C(boot_daemon).
      type: str
      sample: sysctl
    where:
      description: The name of the sysctl, the path of the property list, or the label of the daemon.
      type: str
      sample: iogpu.wired_limit_mb
    action:
      description: One of C(set), C(written), C(removed), C(enabled).
      type: str
      sample: set
    before:
      description: The value of the sysctl before, in its own unit; null for the daemon.
      type: int
      sample: 0
    after:
      description: Its value afterwards.
      type: int
      sample: 475136
applied:
  description: Whether RV(changes) were made. V(false) in check mode.
  returned: success
  type: bool
  sample: true
"""

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.failures import EXPECTED, message_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import find_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.probe import read_hardware
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.restart import NEVER
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.transaction import Options, carry_out
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.wired_limit import WiredLimit
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit import OPTIONS, read_request

# A restart is no business of this module, so what the transaction says of it is left out.
_RESTART = ("restarted", "restart_pending", "restart_reasons", "health")


def main() -> None:
    module = Module(argument_spec=OPTIONS, supports_check_mode=True)
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
    request = read_request(params)
    # Logs of llama-box tell the working set of now, which does not matter to that of then.
    hardware = read_hardware(host, log_paths=())
    resource = WiredLimit(host, hardware, request)
    outcome = carry_out(host, find_installation(host), [resource], Options(restart=NEVER), check_mode)
    result = {key: value for key, value in outcome.as_result().items() if key not in _RESTART}
    return result, outcome.warnings()


if __name__ == "__main__":
    main()
