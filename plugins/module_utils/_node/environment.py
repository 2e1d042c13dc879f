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
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import SeenEnvironment, ServiceManager, ServiceState
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service_manager import service_manager
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import env_readers
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_plan import Observed, Plan, TextFile, live_reasons
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
    other_paths: tuple[str, ...] = ()

    @classmethod
    def of(cls, host: Host, installation: Installation, path: str, follow: bool) -> Sources:
        """The sources of an installation whose main file is path."""
        others = [found for pattern in installation.environment_files for found in expand(host, pattern)]
        return cls(
            path=path,
            follow=follow,
            service=service_manager(host, installation),
            plist_path=installation.plist_path,
            unit_paths=tuple(unit for unit in (installation.unit_path, *installation.drop_in_paths) if unit),
            other_paths=tuple(other for other in dict.fromkeys(others) if host.resolve(other) != host.resolve(path)),
        )


@dataclasses.dataclass(frozen=True)
class Seen:
    """The plan's input, and what the service did when we looked."""

    observed: Observed
    state: ServiceState | None
    pending: PendingRestart | None
    warnings: tuple[str, ...]


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
    manager = service.manager_variable(RESIDENCY_VARIABLE) if service is not None else None
    plist_file = _read_text(host, host.resolve(sources.plist_path)) if sources.plist_path else None
    observed = Observed(
        reader=env_readers.INSTALL_SH if host.system() == "Darwin" else env_readers.SYSTEMD,
        main_file=_read_text(host, _followed(host, sources.path, sources.follow)),
        other_files=tuple(_read_text(host, host.resolve(path)) for path in sources.other_paths),
        unit_files=tuple(_read_text(host, host.resolve(path)) for path in sources.unit_paths),
        plist_file=plist_file,
        plist=parse(env_readers.encode(plist_file.text), plist_file.path) if plist_file and plist_file.text is not None else None,
        live=loaded.variables,
        live_is_complete=loaded.complete,
        manager_has_residency=manager.present if manager is not None else None,
    )
    pending = read_pending(host)
    return Seen(observed, state, pending if pending and state and pending.is_due_for(state) else None, tuple(warnings))


def restart_reasons(seen: Seen, plan: Plan) -> tuple[str, ...]:
    """Why the service has to be restarted, those of an earlier run included; each reason once.

    Raises ServiceError where it was restarted for nothing else before, and that was futile.
    """
    pending = seen.pending
    if pending is not None and pending.futile:
        if plan.restart_reasons and set(plan.restart_reasons) <= set(pending.reasons):
            raise ServiceError(_futile(plan.restart_reasons))
        return plan.restart_reasons
    earlier = pending.reasons if pending is not None else ()
    # The earlier ones first, so that a run that finds nothing new has nothing to write down.
    return tuple(dict.fromkeys([*earlier, *plan.restart_reasons]))


def restart_is_due(sources: Sources, seen: Seen, reasons: tuple[str, ...]) -> bool:
    """Whether there is something to restart: a service that holds no environment takes the new one when it starts."""
    return bool(reasons) and sources.service is not None and seen.state is not None and sources.service.holds_environment(seen.state)


def apply(host: Host, sources: Sources, seen: Seen, plan: Plan, restart_now: bool) -> None:
    """Carry out the plan: files, the manager's own environment, and the restart where it is due and asked for."""
    reasons = restart_reasons(seen, plan)
    if seen.state is not None and restart_is_due(sources, seen, reasons) and (seen.pending is None or seen.pending.reasons != reasons):
        write_pending(host, PendingRestart.of(seen.state, reasons))
    for write in plan.writes:
        if write.data is None:
            host.remove(write.path)
        else:
            host.make_folder(posixpath.dirname(write.path), 0o755)
            host.write(write.path, write.data, write.mode_if_new, write.mode)
    if sources.service is None:
        return
    if plan.unset_manager_variable:
        sources.service.unset_manager_variable(RESIDENCY_VARIABLE)
    if restart_now:
        sources.service.restart()
        clear_pending(host)
        _check_after_restart(host, sources.service, plan)


def _check_after_restart(host: Host, service: ServiceManager, plan: Plan) -> None:
    loaded = service.loaded_environment()
    left = live_reasons(loaded.variables, loaded.complete, plan.wanted, plan.forbidden)
    if left:
        write_pending(host, PendingRestart.of(service.state(), left, futile=True))
        raise ServiceError(_futile(left))


def _futile(reasons: t.Sequence[str]) -> str:
    return (
        f"the service was restarted, and {' and '.join(reasons)}: something that this module does not govern decides it (UnsetEnvironment=,"
        " a wrapper script, a package's unit; node_info lists the places). It is not restarted for that again"
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
