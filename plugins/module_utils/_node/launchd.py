# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A system daemon under launchd.

A loaded job keeps the environment that it was loaded with: `kickstart -k` starts the old job again, so a restart is
bootout and bootstrap. Exit codes as in reports on DeterminateSystems/nix-installer (#530 #1148 #1157 #1187 #1209).
"""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import (
    POLL_SECONDS,
    SeenEnvironment,
    SeenVariable,
    ServiceState,
    wait_steady,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError, ServiceError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.launchctl import Job, parse_disabled, parse_job
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.property_list import parse

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult, Host

_NOT_LOADED = 113
# 3 (113 on some versions of macOS): the job was not loaded. 36: it is on its way out, launchd does not wait for it.
_BOOTOUT_ACCEPTED = (0, 3, 36, _NOT_LOADED)
# 37: the old job is still being torn down; some versions of macOS say 5 instead.
_BOOTSTRAP_AGAIN = (5, 37)
_BOOTSTRAP_DISABLED = 119

_COMMAND_SECONDS = 20.0
# launchd kills a job when its exit timeout is over; the margin is for the kernel taking back hundreds of gigabytes.
_TEARDOWN_MARGIN_SECONDS = 60.0
_DEFAULT_EXIT_SECONDS = 20.0
# A job may ask never to be killed (ExitTimeOut 0); a run of ours has to end all the same.
_LONGEST_EXIT_SECONDS = 600.0
_BOOTSTRAP_SECONDS = 60.0
_BOOTSTRAP_PAUSE_SECONDS = 1.0
_SELF_START_SECONDS = 3.0
_START_SECONDS = 60.0


class Launchd:
    """The daemon `label` of the system domain, whose property list is plist_path."""

    name = "launchd"

    def __init__(self, host: Host, label: str, plist_path: str) -> None:
        self._host = host
        self._label = label
        self._plist_path = plist_path
        self._target = f"system/{label}"

    def state(self) -> ServiceState:
        """What launchd says now; known is whether the job is loaded."""
        try:
            return self._state_of(self._job())
        except ServiceError as exc:
            return ServiceState(None, None, detail=str(exc))

    def look(self) -> t.Tuple[ServiceState, SeenEnvironment]:
        """State and environment of the job as `launchctl print` shows it once."""
        try:
            job = self._job()
        except ServiceError as exc:
            return ServiceState(None, None, detail=str(exc)), SeenEnvironment(None, str(exc), complete=False)
        return self._state_of(job), self._environment_of(job)

    def _state_of(self, job: t.Optional[Job]) -> ServiceState:
        if job is None:
            return ServiceState(False, False, enabled=self._enabled(), detail=self._describe(job))
        started = self._started(job.pid) if job.pid is not None else None
        # A printed job without a state was not understood, which is not the same as not running.
        running = job.is_running if job.state is not None else None
        return ServiceState(True, running, job.pid, started, self._enabled(), self._describe(job))

    def holds_environment(self, state: ServiceState) -> bool:
        """Whether the job is loaded: it keeps its environment even while it does not run."""
        return bool(state.known)

    def loaded_environment(self) -> SeenEnvironment:
        """What launchd gives the job, its own variables (XPC_SERVICE_NAME and others) and those of `launchctl setenv` included."""
        try:
            return self._environment_of(self._job())
        except ServiceError as exc:
            return SeenEnvironment(None, str(exc), complete=False)

    def _environment_of(self, job: t.Optional[Job]) -> SeenEnvironment:
        if job is None:
            return SeenEnvironment(None, f"{self._label} is not loaded", complete=False)
        if job.environment is None:
            return SeenEnvironment(None, f"launchctl print {self._target} shows no environment", complete=False)
        reason = "" if job.environment_complete else f"launchctl print {self._target} shows only a part of the environment"
        return SeenEnvironment(job.environment, reason, job.environment_complete)

    def manager_variable(self, name: str) -> SeenVariable:
        """Whether `launchctl setenv` was used; one variable set in the system domain reaches every daemon."""
        try:
            result = self._launchctl("getenv", name)
        except ServiceError as exc:
            return SeenVariable(None, str(exc))
        # Of a variable that is not set nothing is printed, of one with an empty value an empty line. The exit status says
        # nothing: reports have 0 and 1 for a variable that is not set.
        if result.stderr.strip():
            return SeenVariable(None, f"launchctl getenv {name} failed: {result.failure()}")
        return SeenVariable(bool(result.stdout), value=result.stdout[:-1])

    def unset_manager_variable(self, name: str) -> None:
        """Take the variable out of the system domain; it comes back when something sets it at the next boot."""
        result = self._launchctl("unsetenv", name)
        if result.rc != 0:
            raise ServiceError(f"launchctl unsetenv {name} failed: {result.failure()}")
        if self.manager_variable(name).present:
            raise ServiceError(
                f"launchctl unsetenv {name} had no effect: something sets it again, look for `launchctl setenv` in /Library/LaunchDaemons"
            )

    def unset_variable_command(self, name: str) -> t.Tuple[str, ...]:
        """launchctl unsetenv."""
        return ("launchctl", "unsetenv", name)

    def set_variable_command(self, name: str, value: str) -> t.Tuple[str, ...]:
        """launchctl setenv, which speaks to the system domain where root calls it."""
        return ("launchctl", "setenv", name, value)

    def reload_files(self) -> None:
        """launchd reads a property list when it loads the job, and at no other time."""

    def restart(self, start: bool) -> None:
        """Load the job anew from its property list; start: and see to it that it runs."""
        self.check_restartable()
        try:
            self._bootout()
        except ServiceError:
            # It may have hung or failed after the fact: a job that is gone has to come back all the same.
            if self._job() is not None:
                raise
        self._bootstrap()
        if not start:
            return
        if not self._starts_by_itself():
            # Not RunAtLoad, or held back by launchd's throttle (minimum runtime).
            result = self._launchctl("kickstart", self._target)
            if result.rc != 0 and self._running_pid() is None:
                raise ServiceError(f"launchctl kickstart {self._target} failed: {result.failure()}")
        self.wait_running(_START_SECONDS)

    def wait_running(self, timeout_seconds: float) -> ServiceState:
        """Poll until launchd shows the job running with a pid that stays."""
        if not wait_steady(self._host, self._running_pid, timeout_seconds):
            raise ServiceError(
                f"{self._label} does not run {timeout_seconds:g} seconds after it was started ({self._describe(self._job())});"
                f" its log, named by StandardErrorPath in {self._plist_path}, may say why"
            )
        return self.state()

    def _running_pid(self) -> t.Optional[int]:
        job = self._job()
        return job.pid if job is not None and job.is_running else None

    def _starts_by_itself(self) -> bool:
        deadline = self._host.monotonic() + _SELF_START_SECONDS
        while self._running_pid() is None:
            if self._host.monotonic() >= deadline:
                return False
            self._host.pause(POLL_SECONDS)
        return True

    def _describe(self, job: t.Optional[Job]) -> str:
        if job is None:
            return f"{self._label} is not loaded"
        return f"state = {job.state}" + (f", last exit = {job.last_exit}" if job.last_exit else "")

    def check_restartable(self) -> None:
        """Raise ServiceError if launchd would not load the job again: disabled, or a property list that it refuses."""
        if self._override():
            raise ServiceError(self._disabled_message())
        try:
            path = self._host.resolve(self._plist_path)
            status = self._host.status(path)
            data = self._host.read(path)
        except HostError as exc:
            raise ServiceError(str(exc)) from exc
        if status is None:
            raise ServiceError(f"{self._plist_path} does not exist, so {self._label} could not be loaded again")
        if status.uid != 0 or status.mode & 0o022:
            raise ServiceError(
                f"{path} must belong to root and be writable by nobody else, or launchd refuses to load it"
                f" (it has owner {status.uid} and mode {status.mode:04o})"
            )
        try:
            label = parse(data or b"", path).content.get("Label")
        except BadInputError as exc:
            raise ServiceError(str(exc)) from exc
        if label != self._label:
            raise ServiceError(f"{path} has the label {label!r}, so launchd would load it under that name and {self._label} would be gone")

    def _bootout(self) -> None:
        job = self._job()
        limit = _DEFAULT_EXIT_SECONDS
        if job is not None and job.exit_timeout_seconds is not None:
            limit = min(float(job.exit_timeout_seconds or _LONGEST_EXIT_SECONDS), _LONGEST_EXIT_SECONDS)
        limit += _TEARDOWN_MARGIN_SECONDS
        deadline = self._host.monotonic() + limit
        # launchctl itself waits for the job on some versions of macOS.
        result = self._launchctl("bootout", self._target, timeout_seconds=limit)
        if result.rc not in _BOOTOUT_ACCEPTED and self._job() is not None:
            raise ServiceError(f"launchctl bootout {self._target} failed: {result.failure()}")
        while self._job() is not None:
            if self._host.monotonic() >= deadline:
                raise ServiceError(f"{self._label} is still loaded {limit:g} seconds after launchctl bootout {self._target}")
            self._host.pause(POLL_SECONDS)

    def _bootstrap(self) -> None:
        deadline = self._host.monotonic() + _BOOTSTRAP_SECONDS
        while True:
            result = self._launchctl("bootstrap", "system", self._plist_path)
            if result.rc == 0:
                return
            if result.rc == _BOOTSTRAP_DISABLED:
                raise ServiceError(self._disabled_message())
            if self._job() is not None:
                # 5 also means that it is loaded: the Desktop package may have been quicker.
                return
            if result.rc not in _BOOTSTRAP_AGAIN or self._host.monotonic() >= deadline:
                raise ServiceError(f"launchctl bootstrap system {self._plist_path} failed: {result.failure()}")
            self._host.pause(_BOOTSTRAP_PAUSE_SECONDS)

    def _disabled_message(self) -> str:
        return f"{self._label} is disabled, so launchd would not load it again: run `launchctl enable {self._target}` first"

    def _job(self) -> t.Optional[Job]:
        """The job as launchd has it, or None where it is not loaded."""
        result = self._launchctl("print", self._target)
        if result.rc == _NOT_LOADED:
            return None
        if result.rc != 0:
            raise ServiceError(f"launchctl print {self._target} failed: {result.failure()}")
        return parse_job(result.stdout)

    def _enabled(self) -> t.Optional[bool]:
        """Whether the job is loaded at boot: an override decides, else the key Disabled of the property list."""
        try:
            override = self._override()
            if override is not None:
                return not override
            data = self._host.read(self._host.resolve(self._plist_path))
            return not parse(data, self._plist_path).content.get("Disabled", False) if data is not None else None
        except (HostError, BadInputError, ServiceError):
            return None

    def _override(self) -> t.Optional[bool]:
        """Whether `launchctl disable` (True) or `enable` (False) was used; None where neither was, or that is not shown."""
        result = self._launchctl("print-disabled", "system")
        return (parse_disabled(result.stdout) or {}).get(self._label)

    def _started(self, pid: int) -> t.Optional[str]:
        try:
            result = self._host.run(["ps", "-o", "lstart=", "-p", str(pid)], timeout_seconds=_COMMAND_SECONDS)
        except HostError:
            return None
        return result.stdout.strip() or None if result.rc == 0 else None

    def _launchctl(self, *arguments: str, timeout_seconds: float = _COMMAND_SECONDS) -> CommandResult:
        try:
            return self._host.run(["launchctl", *arguments], timeout_seconds=timeout_seconds)
        except HostError as exc:
            raise ServiceError(str(exc)) from exc
