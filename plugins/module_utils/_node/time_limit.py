# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A time limit for what has none of its own.

The time-out of a socket is for each silence: a server that sends the lines of its answer byte by byte holds http.client for days.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import types
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import OverdueError

# A timer of 0 seconds would be none.
_LEAST_SECONDS = 0.001


@contextlib.contextmanager
def limited(seconds: float) -> t.Iterator[None]:
    """Raise OverdueError within the block when the time is over. Signals reach the main thread only, which is the one of a module."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: t.Optional[types.FrameType]) -> None:
        raise OverdueError(f"it did not end within {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, _LEAST_SECONDS))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
