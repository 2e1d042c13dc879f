# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A Mac's wired limit as a resource. What is to be done is decided in `_policy`; nothing is decided here.

The service is never restarted for it: Metal takes a new limit at once. What llama-box computed at its start stays as it is.
"""

from __future__ import annotations

import functools
import posixpath
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.exposure import refuse_exposed
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.probe import SYSCTL
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import Act, RemovePath, Step, WriteFile
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import DARWIN
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.launchctl import parse_disabled
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit import NAMES, Request, Wanted, decide, parse_live
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit_plan import (
    FOLDER,
    LABEL,
    PLIST_MODE,
    PLIST_PATH,
    Plan,
    PlistFile,
    Seen,
    as_result,
    make_plan,
    mentions_limit,
    plist_bytes,
)

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import Hardware

# A name that sysctl does not know makes it end with 1, and each macOS lacks one of NAMES.
_SYSCTL_ANSWERED = (0, 1)
# 3 (113 on some versions of macOS): it was not loaded. 36: launchd is still at it.
_BOOTOUT_ACCEPTED = (0, 3, 36, 113)
_TARGET = f"system/{LABEL}"


class WiredLimit:
    """The wired limit of a host with this hardware, as requested."""

    name = "wired_limit"

    def __init__(self, host: Host, hardware: Hardware, request: Request) -> None:
        self._host = host
        self._hardware = hardware
        self._request = request
        self._wanted = Wanted(False, "")
        self._plan: t.Optional[Plan] = None

    def plan(self) -> Planned:
        """Look at the host and say what has to change. Raises BadInputError, HostError."""
        live = self._read_live()
        self._wanted = decide(self._request, self._hardware, live)
        if self._request.present and not self._wanted.applies:
            self._plan = None
            return Planned(result=as_result(self._wanted, Seen(live), None))
        others, doubts = self._other_daemons() if self._request.present else ((), ())
        seen = self._look(live, others)
        self._plan = make_plan(self._wanted, seen)
        if self._plan.plist_problem or self._plan.remove_plist:
            refuse_exposed(self._host, PLIST_PATH, follows=False)
        return Planned(
            steps=tuple(self._steps(self._plan)),
            changes=self._plan.changes(),
            diffs=self._plan.diffs(),
            warnings=(*self._plan.warnings, *doubts),
            result=as_result(self._wanted, seen, self._plan),
        )

    def prepare(self) -> None:
        """Nothing has to be fetched."""

    def check(self) -> t.Tuple[str, ...]:
        """What is not as planned: sysctl reports success for values that a kernel does not take, too."""
        if self._plan is None:
            return ()
        return self._plan.problems(self._look(self._read_live()))

    def finish(self) -> t.Tuple[str, ...]:
        """Nothing is left behind."""
        return ()

    def _steps(self, plan: Plan) -> t.Iterator[Step]:
        # The property list says which live values are ours, so it has to outlast them: a run may be cut short at any step.
        for setting in plan.settings:
            action = functools.partial(self._set, setting.name, setting.after)
            yield Act(action, (SYSCTL, f"{setting.name}={setting.before}"), (SYSCTL, f"{setting.name}={setting.after}"))
        if plan.replace_plist:
            yield RemovePath(PLIST_PATH)
        if plan.plist_problem:
            # Not loaded now: it would only set once more what is set already.
            yield WriteFile(PLIST_PATH, plist_bytes(plan.at_boot), PLIST_MODE, PLIST_MODE)
        if plan.remove_plist:
            # Nothing to undo: whether a job that has run is still loaded makes no difference.
            yield Act(self._bootout)
            yield RemovePath(PLIST_PATH)
        if plan.enable:
            yield Act(self._enable, ("launchctl", "disable", _TARGET), ("launchctl", "enable", _TARGET))

    def _look(self, live: t.Mapping[str, int], other_daemons: t.Tuple[str, ...] = ()) -> Seen:
        is_disabled = self._is_disabled() if self._wanted.settings_at_boot() else False
        return Seen(live, self._read_plist(), is_disabled, other_daemons)

    def _read_live(self) -> t.Dict[str, int]:
        if self._host.system() != DARWIN:
            return {}
        result = self._host.run([SYSCTL, *NAMES])
        if result.rc not in _SYSCTL_ANSWERED:
            raise HostError(f"{SYSCTL} cannot be asked for the wired limit: {result.failure()}")
        return parse_live(result.stdout)

    def _read_plist(self) -> t.Optional[PlistFile]:
        status = self._host.status(PLIST_PATH)
        if status is None:
            return None
        data = self._host.read(PLIST_PATH) if status.is_file else None
        return PlistFile(data, status.mode, status.uid, status.gid)

    def _other_daemons(self) -> t.Tuple[t.Tuple[str, ...], t.Tuple[str, ...]]:
        """The property lists of others that name the limit, and what could not be read."""
        found: t.List[str] = []
        doubts: t.List[str] = []
        for name in self._host.names(FOLDER):
            path = posixpath.join(FOLDER, name)
            if path == PLIST_PATH or not name.endswith(".plist"):
                continue
            try:
                data = self._host.read(path)
            except HostError as exc:
                doubts.append(f"{exc}, so it is not known whether it sets the wired limit")
                continue
            if data is not None and mentions_limit(data):
                found.append(path)
        return tuple(found), tuple(doubts)

    def _is_disabled(self) -> bool:
        """Whether `launchctl disable` was used, as `launchctl unload -w` does; no where launchd does not tell."""
        try:
            overrides = parse_disabled(self._host.run(["launchctl", "print-disabled", "system"]).stdout)
        except HostError:
            return False
        return (overrides or {}).get(LABEL, False)

    def _set(self, name: str, value: int) -> None:
        self._act((SYSCTL, f"{name}={value}"), (0,))

    def _enable(self) -> None:
        self._act(("launchctl", "enable", _TARGET), (0,))

    def _bootout(self) -> None:
        self._act(("launchctl", "bootout", _TARGET), _BOOTOUT_ACCEPTED)

    def _act(self, argv: t.Sequence[str], accepted: t.Sequence[int]) -> None:
        result = self._host.run(argv)
        if result.rc not in accepted:
            raise HostError(f"{' '.join(argv)} failed: {result.failure()}")
