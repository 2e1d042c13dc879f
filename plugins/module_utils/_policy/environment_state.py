# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The environment of a node as wanted and as found, and what has to be done about the difference, as plain data."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.diffs import diff_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.property_list import PropertyList
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE


@dataclasses.dataclass(frozen=True)
class Desired:
    """What is asked for. variables: all of them, by name; lines: our block; secrets: the names whose values are never shown."""

    variables: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    lines: tuple[str, ...] = ()
    secrets: frozenset[str] = frozenset()
    remove_residency: bool = True
    keep_unmanaged: bool = True
    mode: t.Optional[int] = None

    def secret_lines(self) -> frozenset[str]:
        """The lines of the block that set a secret."""
        return frozenset(line for line in self.lines if line.partition("=")[0] in self.secrets)

    def open_lines(self) -> frozenset[str]:
        """The lines of the block that may be shown."""
        return frozenset(self.lines) - self.secret_lines()


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A file as found: its path with links followed, its text (None: absent), and its permission bits (None: absent)."""

    path: str
    text: t.Optional[str]
    mode: t.Optional[int] = None


@dataclasses.dataclass(frozen=True)
class Observed:
    """The environment of a node as found.

    reader: who reads the main file on this host. other_files: further EnvironmentFile= of the unit. read_order: the paths
    of all that the unit reads, the last one winning; the main file is not among them where the unit does not name it. live: the
    environment that the service was loaded with, None where it holds none or cannot be seen. live_is_complete: whether
    it has no more variables than that. manager_has_residency: None where that cannot be seen.
    """

    reader: str
    main_file: TextFile
    other_files: tuple[TextFile, ...] = ()
    read_order: tuple[str, ...] = ()
    unit_files: tuple[TextFile, ...] = ()
    plist_file: t.Optional[TextFile] = None
    plist: t.Optional[PropertyList] = None
    live: t.Optional[t.Mapping[str, str]] = None
    live_is_complete: bool = True
    manager_has_residency: t.Optional[bool] = None


@dataclasses.dataclass(frozen=True)
class Write:
    """A file to be written (data None: removed), and how the change is shown in a diff."""

    path: str
    data: t.Optional[bytes]
    mode: t.Optional[int]
    mode_if_new: int
    shown_before: str
    shown_after: str

    def as_diff(self) -> dict[str, str]:
        """The change in the form that Ansible prints."""
        return diff_of(self.path, self.shown_before, self.shown_after)


@dataclasses.dataclass(frozen=True)
class Change:
    """One change, for people: resource (environment_file, plist, unit_file, manager_environment), where, action, name, line."""

    resource: str
    where: str
    action: str
    name: str
    line: t.Optional[int] = None

    def as_dict(self) -> dict[str, t.Any]:
        """The change as module return value."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that is to be done, in this order: writes, unset_manager_variable, and a restart where there are reasons.

    dropped: variables that the service had from us or from the main file, and is not given any more.
    blocked: what would make a restart useless.
    wanted, forbidden: variables that must and must not be in the environment of the service once it was restarted.
    """

    writes: tuple[Write, ...]
    unset_manager_variable: bool
    changes: tuple[Change, ...]
    restart_reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    dropped: tuple[str, ...]
    blocked: tuple[str, ...]
    wanted: t.Mapping[str, str]
    forbidden: frozenset[str]

    def diffs(self) -> list[dict[str, str]]:
        """All changes in the form that Ansible prints."""
        found = [write.as_diff() for write in self.writes]
        if self.unset_manager_variable:
            found.append(diff_of("the service manager's environment", f"{RESIDENCY_VARIABLE}=(not shown)\n", ""))
        return found
