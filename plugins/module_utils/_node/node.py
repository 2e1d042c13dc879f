# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A whole node: all its resources as one transaction, and a receipt of the result."""

from __future__ import annotations

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
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_request import parse_request
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit import read_request

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Resource

# What a node is wanted to be; the other options only say how to get there.
_WANTED = ("llama_box", "wired_limit", "environment", "service_name")
# Where archives were pushed to is another place at each run.
_HOW = ("archives",)


def bring_to_state(host: Host, params: t.Mapping[str, t.Any], check_mode: bool) -> tuple[dict[str, t.Any], list[str]]:
    """Carry out the module `node` on a host; returns its result and its warnings. Raises GpustackError."""
    watched = WatchedHost(host)
    installation, resources, doubts = _resources(t.cast("Host", watched), params)
    options = Options(
        restart=params["restart"],
        settle_seconds=params["settle_seconds"],
        health_timeout_seconds=params["health_timeout_seconds"],
        lock_wait_seconds=params["lock_wait_seconds"],
    )
    outcome = carry_out(t.cast("Host", watched), installation, resources, options, check_mode)
    result = outcome.as_result(nested=True)
    if outcome.applied and result["restart_pending"]:
        remove_receipt(host)
    elif outcome.applied and result["changed"]:
        _verify(host, params)
    elif outcome.applied:
        _keep_receipt(host, params, installation, watched)
    return result, list(dict.fromkeys([*doubts, *installation.warnings, *outcome.warnings()]))


def _resources(host: Host, params: t.Mapping[str, t.Any]) -> tuple[Installation, list[Resource], tuple[str, ...]]:
    """The resources that are wanted, in the order in which they are changed, and doubts about them."""
    environment, llama_box, wired_limit = params["environment"], params["llama_box"], params["wired_limit"]
    if environment is None and llama_box is None and wired_limit is None:
        raise BadInputError("nothing is wanted of this node: say one or more of llama_box, wired_limit and environment")
    installation = governed_installation(host, params["service_name"], environment["path"] if environment else ENVIRONMENT_FILE)
    resources: list[Resource] = []
    doubts: tuple[str, ...] = ()
    if llama_box is not None:
        resources.append(LlamaBox(host, installation, parse_request(llama_box), state_folder(host)))
    if wired_limit is not None:
        # Logs of llama-box tell the working set of now, which does not matter to that of then.
        resources.append(WiredLimit(host, read_hardware(host, log_paths=()), read_request(wired_limit)))
    if environment is not None:
        resource, doubts = environment_resource(host, installation, environment)
        resources.append(resource)
    return installation, resources, doubts


def _verify(host: Host, params: t.Mapping[str, t.Any]) -> None:
    """Look at a node that was changed once more, since what was seen before is not what is there now."""
    watched = WatchedHost(host)
    installation, resources, _doubts = _resources(t.cast("Host", watched), params)
    planned = [resource.plan() for resource in resources]
    if any(one.steps or one.restart_reasons for one in planned):
        remove_receipt(host)
    else:
        _keep_receipt(host, params, installation, watched)


def _keep_receipt(host: Host, params: t.Mapping[str, t.Any], installation: Installation, watched: WatchedHost) -> None:
    service = service_manager(host, installation)
    wanted = {name: _without(params[name]) for name in _WANTED}
    write_receipt(host, wanted, watched.looked_at, service.state() if service is not None else None)


def _without(option: t.Any) -> t.Any:
    return {name: value for name, value in option.items() if name not in _HOW} if isinstance(option, dict) else option
