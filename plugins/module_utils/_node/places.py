# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Every place of a node where the residency variable can hide. What cannot be seen is unknown, never absent."""

from __future__ import annotations

import posixpath
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.patterns import expand
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.processes import service_processes, variable_in_process
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import SeenVariable, ServiceManager, ServiceState
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import (
    env_readers,
    environment_file,
    property_list,
    service_files,
    unit_file,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.processes import Process
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import (
    ABSENT,
    PRESENT,
    RESIDENCY_VARIABLE,
    UNKNOWN,
    Place,
)

_NOT_THERE = "there is no such file"


def residency_places(
    host: Host, installation: Installation, service: t.Optional[ServiceManager], state: t.Optional[ServiceState]
) -> t.List[Place]:
    """Every place, files first. state: what service.state() said; None where there is no service manager."""
    places = _environment_files(host, installation)
    places += [_text_place(host, "unit_file", path, _in_unit) for path in _unit_paths(installation)]
    if installation.plist_file is not None:
        places.append(_plist(host, installation.plist_file))
    if installation.config_file is not None:
        places.append(_text_place(host, "config_file", installation.config_file, _in_config))
    if service is not None and state is not None:
        places += _live(host, installation, service, state)
    return places


def residency_state(places: t.Iterable[Place]) -> str:
    """present where any place has the variable, unknown where none has it and one could not be seen, else absent."""
    states = {place.state for place in places}
    return PRESENT if PRESENT in states else UNKNOWN if UNKNOWN in states else ABSENT


def _environment_files(host: Host, installation: Installation) -> t.List[Place]:
    reader = env_readers.INSTALL_SH if host.system() == "Darwin" else env_readers.SYSTEMD

    def lines_in(data: bytes) -> t.Sequence[int]:
        return environment_file.find_variable(data, RESIDENCY_VARIABLE, reader)

    places: t.List[Place] = []
    for pattern in dict.fromkeys([installation.environment_file, *installation.environment_files]):
        try:
            paths = expand(host, pattern)
        except HostError as exc:
            places.append(Place("environment_file", pattern, UNKNOWN, reason=str(exc)))
            continue
        places += [_text_place(host, "environment_file", path, lines_in) for path in paths]
    return places


def _unit_paths(installation: Installation) -> t.List[str]:
    return [path for path in (installation.unit_path, *installation.drop_in_paths) if path is not None]


def _in_unit(data: bytes) -> t.Sequence[int]:
    return unit_file.find_variable(env_readers.decode(data), RESIDENCY_VARIABLE)


def _in_config(data: bytes) -> t.Sequence[int]:
    return service_files.config_lines(env_readers.decode(data), RESIDENCY_VARIABLE)


def _text_place(host: Host, kind: str, path: str, lines_in: t.Callable[[bytes], t.Sequence[int]]) -> Place:
    if host.resolve(path) == "/dev/null":
        return Place(kind, path, ABSENT, reason="it is a link to /dev/null")
    try:
        data = host.read(path)
    except HostError as exc:
        return Place(kind, path, UNKNOWN, reason=str(exc))
    if data is None:
        return Place(kind, path, ABSENT, reason=_NOT_THERE)
    lines = tuple(lines_in(data))
    return Place(kind, path, PRESENT if lines else ABSENT, lines)


def _plist(host: Host, path: str) -> Place:
    try:
        data = host.read(path)
    except HostError as exc:
        return Place("plist", path, UNKNOWN, reason=str(exc))
    if data is None:
        return Place("plist", path, ABSENT, reason=_NOT_THERE)
    # Only a text list has lines, and a key may share one with its neighbours: install.sh writes `<key>X</key><string>1</string>`.
    key = re.compile(rb"<key>[^<]*\b" + RESIDENCY_VARIABLE.encode() + rb"\s*</key>")
    lines = tuple(number for number, line in enumerate(data.split(b"\n"), start=1) if key.search(line))
    try:
        environment = property_list.parse(service_files.escape_ampersands(data), path).environment()
    except BadInputError as exc:
        return Place("plist", path, PRESENT if lines else UNKNOWN, lines, str(exc))
    has_variable = any(environment_file.spelled_name(name) == RESIDENCY_VARIABLE for name in environment)
    return Place("plist", path, PRESENT, lines) if has_variable else Place("plist", path, ABSENT)


def _live(host: Host, installation: Installation, service: ServiceManager, state: ServiceState) -> t.List[Place]:
    name = installation.label_or_unit or ""
    places: t.List[Place] = []
    is_launchd = service.name == "launchd"
    if is_launchd:
        loaded = service.loaded_environment().variable(RESIDENCY_VARIABLE)
        if loaded.present is None and state.known is False:
            loaded = SeenVariable(False, state.detail)
        places.append(_seen("loaded_job", f"system/{name}", loaded))
    places += _processes(host, state)
    kind, where = ("launchd_environment", "launchctl getenv") if is_launchd else ("manager_environment", "systemctl show-environment")
    places.append(_seen(kind, where, service.manager_variable(RESIDENCY_VARIABLE)))
    return places


def _seen(kind: str, where: str, seen: SeenVariable) -> Place:
    state = UNKNOWN if seen.present is None else PRESENT if seen.present else ABSENT
    return Place(kind, where, state, reason=seen.reason)


def _processes(host: Host, state: ServiceState) -> t.List[Place]:
    if state.running is None:
        return [Place("process", "the processes of the service", UNKNOWN, reason=state.detail)]
    if not state.running or state.pid is None:
        return []
    try:
        processes = service_processes(host, state.pid)
        seen = variable_in_process(host, [process.pid for process in processes], RESIDENCY_VARIABLE)
        if None in seen.values():
            # Processes come and go with requests; one that has ended meanwhile hides nothing.
            left = {process.pid for process in service_processes(host, state.pid)}
            processes = [process for process in processes if process.pid in left or seen[process.pid] is not None]
    except HostError as exc:
        return [Place("process", f"pid {state.pid} and its children", UNKNOWN, reason=str(exc))]
    hidden = "its environment cannot be seen" + ("" if host.effective_uid() == 0 else " without root's privileges")
    found = ((process, seen.get(process.pid)) for process in processes)
    places = [
        _seen("process", f"pid {process.pid} ({_program(process)})", SeenVariable(present, hidden if present is None else ""))
        for process, present in found
        if present is not None or _counts(process, state.pid)
    ]
    if all(process.pid != state.pid for process in processes):
        # /proc may be mounted with hidepid=2, and the output of ps may be cut short.
        reason = "the table of processes does not show the main process: it is hidden, or it has just ended"
        places.insert(0, Place("process", f"pid {state.pid}", UNKNOWN, reason=reason))
    return places


def _counts(process: Process, main_pid: int) -> bool:
    """Whether it matters that the environment of a process cannot be seen.

    It does for llama-box, which uses Metal, and for the main process, which hands its environment on. GPUStack's helpers
    in between write their titles over theirs (setproctitle in worker/serve_manager.py and worker/rpc_server.py), for ever.
    """
    return process.pid == main_pid or _program(process).startswith("llama-box")


def _program(process: Process) -> str:
    """A name for people. Not the arguments, which can hold secrets; the program's path may have blanks."""
    box = re.match(r"/.*?/(llama-box(?:-rpc-server)?)(?: |\Z)", process.command)
    words = process.command.split()
    return box.group(1) if box else posixpath.basename(words[0]).rstrip(":") if words else "without a command line"
