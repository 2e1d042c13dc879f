# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Asks a host for its hardware: at most one sysctl, one system_profiler and one sw_vers, none of them privileged."""

from __future__ import annotations

import dataclasses
import math
import posixpath
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult, Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import (
    DARWIN,
    SYSCTL_NAMES,
    VIRTUAL_NAMES,
    Hardware,
    RawProbe,
    parse_hardware,
    parse_is_virtual,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import (
    ESTIMATED,
    LogText,
    parse_log,
)

SYSCTL = "/usr/sbin/sysctl"
SYSTEM_PROFILER = "/usr/sbin/system_profiler"
SW_VERS = "/usr/bin/sw_vers"

# Where GPUStack's script and desktop installations keep rpc_server/gpu-N.log and serve/ID.log.
DEFAULT_LOG_PATHS: t.Tuple[str, ...] = ("/var/lib/gpustack/log", "/Library/Application Support/GPUStack/log")
DEFAULT_TIMEOUT_SECONDS = 30.0

# ggml-metal prints the line when a process starts: one log too large to read whole costs only an estimate.
LOG_LIMIT_BYTES = 16 * 1024 * 1024


def read_hardware(
    host: Host,
    log_paths: t.Iterable[str] = DEFAULT_LOG_PATHS,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> Hardware:
    """The hardware of the host.

    log_paths: folders (their *.log files, and those one folder below) and files where llama-box logs
    recommendedMaxWorkingSetSize. timeout_seconds: for each command. Raises BadInputError and nothing else.
    """
    if math.isnan(timeout_seconds) or timeout_seconds <= 0:
        raise BadInputError(f"gather_timeout_seconds is {timeout_seconds:g}, and it must be more than 0")
    for path in log_paths:
        if not posixpath.isabs(path):
            raise BadInputError(f"log_paths has the relative path '{path}', and only absolute ones name the same file in every run")
    if host.system() != DARWIN:
        return parse_hardware(RawProbe(host.system(), host.machine()))
    problems: t.List[str] = []
    raw = RawProbe(
        system=host.system(),
        machine=host.machine(),
        # An unknown name makes sysctl end with 1 on every Mac, so its exit status says nothing.
        sysctl_stdout=_stdout(host, [SYSCTL, *SYSCTL_NAMES], timeout_seconds, problems, accepted=(0, 1)),
        profiler_stdout=_stdout(host, [SYSTEM_PROFILER, "-json", "SPHardwareDataType", "SPDisplaysDataType"], timeout_seconds, problems),
        sw_vers_stdout=_stdout(host, [SW_VERS, "-productVersion"], timeout_seconds, problems),
    )
    hardware = parse_hardware(dataclasses.replace(raw, problems=tuple(problems)))
    if hardware.working_set_source != ESTIMATED:
        return hardware
    # Only now are logs worth reading: without a memory size nothing in them could be checked, with a limit set nothing is needed.
    log = _newest_log(host, log_paths, problems)
    return parse_hardware(dataclasses.replace(raw, log=log, problems=tuple(problems)))


def read_is_virtual(host: Host, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> t.Optional[bool]:
    """Whether the host is a virtual Mac, by a single sysctl; None where that cannot be told. What is no Mac is no virtual Mac."""
    if host.system() != DARWIN:
        return False
    stdout = _stdout(host, [SYSCTL, *VIRTUAL_NAMES], timeout_seconds, [], accepted=(0, 1))
    return None if stdout is None else parse_is_virtual(stdout)


def _stdout(
    host: Host,
    argv: t.Sequence[str],
    timeout_seconds: float,
    problems: t.List[str],
    accepted: t.Tuple[int, ...] = (0,),
) -> t.Optional[str]:
    try:
        result: CommandResult = host.run(argv, timeout_seconds=timeout_seconds)
    except HostError as exc:
        problems.append(str(exc))
        return None
    if result.rc not in accepted:
        problems.append(f"{argv[0]} ended with status {result.rc}")
    return result.stdout


def _newest_log(host: Host, log_paths: t.Iterable[str], problems: t.List[str]) -> t.Optional[LogText]:
    """The newest log that tells a working set."""
    by_age: t.List[t.Tuple[int, str]] = []
    for path in _log_files(host, log_paths, problems):
        try:
            status = host.status(path)
        except HostError as exc:
            problems.append(str(exc))
            continue
        if status is None or not status.is_file:
            continue
        if status.size_bytes > LOG_LIMIT_BYTES:
            problems.append(f"{path} is not searched for the working set: it has more than {LOG_LIMIT_BYTES} bytes")
            continue
        by_age.append((status.mtime_ns, path))
    for mtime_ns, path in sorted(by_age, reverse=True):
        try:
            data = host.read(path, LOG_LIMIT_BYTES)
        except HostError as exc:
            problems.append(str(exc))
            continue
        text = (data or b"").decode("utf-8", "replace")
        if parse_log(text) is not None:
            return LogText(path, mtime_ns / 1e9, text)
    return None


def _log_files(host: Host, log_paths: t.Iterable[str], problems: t.List[str]) -> t.Iterator[str]:
    for top in log_paths:
        path = host.resolve(top)
        names = _names(host, path, problems)
        if not names:
            yield path
        for name in names:
            below = posixpath.join(path, name)
            if name.endswith(".log"):
                yield below
            else:
                yield from (posixpath.join(below, file) for file in _names(host, below, problems) if file.endswith(".log"))


def _names(host: Host, folder: str, problems: t.List[str]) -> t.List[str]:
    try:
        return host.names(folder)
    except HostError as exc:
        problems.append(str(exc))
        return []
