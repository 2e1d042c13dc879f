# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A whole node: all its resources as one transaction, and a receipt of the result."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.environment_setup import environment_resource
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.governed import governed_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import ENVIRONMENT_FILE
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_box import LlamaBox
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import state_folder
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.probe import read_hardware
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import remove_receipt, write_receipt
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service_manager import service_manager
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.transaction import Options, carry_out
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.watched_host import WatchedHost
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.wired_limit import WiredLimit
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, GpustackError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_request import parse_request
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit import read_request

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Resource
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceState
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import Hardware

_RESOURCES = ("llama_box", "wired_limit", "environment")
# Where archives were pushed to is another place at each run.
_HOW = ("archives",)


@dataclasses.dataclass(frozen=True)
class _Look:
    """A node that is being looked at. watched: what everything looks through. state: of the service, from before anything was seen.

    doubts: about what is wanted.
    """

    watched: WatchedHost
    installation: Installation
    resources: tuple[Resource, ...]
    state: ServiceState | None
    doubts: tuple[str, ...]

    def can_vouch(self) -> bool:
        """Whether it was seen what the service is."""
        return self.state is None or self.state.running is not None


def bring_to_state(host: Host, params: t.Mapping[str, t.Any], check_mode: bool) -> tuple[dict[str, t.Any], list[str]]:
    """Carry out the module `node` on a host; returns its result and its warnings. Raises GpustackError."""
    if all(params[name] is None for name in _RESOURCES):
        raise BadInputError("nothing is wanted of this node: say one or more of llama_box, wired_limit and environment")
    # Logs of llama-box tell the working set of now, which does not matter to that of then.
    hardware = read_hardware(host, log_paths=()) if params["wired_limit"] is not None else None
    look = _look(host, params, hardware)
    options = Options(
        restart=params["restart"],
        settle_seconds=params["settle_seconds"],
        health_timeout_seconds=params["health_timeout_seconds"],
        lock_wait_seconds=params["lock_wait_seconds"],
    )
    outcome = carry_out(t.cast("Host", look.watched), look.installation, look.resources, options, check_mode)
    result = outcome.as_result(nested=True)
    warnings = [*look.doubts, *look.installation.warnings, *outcome.warnings()]
    if outcome.applied and (result["restart_pending"] or not look.can_vouch()):
        remove_receipt(host)
    elif outcome.applied:
        try:
            # What was seen before a change is not what is there now.
            now = _look(host, params, hardware) if result["changed"] else look
            if now is look or (now.can_vouch() and _is_as_wanted(now)):
                write_receipt(host, wanted_of(params), now.watched.looked_at, now.watched.since, now.state)
        except GpustackError as exc:
            warnings.append(f"the next run looks at this node as if it were new, as its receipt cannot be kept: {exc}")
    return result, list(dict.fromkeys(warnings))


def wanted_of(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What a receipt vouches for, of the module's options."""
    return {name: _without(params[name]) for name in (*_RESOURCES, "service_name")}


def _look(host: Host, params: t.Mapping[str, t.Any], hardware: Hardware | None) -> _Look:
    """The resources that are wanted, in the order in which they are changed. hardware: where the wired limit is wanted."""
    environment, llama_box, wired_limit = params["environment"], params["llama_box"], params["wired_limit"]
    watched = WatchedHost(host)
    seen = t.cast("Host", watched)
    installation = governed_installation(seen, params["service_name"], environment["path"] if environment else ENVIRONMENT_FILE)
    service = service_manager(seen, installation)
    state = service.state() if service is not None else None
    resources: list[Resource] = []
    doubts: tuple[str, ...] = ()
    if llama_box is not None:
        resources.append(LlamaBox(seen, installation, parse_request(llama_box), state_folder(host)))
    if hardware is not None:
        resources.append(WiredLimit(seen, hardware, read_request(wired_limit)))
    if environment is not None:
        resource, doubts = environment_resource(seen, installation, environment)
        resources.append(resource)
    return _Look(watched, installation, tuple(resources), state, doubts)


def _is_as_wanted(look: _Look) -> bool:
    planned = [resource.plan() for resource in look.resources]
    return not any(one.steps or one.restart_reasons for one in planned)


def _without(option: t.Any) -> t.Any:
    return {name: value for name, value in option.items() if name not in _HOW} if isinstance(option, dict) else option
