# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Looking at a host without ever failing: what cannot be seen becomes a warning."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import FileStatus, Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError


class Lookout:
    """The looking half of a Host. Every refusal is kept in `warnings`, once, and answered like "nothing is there"."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.warnings: t.List[str] = []

    def warn(self, text: str) -> None:
        """Keep a warning, unless it is there already."""
        if text and text not in self.warnings:
            self.warnings.append(text)

    def status(self, path: str) -> t.Optional[FileStatus]:
        """lstat of the path, or None where nothing is there or it cannot be looked at."""
        try:
            return self.host.status(path)
        except HostError as exc:
            self.warn(str(exc))
            return None

    def is_missing(self, path: str) -> bool:
        """Whether it is certain that nothing is there; False, with a warning, where that cannot be told."""
        try:
            return self.host.status(path) is None
        except HostError as exc:
            self.warn(str(exc))
            return False

    def read(self, path: str, limit_bytes: int = 1024 * 1024) -> t.Optional[bytes]:
        """The content of a regular file, or None where nothing is there or it cannot be read."""
        try:
            return self.host.read(path, limit_bytes)
        except HostError as exc:
            self.warn(str(exc))
            return None

    def names(self, folder: str) -> t.List[str]:
        """The names in a folder, links to the folder followed; empty where there is none or it cannot be listed."""
        try:
            return self.host.names(self.host.resolve(folder))
        except HostError as exc:
            self.warn(str(exc))
            return []
