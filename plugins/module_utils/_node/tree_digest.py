# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""One digest of a file, a link or a whole folder: names, kinds and contents, not times."""

from __future__ import annotations

import hashlib
import posixpath
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host


def tree_digest(host: Host, path: str) -> str:
    """The digest of what is at the path, with owners and permissions; empty where nothing is. Raises HostError for what cannot be read."""
    status = host.status(path)
    if status is None:
        return ""
    if status.is_symlink:
        return f"link:{host.link_target(path)}"
    rights = f"{status.mode:o}:{status.uid}:{status.gid}"
    if status.is_directory:
        lines = "".join(f"{name}\0{tree_digest(host, posixpath.join(path, name))}\n" for name in host.names(path))
        return f"folder:{rights}:{hashlib.sha256(lines.encode('utf-8', 'surrogateescape')).hexdigest()}"
    return f"file:{rights}:{host.sha256(path)}"
