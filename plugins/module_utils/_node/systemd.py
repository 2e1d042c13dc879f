# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A system service under systemd."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.processes import process_environment
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import (
    SeenEnvironment,
    SeenVariable,
    ServiceState,
    wait_steady,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError, ServiceError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.systemd_show import (
    UNPRINTABLE,
    EnvironmentFile,
    Shown,
    parse_environment,
    parse_show,
)

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult, Host

PROPERTIES = (
    "LoadState,ActiveState,SubState,MainPID,ExecMainStartTimestampMonotonic,UnitFileState,FragmentPath,DropInPaths,"
    "EnvironmentFiles,InvocationID,Result,ExecMainStatus"
)

_COMMAND_SECONDS = 30.0
_RELOAD_SECONDS = 120.0
# Stopping and starting may take 90 seconds each by default; a unit may allow itself more, so this is generous.
_RESTART_SECONDS = 600.0
_START_SECONDS = 60.0

_STARTS_AT_BOOT = {"enabled": True, "enabled-runtime": True, "alias": True, "disabled": False, "masked": False, "masked-runtime": False}
# Highest precedence first (systemd.unit(5)); /lib only differs from /usr/lib where the two are not merged.
_UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)


class Systemd:
    """The unit `unit` of the system manager, such as gpustack.service."""

    name = "systemd"

    def __init__(self, host: Host, unit: str) -> None:
        self._host = host
        self._unit = unit

    def state(self) -> ServiceState:
        """What systemd says now; known is whether a unit file exists."""
        try:
            shown = self._show()
        except ServiceError as exc:
            return ServiceState(None, None, detail=str(exc))
        return _state(shown)

    def holds_environment(self, state: ServiceState) -> bool:
        """Whether the service runs: systemd reads the files anew at each start."""
        return bool(state.running)

    def look(self) -> t.Tuple[ServiceState, SeenEnvironment]:
        """State and environment of one process."""
        state = self.state()
        if state.running is None:
            return state, SeenEnvironment(None, state.detail, complete=False)
        if not state.running or state.pid is None:
            return state, SeenEnvironment(None, f"{self._unit} does not run", complete=False)
        return state, process_environment(self._host, state.pid)

    def loaded_environment(self) -> SeenEnvironment:
        """The environment that the main process was started with.

        Of the process, not of the unit: what systemd shows of a unit leaves out what it read from EnvironmentFile=.
        """
        return self.look()[1]

    def manager_environment(self) -> SeenEnvironment:
        """The environment that systemd gives to every service."""
        try:
            return SeenEnvironment(parse_environment(self._systemctl_ok("show-environment").stdout))
        except ServiceError as exc:
            return SeenEnvironment(None, str(exc), complete=False)

    def manager_variable(self, name: str) -> SeenVariable:
        """Whether systemd gives the variable to every service."""
        return self.manager_environment().variable(name)

    def unset_manager_variable(self, name: str) -> None:
        """Undo `systemctl set-environment`; what systemd's own configuration sets cannot be taken out of a running manager."""
        self._systemctl_ok("unset-environment", name)
        if self.manager_variable(name).present:
            raise ServiceError(
                f"systemctl unset-environment {name} had no effect: take it out of DefaultEnvironment= in /etc/systemd/system.conf"
                " (or its folder system.conf.d, or systemd.setenv= on the kernel's command line) and run `systemctl daemon-reexec`"
            )

    def unset_variable_command(self, name: str) -> t.Tuple[str, ...]:
        """systemctl unset-environment."""
        return ("systemctl", "--no-pager", "unset-environment", name)

    def set_variable_command(self, name: str, value: str) -> t.Tuple[str, ...]:
        """systemctl set-environment."""
        return ("systemctl", "--no-pager", "set-environment", f"{name}={value}")

    def reload_files(self) -> None:
        """systemd goes on with the unit files it knows until it is told to read them, also when the service is started."""
        self._systemctl_ok("daemon-reload", timeout_seconds=_RELOAD_SECONDS)

    def check_restartable(self) -> None:
        """Raise ServiceError for a unit that systemd does not know or would not start."""
        load_state = self._show().text("LoadState")
        if load_state in ("not-found", "masked"):
            raise ServiceError(f"{self._unit} cannot be restarted: systemd says it is {load_state}")

    def restart(self, start: bool) -> None:
        """Read the unit files anew, restart, and wait until the main process runs. What does not run holds nothing: start is True."""
        del start
        self.check_restartable()
        self.reload_files()
        result = self._systemctl("restart", self._unit, timeout_seconds=_RESTART_SECONDS)
        if result.rc != 0:
            raise ServiceError(f"systemctl restart {self._unit} failed ({result.failure()}; {_outcome(self._show())})")
        self.wait_running(_START_SECONDS)

    def wait_running(self, timeout_seconds: float) -> ServiceState:
        """Poll until the unit is active and has a main process that stays."""
        if not wait_steady(self._host, self._running_process, timeout_seconds):
            raise ServiceError(self._start_failure(self._show()))
        return self.state()

    def _running_process(self) -> t.Optional[t.Tuple[t.Optional[int], t.Optional[str]]]:
        shown = self._show()
        # A unit that failed is not started again by systemd; one between two attempts is "activating".
        if shown.text("ActiveState") == "failed":
            raise ServiceError(self._start_failure(shown))
        state = _state(shown)
        is_starting = shown.text("ActiveState") == "activating"
        return (state.pid, state.started) if state.running and not is_starting else None

    def _start_failure(self, shown: Shown) -> str:
        return f"{self._unit} does not keep running after it was started ({_outcome(shown)}); `journalctl -u {self._unit}` may say why"

    def unit_files(self) -> t.Tuple[t.Tuple[str, ...], t.Tuple[EnvironmentFile, ...]]:
        """The paths of the unit's file and its drop-ins, in the order in which systemd applies them; and its environment files.

        Drop-ins that systemd has not read yet are among them: restart() makes it read them. Environment files are those of what it
        has read; it reads variables from them at each start, and their paths may be patterns.
        """
        shown = self._show()
        return self._paths(shown), shown.environment_files()

    def _paths(self, shown: Shown) -> t.Tuple[str, ...]:
        fragment = shown.text("FragmentPath")
        known = {path.rsplit("/", 1)[-1]: path for path in shown.words("DropInPaths") if path != UNPRINTABLE}
        on_disk = self._drop_ins_on_disk()
        drop_ins = {name: path for name, path in {**known, **on_disk}.items() if self._exists(path)}
        return ((fragment,) if fragment else ()) + tuple(drop_ins[name] for name in sorted(drop_ins))

    def _drop_ins_on_disk(self) -> t.Dict[str, str]:
        """Name -> path; of two of the same name the one of higher precedence hides the other (systemd.unit(5))."""
        kind = "." + self._unit.rsplit(".", 1)[-1]
        found: t.Dict[str, str] = {}
        # Those of the unit itself hide those of all services, wherever they lie.
        for folder in [f"{root}/{name}.d" for name in (self._unit, kind[1:]) for root in _UNIT_FOLDERS]:
            try:
                names = self._host.names(folder)
            except HostError as exc:
                raise ServiceError(str(exc)) from exc
            for name in names:
                if name.endswith(".conf"):
                    found.setdefault(name, f"{folder}/{name}")
        return found

    def _exists(self, path: str) -> bool:
        """A link to /dev/null hides the drop-ins of that name and is none itself."""
        try:
            resolved = self._host.resolve(path)
            return resolved != "/dev/null" and self._host.status(resolved) is not None
        except HostError as exc:
            raise ServiceError(str(exc)) from exc

    def _show(self) -> Shown:
        shown = parse_show(self._systemctl_ok("show", self._unit, "-p", PROPERTIES).stdout)
        if not shown.text("LoadState"):
            # In a chroot systemctl says "Running in chroot, ignoring request", shows nothing, and succeeds.
            raise ServiceError(f"systemctl show {self._unit} shows nothing: is this host booted with systemd?")
        return shown

    def _systemctl_ok(self, *arguments: str, timeout_seconds: float = _COMMAND_SECONDS) -> CommandResult:
        result = self._systemctl(*arguments, timeout_seconds=timeout_seconds)
        if result.rc != 0:
            raise ServiceError(f"systemctl {' '.join(arguments[:2])} failed ({result.failure()})")
        return result

    def _systemctl(self, *arguments: str, timeout_seconds: float) -> CommandResult:
        try:
            return self._host.run(["systemctl", "--no-pager", *arguments], timeout_seconds=timeout_seconds)
        except HostError as exc:
            raise ServiceError(str(exc)) from exc


def _state(shown: Shown) -> ServiceState:
    pid = shown.number("MainPID") or None
    # One that is still starting (Type=notify) has its environment already.
    running = shown.text("ActiveState") in ("active", "reloading", "activating") and pid is not None
    # The invocation changes at each start, also at one of systemd's own; systemd before v232 has only the time.
    started = shown.text("InvocationID") or shown.text("ExecMainStartTimestampMonotonic") if pid is not None else None
    return ServiceState(
        known=shown.text("LoadState") != "not-found",
        running=running,
        pid=pid,
        started=started or None,
        enabled=_STARTS_AT_BOOT.get(shown.text("UnitFileState")),
        detail=f"{shown.text('LoadState')}, {_outcome(shown)}",
    )


def _outcome(shown: Shown) -> str:
    """How the unit is, and how its last run ended where systemd holds that against it."""
    words = f"{shown.text('ActiveState')} ({shown.text('SubState')})"
    result = shown.text("Result")
    return words if result in ("", "success") else f"{words}, result {result}, exit status {shown.text('ExecMainStatus')}"
