# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Whether the service is to be restarted, and why. A restart that could not be done, or would be in vain, is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.health import why_busy
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, ServiceError

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service_view import ServiceView

NOW = "now"
WHEN_IDLE = "when_idle"
NEVER = "never"


@dataclasses.dataclass(frozen=True)
class Decision:
    """reasons: why the service has to be restarted. now: whether this run does it. why_not: why it does not, where it would."""

    reasons: tuple[str, ...] = ()
    now: bool = False
    why_not: str = ""


def decide(host: Host, view: ServiceView | None, planned: t.Sequence[Planned], restart: str) -> Decision:
    """Decide about the restart; the reasons of an earlier run come first, and each only once.

    Nothing has been changed yet. Raises ServiceError for a service that cannot be asked or restarted, and BadInputError or
    ServiceError for a restart that would only stop the models in vain.
    """
    if view is None:
        return Decision()
    if (view.state.known is None or view.state.running is None) and restart != NEVER:
        raise ServiceError(
            f"the service cannot be asked ({view.state.detail}), so nothing was changed;"
            " mend that, or say restart: never and restart it yourself"
        )
    earlier = view.pending.reasons if view.pending is not None else ()
    reasons = tuple(dict.fromkeys([*earlier, *(reason for one in planned for reason in one.restart_reasons)]))
    if not reasons or not (view.holds_environment() or view.was_stopped_by_us()):
        # What is not running takes everything new when somebody starts it.
        return Decision()
    blocked = [reason for one in planned for reason in one.blocked]
    if blocked:
        raise BadInputError(f"nothing was changed, as a restart would not help: {'; '.join(blocked)}")
    if view.record is not None and view.record.futile and view.record.futile == fingerprint(planned):
        raise ServiceError(futile([reason for one in planned for reason in one.restart_reasons]))
    if restart == NEVER:
        return Decision(reasons)
    view.service.check_restartable()
    busy = why_busy(host, view.state) if restart == WHEN_IDLE else ""
    return Decision(reasons, now=not busy, why_not=busy)


def fingerprint(planned: t.Iterable[Planned]) -> str:
    """A digest of the reasons for a restart and of everything that decides what it leads to."""
    # Not of resources that need no restart: which of them a run is about does not matter.
    content = [(one.fingerprint, one.restart_reasons) for one in planned if one.restart_reasons]
    return hashlib.sha256(repr(content).encode()).hexdigest()


def futile(reasons: t.Sequence[str]) -> str:
    """What to say of a restart that did not help."""
    return (
        f"the service was restarted, and {' and '.join(reasons)}: something that this module does not govern decides it (UnsetEnvironment=,"
        " a wrapper script, a package's unit; node_info lists the places)."
        " It is not restarted for that again until one of its files changes"
    )
