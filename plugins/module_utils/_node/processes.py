# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The processes of a service and what can be seen of their environments: by ps on macOS, by /proc on Linux."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import SeenEnvironment
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.processes import (
    Process,
    has_variable,
    parse_age,
    parse_cmdline,
    parse_environ,
    parse_etime,
    parse_ps,
    parse_ps_commands,
    parse_stat_ppid,
    with_descendants,
)

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host

_COMMAND_SECONDS = 20.0


def service_processes(host: Host, pid: int) -> t.List[Process]:
    """The main process of a service and all that descend from it, the main process first; empty where it does not run.

    Raises HostError where the process table cannot be read.
    """
    return with_descendants(_ps_processes(host) if host.system() == "Darwin" else _proc_processes(host), pid)


def process_environment(host: Host, pid: int) -> SeenEnvironment:
    """The environment that a process was started with. Linux only: macOS shows names and values run together."""
    if host.system() == "Darwin":
        return SeenEnvironment(None, "macOS does not tell the variables of a process apart", complete=False)
    try:
        data = host.read(f"/proc/{pid}/environ")
    except HostError as exc:
        return SeenEnvironment(None, str(exc), complete=False)
    if data is None:
        return SeenEnvironment(None, f"process {pid} does not run", complete=False)
    variables = parse_environ(data)
    if variables is None:
        return SeenEnvironment(None, f"process {pid} shows no environment: it has ended, or written its title over it", complete=False)
    return SeenEnvironment(variables)


def variable_in_process(host: Host, pids: t.Sequence[int], name: str) -> t.Dict[int, t.Optional[bool]]:
    """pid -> whether the process was started with the variable; None where that cannot be seen (or it has ended)."""
    if host.system() != "Darwin":
        return {pid: process_environment(host, pid).variable(name).present for pid in pids}
    if not pids:
        return {}
    try:
        commands = _ps_commands(host, pids)
        with_environment = _ps_commands(host, pids, "-E")
    except HostError:
        return dict.fromkeys(pids)
    return {pid: has_variable(with_environment[pid], commands.get(pid, ""), name) if pid in with_environment else None for pid in pids}


def age_seconds(host: Host, pid: int) -> t.Optional[float]:
    """How long a process has run; None where that cannot be seen."""
    try:
        if host.system() == "Darwin":
            return parse_etime(host.run(["ps", "-o", "etime=", "-p", str(pid)], timeout_seconds=_COMMAND_SECONDS).stdout)
        stat, uptime = host.read(f"/proc/{pid}/stat"), host.read("/proc/uptime")
    except HostError:
        return None
    return parse_age((stat or b"").decode("utf-8", "replace"), (uptime or b"").decode("ascii", "replace"))


def _ps_commands(host: Host, pids: t.Sequence[int], *options: str) -> t.Dict[int, str]:
    """ps exits with 1 where one of the processes has ended, and shows the others."""
    argv = ["ps", *options, "-ww", "-o", "pid=,command=", "-p", ",".join(str(pid) for pid in pids)]
    return parse_ps_commands(host.run(argv, timeout_seconds=_COMMAND_SECONDS).stdout)


def _ps_processes(host: Host) -> t.List[Process]:
    result = host.run(["ps", "-axww", "-o", "pid=,ppid=,command="], timeout_seconds=_COMMAND_SECONDS)
    if result.rc != 0:
        raise HostError(f"ps failed ({result.failure()})")
    return parse_ps(result.stdout)


def _proc_processes(host: Host) -> t.List[Process]:
    found: t.List[Process] = []
    for name in host.names("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = host.read(f"/proc/{name}/stat")
            cmdline = host.read(f"/proc/{name}/cmdline")
        except HostError:
            # It ended while it was being read.
            continue
        ppid = parse_stat_ppid((stat or b"").decode("utf-8", "surrogateescape"))
        if ppid is not None:
            found.append(Process(int(name), ppid, parse_cmdline(cmdline or b"")))
    return found
