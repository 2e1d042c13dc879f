# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The environment of GPUStack on a node as a resource: observe it, apply a plan to it.

What is to be done is decided in `_policy.environment_plan`; nothing is decided here.
"""

from __future__ import annotations

import dataclasses
import posixpath
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.patterns import expand
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import (
    PendingRestart,
    clear_pending,
    read_pending,
    write_pending,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import (
    SeenEnvironment,
    SeenVariable,
    ServiceManager,
    ServiceState,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service_manager import service_manager
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import env_readers
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_plan import (
    Observed,
    Plan,
    TextFile,
    fingerprint,
    live_reasons,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, ServiceError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.property_list import parse
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where this node's environment comes from. service: None where GPUStack is not installed as a service."""

    path: str
    follow: bool
    service: ServiceManager | None = None
    plist_path: str | None = None
    unit_paths: tuple[str, ...] = ()
    read_paths: tuple[str, ...] = ()

    @classmethod
    def of(cls, host: Host, installation: Installation, path: str, follow: bool) -> Sources:
        """The sources of an installation whose main file is path."""
        read = [found for pattern in installation.environment_files for found in expand(host, pattern)]
        return cls(
            path=path,
            follow=follow,
            service=service_manager(host, installation),
            plist_path=installation.plist_path,
            unit_paths=tuple(unit for unit in (installation.unit_path, *installation.drop_in_paths) if unit),
            read_paths=tuple(read),
        )


@dataclasses.dataclass(frozen=True)
class Seen:
    """The plan's input, and what the service did when we looked. record: as it was found; pending: the same if it is due."""

    observed: Observed
    state: ServiceState | None
    record: PendingRestart | None
    pending: PendingRestart | None
    warnings: tuple[str, ...]

    def was_stopped_by_us(self) -> bool:
        """Whether a restart of an earlier run never came to its second half."""
        return self.pending is not None and self.pending.stopping and self.state is not None and not self.state.running


def observe(host: Host, sources: Sources) -> Seen:
    """Look at every source. Raises BadInputError for a link that is not to be followed, HostError for what cannot be read."""
    service = sources.service
    state = service.state() if service is not None else None
    warnings: list[str] = []
    loaded = SeenEnvironment(None)
    if service is not None and state is not None and service.holds_environment(state):
        loaded = service.loaded_environment()
        if loaded.variables is None:
            warnings.append(f"the environment of the running service cannot be seen ({loaded.reason}), so it is not compared")
        elif not loaded.complete:
            warnings.append(f"the environment of the running service cannot be seen as a whole ({loaded.reason})")
    manager = service.manager_variable(RESIDENCY_VARIABLE) if service is not None else SeenVariable(False)
    if manager.present is None:
        warnings.append(f"whether the service manager gives {RESIDENCY_VARIABLE} to the service cannot be seen ({manager.reason})")
    main_file = _read_text(host, _followed(host, sources.path, sources.follow))
    plist_file = _read_text(host, host.resolve(sources.plist_path)) if sources.plist_path else None
    read = [host.resolve(path) for path in sources.read_paths]
    read_order = tuple(main_file.path if path == host.resolve(main_file.path) else path for path in read)
    observed = Observed(
        reader=env_readers.INSTALL_SH if host.system() == "Darwin" else env_readers.SYSTEMD,
        main_file=main_file,
        other_files=tuple(_read_text(host, path) for path in dict.fromkeys(read_order) if path != main_file.path),
        read_order=read_order,
        unit_files=tuple(_read_text(host, host.resolve(path)) for path in sources.unit_paths),
        plist_file=plist_file,
        plist=parse(env_readers.encode(plist_file.text), plist_file.path) if plist_file and plist_file.text is not None else None,
        live=loaded.variables,
        live_is_complete=loaded.complete,
        manager_has_residency=manager.present,
    )
    record = read_pending(host)
    is_due = record is not None and state is not None and record.is_due(state, loaded.variables if loaded.complete else None)
    return Seen(observed, state, record, record if is_due else None, tuple(warnings))


def restart_reasons(sources: Sources, seen: Seen, plan: Plan, restart: str) -> tuple[str, ...]:
    """Why the service has to be restarted, those of an earlier run first, each once; none where there is nothing to restart.

    restart: "now" or "never". Nothing has been changed yet, so this is where a restart is refused that could not be done
    (ServiceError) or would only stop the models in vain (BadInputError, ServiceError).
    """
    service, state = sources.service, seen.state
    if service is None or state is None:
        return ()
    if (state.known is None or state.running is None) and restart == "now":
        raise ServiceError(
            f"the service cannot be asked ({state.detail}), so nothing was changed;"
            " mend that, or say restart: never and restart it yourself"
        )
    earlier = seen.pending.reasons if seen.pending is not None else ()
    reasons = tuple(dict.fromkeys([*earlier, *plan.restart_reasons]))
    if not reasons or not (service.holds_environment(state) or seen.was_stopped_by_us()):
        # What holds no environment takes the new one when somebody starts it.
        return ()
    if plan.blocked:
        raise BadInputError(f"nothing was changed, as a restart would not help: {'; '.join(plan.blocked)}")
    if seen.record is not None and seen.record.futile == fingerprint(seen.observed, plan.restart_reasons):
        raise ServiceError(_futile(plan.restart_reasons))
    if restart == "now":
        service.check_restartable()
    return reasons


def apply(host: Host, sources: Sources, seen: Seen, plan: Plan, reasons: tuple[str, ...], restart_now: bool) -> list[str]:
    """Carry out the plan: files, the manager's own environment, and the restart where it is due and asked for.

    Returns warnings about what could not be proved.
    """
    service, state = sources.service, seen.state
    record = _remember(host, seen, plan, reasons)
    for write in plan.writes:
        if write.data is None:
            host.remove(write.path)
        else:
            host.make_folder(posixpath.dirname(write.path), 0o755)
            host.write(write.path, write.data, write.mode_if_new, write.mode)
    if service is None or state is None:
        return []
    if plan.unset_manager_variable:
        service.unset_manager_variable(RESIDENCY_VARIABLE)
    if not restart_now:
        if any(change.resource == "unit_file" for change in plan.changes):
            service.reload_files()
        return []
    # From here until it runs again, a run that is cut short leaves a stopped service to the next one.
    write_pending(host, dataclasses.replace(record, stopping=True))
    service.restart(start=bool(state.running) or seen.was_stopped_by_us())
    return _check_after_restart(host, sources, plan)


def _remember(host: Host, seen: Seen, plan: Plan, reasons: tuple[str, ...]) -> PendingRestart:
    """Write down that a restart is due before anything makes it so, unless it can be seen; forget one that is not due."""
    live = seen.observed.live if seen.observed.live_is_complete else None
    earlier = seen.pending.gone if seen.pending is not None else ()
    gone = tuple(sorted(name for name in {*earlier, *plan.dropped} if live is None or name in live))
    state = seen.state or ServiceState(None, None)
    record = PendingRestart(state.pid, state.started, reasons, gone, stopping=seen.was_stopped_by_us())
    if reasons and (gone or live is None):
        if seen.record != record:
            write_pending(host, record)
    elif seen.record is not None:
        clear_pending(host)
    return record


def _check_after_restart(host: Host, sources: Sources, plan: Plan) -> list[str]:
    seen = observe(host, sources)
    left = live_reasons(seen.observed.live, seen.observed.live_is_complete, plan.wanted, plan.forbidden)
    if left:
        state = seen.state or ServiceState(None, None)
        write_pending(host, PendingRestart(state.pid, state.started, left, futile=fingerprint(seen.observed, left)))
        raise ServiceError(_futile(left))
    clear_pending(host)
    return list(seen.warnings)


def _futile(reasons: t.Sequence[str]) -> str:
    return (
        f"the service was restarted, and {' and '.join(reasons)}: something that this module does not govern decides it (UnsetEnvironment=,"
        " a wrapper script, a package's unit; node_info lists the places)."
        " It is not restarted for that again until one of its files changes"
    )


def _followed(host: Host, path: str, follow: bool) -> str:
    status = host.status(path)
    if status is None or not status.is_symlink:
        return path
    target = host.resolve(path)
    if not follow:
        raise BadInputError(f"{path} is a symbolic link to {target}: say follow: true to manage that file, or put a file in its place")
    return target


def _read_text(host: Host, path: str) -> TextFile:
    data = host.read(path)
    status = host.status(path)
    return TextFile(
        path, None if data is None else env_readers.decode(data), status.mode if status is not None and data is not None else None
    )
