# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import signal
import socket
import threading
import time
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.time_limit import limited
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import OverdueError


@pytest.fixture(autouse=True)
def nothing_is_left() -> t.Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("seconds", [0.2, 0.0, -5.0])
def test_ends_a_wait_for_the_network(seconds: float) -> None:
    one, other = socket.socketpair()
    start = time.monotonic()
    with one, other, pytest.raises(OverdueError, match=rf"^it did not end within {seconds:g} seconds$"), limited(seconds):
        one.recv(1)
    assert time.monotonic() - start < 5


def test_leaves_alone_what_ends_in_time() -> None:
    with limited(60.0):
        pass


def test_hands_on_what_was_raised() -> None:
    with pytest.raises(ZeroDivisionError), limited(60.0):
        raise ZeroDivisionError


def test_sets_no_limit_where_no_signal_arrives() -> None:
    ended: list[bool] = []

    def work() -> None:
        with limited(0.01):
            time.sleep(0.1)
        ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [True]
