# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What has to change for the environment of a node to be as wanted: one pure function, for check mode and for real."""

from __future__ import annotations

import hashlib
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import env_readers, env_view, environment_file
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_differences import find_differences
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_state import (
    Change,
    Desired,
    Observed,
    Plan,
    TextFile,
    Write,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.property_list import PropertyList
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.unit_file import strip_variable

# Units of a package or of the vendor are not the administrator's to edit: the next upgrade would bring the line back.
_EDITABLE_UNIT_FOLDERS = ("/etc/", "/run/")


def make_plan(observed: Observed, desired: Desired) -> Plan:
    """Compare what was found with what is wanted."""
    remove = frozenset({RESIDENCY_VARIABLE}) if desired.remove_residency else frozenset()
    try:
        main = environment_file.merge(observed.main_file.text, desired.lines, observed.reader, remove, desired.keep_unmanaged)
    except BadInputError as exc:
        raise BadInputError(f"{observed.main_file.path}: {exc}") from exc
    planner = _Planner(desired, remove)
    # The property list before the file: our old block in the file is the only record of what we once put there.
    if observed.plist is not None and observed.plist_file is not None:
        planner.plan_plist(observed.plist_file, observed.plist, main.dropped)
    for file in observed.unit_files:
        planner.plan_unit_file(file)
    for file in observed.other_files:
        planner.plan_other_file(file, observed.reader)
    planner.plan_main_file(observed.main_file, main, read_at_start=observed.main_file.path in observed.read_order)
    if observed.unit_files:
        planner.plan_order(observed, main.text)
    planner.plan_manager(observed.manager_has_residency)
    planner.plan_live(observed.live, observed.live_is_complete)
    return Plan(
        tuple(planner.writes),
        bool(remove and observed.manager_has_residency),
        tuple(planner.changes),
        tuple(planner.restart_reasons),
        tuple(planner.warnings),
        tuple(sorted({*main.dropped, *_vanished(observed, main.text)} - remove)),
        tuple(planner.blocked),
        desired.variables,
        remove,
    )


def _vanished(observed: Observed, text: t.Optional[str]) -> set[str]:
    """The variables that the service was given by the main file, ours or not, and is not given any more."""
    if observed.main_file.path not in observed.read_order:
        return set()
    before, after = (_variables(one) for one in (observed.main_file.text, text))
    return set(before) - set(after)


def fingerprint(observed: Observed) -> str:
    """A digest of all files that the service's environment comes from."""
    files = [observed.main_file, *observed.other_files, *observed.unit_files, observed.plist_file]
    texts = [(file.path, file.text) for file in files if file is not None]
    return hashlib.sha256(repr(texts).encode()).hexdigest()


def live_reasons(
    live: t.Optional[t.Mapping[str, str]], is_complete: bool, wanted: t.Mapping[str, str], forbidden: t.Collection[str]
) -> tuple[str, ...]:
    """What is wrong with the environment that a service was loaded with; nothing where it cannot be seen (None)."""
    if live is None:
        return ()
    present = {environment_file.spelled_name(key) for key in live}
    reasons = [f"the running service still has {name}" for name in sorted(present & set(forbidden))]
    # Where only a part was seen, what is missing may be there, and a restart would not make it seen.
    stale = sorted(name for name in wanted if (is_complete or name in live) and live.get(name) != wanted[name])
    if stale:
        reasons.append(f"the running service does not have the wanted value of {', '.join(stale)}")
    return tuple(reasons)


class _Planner:
    def __init__(self, desired: Desired, remove: frozenset[str]) -> None:
        self.desired = desired
        self.remove = remove
        self.writes: list[Write] = []
        self.changes: list[Change] = []
        self.restart_reasons: list[str] = []
        self.warnings: list[str] = []
        self.blocked: list[str] = []

    def plan_main_file(self, file: TextFile, merge: environment_file.Merge, read_at_start: bool) -> None:
        self.warnings += [f"{file.path}: {warning}" for warning in merge.warnings]
        mode = self.desired.mode
        mode_if_new = mode if mode is not None else 0o600 if self.desired.secrets else 0o644
        new_mode = mode if mode is not None and file.mode is not None and mode != file.mode and merge.text is not None else None
        for change in merge.changes:
            self.changes.append(Change("environment_file", file.path, change.action, change.name, change.line))
        if merge.text != file.text and not merge.changes:
            self.changes.append(Change("environment_file", file.path, "rewritten", "(our comments and markers)"))
        if new_mode is not None:
            self.changes.append(Change("environment_file", file.path, "mode", f"{new_mode:04o}"))
        if merge.text != file.text or new_mode is not None:
            data = None if merge.text is None else env_readers.encode(merge.text)
            self._write(file, data, new_mode, mode_if_new, merge.text)
        # The values count, not the text: a moved line, a comment or a spelling that systemd ignores stops no model.
        if read_at_start and _systemd_variables(merge.text) != _systemd_variables(file.text):
            self.restart_reasons.append(f"{file.path} changes, and systemd reads it when the service starts")
        self._warn_of_differences(file.path, merge.text)
        self._warn_of_exposure(file, mode_if_new if file.mode is None else new_mode)

    def plan_other_file(self, file: TextFile, reader: str) -> None:
        if file.text is None or not self.remove:
            return
        after, changes = environment_file.take_out(file.text, self.remove, reader)
        if not changes:
            return
        self.changes += [Change("environment_file", file.path, change.action, change.name, change.line) for change in changes]
        self._write(file, env_readers.encode(after), None, 0o644, after)
        if _systemd_variables(after) != _systemd_variables(file.text):
            self.restart_reasons.append(f"{file.path} changes, and systemd reads it when the service starts")

    def plan_unit_file(self, file: TextFile) -> None:
        if file.text is None or not self.remove:
            return
        after, lines = strip_variable(file.text, RESIDENCY_VARIABLE)
        if not lines:
            return
        if not file.path.startswith(_EDITABLE_UNIT_FOLDERS):
            self.blocked.append(
                f"{file.path}: line {lines[0]} sets {RESIDENCY_VARIABLE}, but the file belongs to a package;"
                f" add a drop-in with `UnsetEnvironment={RESIDENCY_VARIABLE}` or change the package"
            )
            self.warnings.append(self.blocked[-1])
            return
        self.changes += [Change("unit_file", file.path, "removed", RESIDENCY_VARIABLE, line) for line in lines]
        shown = "".join(f"line {line}: {RESIDENCY_VARIABLE}=(not shown)\n" for line in lines)
        self.writes.append(Write(file.path, env_readers.encode(after), None, 0o644, shown, ""))
        self.restart_reasons.append(f"{file.path} changes, and systemd reads it when the service starts")

    def plan_order(self, observed: Observed, main_text: t.Optional[str]) -> None:
        """Find out what would keep the wanted variables from the service, whatever we write."""
        path = observed.main_file.path
        if self.desired.variables and path not in observed.read_order:
            self.blocked.append(f"the unit does not read {path}; add a drop-in with `EnvironmentFile=-{path}`")
            return
        texts = {file.path: file.text for file in observed.other_files} | {path: main_text}
        effective: dict[str, tuple[str, str]] = {}
        for source in observed.read_order:
            effective.update({name: (value, source) for name, value in _variables(texts[source]).items()})
        for name, wanted in self.desired.variables.items():
            value, source = effective[name]
            if value != wanted:
                self.blocked.append(f"{source}, which the unit reads after {path}, sets {name} to something else; take it out there")

    def plan_plist(self, file: TextFile, plist: PropertyList, dropped: t.Collection[str]) -> None:
        before = plist.environment()
        after = {
            key: value for key, value in before.items() if environment_file.spelled_name(key) not in self.remove and key not in dropped
        }
        removed = [key for key in before if key not in after]
        after.update(self.desired.variables)
        changed = [key for key in self.desired.variables if before.get(key) != self.desired.variables[key]]
        self.changes += [Change("plist", file.path, "removed", key) for key in removed]
        self.changes += [Change("plist", file.path, "set", key) for key in changed]
        mode = self.desired.mode
        new_mode = mode if mode is not None and mode != file.mode else None
        if new_mode is not None:
            self.changes.append(Change("plist", file.path, "mode", f"{new_mode:04o}"))
        if removed or changed or new_mode is not None:
            data = plist.with_environment(after).encode()
            shown = self._shown_environment(before), self._shown_environment(after)
            self.writes.append(Write(file.path, data, new_mode, 0o644, *shown))
        if removed or changed:
            self.restart_reasons.append(f"{file.path} changes, and launchd keeps the old environment until the job is loaded anew")
        self._warn_of_exposure(file, new_mode)

    def plan_manager(self, has_residency: t.Optional[bool]) -> None:
        if self.remove and has_residency:
            self.changes.append(Change("manager_environment", "the service manager", "removed", RESIDENCY_VARIABLE))
            self.restart_reasons.append(f"the service manager gives {RESIDENCY_VARIABLE} to what it starts")

    def plan_live(self, live: t.Optional[t.Mapping[str, str]], is_complete: bool) -> None:
        self.restart_reasons += live_reasons(live, is_complete, self.desired.variables, self.remove)

    def _write(self, file: TextFile, data: t.Optional[bytes], mode: t.Optional[int], mode_if_new: int, text: t.Optional[str]) -> None:
        lines = self.desired.open_lines(), self.desired.secret_lines()
        self.writes.append(Write(file.path, data, mode, mode_if_new, env_view.shown(file.text, *lines), env_view.shown(text, *lines)))

    def _shown_environment(self, environment: t.Mapping[str, t.Any]) -> str:
        return "".join(f"{_shown_key(key)}={self._shown_value(key, value)}\n" for key, value in environment.items())

    def _shown_value(self, key: str, value: t.Any) -> str:
        if self.desired.variables.get(key) != value:
            return "(not shown)"
        return "(secret)" if key in self.desired.secrets else str(value)

    def _warn_of_differences(self, path: str, text: t.Optional[str]) -> None:
        self.warnings += [f"{path}: line {found.line}: {found.reason}" for found in find_differences(text or "")]

    def _warn_of_exposure(self, file: TextFile, new_mode: t.Optional[int]) -> None:
        mode = file.mode if new_mode is None else new_mode
        if self.desired.secrets and mode is not None and mode & 0o044:
            self.warnings.append(f"{file.path} holds secrets and its mode {mode:04o} lets others read them; set the option mode to 0600")


def _shown_key(key: str) -> str:
    # install.sh makes a key of each line of a value of several lines.
    return key if env_readers.is_valid_name(environment_file.spelled_name(key)) else "(a key that is no name)"


def _systemd_variables(text: t.Optional[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What systemd makes of the text, from 254 on and before: the text does not tell which of them will read it."""
    return _variables(text), _variables(text, comment_continues=True)


def _variables(text: t.Optional[str], comment_continues: bool = False) -> dict[str, str]:
    return {} if text is None else env_readers.read_systemd(text, comment_continues).variables()
