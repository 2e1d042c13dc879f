# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A host that takes note of everything that was looked at or asked, for the receipt."""

from __future__ import annotations

import dataclasses
import hashlib
import posixpath
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult, FileStatus, Host

# What the kernel makes up has no signature.
_NOT_FILES = ("/proc/", "/sys/")
# As many as Linux follows (path_resolution(7)); macOS follows 32.
_MOST_LINKS = 40
# They change the host or say nothing about it, or (exposure) say what nobody but root can change, and change with every name that comes
# or goes. What any other method says is not in the receipt.
_NO_LOOKS = frozenset(
    (
        "system machine effective_uid process_id now monotonic pause limited make_folder lock exposure"
        " write remove remove_leftovers rename create append place_file place_folder place_link restore"
    ).split()
)


@dataclasses.dataclass
class Evidence:
    """What a run has seen of a host.

    since: when the looking began, in seconds since the epoch. files: path -> its status from before it was looked at, None where
    nothing was: what changes while it is being looked at does not have it any more. answers: argv -> all that the command has said.
    contents: what files of the kernel held, None where there were none. digests: path -> the SHA-256 of a file that was read or
    hashed. gaps: why this is not all that decided.
    """

    since: float
    files: dict[str, FileStatus | None] = dataclasses.field(default_factory=dict)
    answers: dict[tuple[str, ...], list[CommandResult]] = dataclasses.field(default_factory=dict)
    contents: dict[str, bytes | None] = dataclasses.field(default_factory=dict)
    digests: dict[str, str] = dataclasses.field(default_factory=dict)
    gaps: list[str] = dataclasses.field(default_factory=list)


class WatchedHost:
    """Does all that a Host does."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.evidence = Evidence(host.now())

    def __getattr__(self, name: str) -> t.Any:
        if name not in _NO_LOOKS:
            self._gap(f"the node was asked for {name}, which no receipt can vouch for")
        return getattr(self._host, name)

    def run(self, argv: t.Sequence[str], *arguments: t.Any, **options: t.Any) -> CommandResult:
        """As Host.run."""
        try:
            result = self._host.run(argv, *arguments, **options)
        except HostError as exc:
            self._gap(str(exc))
            raise
        said = self.evidence.answers.setdefault(tuple(argv), [])
        if result not in said:
            said.append(result)
        return result

    def status(self, path: str) -> FileStatus | None:
        """As Host.status."""
        self._note(path)
        return self._host.status(path)

    def link_target(self, path: str) -> str:
        """As Host.link_target."""
        self._note(path)
        return self._host.link_target(path)

    def resolve(self, path: str) -> str:
        """As Host.resolve."""
        self._follow(path)
        return self._host.resolve(path)

    def read(self, path: str, *arguments: t.Any, **options: t.Any) -> bytes | None:
        """As Host.read."""
        if not path.startswith(_NOT_FILES):
            self._follow(path)
            data = self._host.read(path, *arguments, **options)
            self._note_digest(path, None if data is None else hashlib.sha256(data).hexdigest())
            return data
        try:
            content = self._host.read(path, *arguments, **options)
        except HostError as exc:
            self._gap(str(exc))
            raise
        if self.evidence.contents.setdefault(path, content) != content:
            self._gap(f"{path} changed while it was looked at")
        return content

    def sha256(self, path: str) -> str | None:
        """As Host.sha256."""
        self._follow(path)
        digest = self._host.sha256(path)
        self._note_digest(path, digest)
        return digest

    def names(self, folder: str) -> list[str]:
        """As Host.names; a folder changes when a name in it comes or goes."""
        self._follow(folder)
        return self._host.names(folder)

    def _follow(self, path: str) -> None:
        """Note a path and, where it is a link, every step of the way, which may turn elsewhere, and what it leads to."""
        self._note(self._host.resolve(path))
        for _link in range(_MOST_LINKS):
            self._note(path)
            try:
                status = self._host.status(path)
                if status is None or not status.is_symlink:
                    return
                path = posixpath.normpath(posixpath.join(posixpath.dirname(path), self._host.link_target(path)))
            except HostError:
                return

    def _note(self, path: str) -> None:
        if path in self.evidence.files:
            return
        try:
            self.evidence.files[path] = self._host.status(path)
        except HostError as exc:
            # Whoever looks at it now is told so.
            self._gap(str(exc))

    def _note_digest(self, path: str, digest: str | None) -> None:
        if digest is not None and self.evidence.digests.setdefault(path, digest) != digest:
            self._gap(f"{path} changed while it was looked at")

    def _gap(self, why: str) -> None:
        if why not in self.evidence.gaps:
            self.evidence.gaps.append(why)
