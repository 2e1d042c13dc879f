# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The small interface behind which launchd and systemd stand."""

from __future__ import annotations

import dataclasses
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host

POLL_SECONDS = 0.5
# A program that cannot be started at all runs for an instant too, and its manager tries again and again.
_STEADY_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class SeenVariable:
    """Whether a variable was seen somewhere; present is None where that could not be told, and reason says why."""

    present: t.Optional[bool]
    reason: str = ""
    value: str = ""


@dataclasses.dataclass(frozen=True)
class SeenEnvironment:
    """Environment variables as seen somewhere; variables is None where they could not be seen, and reason says why.

    complete: False where more variables may exist than are listed; reason says why.
    """

    variables: t.Optional[t.Mapping[str, str]]
    reason: str = ""
    complete: bool = True

    def variable(self, name: str) -> SeenVariable:
        """Whether one variable is there: what could not be seen is unknown, never absent."""
        if self.variables is not None and name in self.variables:
            return SeenVariable(True, value=self.variables[name])
        return SeenVariable(False if self.variables is not None and self.complete else None, self.reason)


@dataclasses.dataclass(frozen=True)
class ServiceState:
    """What the service manager says of the service.

    known: the manager knows the service (launchd: loaded; systemd: a unit file exists).
    running: its main process runs. pid and started identify that process: a restart changes at least one of them.
    Both are None where the manager could not be asked.
    started: an opaque start time, comparable only for equality; None where it could not be read.
    enabled: it starts at boot; None where that could not be seen.
    detail: the manager's own words, such as "state = not running, last exit code = 78", or why it could not be asked.
    """

    known: t.Optional[bool]
    running: t.Optional[bool]
    pid: t.Optional[int] = None
    started: t.Optional[str] = None
    enabled: t.Optional[bool] = None
    detail: str = ""


class ServiceManager(t.Protocol):
    """One service under one service manager. Every call has a time limit; failures are ServiceError.

    What only looks (state, the environments, manager_variable) does not fail: it says that it does not know, and why.
    """

    name: str

    def state(self) -> ServiceState:
        """What the manager says now."""

    def holds_environment(self, state: ServiceState) -> bool:
        """Whether the service keeps an environment that a changed file does not reach (launchd: while it is loaded)."""

    def look(self) -> t.Tuple[ServiceState, SeenEnvironment]:
        """What state() and loaded_environment() say, of one moment."""

    def loaded_environment(self) -> SeenEnvironment:
        """The environment with which the running service was loaded, whatever the files say by now."""

    def manager_variable(self, name: str) -> SeenVariable:
        """Whether the manager itself gives a variable to every service. One by one: launchd tells nothing else."""

    def unset_manager_variable(self, name: str) -> None:
        """Take a variable out of the manager's own environment, and make sure that it is gone."""

    def set_variable_command(self, name: str, value: str) -> t.Tuple[str, ...]:
        """The command that gives a variable to every service: what undoes unset_manager_variable()."""

    def unset_variable_command(self, name: str) -> t.Tuple[str, ...]:
        """The command that unset_manager_variable() runs."""

    def reload_files(self) -> None:
        """Have the manager read changed unit files, so that any later start is with what they say now."""

    def check_restartable(self) -> None:
        """Raise ServiceError if it is plain that the service would not come back: to be asked before anything is changed."""

    def restart(self, start: bool) -> None:
        """Stop the service and take on what its files say now.

        start: see to it that it runs afterwards, and return when its new main process does. Otherwise it is left to the
        manager's own rules: a job that did not run before is not started for the sake of its environment.
        """

    def wait_running(self, timeout_seconds: float) -> ServiceState:
        """Poll until the main process runs and goes on running; raises ServiceError with the last state when the time is over."""


def wait_steady(host: Host, running_process: t.Callable[[], t.Optional[t.Hashable]], timeout_seconds: float) -> bool:
    """Poll until the same process is seen for a second; False when the time is over before.

    running_process: what identifies the process that runs now; None where none does.
    """
    start = since = host.monotonic()
    first: t.Optional[t.Hashable] = None
    while True:
        process = running_process()
        now = host.monotonic()
        if process is None or process != first:
            first, since = process, now
        elif now - since >= _STEADY_SECONDS:
            return True
        if now - start >= timeout_seconds:
            return False
        host.pause(POLL_SECONDS)
