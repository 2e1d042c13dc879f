# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What can be seen of a service at one time, and whether a restart of it is still due from an earlier run."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import PendingRestart, read_pending
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import SeenEnvironment, ServiceManager, ServiceState

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host


@dataclasses.dataclass(frozen=True)
class ServiceView:
    """A service as seen. loaded: the environment it holds, unknown where it holds none. record: of a restart, as it was
    found; pending: the same if that restart is still due.
    """

    service: ServiceManager
    state: ServiceState
    loaded: SeenEnvironment
    record: PendingRestart | None
    pending: PendingRestart | None

    def holds_environment(self) -> bool:
        """Whether a changed file does not reach the service by itself."""
        return self.service.holds_environment(self.state)

    def was_stopped_by_us(self) -> bool:
        """Whether a restart of an earlier run never came to its second half."""
        return self.pending is not None and self.pending.stopping and not self.state.running

    def was_idle_before_that(self) -> bool:
        """Whether what that restart stopped did not run."""
        return self.pending is not None and self.pending.was_idle

    def live(self) -> t.Mapping[str, str] | None:
        """The whole environment that it holds; None where it cannot be seen as a whole."""
        return self.loaded.variables if self.loaded.complete else None


def look(host: Host, service: ServiceManager) -> ServiceView:
    """Look at the service."""
    state, loaded = service.look()
    if not service.holds_environment(state):
        loaded = SeenEnvironment(None, "it is not running")
    record = read_pending(host)
    live = loaded.variables if loaded.complete else None
    is_due = record is not None and record.is_due(state, live)
    return ServiceView(service, state, loaded, record, record if is_due else None)
