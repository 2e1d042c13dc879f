# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A transaction that has to be undone, in this run or after one that was cut off while it did so."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import journal as journals
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import PendingRestart, clear_pending, write_pending
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError, ServiceError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.health import losses

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.journal import Journal
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceManager
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.health import Health

# How well a node is after a restart, given what it was before and how the restart failed.
HealthAfter = t.Callable[["ServiceManager", "Health", t.Optional[ServiceError]], "Health"]


def undo_transaction(host: Host, service: ServiceManager | None, journal: Journal, reason: str, health_after: HealthAfter) -> str:
    """Put everything back, and restart the service if it was restarted for it; returns what came of that, as clauses.

    What cannot be done is left to the next run, with the journal. reason: why; "" for a journal that says so itself.
    """
    try:
        journal = journals.undo_all(host, journal, reason)
    except HostError as exc:
        return (
            f"putting back what was changed failed, and the next run tries again: {exc}"
            f" (to give that up and keep what is there now, remove {journals.journal_path(host)}){_bring_up(service, journal)}"
        )
    clauses = ["everything that was changed was put back"]
    try:
        if service is not None and journal.restarting:
            clauses.append(_restart(host, service, journal, health_after))
        elif service is not None:
            _put_back_pending(host, journal)
            clauses += _reload(service)
        journals.forget(host)
    except HostError as exc:
        clauses.append(f"but {exc}, and the next run tries that again")
    return ", ".join(clauses)


def _restart(host: Host, service: ServiceManager, journal: Journal, health_after: HealthAfter) -> str:
    was_idle = journal.health.running is False
    try:
        service.restart(start=not was_idle)
    except ServiceError as exc:
        state, reasons = service.state(), ("a restart that failed is not finished",)
        write_pending(host, PendingRestart(state.pid, state.started, reasons, stopping=True, replaced=True, was_idle=was_idle))
        return f"but the service did not come back ({exc})"
    # Who dies while the service settles is not followed by a second restart.
    journals.note(host, journal, restarting=False, pending=None)
    clear_pending(host)
    lost = losses(journal.health, health_after(service, journal.health, None))
    return f"but that did not help: {'; '.join(lost)}" if lost else "and the node works as before"


def _bring_up(service: ServiceManager | None, journal: Journal) -> str:
    """Have a service run that is down because of us, with whatever files there are; returns what came of it."""
    if service is None or not (journal.restarting and journal.health.running) or service.state().running is not False:
        return ""
    try:
        service.restart(start=True)
    except ServiceError as exc:
        return f"; and the service does not run ({exc})"
    return "; the service was started with what is there now"


def _put_back_pending(host: Host, journal: Journal) -> None:
    """A restart that was due before still is, and no other one."""
    if journal.pending is not None:
        write_pending(host, journal.pending)
    else:
        clear_pending(host)


def _reload(service: ServiceManager) -> t.List[str]:
    try:
        service.reload_files()
    except ServiceError as exc:
        return [f"but {exc}"]
    return []
