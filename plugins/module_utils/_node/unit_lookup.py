# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Where a systemd unit's files lie: as systemd says, or, where it does not answer, where install.sh puts them."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.lookout import Lookout
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.systemd import Systemd
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import CommandMissingError, ServiceError

_FOLDER = "/etc/systemd/system"


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit's files; path is None where there is no such unit. environment_files: as systemd has loaded them."""

    has_systemd: bool
    path: t.Optional[str] = None
    drop_in_paths: t.Tuple[str, ...] = ()
    environment_files: t.Tuple[str, ...] = ()


def find_unit(look: Lookout, unit_name: str) -> Unit:
    """Ask systemd, else look in the folder of the administrator's units."""
    manager = Systemd(look.host, unit_name)
    has_systemd, answer = True, ""
    try:
        paths, environment_files = manager.unit_files()
        # Drop-ins alone, such as those for every service, make no unit.
        if paths and not paths[0].rsplit("/", 1)[0].endswith(".d"):
            return Unit(True, paths[0], paths[1:], tuple(file.path for file in environment_files))
    except ServiceError as exc:
        has_systemd, answer = not isinstance(exc.__cause__, CommandMissingError), str(exc)
    path = f"{_FOLDER}/{unit_name}"
    if look.status(path) is None:
        if has_systemd:
            look.warn(answer)
        return Unit(has_systemd)
    look.warn(f"{path} is there, but " + (answer or "systemd has not loaded it: run `systemctl daemon-reload`"))
    drop_ins = tuple(f"{path}.d/{name}" for name in look.names(f"{path}.d") if name.endswith(".conf"))
    return Unit(has_systemd, path, drop_ins)
