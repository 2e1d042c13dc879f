# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What is in a llama-box slot, and what kind of build this host takes."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_boxes import ask_version
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.probe import SYSCTL
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.builds import DEVICE_SIGNS, PROGRAM, toolkit_for
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import DARWIN
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_plan import (
    RPC_LINK,
    Goal,
    Seen,
    SeenFile,
    compare,
    counts,
)

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_layout import Slot
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_record import Record
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Lock

# Where GPUStack's shutil.which() finds the tools of drivers.
_COMMAND_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/rocm/bin")


def look_at(host: Host, goal: Goal, lock: Lock, record: Record) -> Seen:
    """What is in the slot that the goal is for. The program is only run where nothing else tells what it is. Raises HostError."""
    names = {PROGRAM, *goal.files}
    if goal.in_folder:
        names.update(name for name in host.names(goal.folder) if counts(name, goal))
    files: t.Dict[str, SeenFile] = {}
    for name in sorted(names):
        path = f"{goal.folder}/{name}" if name != PROGRAM else goal.path
        status = host.status(path)
        if status is not None:
            files[name] = SeenFile(host.sha256(path) if status.is_file else None, status.mode)
    link = f"{goal.folder}/{RPC_LINK}"
    status = host.status(link)
    # GPUStack 0.6.0 makes the link absolute, later ones relative.
    has_link = status is not None and status.is_symlink and host.resolve(link) == host.resolve(goal.path)
    seen = Seen(files, has_link)
    return dataclasses.replace(seen, version=_version(host, goal, seen, lock, record))


def find_toolkit(host: Host, machine: str, builtin: t.Optional[Slot]) -> str:
    """The toolkit of a host that says none. Raises BadInputError where only a person can tell."""
    return toolkit_for(host.system(), machine, builtin.record_key if builtin is not None else None, _device(host))[0]


def find_machine(host: Host) -> str:
    """The architecture to take builds of: that of the hardware, also where this process is translated by Rosetta."""
    if host.system() != DARWIN or host.machine() != "x86_64":
        return host.machine()
    try:
        is_arm = host.run([SYSCTL, "-n", "hw.optional.arm64"]).stdout.strip() == "1"
    except HostError:
        is_arm = False
    return "arm64" if is_arm else host.machine()


def _version(host: Host, goal: Goal, seen: Seen, lock: Lock, record: Record) -> t.Optional[str]:
    program = seen.program
    if program is None or program.sha256 is None:
        return None
    if program.sha256 == goal.files.get(PROGRAM):
        return goal.version
    release, placed = lock.identify(program.sha256), record.ours(goal.path, program.sha256)
    if release is not None or placed is not None:
        return release.version if release is not None else placed.version if placed is not None else None
    return ask_version(host, goal.path, []) if compare(goal, seen).content else None


def _device(host: Host) -> t.Optional[str]:
    """The accelerator, as GPUStack finds it (gpustack/utils/platform.py)."""
    if host.system() == DARWIN:
        return None
    for device, commands, folders in DEVICE_SIGNS:
        programs = [f"{folder}/{command}" for folder in _COMMAND_FOLDERS for command in commands]
        if any(host.status(path) is not None for path in [*programs, *folders]):
            return device
    return None
