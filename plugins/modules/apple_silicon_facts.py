#!/usr/bin/python
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: apple_silicon_facts
short_description: Gather the Apple Silicon hardware of a node
version_added: 1.0.0
description:
  - Returns the chip, CPU and GPU cores, memory and the GPU's working set of a Mac as the fact C(ansible_facts.apple_silicon).
  - No privileges are needed. One call each of C(sysctl), C(system_profiler) and C(sw_vers) is made, and none on anything but macOS.
  - Whatever cannot be read is V(null), with the reason in RV(ansible_facts.apple_silicon.warnings). A tool that is missing, hangs or
    prints garbage is no failure.
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
extends_documentation_fragment:
  - metalfleet.gpustack.attributes
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
    platforms: macos, linux
options:
  log_paths:
    description:
      - Absolute paths of folders and files where llama-box logs C(recommendedMaxWorkingSetSize).
      - Of a folder, the files whose names end in C(.log) are looked at, its own and those in the folders right below it.
      - The newest log with that line counts, if it was written since the last boot and its value can be a default of this machine.
      - Logs are read only where no wired limit is set, since a wired limit is the working set.
      - Paths that do not exist are passed over.
    type: list
    elements: path
    default:
      - /var/lib/gpustack/log
      - /Library/Application Support/GPUStack/log
  gather_timeout_seconds:
    description:
      - Time limit in seconds for each command; must be more than 0.
      - A command that takes longer is killed, and what it would have told is V(null).
    type: float
    default: 30
"""

EXAMPLES = r"""
- name: Gather the hardware of every node
  metalfleet.gpustack.apple_silicon_facts:

- name: Gather it where GPUStack keeps its logs elsewhere
  metalfleet.gpustack.apple_silicon_facts:
    log_paths:
      - /Volumes/fast/gpustack/log
    gather_timeout_seconds: 60

- name: Show what the GPU may use
  ansible.builtin.debug:
    msg: >-
      {{ ansible_facts.apple_silicon.chip }}:
      {{ ansible_facts.apple_silicon.working_set_bytes | default(0, true) | human_readable }}
      ({{ ansible_facts.apple_silicon.working_set_source }})
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to ansible_facts.
  returned: always
  type: dict
  contains:
    apple_silicon:
      description: The hardware of the node. Every value but RV(ansible_facts.apple_silicon.warnings) may be V(null).
      returned: always
      type: dict
      contains:
        is_apple_silicon:
          description:
            - Whether the node is a Mac with an Apple chip, also where this module runs under Rosetta.
            - V(false) on Intel Macs, and on everything that is not macOS, where all other values are V(null).
          returned: always
          type: bool
          sample: true
        chip:
          description: Name of the chip.
          returned: always
          type: str
          sample: Apple M3 Ultra
        family:
          description: The chip's family, such as V(M3) or V(A18); V(unknown) for an Apple chip this collection does not know.
          returned: always
          type: str
          sample: M3
        generation:
          description: The number of an M chip, 3 for an M3; V(null) for every other chip.
          returned: always
          type: int
          sample: 3
        tier:
          description: One of V(base), V(pro), V(max), V(ultra) and V(unknown).
          returned: always
          type: str
          sample: ultra
        model_identifier:
          description: Apple's identifier of the model.
          returned: always
          type: str
          sample: Mac15,14
        core_levels:
          description: The performance levels of the CPU, fastest first.
          returned: always
          type: list
          elements: dict
          contains:
            name:
              description: The level's name, such as V(Super), V(Performance), V(Efficiency) or V(Standard); V(null) before macOS 13.
              returned: always
              type: str
              sample: Performance
            cores:
              description: Number of physical cores.
              returned: always
              type: int
              sample: 24
          sample:
            - name: Performance
              cores: 24
            - name: Efficiency
              cores: 8
        performance_cores:
          description:
            - Number of cores in all levels called Super or Performance. An M5 Max with 6 Super and 12 Performance cores has 18.
            - V(null) where a level has another name, such as Standard on a virtual Mac.
          returned: always
          type: int
          sample: 24
        efficiency_cores:
          description: Number of cores in all levels called Efficiency; V(0) where no level is, V(null) where a level has an unknown name.
          returned: always
          type: int
          sample: 8
        gpu_cores:
          description: Number of GPU cores.
          returned: always
          type: int
          sample: 80
        memory_bytes:
          description: Unified memory in bytes.
          returned: always
          type: int
          sample: 549755813888
        working_set_bytes:
          description: Metal's recommendedMaxWorkingSetSize in bytes, what the GPU may use without being slowed down.
          returned: always
          type: int
          sample: 498216206336
        working_set_source:
          description:
            - Where RV(ansible_facts.apple_silicon.working_set_bytes) comes from.
            - V(wired_limit) is exactly the wired limit that is set. V(measured) is what llama-box logged since the last boot. V(estimated)
              is derived from the memory size and the macOS version.
          returned: always
          type: str
          sample: wired_limit
        wired_limit_mib:
          description: C(iogpu.wired_limit_mb) in MiB; V(0) where macOS decides. From C(debug.iogpu.wired_limit) on macOS 13.
          returned: always
          type: int
          sample: 475136
        metal:
          description: The Metal support as C(system_profiler) names it.
          returned: always
          type: str
          sample: metal4
        macos_version:
          description: Version of macOS.
          returned: always
          type: str
          sample: "15.5"
        is_virtual:
          description: Whether the node is a virtual machine.
          returned: always
          type: bool
          sample: false
        is_translated:
          description: Whether this module ran under Rosetta. If so, install an arm64 Python, and see whether GPUStack is translated too.
          returned: always
          type: bool
          sample: false
        warnings:
          description: Why values are V(null), and what of the node's answers was not used.
          returned: always
          type: list
          elements: str
          sample: []
"""

from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.probe import (
    DEFAULT_LOG_PATHS,
    DEFAULT_TIMEOUT_SECONDS,
    read_hardware,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError


def main() -> None:
    module = Module(
        argument_spec={
            "log_paths": {"type": "list", "elements": "path", "default": list(DEFAULT_LOG_PATHS)},
            "gather_timeout_seconds": {"type": "float", "default": DEFAULT_TIMEOUT_SECONDS},
        },
        supports_check_mode=True,
    )
    try:
        hardware = read_hardware(Host(), module.params["log_paths"], module.params["gather_timeout_seconds"])
    except GpustackError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, ansible_facts={"apple_silicon": hardware.as_dict()})


if __name__ == "__main__":
    main()
