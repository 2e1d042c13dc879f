# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Makes the resource `environment` from the options of a module."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.environment import Environment, Sources
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.probe import read_is_virtual
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_request import (
    desired_absent,
    desired_present,
    parse_mode,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import ResidencyDecision, decide

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation


def environment_resource(host: Host, installation: Installation, options: t.Mapping[str, t.Any]) -> tuple[Environment, tuple[str, ...]]:
    """The resource, and doubts about what was decided. options: those of environment_request.OPTIONS. Raises BadInputError."""
    if not options["path"].startswith("/"):
        raise BadInputError(f"path: {options['path']} is relative; write it from / on")
    doubts = []
    if options["state"] == "absent":
        desired = desired_absent()
        reason = "state is absent: only what is ours is given up"
    else:
        residency = _residency(host, options)
        doubts += [residency.reason] if residency.uncertain else []
        mode = parse_mode(options["mode"])
        keeps = options["unmanaged"] == "keep"
        desired = desired_present(options["content"], options["variables"], options["secrets"], residency, keeps, mode)
        reason = residency.reason
    sources = Sources.of(host, installation, options["path"], options["follow"])
    if sources.service is None:
        doubts.append(f"no service {installation.label_or_unit} was found, so only {options['path']} was looked at")
    return Environment(host, sources, desired, reason), tuple(doubts)


def _residency(host: Host, options: t.Mapping[str, t.Any]) -> ResidencyDecision:
    # Virtual only matters to `auto`, and asking costs a process.
    is_virtual = read_is_virtual(host) if options["residency_variable"] == "auto" else None
    return decide(options["residency_variable"], is_virtual)
