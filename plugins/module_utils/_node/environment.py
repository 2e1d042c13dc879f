# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The environment of GPUStack on a node as a resource.

What is to be done is decided in `_policy.environment_plan`; nothing is decided here.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.exposure import refuse_exposed
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.patterns import expand
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import SeenEnvironment, SeenVariable, ServiceManager
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service_manager import service_manager
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import Act, Step, WriteFile
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import env_readers
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_plan import fingerprint, live_reasons, make_plan
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_state import Desired, Observed, TextFile
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
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


class Environment:
    """The environment of GPUStack on a node, in its files and in the service that runs with it."""

    name = "environment"

    def __init__(self, host: Host, sources: Sources, desired: Desired, residency_reason: str = "") -> None:
        self._host = host
        self._sources = sources
        self._desired = desired
        self._residency_reason = residency_reason

    def plan(self) -> Planned:
        """Compare every source with what is wanted."""
        observed, warnings = observe(self._host, self._sources)
        plan = make_plan(observed, self._desired)
        self._refuse_exposed([write.path for write in plan.writes])
        steps: list[Step] = [WriteFile(write.path, write.data, write.mode_if_new, write.mode) for write in plan.writes]
        service = self._sources.service
        if plan.unset_manager_variable and service is not None:
            steps.append(
                Act(
                    lambda: service.unset_manager_variable(RESIDENCY_VARIABLE),
                    service.set_variable_command(RESIDENCY_VARIABLE, service.manager_variable(RESIDENCY_VARIABLE).value),
                    service.unset_variable_command(RESIDENCY_VARIABLE),
                )
            )
        return Planned(
            steps=tuple(steps),
            changes=tuple(change.as_dict() for change in plan.changes),
            diffs=tuple(plan.diffs()),
            restart_reasons=plan.restart_reasons,
            blocked=plan.blocked,
            dropped=plan.dropped,
            fingerprint=fingerprint(observed),
            reloads=any(change.resource == "unit_file" for change in plan.changes),
            warnings=(*warnings, *plan.warnings),
            result={
                "path": observed.main_file.path,
                "residency": {"remove": self._desired.remove_residency, "reason": self._residency_reason},
            },
        )

    def _refuse_exposed(self, paths: t.Iterable[str]) -> None:
        """Of files that are written by their own path, with the links that lead there: who can turn one would choose what root writes."""
        sources = self._sources
        named = [path for path in (sources.plist_path, *sources.unit_paths, *sources.read_paths) if path]
        leading = {self._host.resolve(path): path for path in named}
        for path in paths:
            refuse_exposed(self._host, leading.get(path, path))

    def prepare(self) -> None:
        """Everything is at hand."""

    def check(self) -> tuple[str, ...]:
        """What the service still has or lacks."""
        observed, _warnings = observe(self._host, self._sources)
        plan = make_plan(observed, self._desired)
        return live_reasons(observed.live, observed.live_is_complete, plan.wanted, plan.forbidden)

    def finish(self) -> tuple[str, ...]:
        """There is nothing to tidy up."""
        return ()


def observe(host: Host, sources: Sources) -> tuple[Observed, tuple[str, ...]]:
    """Look at every source; returns warnings about what could not be seen.

    Raises BadInputError for a link that is not to be followed and for a file that others could replace, HostError for what cannot be
    read.
    """
    service = sources.service
    warnings: list[str] = []
    loaded, manager = SeenEnvironment(None), SeenVariable(False)
    if service is not None:
        state, seen = service.look()
        if service.holds_environment(state):
            loaded = seen
            if loaded.variables is None:
                warnings.append(f"the environment of the running service cannot be seen ({loaded.reason}), so it is not compared")
            elif not loaded.complete:
                warnings.append(f"the environment of the running service cannot be seen as a whole ({loaded.reason})")
        manager = service.manager_variable(RESIDENCY_VARIABLE)
    if manager.present is None:
        warnings.append(f"whether the service manager gives {RESIDENCY_VARIABLE} to the service cannot be seen ({manager.reason})")
    main_path = _followed(host, sources.path, sources.follow)
    refuse_exposed(host, sources.path, ", or manage a file in another folder")
    main_file = _read_text(host, main_path)
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
    return observed, tuple(warnings)


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
