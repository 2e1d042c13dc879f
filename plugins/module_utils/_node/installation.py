# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""GPUStack as it is installed on a node. Nothing of GPUStack is run or imported, and nothing here ever fails."""

from __future__ import annotations

import dataclasses
import posixpath
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.lookout import Lookout
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.package import (
    Package,
    find_in_application,
    find_package,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.patterns import expand, matches
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.unit_lookup import Unit, find_unit
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import env_readers, llama_box_layout, property_list, service_files
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError

SCRIPT = "script"
DESKTOP = "desktop"
SYSTEMD = "systemd"
NONE = "none"

LAUNCHD_LABEL = "ai.gpustack"
SYSTEMD_UNIT = "gpustack"
ENVIRONMENT_FILE = "/etc/default/gpustack"

_DESKTOP_APPLICATION = "/Applications/GPUStack.app"
_DESKTOP_FOLDER = "/Library/Application Support/GPUStack/"


@dataclasses.dataclass(frozen=True)
class Installation:
    """GPUStack on a node.

    kind: script (install.sh on macOS), desktop (the macOS package), systemd, or none.
    service_manager: launchd, systemd, or None where the host has neither.
    label_or_unit: the launchd label or the full name of the systemd unit, found or looked for.
    plist_path: the property list as launchd is given it; plist_file: the same with links followed; None where there is none.
    unit_path, drop_in_paths: the systemd unit's files; environment_files: the files its EnvironmentFile= names.
    program: what the service starts. site_packages: where the Python package gpustack lies; third_party_bin: its tools.
    port, worker_port: None where GPUStack's defaults hold. static_llama_box: GPUStack 0.7 is told to use static builds only.
    """

    kind: str
    service_manager: t.Optional[str] = None
    label_or_unit: t.Optional[str] = None
    plist_path: t.Optional[str] = None
    plist_file: t.Optional[str] = None
    unit_name: t.Optional[str] = None
    unit_path: t.Optional[str] = None
    drop_in_paths: t.Tuple[str, ...] = ()
    environment_files: t.Tuple[str, ...] = ()
    program: t.Optional[str] = None
    venv: t.Optional[str] = None
    site_packages: t.Optional[str] = None
    third_party_bin: t.Optional[str] = None
    gpustack_version: t.Optional[str] = None
    data_dir: t.Optional[str] = None
    bin_dir: t.Optional[str] = None
    config_file: t.Optional[str] = None
    port: t.Optional[int] = None
    worker_port: t.Optional[int] = None
    environment_file: str = ENVIRONMENT_FILE
    static_llama_box: bool = False
    warnings: t.Tuple[str, ...] = ()

    def as_dict(self) -> t.Dict[str, t.Any]:
        """The installation as module return value."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def find_installation(host: Host, service_name: t.Optional[str] = None, environment_file: str = ENVIRONMENT_FILE) -> Installation:
    """What is installed on this host. service_name: the launchd label or systemd unit, where it is not the usual one."""
    look = Lookout(host)
    if host.system() == "Darwin":
        found = _on_darwin(look, service_name or LAUNCHD_LABEL)
    else:
        found = _on_linux(look, service_name or SYSTEMD_UNIT, environment_file)
    return dataclasses.replace(found, environment_file=environment_file, warnings=tuple(look.warnings))


def usual_plist_path(label: str) -> str:
    """Where the property list of a daemon lies."""
    return f"/Library/LaunchDaemons/{label}.plist"


def _on_darwin(look: Lookout, label: str) -> Installation:
    plist_path = usual_plist_path(label)
    nothing = Installation(NONE, "launchd", label)
    has_application = look.status(_DESKTOP_APPLICATION) is not None
    status = look.status(plist_path)
    if status is None:
        if not has_application or label != LAUNCHD_LABEL:
            return nothing
        look.warn(f"{_DESKTOP_APPLICATION} is there, but it has never made its service {plist_path}: start it once")
        package = find_in_application(look, _DESKTOP_APPLICATION)
        return _with_package(dataclasses.replace(nothing, kind=DESKTOP), package)
    plist_file = look.host.resolve(plist_path)
    kind = DESKTOP if status.is_symlink and plist_file.startswith(_DESKTOP_FOLDER) else SCRIPT
    if kind == SCRIPT and has_application:
        look.warn(
            f"both install.sh and the Desktop package are here: {_DESKTOP_APPLICATION} replaces {plist_path} when it is started; remove one"
        )
    found = dataclasses.replace(nothing, kind=kind, plist_path=plist_path, plist_file=plist_file)
    file_status = look.status(plist_file)
    if file_status is not None and (file_status.uid != 0 or file_status.mode & 0o022):
        # We would run, as root, programs that it names, and launchd would not.
        look.warn(
            f"{plist_file} has the owner {file_status.uid} and the mode {file_status.mode:04o}, so launchd refuses to load it, and what it"
            " says is not followed; give it to root, and make it writable by nobody else"
        )
        return found
    content = _read_plist(look, plist_path, plist_file)
    if content is None:
        return found
    if content.get("Label") != label:
        look.warn(f"{plist_file} has the label {content.get('Label')!r}, not {label!r}: launchd loads it under that name")
    command = service_files.plist_command(content)
    if command is None:
        look.warn(f"{plist_file} names no program, so launchd has nothing to start")
        return found
    return _with_command(look, found, command, service_files.plist_environment(content))


def _read_plist(look: Lookout, plist_path: str, plist_file: str) -> t.Optional[t.Dict[str, t.Any]]:
    data = look.read(plist_file)
    if data is None:
        if look.is_missing(plist_file):
            look.warn(f"{plist_path} is a link to {plist_file}, which does not exist: GPUStack cannot start")
        return None
    try:
        return property_list.parse(data, plist_file).content
    except BadInputError as exc:
        lines = service_files.bare_ampersand_lines(data)
        if not lines:
            look.warn(str(exc))
            return None
    # install.sh copies values of /etc/default/gpustack and arguments into the XML as they are.
    look.warn(
        f"{plist_file} is not valid XML: line {', '.join(map(str, lines))} holds an `&` that install.sh did not escape, so launchd cannot "
        "load it; write `&amp;` there"
    )
    try:
        return property_list.parse(service_files.escape_ampersands(data), plist_file).content
    except BadInputError as exc:
        look.warn(f"besides the `&`: {exc}")
        return None


def _on_linux(look: Lookout, name: str, environment_file: str) -> Installation:
    unit_name = name if name.endswith(".service") else f"{name}.service"
    unit = find_unit(look, unit_name)
    found = Installation(NONE, "systemd" if unit.has_systemd else None, unit_name, unit_name=unit_name)
    if unit.path is None:
        return found
    texts = _unit_texts(look, unit)
    files = (*unit.environment_files, *service_files.unit_environment_files(texts, unit_name))
    found = dataclasses.replace(
        found,
        kind=SYSTEMD,
        service_manager="systemd",
        unit_path=unit.path,
        drop_in_paths=unit.drop_in_paths,
        environment_files=tuple(dict.fromkeys(files)),
    )
    if look.host.resolve(unit.path) == "/dev/null":
        look.warn(f"{unit_name} is masked, so it cannot be started; run `systemctl unmask {unit_name}`")
        return found
    if not any(matches(pattern, environment_file) for pattern in found.environment_files):
        look.warn(f"{unit_name} does not read {environment_file}: it has no EnvironmentFile= line for it")
    command = service_files.unit_command(texts, unit_name)
    if command is None:
        look.warn(f"{unit.path} names no program in ExecStart=, so systemd has nothing to start")
        return found
    environment = service_files.unit_environment(texts, unit_name)
    for path in _expanded(look, found.environment_files):
        data = look.read(path)
        if data is not None:
            environment.update(env_readers.read_systemd(env_readers.decode(data)).variables())
    return _with_command(look, found, command, environment)


def _expanded(look: Lookout, patterns: t.Iterable[str]) -> t.Iterator[str]:
    for pattern in patterns:
        try:
            yield from expand(look.host, pattern)
        except HostError as exc:
            look.warn(str(exc))


def _unit_texts(look: Lookout, unit: Unit) -> t.List[str]:
    paths = [path for path in (unit.path, *unit.drop_in_paths) if path and look.host.resolve(path) != "/dev/null"]
    read = (look.read(path) for path in paths)
    return [data.decode("utf-8", "replace") for data in read if data is not None]


def _with_command(look: Lookout, found: Installation, command: service_files.Command, environment: t.Mapping[str, str]) -> Installation:
    """Add what follows from the command and the environment that the service starts with."""
    config_file = service_files.config_file_of(command, environment)
    config: t.Dict[str, str] = {}
    if config_file is not None:
        data = look.read(config_file)
        if data is not None:
            config, unclear = service_files.config_values(data.decode("utf-8", "replace"))
            for key in unclear:
                look.warn(f"{config_file}: the value of {key} is not a plain one-line text and was not understood; the default is assumed")
        elif look.is_missing(config_file):
            look.warn(f"{config_file}, named by --config-file, does not exist: GPUStack cannot start")
    settings = service_files.settings(command, environment, config)
    program = posixpath.normpath(command.program)
    return dataclasses.replace(
        _with_package(found, find_package(look, program)),
        program=program,
        data_dir=settings.data_dir,
        bin_dir=settings.bin_dir,
        config_file=settings.config_file,
        port=settings.port,
        worker_port=settings.worker_port,
        static_llama_box=llama_box_layout.static_only(environment),
    )


def _with_package(found: Installation, package: Package) -> Installation:
    return dataclasses.replace(
        found,
        venv=package.venv,
        site_packages=package.site_packages,
        third_party_bin=package.third_party_bin,
        gpustack_version=package.version,
    )
