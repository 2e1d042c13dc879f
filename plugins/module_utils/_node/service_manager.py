# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Which service manager runs GPUStack on this node."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.launchd import Launchd
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.systemd import Systemd

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceManager


def service_manager(host: Host, installation: Installation) -> ServiceManager | None:
    """The manager of the installation's service; None where GPUStack is not installed as one."""
    if installation.plist_path is not None and installation.label_or_unit is not None:
        return Launchd(host, installation.label_or_unit, installation.plist_path)
    if installation.unit_name is not None and installation.unit_path is not None:
        return Systemd(host, installation.unit_name)
    return None
