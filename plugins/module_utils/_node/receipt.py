# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A node's own record of its last full verification, for runs that only want to know whether anything has moved since.

It says what was wanted (as a digest), every file that decided the outcome with its signature, also those that must not be
there, and which process the service was. Root only; secrets are in it as part of a digest alone.
"""

from __future__ import annotations

import hashlib
import json
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import state_folder

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceState

FORMAT = 1
_NAME = "receipt.json"


def receipt_path(host: Host) -> str:
    """Where it lies."""
    return f"{state_folder(host)}/{_NAME}"


def digest_of(wanted: t.Mapping[str, t.Any]) -> str:
    """The digest of what is wanted of a node, as plain data."""
    return hashlib.sha256(json.dumps(wanted, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def signature(host: Host, path: str) -> list[int] | None:
    """What changes when the file does: inode, size, mtime and ctime in nanoseconds; None where nothing is there.

    Nobody but the kernel sets ctime, so a file changed behind our back with its size and mtime put back is seen.
    """
    status = host.status(path)
    return None if status is None else [status.inode, status.size_bytes, status.mtime_ns, status.ctime_ns]


def write_receipt(
    host: Host, wanted: t.Mapping[str, t.Any], signed: t.Mapping[str, list[int] | None], since_seconds: float, state: ServiceState | None
) -> None:
    """Write down that the node was as wanted when it was looked at.

    signed: the signatures of the files, and state: that of the service, both from before they were looked at, since since_seconds:
    what has changed meanwhile does not match them any more.
    """
    own = state_folder(host)
    content = {
        "format": FORMAT,
        "wanted": digest_of(wanted),
        "taken_seconds": since_seconds,
        "files": {path: signed[path] for path in sorted(signed) if not f"{path}/".startswith(f"{own}/")},
        "service": None if state is None else {"pid": state.pid, "started": state.started},
    }
    host.make_folder(own, 0o700)
    host.write(receipt_path(host), json.dumps(content).encode(), 0o600)


def remove_receipt(host: Host) -> None:
    """The node is not, or no longer, known to be as wanted."""
    host.remove(receipt_path(host))
