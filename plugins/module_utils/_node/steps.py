# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What a transaction is made of: single changes to a host, each of which can be undone from what was remembered before it."""

from __future__ import annotations

import dataclasses
import posixpath
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import command_text
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host

# How to undo a step, as JSON: {"path", "kind", "backup", "folders"} or {"argv"}; {} where there is nothing to undo.
Undo = t.Dict[str, t.Any]

_COMMAND_SECONDS = 30.0


class Step(t.Protocol):
    """One change of a host."""

    def save(self, host: Host, backup: str) -> Undo:
        """Remember at backup, a path where nothing is, what apply() will change; returns how to undo it."""

    def apply(self, host: Host) -> None:
        """Make the change. Doing it twice is the same as doing it once. Raises GpustackError."""


@dataclasses.dataclass(frozen=True)
class _PathStep:
    """A change of one path and of what is below it."""

    path: str

    def save(self, host: Host, backup: str) -> Undo:
        """Remember the file, folder or link at the path, and which folders above it are missing, deepest first."""
        folders = []
        above = posixpath.dirname(self.path)
        while above not in ("", "/") and host.status(above) is None:
            folders.append(above)
            above = posixpath.dirname(above)
        return {"path": self.path, "kind": host.snapshot(self.path, backup), "backup": backup, "folders": folders}


@dataclasses.dataclass(frozen=True)
class WriteFile(_PathStep):
    """Give a file this content; an existing one keeps owner, mode (unless one is given) and attributes. data None: remove it."""

    data: t.Optional[bytes]
    mode_if_new: int = 0o644
    mode: t.Optional[int] = None

    def apply(self, host: Host) -> None:
        """Write or remove it."""
        if self.data is None:
            host.remove(self.path)
            return
        host.make_folder(posixpath.dirname(self.path), 0o755)
        host.write(self.path, self.data, self.mode_if_new, self.mode)


@dataclasses.dataclass(frozen=True)
class PlaceFile(_PathStep):
    """Put a copy of a file of this host at the path; it has this digest, or nothing is changed."""

    source: str
    sha256: str
    mode: int = 0o755

    def apply(self, host: Host) -> None:
        """Copy, compare, rename."""
        host.make_folder(posixpath.dirname(self.path), 0o755)
        host.place_file(self.source, self.path, self.mode, self.sha256)


@dataclasses.dataclass(frozen=True)
class PlaceFolder(_PathStep):
    """Put a folder at the path that holds these files of the source (name -> sha256) and links (name -> target), nothing else."""

    source: str
    files: t.Mapping[str, str]
    links: t.Mapping[str, str] = dataclasses.field(default_factory=dict)

    def apply(self, host: Host) -> None:
        """Copy, compare, exchange."""
        host.make_folder(posixpath.dirname(self.path), 0o755)
        host.place_folder(self.source, self.path, self.files, self.links)


@dataclasses.dataclass(frozen=True)
class PlaceLink(_PathStep):
    """Put a symbolic link at the path."""

    target: str

    def apply(self, host: Host) -> None:
        """Link, rename."""
        host.make_folder(posixpath.dirname(self.path), 0o755)
        host.place_link(self.path, self.target)


@dataclasses.dataclass(frozen=True)
class RemovePath(_PathStep):
    """Remove a file, link or folder."""

    def apply(self, host: Host) -> None:
        """Remove it."""
        host.remove(self.path)


@dataclasses.dataclass(frozen=True)
class RestorePath(_PathStep):
    """Put back at the path what was remembered of it earlier."""

    backup: str
    kind: str

    def apply(self, host: Host) -> None:
        """Put it back."""
        host.restore(self.path, self.backup, self.kind)


@dataclasses.dataclass(frozen=True)
class Act:
    """Do something that is no file.

    undo_argv: the command that undoes it, empty where nothing has to be undone. redo_argv: the command that does the same as the
    action, for a rollback that is itself undone.
    """

    action: t.Callable[[], None]
    undo_argv: t.Tuple[str, ...] = ()
    redo_argv: t.Tuple[str, ...] = ()

    def save(self, host: Host, backup: str) -> Undo:
        """The commands are all there is to remember."""
        del host, backup
        commands = {"argv": list(self.undo_argv), "redo": list(self.redo_argv)}
        return {name: argv for name, argv in commands.items() if argv}

    def apply(self, host: Host) -> None:
        """Do it."""
        del host
        self.action()


def undo(host: Host, record: Undo) -> None:
    """Undo a step, whether it was made or not. Raises HostError."""
    if "path" in record:
        host.restore(record["path"], record["backup"], record["kind"])
        remove_made_folders(host, record)
    elif "argv" in record:
        result = host.run(record["argv"], timeout_seconds=_COMMAND_SECONDS)
        if result.rc != 0:
            value = command_text.value(record["argv"])
            said = result.failure().replace(value, "(not shown)") if value else result.failure()
            raise HostError(f"{command_text.shown(record['argv'])} failed: {said}")


def remove_made_folders(host: Host, record: Undo) -> None:
    """Remove the folders that were made for a step; what others have put there meanwhile is theirs. Raises HostError."""
    for folder in record.get("folders", ()):
        found = host.status(folder)
        if found is not None and found.is_directory and not host.names(folder):
            host.remove(folder)
