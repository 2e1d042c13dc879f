# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""PID 1 of a simulated Mac: reaps every orphan, keeps sshd running, does what launchctl asks."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
import typing as t

from .common import SIM, write_json
from .domain import Domain, Wait
from .replies import Reply

SOCKET = f"{SIM}/launchd.sock"
SSHD = ["/usr/sbin/sshd", "-D", "-e"]
SSHD_PAUSE_SECONDS = 0.5
REQUEST_LIMIT_SECONDS = 2.0


class Launchd:
    def __init__(self) -> None:
        write_json("boot.json", {"time": time.time()})
        self.domain = Domain()
        self.waiting: t.List[t.Tuple[socket.socket, Wait]] = []
        self.sshd = 0
        self.sshd_due: t.Optional[float] = 0.0
        self.listener = self._listen()
        self.wake, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    @staticmethod
    def _listen() -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(SOCKET)
        os.chmod(SOCKET, 0o666)
        listener.listen(32)
        return listener

    def run(self) -> int:
        self._start_sshd()
        self.domain.load_at_boot()
        while True:
            ready, _w, _x = select.select([self.listener.fileno(), self.wake], [], [], self._pause())
            if self.wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.wake, 4096)
            self._reap()
            self._start_sshd()
            if self.listener.fileno() in ready:
                self._accept()

    def _pause(self) -> t.Optional[float]:
        """Ask whether somebody's wait is over, then how long nothing will happen by itself."""
        moments = [self.domain.tick(), self.sshd_due, self._serve_waiting()]
        known = [moment for moment in moments if moment is not None]
        return max(0.0, min(known) - time.monotonic()) if known else None

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.sshd:
                self.sshd, self.sshd_due = 0, time.monotonic() + SSHD_PAUSE_SECONDS
            else:
                self.domain.child_ended(pid, status)

    def _start_sshd(self) -> None:
        if self.sshd or self.sshd_due is None or self.sshd_due > time.monotonic():
            return
        self.sshd_due = None
        self.sshd = os.fork()
        if self.sshd == 0:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            os.execve(SSHD[0], SSHD, {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"})

    def _accept(self) -> None:
        connection, _address = self.listener.accept()
        connection.settimeout(REQUEST_LIMIT_SECONDS)
        try:
            request = json.loads(connection.makefile("rb").readline())
            _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if request["command"] == "reboot" and uid == 0:
                self._reboot()
            answer = self.domain.answer(request["command"], request["arguments"], uid)
        except (OSError, ValueError, KeyError) as error:
            answer = Reply(70, err=f"launchd: {error}\n")
        if isinstance(answer, Wait):
            self.waiting.append((connection, answer))
        else:
            self._reply(connection, answer)

    @staticmethod
    def _reboot() -> t.NoReturn:
        """All processes end, sysctl forgets, the disk stays: what was not written down for the next start is lost."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{SIM}/sysctl.json")
        os.execve("/sbin/launchd", ["/sbin/launchd"], dict(os.environ))

    def _serve_waiting(self) -> t.Optional[float]:
        still = []
        for connection, wait in self.waiting:
            reply = wait.ask() or (wait.late if wait.deadline <= time.monotonic() else None)
            if reply is None:
                still.append((connection, wait))
            else:
                self._reply(connection, reply)
        self.waiting = still
        return min((wait.deadline for _connection, wait in still), default=None)

    @staticmethod
    def _reply(connection: socket.socket, reply: Reply) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(json.dumps(reply._asdict()).encode() + b"\n")


def main(_arguments: t.List[str]) -> int:
    if os.getpid() != 1:
        print("launchd cannot be run directly.", file=sys.stderr)
        return 1
    return Launchd().run()
