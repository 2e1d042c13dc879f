# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bus is played from recordings here; scenarios and faults ask a real one."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import struct
import sys
import threading
import time
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import system_bus
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt_check import Live
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.system_bus import systemd_properties
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.tests.unit.bus_recordings import QUESTIONS, RECORDINGS, Recording

ALL = pytest.mark.parametrize("recording", RECORDINGS, ids=str)
ONE = RECORDINGS[0]
GREETING = ONE.received.partition(b"\r\n")[0] + b"\r\n"
SIGNAL = 4
ORDER, OTHER_ORDER = (b"l", b"B") if sys.byteorder == "little" else (b"B", b"l")


class Bus:
    """Reads all that the recording's client sent, says something, and hangs up, or stays silent."""

    def __init__(self, path: pathlib.Path, pieces: t.Sequence[bytes], hangs_up: bool = True) -> None:
        self.path = os.fsencode(path)
        self.heard = b""
        self._pieces = pieces
        self._hangs_up = hangs_up
        self._end = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Bus:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        connection, _address = self._socket.accept()
        with connection, contextlib.suppress(BrokenPipeError):
            piece = b"?"
            while piece and len(self.heard) < len(as_us(ONE.sent)):
                piece = connection.recv(65536)
                self.heard += piece
            for piece in self._pieces:
                connection.sendall(piece)
            if not self._hangs_up:
                self._end.wait()


def as_us(sent: bytes) -> bytes:
    """A recording is of root."""
    return sent.replace(b"EXTERNAL 30\r\n", b"EXTERNAL %s\r\n" % str(os.geteuid()).encode().hex().encode())


def ask(tmp_path: pathlib.Path, *pieces: bytes, hangs_up: bool = True, seconds: float = 20.0) -> tuple[t.Any, bytes]:
    """What is found, or the error; and what was sent."""
    with Bus(tmp_path / "bus", pieces, hangs_up) as bus:
        try:
            found: t.Any = systemd_properties(QUESTIONS, seconds, bus.path)
        except OSError as exc:
            found = exc
    os.unlink(bus.path)
    return found, bus.heard


def message(kind: int, serial: int, body: bytes = b"", signature: bytes = b"") -> bytes:
    """As a bus would make it that puts the fields in another order, and one more of them."""
    fields = struct.pack("=BB1sBI", 9, 1, b"u", 0, 0)
    if signature:
        fields += struct.pack("=BB1sBB", 8, 1, b"g", 0, len(signature)) + signature + b"\0"
    fields += bytes(-len(fields) % 8) + struct.pack("=BB1sBI", 7, 1, b"s", 0, 2) + b":1\0"
    if serial:
        fields += bytes(-len(fields) % 8) + struct.pack("=BB1sBI", 5, 1, b"u", 0, serial)
    head = struct.pack("=cBBBIII", ORDER, kind, 0, 1, len(body), 99, len(fields)) + fields
    return head + bytes(-len(head) % 8) + body


@ALL
@pytest.mark.parametrize("size", [1, 7, 1000, 10_000])
def test_a_recorded_bus(tmp_path: pathlib.Path, recording: Recording, size: int) -> None:
    """Byte for byte what a real one was sent, and what it said, in pieces of any size, a signal among it."""
    pieces = [recording.received[at : at + size] for at in range(0, len(recording.received), size)]
    found, heard = ask(tmp_path, *pieces, hangs_up=False)
    assert (found, heard) == (recording.replies(), as_us(recording.sent))
    assert SIGNAL in {one[1] for one in recording.messages()}


def test_replies_in_another_order_and_to_others(tmp_path: pathlib.Path) -> None:
    count = sum(len(names) for _path, _interface, names in QUESTIONS)
    replies = {serial: b"%d" % serial for serial in range(1, count + 2)}
    others = [message(2, 0, b"none"), message(2, count + 2, b"too high"), message(SIGNAL, 3, b"signal", b"s"), message(9, 3, b"new kind")]
    pieces = [message(2, serial, body, b"v") for serial, body in reversed(replies.items())]
    found, _heard = ask(tmp_path, GREETING, *others, *pieces, hangs_up=False)
    assert [body for told in found for body in told] == [replies[serial] for serial in range(2, count + 2)]


@ALL
def test_a_bus_that_does_not_answer_to_the_end(recording: Recording) -> None:
    for size in range(len(recording.received)):
        pieces = iter([recording.received[:size]])
        with pytest.raises(OSError, match="does not answer to the end"):
            system_bus._replies(lambda _most, pieces=pieces: next(pieces, b""), 14)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"REJECTED EXTERNAL\r\n", "the system bus does not let us in"),
        (b"OKAY 1\r\n", "the system bus does not let us in"),
        (GREETING + message(3, 2, b"error"), "the system bus does not say what it is asked"),
        (GREETING + message(3, 0, b"error"), "the system bus does not say what it is asked"),
        (GREETING + b"x" * 100, "the system bus does not speak as this machine does"),
        (
            GREETING + (b"B" if sys.byteorder == "little" else b"l") + message(2, 1)[1:],
            "the system bus does not speak as this machine does",
        ),
        (b"x" * 5_000_000, "the system bus does not answer to the end"),
        (GREETING + message(2, 1)[:4] + b"\xff" * 5_000_000, "the system bus does not answer to the end"),
        (b"", "the system bus does not answer to the end"),
        # Signals without end.
        (GREETING + message(SIGNAL, 0, b"x" * 100_000) * 50, "the system bus does not answer to the end"),
    ],
)
def test_anything_else_is_refused(tmp_path: pathlib.Path, said: bytes, why: str) -> None:
    found, _heard = ask(tmp_path, said)
    assert isinstance(found, OSError)
    assert str(found) == why


def test_a_bus_that_hangs(tmp_path: pathlib.Path) -> None:
    start = time.monotonic()
    found, _heard = ask(tmp_path, GREETING, hangs_up=False, seconds=0.2)
    # TimeoutError since Python 3.10.
    assert isinstance(found, OSError)
    assert "timed out" in str(found)
    assert time.monotonic() - start < 15


def test_no_bus(tmp_path: pathlib.Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        systemd_properties(QUESTIONS, 1.0, os.fsencode(tmp_path / "none"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_module_and_the_program_ask_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one gives up soon, since it has another way; the other one is ended by its alarm."""
    asked: list[tuple[t.Any, float]] = []

    def properties(questions: t.Any, timeout_seconds: float) -> list[list[bytes]]:
        asked.append((questions, timeout_seconds))
        return [[b"x"]]

    monkeypatch.setattr(system_bus, "systemd_properties", properties)
    monkeypatch.setattr("ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt_check.systemd_properties", properties)
    assert Host().systemd_properties(QUESTIONS[:1]) == Live().properties(QUESTIONS[:1]) == [[b"x"]]
    assert asked == [(QUESTIONS[:1], 5.0), (QUESTIONS[:1], 20)]


@pytest.mark.parametrize("error", [OSError("the system bus does not let us in"), ImportError("no sockets"), TimeoutError("timed out")])
def test_where_there_is_none_the_host_says_so(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def properties(*_arguments: t.Any) -> t.NoReturn:
        raise error

    monkeypatch.setattr(system_bus, "systemd_properties", properties)
    with pytest.raises(HostError, match=f"^systemd cannot be asked on the system bus: {error}$"):
        Host().systemd_properties(QUESTIONS)
