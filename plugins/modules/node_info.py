#!/usr/bin/python
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Show how GPUStack is installed on a node, its llama-box programs, and where Metal residency is disabled
version_added: 1.0.0
description:
  - Returns which kind of GPUStack installation a node has and its version, the llama-box programs in the places where GPUStack looks for
    them, every place where the variable C(GGML_METAL_NO_RESIDENCY) can hide, and the state of the service.
  - GPUStack is neither run nor imported. A llama-box is run only to ask for its version, which O(run_binaries) can forbid.
  - Works without privileges. What cannot be seen then is V(unknown) or V(null), with the reason; never V(absent).
  - A broken installation is no failure. It is described, and RV(node.warnings) says what is wrong and what to do.
  - No value of a variable and no argument of a command is returned, as either can be a secret.
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
  service_name:
    description:
      - The launchd label or the name of the systemd unit of GPUStack.
      - Where it is not given, C(ai.gpustack) on macOS and C(gpustack) elsewhere.
    type: str
  environment_file:
    description:
      - Absolute path of the environment file of GPUStack.
      - On Linux the files that the unit's C(EnvironmentFile=) names are looked at as well.
    type: path
    default: /etc/default/gpustack
  checksums:
    description:
      - Whether to compute the SHA-256 of every llama-box program. They have some tens or hundreds of MiB each.
    type: bool
    default: true
  run_binaries:
    description:
      - Whether to run every llama-box program with C(--version) to learn its version, with the privileges of this module.
    type: bool
    default: true
seealso:
  - module: metalfleet.gpustack.apple_silicon_facts
  - module: metalfleet.gpustack.environment
"""

EXAMPLES = r"""
- name: Look at a node
  metalfleet.gpustack.node_info:
  become: true
  register: result

- name: Fail where Metal residency is disabled, or may be
  ansible.builtin.assert:
    that: result.node.residency.state == 'absent'
    fail_msg: "{{ result.node.residency.places | rejectattr('state', 'eq', 'absent') }}"

- name: Look without running anything of GPUStack and without reading large files
  metalfleet.gpustack.node_info:
    run_binaries: false
    checksums: false

- name: Look at a second GPUStack
  metalfleet.gpustack.node_info:
    service_name: gpustack-b
    environment_file: /etc/default/gpustack-b
"""

RETURN = r"""
node:
  description: What was found.
  returned: always
  type: dict
  contains:
    installation:
      description: How GPUStack is installed. Values that do not apply or are not known are V(null).
      returned: always
      type: dict
      contains:
        kind:
          description: >-
            V(script) for GPUStack's install.sh on macOS, V(desktop) for its macOS package, V(systemd) for a systemd unit, V(none) where no
            installation was found.
          returned: always
          type: str
          sample: script
        service_manager:
          description: V(launchd) or V(systemd); V(null) on a host without either.
          returned: always
          type: str
          sample: launchd
        label_or_unit:
          description: The launchd label or the full name of the systemd unit, found or looked for.
          returned: always
          type: str
          sample: ai.gpustack
        plist_path:
          description: Path of the property list as launchd knows it.
          returned: always
          type: str
          sample: /Library/LaunchDaemons/ai.gpustack.plist
        plist_file:
          description: The same path with symbolic links followed.
          returned: always
          type: str
          sample: /Library/LaunchDaemons/ai.gpustack.plist
        unit_name:
          description: The full name of the systemd unit.
          returned: always
          type: str
          sample: gpustack.service
        unit_path:
          description: Path of the unit file.
          returned: always
          type: str
          sample: /etc/systemd/system/gpustack.service
        drop_in_paths:
          description: Paths of the unit's drop-ins, in the order in which they apply.
          returned: always
          type: list
          elements: str
          sample: []
        environment_files:
          description: The files that the unit's C(EnvironmentFile=) lines name. They may be patterns.
          returned: always
          type: list
          elements: str
          sample: [/etc/default/gpustack]
        program:
          description: Path of the program that the service starts.
          returned: always
          type: str
          sample: /Users/admin/.local/bin/gpustack
        venv:
          description: The virtual environment that GPUStack is installed in; V(null) where it is in none.
          returned: always
          type: str
          sample: /Users/admin/.local/pipx/venvs/gpustack
        site_packages:
          description: The folder in which the Python package C(gpustack) lies.
          returned: always
          type: str
          sample: /Users/admin/.local/pipx/venvs/gpustack/lib/python3.11/site-packages
        third_party_bin:
          description: The folder of the tools that GPUStack downloads for itself, the builtin llama-box among them.
          returned: always
          type: str
          sample: /Users/admin/.local/pipx/venvs/gpustack/lib/python3.11/site-packages/gpustack/third_party/bin
        gpustack_version:
          description: GPUStack's version, as its package's metadata has it.
          returned: always
          type: str
          sample: 0.6.2
        data_dir:
          description: GPUStack's data folder.
          returned: always
          type: str
          sample: /var/lib/gpustack
        bin_dir:
          description: The folder of llama-box programs that models ask for by their C(backend_version).
          returned: always
          type: str
          sample: /var/lib/gpustack/bin
        config_file:
          description: The YAML file that GPUStack reads; V(null) where it reads none.
          returned: always
          type: str
          sample: /Library/Application Support/GPUStack/config.yaml
        port:
          description: The server's port where one is set; V(null) where GPUStack's default holds.
          returned: always
          type: int
          sample: 8080
        worker_port:
          description: The worker's port where one is set; V(null) where GPUStack's default (10150) holds.
          returned: always
          type: int
          sample: 10151
        environment_file:
          description: The option O(environment_file).
          returned: always
          type: str
          sample: /etc/default/gpustack
        static_llama_box:
          description: >-
            Whether C(GPUSTACK_DISABLE_DYNAMIC_LINK_LLAMA_BOX) is set, which moves the places of llama-box in GPUStack 0.7.
          returned: always
          type: bool
          sample: false
        warnings:
          description: What is wrong with the installation. Also part of RV(node.warnings).
          returned: always
          type: list
          elements: str
          sample: []
    gpustack_version:
      description: The same as RV(node.installation.gpustack_version).
      returned: always
      type: str
      sample: 0.6.2
    supported:
      description: Whether this collection is made for that version; V(null) where that is not known, or nothing is installed.
      returned: always
      type: bool
      sample: true
    reason:
      description: Why RV(node.supported) is not V(true), or a remark; empty otherwise.
      returned: always
      type: str
      sample: ""
    llama_box:
      description: The llama-box programs, the builtin one first.
      returned: always
      type: list
      elements: dict
      contains:
        slot:
          description: >-
            V(builtin) for the one that runs models without a C(backend_version) and all RPC servers, V(pinned) for one that models ask for.
          returned: always
          type: str
          sample: builtin
        path:
          description: Path of the program.
          returned: always
          type: str
          sample: /var/lib/gpustack/bin/llama-box_v0.0.154
        pin:
          description: The C(backend_version) with which a model asks for it; V(null) for the builtin one.
          returned: always
          type: str
          sample: v0.0.154
        version:
          description: What the program itself says; V(null) where it was not asked or does not say.
          returned: always
          type: str
          sample: v0.0.154
        recorded_version:
          description: What GPUStack's own C(versions.json) says of the builtin one. After a replacement it differs, on purpose.
          returned: always
          type: str
          sample: v0.0.154
        sha256:
          description: SHA-256 of the program in hexadecimal; V(null) where it was not computed.
          returned: always
          type: str
          sample: 8a5f3ff9d0a3b1b0a1e0c4c8f8c2b2f6d64a0d2c0fd30a6f1cbb0d1e1b1f4a77
        size_bytes:
          description: Size of the program in bytes.
          returned: always
          type: int
          sample: 41943040
        reason:
          description: Why values are V(null); empty where none is.
          returned: always
          type: str
          sample: ""
    residency:
      description: Where C(GGML_METAL_NO_RESIDENCY) was found. Its mere presence disables Metal residency sets, whatever its value.
      returned: always
      type: dict
      contains:
        state:
          description: >-
            V(present) where any place has it, V(unknown) where none is seen to have it and at least one could not be looked at, else
            V(absent).
          returned: always
          type: str
          sample: absent
        places:
          description:
            - The places that were looked at. The C(env) of models is not among them; it is the server's, not the node's.
            - GPUStack's helper processes overwrite their own environment. They are listed only where the variable was seen in time.
          returned: always
          type: list
          elements: dict
          contains:
            kind:
              description: >-
                V(environment_file), V(plist), V(loaded_job), V(process), V(launchd_environment), V(unit_file), V(manager_environment) or
                V(config_file).
              returned: always
              type: str
              sample: environment_file
            where:
              description: The path, the job, the process or the command to look at.
              returned: always
              type: str
              sample: /etc/default/gpustack
            state:
              description: V(present), V(absent) or V(unknown).
              returned: always
              type: str
              sample: absent
            lines:
              description: The lines of a text file, counted from 1, on which the variable stands.
              returned: always
              type: list
              elements: int
              sample: []
            reason:
              description: Why the state is V(unknown), or a remark.
              returned: always
              type: str
              sample: ""
    service:
      description: The service, as its manager sees it.
      returned: always
      type: dict
      contains:
        manager:
          description: >-
            V(launchd) or V(systemd); V(null) where GPUStack is not installed as a service. A service that still runs although its property
            list or unit file is gone is shown as well, with a warning.
          returned: always
          type: str
          sample: launchd
        known:
          description: Whether the manager knows the service (launchd has it loaded, systemd has a unit file); V(null) where it did not say.
          returned: always
          type: bool
          sample: true
        running:
          description: Whether its main process runs; V(null) where that is not known.
          returned: always
          type: bool
          sample: true
        enabled:
          description: Whether it starts at boot; V(null) where that is not known.
          returned: always
          type: bool
          sample: true
        pid:
          description: Process id of its main process.
          returned: always
          type: int
          sample: 412
        started:
          description: An opaque mark of the main process's start, good only for comparing.
          returned: always
          type: str
          sample: Thu Nov 19 08:01:12 2026
        detail:
          description: The manager's own words, or why it could not be asked.
          returned: always
          type: str
          sample: state = running
    warnings:
      description: All that is wrong or could not be looked at, each with what to do about it.
      returned: always
      type: list
      elements: str
      sample: []
"""

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import NONE, find_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_boxes import list_llama_boxes
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.places import residency_places, residency_state
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceState
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service_manager import (
    leftover_warning,
    observed_service,
    service_manager,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.versions import Support, support

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "service_name": {"type": "str"},
    "environment_file": {"type": "path", "default": "/etc/default/gpustack"},
    "checksums": {"type": "bool", "default": True},
    "run_binaries": {"type": "bool", "default": True},
}


def main() -> None:
    module = Module(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        node = describe(Host(), module.params)
    except GpustackError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, node=node)


def describe(host: Host, params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The module's return value `node` for a host."""
    installation = find_installation(host, params["service_name"], params["environment_file"])
    version = installation.gpustack_version
    answer = Support(None, "no GPUStack was found on this host") if installation.kind == NONE else support(version)
    boxes = list_llama_boxes(host, installation, run_binaries=params["run_binaries"], checksums=params["checksums"])
    service = observed_service(host, installation)
    state = service.state() if service is not None else None
    places = residency_places(host, installation, service, state)
    leftover = leftover_warning(installation, state) if state is not None else ""
    if state is not None and service_manager(host, installation) is None and state.known is False and not state.running:
        # Asked all the same, and there is no such service.
        service = state = None
    return {
        "installation": installation.as_dict(),
        "gpustack_version": version,
        "supported": answer.supported,
        "reason": answer.reason,
        "llama_box": [box.as_dict() for box in boxes.programs],
        "residency": {"state": residency_state(places), "places": [place.as_dict() for place in places]},
        "service": _service(service.name if service is not None else None, state),
        "warnings": list(dict.fromkeys([*installation.warnings, *boxes.warnings, *([leftover] if leftover else [])])),
    }


def _service(manager: str | None, state: ServiceState | None) -> dict[str, t.Any]:
    seen = state if state is not None else ServiceState(False, False, detail="GPUStack is not installed as a service")
    return {
        "manager": manager,
        "known": seen.known,
        "running": seen.running,
        "enabled": seen.enabled,
        "pid": seen.pid,
        "started": seen.started,
        "detail": seen.detail,
    }


if __name__ == "__main__":
    main()
