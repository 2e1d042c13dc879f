# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A whole node: all its resources as one transaction, and a receipt of the result."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.environment_setup import environment_resource
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.governed import governed_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import ENVIRONMENT_FILE
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_box import LlamaBox
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import state_folder
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.places import residency_places
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.probe import SYSCTL, read_hardware
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import remove_receipt, write_receipt
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service_manager import observed_service, service_manager
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.transaction import Options, carry_out
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.watched_host import WatchedHost
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.wired_limit import WiredLimit
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, GpustackError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import DARWIN
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_request import parse_request
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.receipt_questions import BOOT_TIME, RIPE_SECONDS
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import PRESENT, RESIDENCY_VARIABLE, left_over
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit import read_request

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.outcome import Outcome
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Resource
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceState
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import Hardware
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import Place

_RESOURCES = ("llama_box", "wired_limit", "environment")


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

    def carry_out(self, options: Options, check_mode: bool) -> Outcome:
        """The transaction on this node."""
        return carry_out(t.cast("Host", self.watched), self.installation, self.resources, options, check_mode)

    def warnings(self, outcome: Outcome) -> list[str]:
        """Each once."""
        return list(dict.fromkeys([*self.doubts, *self.installation.warnings, *outcome.warnings()]))


def bring_to_state(host: Host, params: t.Mapping[str, t.Any], check_mode: bool) -> tuple[dict[str, t.Any], list[str]]:
    """Carry out the module `node` on a host; returns its result and its warnings. Raises GpustackError."""
    if all(params[name] is None for name in _RESOURCES):
        raise BadInputError("nothing is wanted of this node: say one or more of llama_box, wired_limit and environment")
    hardware = read_hardware(host)
    look = _look(host, params, hardware)
    options = Options(
        restart=params["restart"],
        settle_seconds=params["settle_seconds"],
        health_timeout_seconds=params["health_timeout_seconds"],
        lock_wait_seconds=params["lock_wait_seconds"],
    )
    outcome = look.carry_out(options, check_mode)
    warnings = look.warnings(outcome)
    if outcome.applied and outcome.changed and params["wired_limit"] is not None:
        # The working set follows the limit.
        hardware = read_hardware(host)
    result = _result(outcome, hardware)
    # In check mode, too: a node on which nothing would be changed is as one that was.
    is_done = not result["restart_pending"] and (outcome.applied or not outcome.changed)
    # None where nobody has looked yet.
    places: list[Place] | None = None
    if outcome.applied and (result["restart_pending"] or not look.can_vouch()):
        remove_receipt(host)
    elif outcome.applied and params["receipt_for"] is not None:
        try:
            places = _keep_receipt(host, params, look, outcome, hardware, options)
        except GpustackError as exc:
            warnings.append(f"the next run looks at this node as if it were new, as its receipt cannot be kept: {exc}")
    if is_done and places is None:
        try:
            places = _places(host, params, result)
        except GpustackError as exc:
            return _failing(result, f"{RESIDENCY_VARIABLE} could not be looked for afterwards: {exc}"), warnings
    failure, more_warnings = left_over(places or [], params["models_follow"])
    return _failing(result, failure) if failure else result, [*warnings, *more_warnings]


def _failing(result: t.Mapping[str, t.Any], failure: str) -> dict[str, t.Any]:
    """A result that is a failure although nothing is put back. Ansible shows neither changes nor diffs of one, so it says what stays."""
    stays = ""
    if result["changed"]:
        where = ", ".join(dict.fromkeys(change["where"] for change in result["changes"])) or "nothing on disk"
        stays = f". What was done stays: {where}; {'one restart' if result['restarted'] else 'no restart'}"
    return {**result, "failed": True, "msg": failure + stays}


def _places(host: Host, params: t.Mapping[str, t.Any], result: t.Mapping[str, t.Any]) -> list[Place]:
    """Where the residency variable can hide, as it is now; none where it may stay."""
    if params["environment"] is None or not result["environment"]["residency"]["remove"]:
        return []
    installation = governed_installation(host, params["service_name"], params["environment"]["path"])
    # As node_info does: a job that is loaded outlives its property list, and a unit that runs its file.
    service = observed_service(host, installation)
    return residency_places(host, installation, service, service.state() if service is not None else None)


def _keep_receipt(
    host: Host, params: t.Mapping[str, t.Any], look: _Look, outcome: Outcome, hardware: Hardware, options: Options
) -> list[Place] | None:
    """Write down what was seen; returns where the residency variable can hide. None where nothing could be written.

    What was seen before a change is not what is there now, so then everything is looked at once more.
    """
    if outcome.changed or outcome.has_steps:
        host.pause(RIPE_SECONDS)
        look = _look(host, params, hardware)
        outcome = look.carry_out(options, check_mode=True)
        if outcome.changed or outcome.has_steps or outcome.decision.reasons or not look.can_vouch():
            return None
    result = {**_result(outcome, hardware), "applied": True}
    places = _places(host, params, result)
    evidence, state = look.watched.evidence, look.state
    # Such a node fails, although nothing is left that the module could do. It has to fail the next time, too.
    evidence.gaps += [f"{RESIDENCY_VARIABLE} is present in {place.where}" for place in places if place.state == PRESENT]
    result["warnings"] = [*look.warnings(outcome), *left_over(places, params["models_follow"])[1]]
    cleared = (RESIDENCY_VARIABLE, state.pid) if places and state is not None and state.running and state.pid is not None else None
    write_receipt(host, params["receipt_for"], evidence, result, cleared)
    return places


def _result(outcome: Outcome, hardware: Hardware) -> dict[str, t.Any]:
    # What becomes of the receipt is for the action plugin to say.
    receipt = {"used": False, "age_seconds": None, "reason": ""}
    return {**outcome.as_result(nested=True), "receipt": receipt, "ansible_facts": {"apple_silicon": hardware.as_dict()}}


def _look(host: Host, params: t.Mapping[str, t.Any], hardware: Hardware) -> _Look:
    """The resources that are wanted, in the order in which they are changed."""
    environment, llama_box, wired_limit = params["environment"], params["llama_box"], params["wired_limit"]
    watched = WatchedHost(host)
    seen = t.cast("Host", watched)
    installation = governed_installation(seen, params["service_name"], environment["path"] if environment else ENVIRONMENT_FILE)
    service = service_manager(seen, installation)
    state = service.state() if service is not None else None
    _note_boot(seen, state)
    resources: list[Resource] = []
    doubts: tuple[str, ...] = ()
    if llama_box is not None:
        resources.append(LlamaBox(seen, installation, parse_request(llama_box), state_folder(host)))
    if wired_limit is not None:
        resources.append(WiredLimit(seen, hardware, read_request(wired_limit)))
    if environment is not None:
        resource, doubts = environment_resource(seen, installation, environment)
        resources.append(resource)
    return _Look(watched, installation, tuple(resources), state, doubts)


def _note_boot(seen: Host, state: ServiceState | None) -> None:
    """Ask for what is another one after each boot, so that what only a boot changes (the hardware, macOS) need not be asked again."""
    with contextlib.suppress(HostError):
        if seen.system() != DARWIN:
            # The kernel has no memory for who asks it for megabytes.
            seen.read("/proc/sys/kernel/random/boot_id", 100)
        elif state is None or state.pid is None:
            # A process that runs tells it, too, and a Mac is asked for its start time anyway.
            seen.run([SYSCTL, "-n", BOOT_TIME])
