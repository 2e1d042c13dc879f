# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What a module says when it fails."""

from __future__ import annotations

import errno
import os
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError, HostError

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host

_DENIED = os.strerror(errno.EACCES)

# What main() turns into a failure. Memory may be used up at any point: what was begun then lies in the journal.
EXPECTED = (GpustackError, MemoryError)


def message_of(error: t.Union[GpustackError, MemoryError], host: Host) -> str:
    """The sentence of an error; who is not root, and may have failed because of that, is told how to become root."""
    if isinstance(error, MemoryError):
        return "this host has no memory left for the run; free some, and run again, which goes on with what was begun"
    # What nobody may read leads to errors of other kinds, such as that GPUStack was not found.
    may_lack_rights = isinstance(error, HostError) or _DENIED in str(error)
    return f"{error}; this needs root: say `become: true`" if may_lack_rights and host.effective_uid() != 0 else str(error)
