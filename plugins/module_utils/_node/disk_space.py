# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Room on a file system, looked at before something large is put there."""

from __future__ import annotations

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError

# A disk filled to the last byte stops more than us.
SPARE_BYTES = 64 * 1024 * 1024


def check_room(host: Host, folder: str, needed_bytes: int, what: str) -> None:
    """Raise HostError unless there is room for that many bytes, and some to spare, in an existing folder."""
    free_bytes = host.free_bytes(folder)
    if free_bytes < needed_bytes + SPARE_BYTES:
        raise HostError(
            f"{folder} has room for {free_bytes} bytes, and {what} needs {needed_bytes} and {SPARE_BYTES} to spare; make room there"
        )
