# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Looks at a node's health, waits for it after a restart, and tells whether anybody would notice one."""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.processes import age_seconds, service_processes
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import POLL_SECONDS
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.health import (
    HEALTH_PATH,
    SERVER,
    SERVER_PORT,
    WORKER,
    WORKER_PORT,
    Health,
    is_rpc_server,
    losses,
    models_served,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.sockets import netstat_ports, proc_ports, rpc_port

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceManager, ServiceState
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.processes import Process

# An RPC server or a main process that was seen to end this often is not coming to rest.
_CRASHES = 2
# How long GPUStack may take from one thing that it starts to the next. worker.py starts RPC servers three seconds after itself, each by
# a process that loads GPUStack first, and tries again after 20 seconds. The worker that a server has in it comes after the server.
_QUIET_SECONDS = 30.0
# A service manager, or GPUStack while it loads a model, may be late with one answer.
_ATTEMPTS = 3


def baseline(host: Host, installation: Installation, service: ServiceManager, settle_seconds: float, timeout_seconds: float) -> Health:
    """The health of a node before it is changed, of which nobody knows when it was started.

    What is not there yet cannot be missed when a change breaks it, so this waits until the node has begun (see _Beginning) and all that
    runs has run for settle_seconds; only that counts. A main process that ends twice meanwhile does not count as running.
    """
    state = _known_state(host, service)
    if not state.running or state.pid is None:
        rpc_servers = None if state.running is None else _count(_rpc_servers(host, state))
        return Health(state.running, _answering(host, installation, _ATTEMPTS), rpc_servers, state.detail)
    watch = _Watch(lambda pid: age_seconds(host, pid))
    beginning = _Beginning(settle_seconds, timeout_seconds)
    while True:
        now = host.monotonic()
        answering = _answering(host, installation)
        watch.look(state, _rpc_servers(host, state), answering, now)
        if watch.main_ends >= _CRASHES:
            break
        is_over = beginning.is_over(watch, answering, now)
        if not is_over:
            host.pause(POLL_SECONDS)
        again = service.state()
        # A process that ended before its age was asked seems to have run for ever, so it is asked for once more.
        if is_over and (again.running is None or again.pid == state.pid):
            break
        # A manager that does not answer for once has not said that the service ended.
        state = state if again.running is None else again
    if state.running and (watch.main_ends >= _CRASHES or not watch.main_is_settled(now, settle_seconds)):
        state = _unsteady(state)
    return Health(state.running, _answering(host, installation, _ATTEMPTS), watch.settled(now, settle_seconds), state.detail)


def wait_healthy(
    host: Host,
    installation: Installation,
    service: ServiceManager,
    before: Health,
    settle_seconds: float,
    timeout_seconds: float,
) -> Health:
    """Poll after a restart until everything that worked before works again, and has for settle_seconds: processes without a break.

    Returns the health at that time, or at the time limit, when a main process that was started just before does not count as
    running. An RPC server that ends again and again ends the waiting earlier.
    """
    start: t.Optional[float] = None
    watch = _Watch()
    while True:
        # A manager that does not answer for once has not said that the service ended.
        state = _known_state(host, service)
        now = host.monotonic()
        if start is None:
            # Looking takes time, too: what has been there from the beginning has to be settled when the time is over.
            start = now
        answering = _answering(host, installation)
        watch.look(state, _rpc_servers(host, state), answering, now)
        rpc_servers = watch.settled(now, settle_seconds)
        crashes = watch.crashes >= _CRASHES and rpc_servers is not None and rpc_servers < (before.rpc_servers or 0)
        is_over = now - start >= timeout_seconds + settle_seconds
        is_steady = watch.main_is_settled(now, settle_seconds)
        if is_over and state.running and not is_steady:
            state = _unsteady(state)
        # Whatever else was on its way when the waiting was cut short is not held against the node.
        lasting = answering if crashes else watch.answering(now, settle_seconds)
        health = Health(state.running, lasting, rpc_servers, state.detail)
        if is_over or crashes or (is_steady and not losses(before, health)):
            return health
        host.pause(POLL_SECONDS)


def why_busy(host: Host, state: ServiceState) -> str:
    """Why a restart would be noticed; empty where nobody would."""
    if not state.running or state.pid is None:
        return ""
    try:
        processes = service_processes(host, state.pid)
    except HostError as exc:
        return f"whether models run cannot be seen ({exc})"
    models = models_served(processes)
    if models:
        return f"{models} model instance{'s run' if models > 1 else ' runs'} on this node"
    rpc_servers = [process for process in processes if is_rpc_server(process)]
    return _why_connected(host, rpc_servers) if rpc_servers else ""


def _why_connected(host: Host, processes: t.Sequence[Process]) -> str:
    """Whether another node uses the GPUs of this one: it keeps a connection to the RPC server as long as its model runs."""
    ports = [rpc_port(process.command) for process in processes]
    try:
        connected = _connected_ports(host)
    except HostError as exc:
        return f"whether other nodes use this one's GPUs cannot be seen ({exc})"
    if None in ports:
        return "whether other nodes use this one's GPUs cannot be seen (an RPC server does not tell its port)"
    used = connected.intersection(port for port in ports if port is not None)
    return f"another node uses the GPUs of this one (port {min(used)})" if used else ""


def _connected_ports(host: Host) -> t.Set[int]:
    if host.system() == "Darwin":
        result = host.run(["/usr/sbin/netstat", "-an", "-p", "tcp"], timeout_seconds=20.0)
        if result.rc != 0:
            raise HostError(f"netstat failed: {result.failure()}")
        return netstat_ports(result.stdout)
    tables = [host.read(path) for path in ("/proc/net/tcp", "/proc/net/tcp6")]
    if tables[0] is None:
        raise HostError("/proc/net/tcp does not exist")
    # A kernel without IPv6 has no second one.
    return {port for table in tables if table is not None for port in proc_ports(table.decode("ascii", "replace"))}


def _known_state(host: Host, service: ServiceManager) -> ServiceState:
    """What the service manager says, asked again where it does not answer."""
    state = service.state()
    for _attempt in range(_ATTEMPTS - 1):
        if state.running is not None:
            break
        host.pause(POLL_SECONDS)
        state = service.state()
    return state


def _answering(host: Host, installation: Installation, attempts: int = 1) -> t.Tuple[str, ...]:
    ports = {SERVER: installation.port or SERVER_PORT, WORKER: installation.worker_port or WORKER_PORT}
    return tuple(part for part, port in ports.items() if any(host.answers(port, HEALTH_PATH) == 200 for _attempt in range(attempts)))


def _unsteady(state: ServiceState) -> ServiceState:
    words = "its main process ends and is started again" + (f", {state.detail}" if state.detail else "")
    return dataclasses.replace(state, running=False, detail=words)


def _rpc_servers(host: Host, state: ServiceState) -> t.Optional[t.List[Process]]:
    if state.pid is None:
        return []
    try:
        return [process for process in service_processes(host, state.pid) if is_rpc_server(process)]
    except HostError:
        return None


def _count(processes: t.Optional[t.Sequence[Process]]) -> t.Optional[int]:
    return None if processes is None else len(processes)


class _Beginning:
    """Whether a service that may have been started a short time ago has begun, and all that runs is old enough.

    It has begun when its worker answers and has an RPC server. Not every node has them, so it has begun, too, when something answers and
    nothing has come for _QUIET_SECONDS; and when it was started timeout_seconds ago, whatever it does.
    """

    def __init__(self, settle_seconds: float, timeout_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._timeout_seconds = timeout_seconds
        self._seen: t.Tuple[t.Tuple[str, ...], int] = ((), 0)
        self._last_news = 0.0
        self._begun: t.Optional[float] = None
        self._end: t.Optional[float] = None
        self._main_ends = 0

    def is_over(self, watch: _Watch, answering: t.Tuple[str, ...], now: float) -> bool:
        """Whether there is nothing more to wait for, given what was seen now. Every wait has an end by our own clock."""
        age = watch.main_age(now)
        seen = (answering, len(watch.rpc_ages(now)))
        if self._end is None or seen != self._seen:
            self._seen, self._last_news = seen, now
        if self._end is None or watch.main_ends != self._main_ends:
            # As many times as a main process may end.
            self._end = now + max(0.0, self._timeout_seconds - age) + 2 * self._settle_seconds
            self._main_ends = watch.main_ends
        has_rest = bool(answering) and now - self._last_news >= _QUIET_SECONDS
        if age < self._timeout_seconds and not (WORKER in answering and seen[1]) and not has_rest:
            self._begun = None
        elif self._begun is None:
            self._begun = now
        if self._begun is None:
            return now >= self._end
        # RPC servers of several GPUs come one after the other, and one that crashes again and again is never old enough.
        youngest = min([age, *watch.rpc_ages(now)])
        return youngest >= self._settle_seconds or now - self._begun >= 2 * self._settle_seconds or now >= self._end


class _Watch:
    """Since when which process has been there, and what has answered. age_of: of a process when it is seen first, where it can be told."""

    def __init__(self, age_of: t.Optional[t.Callable[[int], t.Optional[float]]] = None) -> None:
        self._age_of = age_of or (lambda _pid: 0.0)
        self._since: t.Dict[int, float] = {}
        self._main: t.Optional[t.Tuple[t.Optional[int], float]] = None
        self._is_blind = False
        self._answers: t.Tuple[str, ...] = ()
        self._answered_first: t.Dict[str, float] = {}
        self.crashes = 0
        self.main_ends = 0

    def look(self, state: ServiceState, rpc_servers: t.Optional[t.Sequence[Process]], answering: t.Tuple[str, ...], now: float) -> None:
        """Take note of what runs now, and of what answers."""
        is_other = self._main is None or self._main[0] != state.pid
        if is_other:
            self.main_ends += self._main is not None and self._main[0] is not None
            age = self._age_of(state.pid) if state.pid is not None else 0.0
            # One whose age nobody tells runs, as far as is known, for ever.
            self._main = (state.pid, -math.inf if age is None else now - max(age, 0.0))
            self._answered_first = {}
        self._answers = answering
        for part in answering:
            self._answered_first.setdefault(part, now)
        self._is_blind = rpc_servers is None
        if rpc_servers is None:
            return
        pids = {process.pid for process in rpc_servers}
        # Those that end together, and with the main process, have not crashed each by itself.
        self.crashes += not is_other and not pids.issuperset(self._since)
        # In a container, /proc may count from the start of the container or of the machine, and an age come out below zero.
        self._since = {pid: self._since[pid] if pid in self._since else now - max(self._age_of(pid) or 0.0, 0.0) for pid in pids}

    def settled(self, now: float, settle_seconds: float) -> t.Optional[int]:
        """How many RPC servers have run for so long; None where they cannot be seen."""
        return None if self._is_blind else sum(1 for age in self.rpc_ages(now) if age >= settle_seconds)

    def rpc_ages(self, now: float) -> t.List[float]:
        """Of the RPC servers that were seen last."""
        return [now - since for since in self._since.values()]

    def answering(self, now: float, settle_seconds: float) -> t.Tuple[str, ...]:
        """What answers, and did so long ago. One answer between may be missing: a server that loads a model is late now and then."""
        return tuple(part for part in self._answers if now - self._answered_first[part] >= settle_seconds)

    def main_age(self, now: float) -> float:
        """How long the main process has run."""
        return now - self._main[1] if self._main is not None else 0.0

    def main_is_settled(self, now: float, settle_seconds: float) -> bool:
        """Whether the main process is the same for so long."""
        return self.main_age(now) >= settle_seconds
