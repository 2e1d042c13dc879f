# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Looks at a node's health, waits for it after a restart, and tells whether anybody would notice one."""

from __future__ import annotations

import dataclasses
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

# An RPC server that was seen to end this often after a restart is not coming to rest.
_CRASHES = 2


def baseline(host: Host, installation: Installation, service: ServiceManager, settle_seconds: float, timeout_seconds: float) -> Health:
    """The health of a node before it is changed, of which nobody knows when it was started.

    settle_seconds: how long a process must have run to count. A main process that is younger is waited for: one that is started
    again and again must not pass for one that runs. So are, once, RPC servers that are younger. timeout_seconds: a service that was
    started less than this ago may not have begun to answer, nor started its RPC servers; what is not there yet cannot be missed
    when a change breaks it, so that is waited for as well.
    """
    first = service.state()
    _let_begin(host, installation, service, first, settle_seconds, timeout_seconds)
    rpc_servers = _settled(host, first, settle_seconds)
    state = service.state() if first.running else first
    if (state.pid, state.started) != (first.pid, first.started):
        state = _unsteady(state)
    return Health(state.running, _answering(host, installation), rpc_servers, state.detail)


def wait_healthy(
    host: Host,
    installation: Installation,
    service: ServiceManager,
    before: Health,
    settle_seconds: float,
    timeout_seconds: float,
) -> Health:
    """Poll after a restart until everything that worked before works again, and has for settle_seconds without a break.

    Returns the health at that time, or at the time limit, when a main process that was started just before does not count as
    running. An RPC server that ends again and again ends the waiting earlier.
    """
    start: t.Optional[float] = None
    watch = _Watch()
    while True:
        state = service.state()
        now = host.monotonic()
        if start is None:
            # Looking takes time, too: what has been there from the beginning has to be settled when the time is over.
            start = now
        watch.look(state, _rpc_servers(host, state), now)
        is_over = now - start >= timeout_seconds + settle_seconds
        is_steady = watch.main_is_settled(now, settle_seconds)
        if is_over and state.running and not is_steady:
            state = _unsteady(state)
        health = Health(state.running, _answering(host, installation), watch.settled(now, settle_seconds), state.detail)
        lost = losses(before, health)
        if is_over or (watch.crashes >= _CRASHES if lost else is_steady):
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


def _answering(host: Host, installation: Installation) -> t.Tuple[str, ...]:
    ports = {SERVER: installation.port or SERVER_PORT, WORKER: installation.worker_port or WORKER_PORT}
    return tuple(part for part, port in ports.items() if host.answers(port, HEALTH_PATH) == 200)


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


def _let_begin(
    host: Host, installation: Installation, service: ServiceManager, first: ServiceState, settle_seconds: float, timeout_seconds: float
) -> None:
    """Wait while a service that was started a short time ago is still beginning.

    It has begun when its worker answers and has an RPC server, which gpustack/worker/worker.py starts three seconds after itself.
    Not every node has them, so it has begun, too, when something answers and nothing has come for settle_seconds.
    """
    age = age_seconds(host, first.pid) if first.running and first.pid is not None else None
    if age is None:
        return
    start = last_news = host.monotonic()
    seen: t.Tuple[t.Tuple[str, ...], int] = ((), 0)
    while True:
        now = host.monotonic()
        has_settled = age + now - start >= settle_seconds
        if has_settled and age + now - start >= timeout_seconds:
            return
        answering = _answering(host, installation)
        found = (answering, len(_rpc_servers(host, first) or ()))
        if found != seen:
            seen, last_news = found, now
        has_begun = WORKER in answering and found[1] > 0
        if has_settled and (has_begun or (answering and now - last_news >= settle_seconds)):
            return
        host.pause(POLL_SECONDS)
        state = service.state()
        if (state.pid, state.started) != (first.pid, first.started):
            return


def _settled(host: Host, state: ServiceState, settle_seconds: float) -> t.Optional[int]:
    """How many RPC servers have run for so long, or have when the youngest is given the time for it."""
    ages = _rpc_server_ages(host, state)
    if not ages or min(ages.values()) >= settle_seconds:
        return None if ages is None else len(ages)
    host.pause(settle_seconds - min(ages.values()))
    left = _rpc_servers(host, state)
    # All that were seen are old enough now.
    return None if left is None else sum(1 for process in left if process.pid in ages)


def _rpc_server_ages(host: Host, state: ServiceState) -> t.Optional[t.Dict[int, float]]:
    """pid -> seconds, of those that have not ended meanwhile; None where they cannot be seen."""
    processes = _rpc_servers(host, state)
    if processes is None:
        return None
    ages = {process.pid: age_seconds(host, process.pid) for process in processes}
    return {pid: age for pid, age in ages.items() if age is not None}


class _Watch:
    """Since when which process has been seen."""

    def __init__(self) -> None:
        self._since: t.Dict[int, float] = {}
        self._main: t.Optional[t.Tuple[t.Optional[int], float]] = None
        self._is_blind = False
        self.crashes = 0

    def look(self, state: ServiceState, rpc_servers: t.Optional[t.Sequence[Process]], now: float) -> None:
        """Take note of what runs now."""
        is_other = self._main is None or self._main[0] != state.pid
        if is_other:
            self._main = (state.pid, now)
        self._is_blind = rpc_servers is None
        if rpc_servers is None:
            return
        pids = {process.pid for process in rpc_servers}
        # Those that end together, and with the main process, have not crashed each by itself.
        self.crashes += not is_other and not pids.issuperset(self._since)
        self._since = {pid: self._since.get(pid, now) for pid in pids}

    def settled(self, now: float, settle_seconds: float) -> t.Optional[int]:
        """How many RPC servers have run for so long; None where they cannot be seen."""
        return None if self._is_blind else sum(1 for since in self._since.values() if now - since >= settle_seconds)

    def main_is_settled(self, now: float, settle_seconds: float) -> bool:
        """Whether the main process is the same for so long."""
        return self._main is not None and now - self._main[1] >= settle_seconds
