# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""The keeper: PID 1 of a session's namespaces.

All hosts, their mounts and interfaces live inside, so its end is the end of all of them, by the kernel's doing. It ends
when it is told to, when its owner ends (pidfd) and when the supervisor outside ends (parent-death signal of unshare).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
import typing as t

from . import boot, kernel, lifecycle
from .places import HostsError
from .state import SessionState

BRIDGE = "fleet0"
REQUEST_LIMIT_SECONDS = 10.0


def run(name: str, owner: int) -> t.NoReturn:
    """owner: a pidfd of the process whose end ends the session."""
    state = SessionState(name)
    outer_pid = int(os.readlink("/proc/self"))  # /proc is still the machine's
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    _bridge()
    listener = _listen(state)
    state.write_json(state.facts, {**state.read_facts(), "keeper_pid": outer_pid, "netns": os.stat("/proc/self/ns/net").st_ino})
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    poller = select.poll()
    for descriptor in (listener.fileno(), owner, wake_read):
        poller.register(descriptor, select.POLLIN)
    while True:
        for descriptor, _event in poller.poll():
            if descriptor == owner:
                sys.exit(0)
            if descriptor == wake_read:
                os.read(wake_read, 4096)
                _reap()
            if descriptor == listener.fileno():
                connection, _address = listener.accept()
                _serve(connection, listener, state)


def _bridge() -> None:
    commands = f"link set lo up\nlink add {BRIDGE} type bridge\naddr add {boot.GATEWAY}/{boot.PREFIX} dev {BRIDGE}\nlink set {BRIDGE} up\n"
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, timeout=30, check=True)


def _listen(state: SessionState) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    folder = os.open(state.folder, os.O_PATH | os.O_DIRECTORY)
    listener.bind(f"/proc/self/fd/{folder}/keeper.sock")
    os.close(folder)
    os.chmod(state.folder / "keeper.sock", 0o600)
    listener.listen(64)
    return listener


def _reap() -> None:
    """Every orphan of the session is our child: hosts whose starter ended, ssh masters of ended commands."""
    while True:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _serve(connection: socket.socket, listener: socket.socket, state: SessionState) -> None:
    """Each request in a child, so that a slow boot never keeps the keeper from noticing its owner's end."""
    with connection:
        connection.settimeout(REQUEST_LIMIT_SECONDS)
        try:
            request = json.loads(connection.makefile("rb").readline() or b"{}")
        except (OSError, ValueError):
            return
        if request.get("action") == "stop":
            sys.exit(0)
        connection.settimeout(None)
        if os.fork() == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _answer(connection, request, state)


def _answer(connection: socket.socket, request: t.Dict[str, t.Any], state: SessionState) -> t.NoReturn:
    try:
        reply: t.Dict[str, t.Any] = {"result": _ACTIONS[request["action"]](state, request)}
    except HostsError as error:
        reply = {"error": str(error)}
    except BaseException:  # the caller must hear of it; the keeper goes on
        reply = {"error": traceback.format_exc()}
    try:
        connection.sendall(json.dumps(reply).encode() + b"\n")
    finally:
        os._exit(0)


_ACTIONS: t.Dict[str, t.Callable[[SessionState, t.Dict[str, t.Any]], t.Any]] = {
    "up": lambda state, request: lifecycle.up(state, [boot.Spec(**spec) for spec in request["specs"]], request["limit"]),
    "down": lambda state, request: lifecycle.down(state, request["names"]),
    "crash": lambda state, request: lifecycle.crash(state, request["names"]),
    "boot": lambda state, request: lifecycle.again(state, request["names"], request["limit"]),
    "ping": lambda state, request: state.name,
}
