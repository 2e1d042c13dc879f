# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The installation of a node, if it is one that this collection governs."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import (
    ENVIRONMENT_FILE,
    NONE,
    Installation,
    find_installation,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.versions import support

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host


def governed_installation(host: Host, service_name: str | None, environment_file: str = ENVIRONMENT_FILE) -> Installation:
    """What is installed on the host. Raises BadInputError for a GPUStack of another age and for a named service that is not there."""
    installation = find_installation(host, service_name, environment_file)
    if service_name is not None and installation.kind == NONE:
        raise BadInputError(
            f"service_name: there is no service {installation.label_or_unit} on this host; correct the name, or leave it out"
        )
    answer = support(installation.gpustack_version)
    if answer.supported is False:
        raise BadInputError(answer.reason)
    return installation
