# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The files that EnvironmentFile= of a unit names: systemd takes patterns there."""

from __future__ import annotations

import fnmatch
import posixpath
import re
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host

_WILDCARD = re.compile(r"[*?\[]")


def expand(host: Host, pattern: str) -> list[str]:
    """The files that match; a path without wildcards as it stands. The folder part is taken as it stands."""
    folder, name = posixpath.split(pattern)
    if not _WILDCARD.search(name):
        return [pattern]
    return [posixpath.join(folder, found) for found in host.names(folder) if fnmatch.fnmatchcase(found, name)]


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern names a path, be there a file or not."""
    folder, name = posixpath.split(pattern)
    if not _WILDCARD.search(name):
        return pattern == path
    return posixpath.dirname(path) == folder and fnmatch.fnmatchcase(posixpath.basename(path), name)
