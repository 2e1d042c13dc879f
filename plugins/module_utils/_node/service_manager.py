# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Which service manager runs GPUStack on this node, and what it still runs of one that was taken away."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import usual_plist_path
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.launchd import Launchd
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.systemd import Systemd

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceManager, ServiceState


def service_manager(host: Host, installation: Installation) -> ServiceManager | None:
    """The manager of the installation's service; None where GPUStack is not installed as one."""
    if installation.plist_path is not None and installation.label_or_unit is not None:
        return Launchd(host, installation.label_or_unit, installation.plist_path)
    if installation.unit_name is not None and installation.unit_path is not None:
        return Systemd(host, installation.unit_name)
    return None


def observed_service(host: Host, installation: Installation) -> ServiceManager | None:
    """The manager to look through; None where the host has none.

    A job that is loaded outlives its property list, and a unit that runs its file, so that something may be seen where
    service_manager() has nothing to restart.
    """
    service = service_manager(host, installation)
    if service is not None or installation.label_or_unit is None:
        return service
    if installation.service_manager == "launchd":
        return Launchd(host, installation.label_or_unit, usual_plist_path(installation.label_or_unit))
    return Systemd(host, installation.label_or_unit) if installation.service_manager == "systemd" else None


def leftover_warning(installation: Installation, state: ServiceState) -> str:
    """What to do about a service that outlives its files; empty where there is none."""
    name = installation.label_or_unit
    if installation.service_manager == "launchd" and installation.plist_path is None and state.known:
        return (
            f"{name} is loaded although {usual_plist_path(str(name))} is gone, so it keeps its environment until the next boot: "
            f"run `launchctl bootout system/{name}`, or install GPUStack again"
        )
    if installation.service_manager == "systemd" and installation.unit_path is None and state.running:
        return (
            f"{name} runs although its unit file is gone, so it keeps its environment until it is stopped: "
            f"run `systemctl stop {name}`, or install GPUStack again"
        )
    return ""
