# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A host that takes note of every file that was looked at, for the receipt."""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import signature
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import FileStatus, Host

# What the kernel makes up has no signature.
_NOT_FILES = ("/proc/", "/sys/")
# As many as Linux follows (path_resolution(7)); macOS follows 32.
_MOST_LINKS = 40
# Of what cannot be examined; no file ever has it.
_UNKNOWN: t.List[int] = []


class WatchedHost:
    """Does all that a Host does.

    looked_at: the signature of each path that decided anything, from before it was looked at, None where nothing was: what changes
    while it is being looked at does not have it any more. since: when the looking began, in seconds since the epoch.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.since = host.now()
        self.looked_at: dict[str, list[int] | None] = {}

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._host, name)

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
        self._follow(path)
        return self._host.read(path, *arguments, **options)

    def sha256(self, path: str) -> str | None:
        """As Host.sha256."""
        self._follow(path)
        return self._host.sha256(path)

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
        if path.startswith(_NOT_FILES) or path in self.looked_at:
            return
        try:
            self.looked_at[path] = signature(self._host, path)
        except HostError:
            # Whoever looks at it now is told so.
            self.looked_at[path] = _UNKNOWN
