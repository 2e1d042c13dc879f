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

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host

_NAME = "pending-restart.json"


@dataclasses.dataclass(frozen=True)
class PendingRestart:
    """Why a restart is due, and for which process: once another one runs, it has happened.

    runs: of the process, as in ServiceState. When launchd starts a job that died, the new process has the old environment;
    its count goes on, whereas it begins anew when the job is loaded anew.

    futile: that process is the outcome of a restart for these very reasons, and they hold still. Another one would only
    stop the models again.
    """

    pid: int | None
    started: str | None
    reasons: tuple[str, ...]
    futile: bool = False
    runs: int | None = None

    @classmethod
    def of(cls, state: ServiceState, reasons: tuple[str, ...], futile: bool = False) -> PendingRestart:
        """The record for what runs now."""
        return cls(state.pid, state.started, reasons, futile, state.runs)

    def is_due_for(self, state: ServiceState) -> bool:
        """Whether what runs now is what was to be restarted."""
        if (self.pid, self.started) == (state.pid, state.started):
            return True
        return self.runs is not None and state.runs is not None and state.runs > self.runs


def state_folder(host: Host) -> str:
    """Where the collection keeps what it must remember about a node."""
    return "/var/db/metalfleet" if host.system() == "Darwin" else "/var/lib/metalfleet"


def read_pending(host: Host) -> PendingRestart | None:
    """The record, or None where there is none or none that can be understood."""
    data = host.read(f"{state_folder(host)}/{_NAME}")
    try:
        content = json.loads(data or b"null")
        reasons = tuple(str(reason) for reason in content["reasons"])
        runs = content["runs"]
        return PendingRestart(content["pid"], content["started"], reasons, content["futile"] is True, runs if runs is None else int(runs))
    except (ValueError, KeyError, TypeError):
        return None


def write_pending(host: Host, pending: PendingRestart) -> None:
    """Remember that a restart is due."""
    host.make_folder(state_folder(host), 0o700)
    host.write(f"{state_folder(host)}/{_NAME}", json.dumps(dataclasses.asdict(pending)).encode(), 0o600)


def clear_pending(host: Host) -> None:
    """Forget it: the restart has happened."""
    host.remove(f"{state_folder(host)}/{_NAME}")
