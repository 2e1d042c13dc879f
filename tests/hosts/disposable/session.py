# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""Start, stop and tidy sessions, from outside of their namespaces."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import typing as t

from . import cgroups, image, kernel, places, skins
from .places import HostsError
from .state import SessionState

START_LIMIT_SECONDS = 30.0
STOP_LIMIT_SECONDS = 30.0
INOTIFY = pathlib.Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 4096


def start(name: str, owner_pid: int) -> None:
    """A keeper in namespaces of its own, ready for hosts; it ends when the owner does."""
    if os.geteuid() != 0:
        raise HostsError("sessions need root: they make namespaces, mounts and interfaces")
    try:
        owner = os.pidfd_open(owner_pid)
    except ProcessLookupError as error:
        raise HostsError(f"the owner, process {owner_pid}, does not exist") from error
    _allow_many_hosts()
    facts = {"base": str(image.base()), "skins": {kind: str(skins.layer(kind)) for kind in ("linux", "mac")}, "owner_pid": owner_pid}
    with _tidying():
        _remove_dead()
        _start(SessionState(name), facts, owner)


@contextlib.contextmanager
def _tidying() -> t.Iterator[None]:
    """A session that is just being made looks dead: who makes one and who removes dead ones take turns."""
    places.sessions().mkdir(parents=True, exist_ok=True)
    with open(places.sessions() / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(state: SessionState, facts: t.Dict[str, t.Any], owner: int) -> None:
    if state.alive():
        raise HostsError(f"session {state.name!r} is running; stop it first: hosts stop {state.name}")
    state.hosts.mkdir(parents=True)
    state.control.mkdir(mode=0o700, parents=True, exist_ok=True)
    for key in (state.key, state.host_key):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"hosts-{state.name}", "-f", str(key)]
        subprocess.run(command, check=True, timeout=30, stdin=subprocess.DEVNULL)
    state.write_json(state.facts, facts)
    with open(state.log, "ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, str(places.TOOL / "hosts"), "_supervise", state.name, str(owner)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True, pass_fds=(owner,),
        )  # fmt: skip
    os.close(owner)
    _wait_until_ready(state, supervisor)


def _allow_many_hosts() -> None:
    """Each systemd takes a few of these, from one pool that all root users of the machine share; the default is 128."""
    if int(INOTIFY.read_text(encoding="ascii")) < INOTIFY_INSTANCES:
        INOTIFY.write_text(str(INOTIFY_INSTANCES), encoding="ascii")


def _wait_until_ready(state: SessionState, supervisor: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_SECONDS
    while "keeper_pid" not in (state.read_facts() if state.facts.exists() else {}):
        if supervisor.poll() is not None or time.monotonic() > deadline:
            story = state.log.read_text(encoding="utf-8").strip() if state.log.exists() else "its owner has ended"
            raise HostsError(f"session {state.name!r} did not start: {story}")
        time.sleep(0.02)


def supervise(name: str, owner: int) -> int:
    """Outside of the namespaces: starts the keeper, waits for its end, removes what is not a kernel object.

    If this process is killed, unshare and the keeper get SIGKILL from the kernel, and the next start or gc tidies up.
    """
    state = SessionState(name)
    with open(state.lock, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--propagation", "private"]
        keeper = subprocess.Popen(
            [*command, sys.executable, str(places.TOOL / "hosts"), "_keep", name, str(owner)],
            pass_fds=(owner,),
            preexec_fn=lambda: kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        os.close(owner)
        signal.signal(signal.SIGTERM, lambda *_: keeper.kill())
        keeper.wait()
        _remove_remains(state)
    return 0


def _remove_remains(state: SessionState) -> None:
    cgroups.remove(cgroups.session_group(state.name))
    for folder in (state.control, state.folder):
        shutil.rmtree(folder, ignore_errors=True)


def stop(name: str) -> None:
    """Ask the keeper to end and wait until the supervisor has tidied up."""
    state = SessionState(name)
    if not state.alive():
        _remove_remains(state)
        return
    with contextlib.suppress(HostsError, FileNotFoundError), state.connect() as link:
        link.sendall(json.dumps({"action": "stop"}).encode() + b"\n")
    deadline = time.monotonic() + STOP_LIMIT_SECONDS
    while state.alive():
        if time.monotonic() > deadline:
            raise HostsError(f"session {name!r} did not end within {STOP_LIMIT_SECONDS:.0f} s; see {state.log}")
        time.sleep(0.02)
    _remove_remains(state)


def gc() -> t.List[str]:
    """Remove what dead sessions of this cache left: folders, control sockets, cgroups. Returns their names."""
    with _tidying():
        return _remove_dead()


def _remove_dead() -> t.List[str]:
    known = {path.name for path in places.sessions().glob("*") if path.is_dir()}
    dead = [name for name in sorted(known | set(cgroups.our_sessions())) if not SessionState(name).alive()]
    for name in dead:
        _remove_remains(SessionState(name))
    return dead


def living() -> t.List[str]:
    return [path.name for path in sorted(places.sessions().glob("*")) if path.is_dir() and SessionState(path.name).alive()]


def ask(name: str, request: t.Dict[str, t.Any]) -> t.Any:
    """One request to the keeper, one reply."""
    with SessionState(name).connect() as link:
        link.sendall(json.dumps(request).encode() + b"\n")
        line = link.makefile("rb").readline()
    if not line:
        raise HostsError(f"session {name!r} ended while it was asked to {request['action']}")
    reply = json.loads(line)
    if "error" in reply:
        raise HostsError(reply["error"])
    return reply["result"]


def run(name: str, command: t.Sequence[str]) -> int:
    """A command among the session's hosts: in its network, and in its pid namespace so that it ends with the session."""
    state = SessionState(name)
    facts = state.read_facts()
    if os.stat("/proc/self/ns/net").st_ino == facts["netns"]:  # a command of the session calls the tool again
        return subprocess.call(list(command))
    where = os.getcwd()
    kinds = {"pid": kernel.CLONE_NEWPID, "net": kernel.CLONE_NEWNET, "mnt": kernel.CLONE_NEWNS}
    try:
        doors = {kind: os.open(f"/proc/{facts['keeper_pid']}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds}
    except FileNotFoundError as error:
        raise HostsError(f"session {name!r} has ended") from error
    for kind, door in doors.items():
        kernel.setns(door, kinds[kind])
        os.close(door)
    os.chdir(where)
    return _run_and_forward(command, {**os.environ, "HOSTS_SESSION": name})


def _run_and_forward(command: t.Sequence[str], environment: t.Dict[str, str]) -> int:
    """Our caller's signals are meant for the command; the exit status is the command's, 128 + n after a signal."""
    child = subprocess.Popen(list(command), env=environment, preexec_fn=lambda: kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: child.send_signal(received))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command too
    status = child.wait()
    return status if status >= 0 else 128 - status
