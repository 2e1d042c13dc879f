# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""All changes of a run as one transaction: plan, prepare, make the steps, restart once, check, undo only what made it worse."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import journal as journals
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.health import baseline, wait_healthy
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import find_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.journal import Journal
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.outcome import Outcome
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import (
    PendingRestart,
    clear_pending,
    refuse_exposed_state,
    state_folder,
    write_pending,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import remove_receipt
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.restart import NEVER, Decision, decide, fingerprint, futile
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service_manager import service_manager
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service_view import ServiceView, look
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.undoing import undo_transaction
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError, ServiceError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.health import Health, losses

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned, Resource
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceManager, ServiceState
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import Step


@dataclasses.dataclass(frozen=True)
class Options:
    """How a transaction behaves.

    restart: now, when_idle or never. settle_seconds: how long everything has to run without a break after a restart.
    health_timeout_seconds: how long that may take to begin. lock_wait_seconds: how long to wait for another run on this node.
    """

    restart: str = "now"
    settle_seconds: float = 10.0
    health_timeout_seconds: float = 120.0
    lock_wait_seconds: float = 60.0


def carry_out(host: Host, installation: Installation, resources: t.Sequence[Resource], options: Options, check_mode: bool) -> Outcome:
    """Bring the resources to their state. Raises GpustackError; the message says what was undone, if anything had been done."""
    transaction = _Transaction(host, installation, resources, options)
    if check_mode:
        return transaction.announce()
    with locked(host, options.lock_wait_seconds):
        return transaction.run()


def locked(host: Host, wait_seconds: float) -> t.ContextManager[None]:
    """The right to change this node, for one run at a time."""
    folder = state_folder(host)
    refuse_exposed_state(host)
    host.make_folder(folder, 0o700)
    since = datetime.datetime.fromtimestamp(host.now(), datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return host.lock(f"{folder}/lock", f"process {host.process_id()} since {since}", wait_seconds)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """view: of the service, None where there is none. planned: of each resource. decision: about the restart."""

    view: ServiceView | None
    planned: tuple[Planned, ...]
    decision: Decision

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those of all resources."""
        return tuple(step for one in self.planned for step in one.steps)

    def starts(self) -> bool:
        """Whether a restart has to see to it that the service runs: not where it did not before, unless that was our doing."""
        view = self.view
        return view is not None and (bool(view.state.running) or (view.was_stopped_by_us() and not view.was_idle_before_that()))

    def can_judge(self) -> bool:
        """Whether the health of the node will be that with the new files: not while a restart is due or the service cannot be asked."""
        return self.decision.now or not (self.decision.reasons or self.view is None or self.view.state.running is None)

    def is_untouched(self, state: ServiceState) -> bool:
        """Whether the main process still is the one that ran when this was planned."""
        seen = self.view.state if self.view is not None else None
        return seen is not None and bool(seen.running) and (seen.pid, seen.started) == (state.pid, state.started)


class _Transaction:
    def __init__(self, host: Host, installation: Installation, resources: t.Sequence[Resource], options: Options) -> None:
        self.host = host
        self.installation = installation
        self.resources = resources
        self.options = options
        self.service: ServiceManager | None = service_manager(host, installation)

    def announce(self) -> Outcome:
        """What run() would do now."""
        journal = journals.read_journal(self.host)
        if journal is not None and journal.undoing:
            raise GpustackError(f"{_cut_off(journal)}; the next run that is no check puts back the rest")
        plan = self._plan()
        return Outcome(self._by_name(plan.planned), plan.decision, applied=False)

    def run(self) -> Outcome:
        """Do it."""
        journal = journals.read_journal(self.host)
        if journal is not None and journal.undoing:
            raise GpustackError(f"{_cut_off(journal)}; {self._undo(journal)}")
        plan, health = self._prepare(self._plan(), journal)
        planned, decision = self._by_name(plan.planned), plan.decision
        if not plan.steps and not decision.now and journal is None:
            self._remember(plan)
            journals.tidy(self.host)
            return Outcome(planned, decision, applied=True)
        is_adopted, was_restarted = journal is not None, journal is not None and journal.restarting
        journal = self._change(plan, journal, health)
        after = None
        if self.service is not None and journal.restarting:
            if not plan.can_judge():
                # What an earlier run restarted has to wait for another one, which finds the journal.
                return Outcome(planned, decision, applied=True)
            after = self._prove(self.service, plan, journal, was_restarted)
        left = self._left(decision)
        notes: tuple[str, ...] = ()
        if not left and (plan.steps or is_adopted):
            # While there is a journal: it is what brings the next run here if this one dies before everything is tidy.
            notes = tuple(note for resource in self.resources for note in resource.finish())
        journals.commit(self.host, journal)
        if left:
            raise ServiceError(futile(left) if decision.now else f"everything was changed as wanted, and still {'; '.join(left)}")
        return Outcome(planned, decision, True, None if after is None else journal.health, after, notes)

    def _plan(self) -> _Plan:
        view = self._look()
        planned = tuple(resource.plan() for resource in self.resources)
        return _Plan(view, planned, decide(self.host, view, planned, self.options.restart))

    def _prepare(self, plan: _Plan, journal: Journal | None) -> tuple[_Plan, Health]:
        """Fetch everything before anything is changed, and take the node's health, unless a run that died has done so."""
        for resource, one in zip(self.resources, plan.planned):
            if one.steps:
                resource.prepare()
        if not plan.steps and not plan.decision.now:
            return plan, Health(None)
        # One that would be noticed now may not be later.
        may_restart = bool(plan.decision.reasons) and self.options.restart != NEVER
        health = journal.health if journal is not None else self._health(may_restart)
        # Both take their time: the service may be another process by now, and a model may have been started.
        view = self._look()
        return _Plan(view, plan.planned, decide(self.host, view, plan.planned, self.options.restart)), health

    def _look(self) -> ServiceView | None:
        return look(self.host, self.service) if self.service is not None else None

    def _by_name(self, planned: t.Sequence[Planned]) -> dict[str, Planned]:
        return {resource.name: one for resource, one in zip(self.resources, planned)}

    def _health(self, may_restart: bool) -> Health:
        if self.service is None:
            return Health(None, detail="there is no service")
        # Without a restart of ours, the service goes on as it began.
        timeout_seconds = self.options.health_timeout_seconds if may_restart else 0.0
        return baseline(self.host, self.installation, self.service, self.options.settle_seconds, timeout_seconds)

    def _change(self, plan: _Plan, journal: Journal | None, health: Health) -> Journal:
        """Make the steps, each after it was written down how to undo it. journal: of a run that died, which this one goes on with."""
        is_adopted = journal is not None
        journal = self._open(plan, journal, health)
        try:
            record = self._remember(plan)
            for step in plan.steps:
                journal = journals.remember(self.host, journal, step)
                step.apply(self.host)
            if self.service is not None and not plan.decision.now and (is_adopted or any(one.reloads for one in plan.planned)):
                self.service.reload_files()
            if plan.decision.now and record is not None:
                # From here until it runs again, a run that is cut short leaves a stopped service to the next one.
                write_pending(self.host, dataclasses.replace(record, stopping=True, was_idle=not plan.starts()))
                journal = journals.note(self.host, journal, restarting=True)
        except GpustackError as exc:
            raise type(exc)(f"{exc}; {self._undo(journal, str(exc))}") from exc
        return journal

    def _open(self, plan: _Plan, journal: Journal | None, health: Health) -> Journal:
        needs_restart = any(one.steps and one.restart_reasons for one in plan.planned)
        rolls_back = max(one.rolls_back for one in plan.planned)
        if journal is None:
            remove_receipt(self.host)
            pending = plan.view.record if plan.view is not None else None
            return journals.begin(self.host, Journal(int(self.host.now()), health, pending, needs_restart, rolls_back))
        journals.clean(self.host, journal)
        needs_restart = journal.needs_restart or needs_restart
        return journals.note(self.host, journal, needs_restart=needs_restart, rolls_back=journal.rolls_back or rolls_back)

    def _remember(self, plan: _Plan) -> PendingRestart | None:
        """Write down that a restart is due before anything makes it so, unless it can be seen; forget one that is not due."""
        view, planned, decision = plan.view, plan.planned, plan.decision
        if view is None or view.state.known is None:
            # Whether an earlier one is still due cannot be told of a service that cannot be asked.
            return None
        live = view.live()
        earlier = view.pending.gone if view.pending is not None else ()
        dropped = (name for one in planned for name in one.dropped)
        gone = tuple(sorted(name for name in {*earlier, *dropped} if live is None or name in live))
        replaced = any(one.replaced for one in planned) or (view.pending is not None and view.pending.replaced)
        stopping = view.was_stopped_by_us()
        was_idle = stopping and view.was_idle_before_that()
        record = PendingRestart(view.state.pid, view.state.started, decision.reasons, gone, stopping, replaced=replaced, was_idle=was_idle)
        if decision.reasons and (gone or replaced or live is None):
            if view.record != record:
                write_pending(self.host, record)
        elif view.record is not None:
            clear_pending(self.host)
        return record

    def _prove(self, service: ServiceManager, plan: _Plan, journal: Journal, was_restarted: bool) -> Health:
        """Restart where that was decided, and undo everything if the node is worse for it. was_restarted: by an earlier run."""
        failure: ServiceError | None = None
        if plan.decision.now:
            try:
                service.restart(start=plan.starts())
            except ServiceError as exc:
                failure = exc
        after = self._health_after(service, journal.health, failure)
        lost = losses(journal.health, after)
        if failure is None and not lost:
            if plan.decision.now:
                clear_pending(self.host)
            return after
        # A restart that was refused has changed nothing yet, but the next one, or the next boot, will be refused as well.
        is_untouched = failure is not None and not lost and plan.is_untouched(service.state())
        if failure is not None and not lost and not (is_untouched and journal.records):
            raise failure
        story = "; ".join(filter(None, [str(failure) if failure else "", *lost]))
        if not journal.records:
            journals.forget(self.host)
            way = (
                "; the playbook rollback takes back those of the last run that made any"
                if journals.read_previous(self.host) is not None
                else ""
            )
            raise ServiceError(f"the node is worse than before, and no change of this run can be undone: {story}{way}")
        undone = self._undo(dataclasses.replace(journal, restarting=was_restarted or not is_untouched), story)
        raise ServiceError(f"{'the service was not restarted' if is_untouched else 'the node got worse'}: {story}; {undone}")

    def _health_after(self, service: ServiceManager, before: Health, failure: ServiceError | None) -> Health:
        # The change may have been one of GPUStack's ports.
        installation = find_installation(self.host, self.installation.label_or_unit, self.installation.environment_file)
        timeout_seconds = self.options.health_timeout_seconds if failure is None else 0.0
        return wait_healthy(self.host, installation, service, before, self.options.settle_seconds, timeout_seconds)

    def _undo(self, journal: Journal, reason: str = "") -> str:
        return undo_transaction(self.host, self.service, journal, reason, self._health_after)

    def _left(self, decision: Decision) -> list[str]:
        """What is not as wanted now; what a restart did not cure is not tried again."""
        if decision.reasons and not decision.now:
            return []
        left = [reason for resource in self.resources for reason in resource.check()]
        if left and decision.now and self.service is not None:
            state = self.service.state()
            again = tuple(resource.plan() for resource in self.resources)
            write_pending(self.host, PendingRestart(state.pid, state.started, tuple(left), futile=fingerprint(again)))
        return left


def _cut_off(journal: Journal) -> str:
    return f"an earlier run was cut off while it undid its changes, because {journal.undoing}"
