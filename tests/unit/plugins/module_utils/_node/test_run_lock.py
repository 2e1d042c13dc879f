# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock of a node, between real processes."""

from __future__ import annotations

import errno
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError

HOST = Host()

HOLDER = """
import subprocess, sys, time
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
with Host().lock(sys.argv[1], sys.argv[2], 5.0):
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "lock")


@pytest.fixture
def other(path: str) -> t.Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock and has started a command."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    argv = [sys.executable, "-c", HOLDER, path, "process 42\nsince noon "]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    os.kill(child, signal.SIGKILL)


def test_who_holds_it_is_said_after_the_time_is_up(path: str, other: subprocess.Popen[str]) -> None:
    assert other.poll() is None
    for wait_seconds in (0.0, 0.5):
        started = time.monotonic()
        with pytest.raises(HostError) as caught, HOST.lock(path, "us", wait_seconds):
            raise AssertionError("two at a time")
        assert wait_seconds <= time.monotonic() - started < wait_seconds + 2
        assert str(caught.value) == ("another run works on this node: process 42 since noon; wait until it has ended, and run again")


def test_a_holder_that_is_killed_holds_it_no_longer_nor_does_what_it_started(path: str, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    started = time.monotonic()
    with HOST.lock(path, "us", 5.0):
        assert pathlib.Path(path).read_bytes() == b"us"
    assert time.monotonic() - started < 2


def test_it_is_waited_for(path: str, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        other.kill()
        other.wait()

    monkeypatch.setattr(host, "pause", pause)
    with host.lock(path, "us", 5.0):
        assert pauses == [0.2]


def test_it_is_given_back_also_after_an_error(path: str) -> None:
    for _time in range(2):
        with pytest.raises(ZeroDivisionError), HOST.lock(path, "us", 0.0):
            raise ZeroDivisionError
    with HOST.lock(path, "us", 0.0):
        pass
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_longer_holder_leaves_nothing_of_its_name(path: str) -> None:
    with HOST.lock(path, "somebody with a long name", 0.0):
        pass
    with HOST.lock(path, "us", 0.0):
        assert pathlib.Path(path).read_bytes() == b"us"


@pytest.mark.parametrize("said", [b"", b" \n"])
def test_a_holder_that_has_not_said_who(path: str, said: bytes) -> None:
    with HOST.lock(path, "us", 0.0):
        pathlib.Path(path).write_bytes(said)
        with pytest.raises(HostError, match=r"^another run works on this node: somebody who has not said who; "), HOST.lock(path, "x", 0.0):
            pass


def test_a_holder_that_is_not_text(path: str) -> None:
    with HOST.lock(path, "\udcff", 0.0):
        pathlib.Path(path).write_bytes(b"\xff" * 5000)
        with pytest.raises(HostError) as caught, HOST.lock(path, "x", 0.0):
            pass
    assert str(caught.value).count("\N{REPLACEMENT CHARACTER}") == 1024


@pytest.mark.parametrize("there", ["link", "folder", "fifo", "no folder"])
def test_what_is_no_lock_file(tmp_path: pathlib.Path, there: str) -> None:
    path = tmp_path / "lock"
    if there == "link":
        path.symlink_to("victim")
    elif there == "folder":
        path.mkdir()
    elif there == "fifo":
        os.mkfifo(path)
    else:
        path = tmp_path / "none" / "lock"
    with pytest.raises(HostError, match=f"^{path} cannot be locked: "), HOST.lock(str(path), "us", 0.0):
        pass
    assert not (tmp_path / "victim").exists()


def test_a_file_system_without_locks(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    before = os.dup(0)
    os.close(before)
    with pytest.raises(HostError) as caught, HOST.lock(path, "us", 0.0):
        pass
    assert str(caught.value) == f"{path} cannot be locked: No locks available"
    after = os.dup(0)
    os.close(after)
    assert after == before


def test_a_full_disk_keeps_nobody_from_undoing(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: t.Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", fail)
    with HOST.lock(path, "us", 0.0), pytest.raises(HostError, match="somebody who has not said who"), HOST.lock(path, "them", 0.0):
        pass
