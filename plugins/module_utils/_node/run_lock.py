# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A lock that the kernel releases when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.os_errors import as_host_error
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host

_POLL_SECONDS = 0.2
_LIMIT_BYTES = 1024


@contextlib.contextmanager
def hold(host: Host, path: str, holder: str, wait_seconds: float) -> t.Iterator[None]:
    """Hold the lock. Raises HostError naming the other holder.

    A lock of flock(2) belongs to the open file, which O_CLOEXEC keeps from the commands we start: one that outlives us does not
    hold it. The file stays: removing it would let two processes lock two files.
    """
    failure = f"{path} cannot be locked"
    with as_host_error(failure):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise HostError(f"{failure}: it is not a regular file")
        with as_host_error(failure):
            _wait(host, descriptor, wait_seconds)
        # A full disk must not keep us from undoing what filled it: who holds the lock is for people only.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode("utf-8", "replace"), 0)
        yield
    finally:
        os.close(descriptor)


def _wait(host: Host, descriptor: int, wait_seconds: float) -> None:
    deadline = host.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            return
        if host.monotonic() >= deadline:
            said = os.pread(descriptor, _LIMIT_BYTES, 0).decode("utf-8", "replace")
            other = " ".join(said.split()) or "somebody who has not said who"
            raise HostError(f"another run works on this node: {other}; wait until it has ended, and run again")
        host.pause(_POLL_SECONDS)
