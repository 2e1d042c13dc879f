# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The record of a restart that is still due.

It is written before the first change and removed after the restart, so that a run that dies in between, or one that was
told not to restart, is not forgotten: what a running service was started with cannot always be seen from outside.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceState
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host

_NAME = "pending-restart.json"


@dataclasses.dataclass(frozen=True)
class PendingRestart:
    """Why a restart is due, and for what.

    pid, started: the process that has to be replaced. gone: variables that are no longer wanted: as long as the service
    has one of them it was not loaded anew, whatever its pid (launchd starts a job that died with its old environment).
    replaced: a program that its process tree still runs was replaced, which is so until that process has gone.
    stopping: the restart was under way, so a service that does not run now is one that we stopped; was_idle: it did not run
    before either, and only has to be known to its manager again.
    futile: what the restart for these reasons found and left, as a digest; another one would only stop the models again.
    """

    pid: int | None
    started: str | None
    reasons: tuple[str, ...]
    gone: tuple[str, ...] = ()
    stopping: bool = False
    futile: str = ""
    replaced: bool = False
    was_idle: bool = False

    def is_due(self, state: ServiceState, live: t.Mapping[str, str] | None) -> bool:
        """Whether the restart still has to happen. live: the environment of the service, None where it cannot be seen as a whole."""
        if self.stopping and not (state.known if self.was_idle else state.running):
            return True
        if live is not None and any(name in live for name in self.gone):
            return True
        return (live is None or self.replaced) and (self.pid, self.started) == (state.pid, state.started)


def state_folder(host: Host) -> str:
    """Where the collection keeps what it must remember about a node."""
    return "/var/db/metalfleet" if host.system() == "Darwin" else "/var/lib/metalfleet"


def refuse_exposed_state(host: Host) -> None:
    """Raise HostError if others than root could change what lies in the folder: root would do what they write there."""
    _refuse(host, host.exposure(f"{state_folder(host)}/{_NAME}"))


def read_own(host: Host, path: str) -> bytes | None:
    """The content of a file in or below the folder; None where there is none.

    Raises HostError, also where others could have written it: what was planted while the folder was open stays when it is closed.
    """
    data = host.read(path)
    if data is not None:
        _refuse(host, host.exposure(path) or _who_may_write(host, host.resolve(path)))
    return data


def read_state(host: Host, name: str) -> bytes | None:
    """read_own() of a file of the folder."""
    return read_own(host, f"{state_folder(host)}/{name}")


def _who_may_write(host: Host, path: str) -> str:
    status = host.status(path)
    if status is not None and status.uid not in (0, host.effective_uid()):
        return f"the file {path} belongs to the user {status.uid}"
    return f"others may write the file {path}" if status is not None and status.mode & 0o022 else ""


def _refuse(host: Host, problem: str) -> None:
    folder = state_folder(host)
    if problem:
        raise HostError(
            f"{folder} is not used, since others than root could write there: {problem}; find out who did, remove {folder}, make the"
            " folders above it root's alone (chown root, chmod go-w), and run again"
        )


def read_pending(host: Host) -> PendingRestart | None:
    """The record, or None where there is none or none that can be understood."""
    data = read_state(host, _NAME)
    try:
        return pending_of(json.loads(data or b"null"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def pending_of(content: t.Mapping[str, t.Any]) -> PendingRestart:
    """The record whose fields these are. Raises KeyError or TypeError for anything else."""
    return PendingRestart(
        content["pid"],
        content["started"],
        tuple(map(str, content["reasons"])),
        tuple(map(str, content["gone"])),
        content["stopping"] is True,
        str(content["futile"]),
        content["replaced"] is True,
        content["was_idle"] is True,
    )


def write_pending(host: Host, pending: PendingRestart) -> None:
    """Remember that a restart is due."""
    host.make_folder(state_folder(host), 0o700)
    host.write(f"{state_folder(host)}/{_NAME}", json.dumps(dataclasses.asdict(pending)).encode(), 0o600)


def clear_pending(host: Host) -> None:
    """Forget it: the restart has happened."""
    host.remove(f"{state_folder(host)}/{_NAME}")
