# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A host that takes note of every file that was looked at, for the receipt."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import FileStatus, Host

# What the kernel makes up has no signature.
_NOT_FILES = ("/proc/", "/sys/")


class WatchedHost:
    """Does all that a Host does; looked_at are the paths that decided anything, also those where nothing was."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.looked_at: set[str] = set()

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._host, name)

    def status(self, path: str) -> FileStatus | None:
        """As Host.status."""
        return self._host.status(self._note(path))

    def resolve(self, path: str) -> str:
        """As Host.resolve; the link and what it leads to both count."""
        return self._note(self._host.resolve(self._note(path)))

    def read(self, path: str, *arguments: t.Any, **options: t.Any) -> bytes | None:
        """As Host.read."""
        return self._host.read(self._note(path), *arguments, **options)

    def sha256(self, path: str) -> str | None:
        """As Host.sha256."""
        return self._host.sha256(self._note(path))

    def link_target(self, path: str) -> str:
        """As Host.link_target."""
        return self._host.link_target(self._note(path))

    def names(self, folder: str) -> list[str]:
        """As Host.names; a folder changes when a name in it comes or goes."""
        return self._host.names(self._note(folder))

    def _note(self, path: str) -> str:
        if not path.startswith(_NOT_FILES):
            self.looked_at.add(path)
        return path
