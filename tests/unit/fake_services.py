# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts in memory with a service manager that keeps state: launchd with one job, systemd with one unit.

They behave as documented in the facts behind the collection, above all where that is inconvenient: an old environment
that stays until the job is loaded anew, a teardown that goes on after bootout has returned.
"""

from __future__ import annotations

import plistlib
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import CommandTimeoutError
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost

LABEL = "ai.gpustack"
PLIST = "/Library/LaunchDaemons/ai.gpustack.plist"
UNIT = "gpustack.service"


class FakeLaunchd(MemoryHost):
    """A Mac with one daemon.

    teardown_seconds: how long the job stays after bootout; then bootout returns 36. starts_by_itself: RunAtLoad.
    start_seconds: from start to running. forced: subcommand -> exit codes of its next uses; 0 is the real thing.
    hangs: subcommands that never end. dies: the program exits with 78 at once. flaps: each look shows it with another pid.
    """

    def __init__(self, environment: t.Optional[t.Dict[str, str]] = None, **options: t.Any) -> None:
        content = {"Label": LABEL, "ProgramArguments": ["/usr/local/bin/gpustack", "start"], "EnvironmentVariables": environment or {}}
        super().__init__(files={PLIST: plistlib.dumps(content)}, **options)
        self.teardown_seconds = 0.0
        self.start_seconds = 0.0
        self.starts_by_itself = True
        self.dies = False
        self.flaps = False
        self.exit_timeout_seconds = 5
        self.disabled: t.Dict[str, bool] = {}
        self.domain: t.Dict[str, str] = {}
        self.forced: t.Dict[str, t.List[int]] = {}
        self.hangs: t.Set[str] = set()
        self.unset_works = True
        self._pids = 800
        self._gone_at: t.Optional[float] = None
        self._runs_at: t.Optional[float] = None
        self._pid: t.Optional[int] = None
        self._loaded: t.Optional[t.Dict[str, str]] = None
        self._bootstrap()

    def run(self, argv: t.Sequence[str], timeout_seconds: float = 30.0) -> CommandResult:
        if argv[0] == "ps" and tuple(argv) not in self.commands:
            self.calls.append(tuple(argv))
            return (
                CommandResult(0, f"Sat Nov 22 {argv[-1]}\n", "")
                if self._pid is not None and argv[-1] == str(self._pid)
                else CommandResult(1, "", "")
            )
        if argv[0] != "launchctl" or tuple(argv) in self.commands:
            return super().run(argv, timeout_seconds)
        self.calls.append(tuple(argv))
        if argv[1] in self.hangs:
            self.clock += timeout_seconds
            raise CommandTimeoutError(f"{' '.join(argv)} did not end within {timeout_seconds:g} seconds and was killed")
        forced = self.forced.get(argv[1])
        code = forced.pop(0) if forced else 0
        if code:
            return CommandResult(code, "", f"{argv[1]} failed: {code}: because it was told to\n")
        return t.cast("CommandResult", getattr(self, "_do_" + argv[1].replace("-", "_"))(*argv[2:]))

    def used(self, *subcommands: str) -> t.List[str]:
        """Which of these subcommands were run, in their order."""
        return [call[1] for call in self.calls if call[0] == "launchctl" and call[1] in subcommands]

    def _is_loaded(self) -> bool:
        if self._gone_at is not None and self.clock >= self._gone_at:
            self._loaded, self._pid, self._gone_at = None, None, None
        return self._loaded is not None

    def _bootstrap(self) -> None:
        content = plistlib.loads(self.files[PLIST].content)
        self._loaded = dict(content.get("EnvironmentVariables", {}))
        if self.starts_by_itself:
            self._start()

    def respawn(self) -> None:
        """The program dies, and KeepAlive starts it again with what the job was loaded with."""
        self._start()

    def _start(self) -> None:
        self._pids += 1
        self._pid = None if self.dies else self._pids
        self._runs_at = self.clock + self.start_seconds

    def _do_print(self, target: str) -> CommandResult:
        assert target == f"system/{LABEL}"
        if not self._is_loaded():
            return CommandResult(113, "", f'Bad request.\nCould not find service "{LABEL}" in domain for system\n')
        runs = self._pid is not None and self._runs_at is not None and self.clock >= self._runs_at
        if self.flaps:
            self._start()
        lines = [f"{target} = {{", "\tactive count = 1", f"\tpath = {PLIST}", f"\tstate = {'running' if runs else 'not running'}", ""]
        blocks = {"inherited environment": self.domain, "environment": {**(self._loaded or {}), "XPC_SERVICE_NAME": LABEL}}
        for name, variables in blocks.items():
            lines += [f"\t{name} = {{", *(f"\t\t{key} => {value}" for key, value in variables.items()), "\t}", ""]
        lines += ["\tdomain = system", f"\texit timeout = {self.exit_timeout_seconds}", "\truns = 1"]
        lines += [f"\tpid = {self._pid}"] if runs else []
        lines += [f"\tlast exit code = {'78: EX_CONFIG' if self.dies else '(never exited)'}"]
        lines += ["", "\tresource coalition = {", "\t\tstate = active", "\t}", "}", ""]
        return CommandResult(0, "\n".join(lines), "")

    def _do_print_disabled(self, _domain: str) -> CommandResult:
        lines = [f'\t\t"{label}" => {"disabled" if value else "enabled"}\n' for label, value in self.disabled.items()]
        return CommandResult(0, "\n\tdisabled services = {\n" + "".join(lines) + "\t}\n", "")

    def _do_bootout(self, _target: str) -> CommandResult:
        if not self._is_loaded():
            return CommandResult(3, "", "Boot-out failed: 3: No such process\n")
        self._gone_at = self.clock + self.teardown_seconds
        return (
            CommandResult(36, "", "Boot-out failed: 36: Operation now in progress\n") if self.teardown_seconds else CommandResult(0, "", "")
        )

    def _do_bootstrap(self, _domain: str, path: str) -> CommandResult:
        if self.disabled.get(LABEL):
            return CommandResult(119, "", f"{path}: Service is disabled\nBootstrap failed: 119: Service is disabled\n")
        if self._is_loaded():
            return CommandResult(5, "", "Bootstrap failed: 5: Input/output error\n")
        self._bootstrap()
        return CommandResult(0, "", "")

    def _do_kickstart(self, _target: str) -> CommandResult:
        if not self._is_loaded():
            return CommandResult(113, "", f'Could not find service "{LABEL}" in domain for system\n')
        self._start()
        return CommandResult(0, "", "")

    def _do_getenv(self, name: str) -> CommandResult:
        return CommandResult(0, self.domain[name] + "\n" if name in self.domain else "", "")

    def _do_unsetenv(self, name: str) -> CommandResult:
        if self.unset_works:
            self.domain.pop(name, None)
        return CommandResult(0, "", "")


class FakeSystemd(MemoryHost):
    """A Linux host with one unit.

    start_seconds: how long the unit is "activating" after a restart. fails: the restart fails and the unit with it.
    flaps: each look shows another process.
    properties override what `systemctl show` says. forced: subcommand -> what its next uses say instead.
    """

    def __init__(self, **options: t.Any) -> None:
        super().__init__(system="Linux", machine="aarch64", **options)
        self.start_seconds = 0.0
        self.fails = False
        self.flaps = False
        self.properties: t.Dict[str, str] = {}
        self.manager: t.Dict[str, str] = {}
        self.configured: t.Dict[str, str] = {}
        self.forced: t.Dict[str, t.List[t.Union[CommandResult, Exception]]] = {}
        self._pid = 700
        self._runs_at = 0.0
        self._put_environ()

    def run(self, argv: t.Sequence[str], timeout_seconds: float = 30.0) -> CommandResult:
        if argv[0] != "systemctl" or tuple(argv) in self.commands:
            return super().run(argv, timeout_seconds)
        self.calls.append(tuple(argv))
        assert argv[1] == "--no-pager"
        forced = self.forced.get(argv[2])
        if forced:
            reply = forced.pop(0)
            if isinstance(reply, Exception):
                raise reply
            return reply
        return t.cast("CommandResult", getattr(self, "_do_" + argv[2].replace("-", "_"))(*argv[3:]))

    def used(self) -> t.List[str]:
        """The subcommands other than show, in their order."""
        return [call[2] for call in self.calls if call[0] == "systemctl" and call[2] != "show"]

    def _put_environ(self) -> None:
        self._put(f"/proc/{self._pid}/environ", MemoryFile(b"PATH=/usr/bin\0INVOCATION_ID=%d\0" % self._pid))

    def _do_show(self, unit: str, option: str, names: str) -> CommandResult:
        assert (unit, option) == (UNIT, "-p")
        self._pid += self.flaps
        runs = self.clock >= self._runs_at and not self.fails
        known = {
            "LoadState": "loaded",
            "ActiveState": "failed" if self.fails else "active" if runs else "activating",
            "SubState": "failed" if self.fails else "running" if runs else "auto-restart",
            "MainPID": str(self._pid) if runs else "0",
            "ExecMainStartTimestampMonotonic": str(self._pid * 1000),
            "UnitFileState": "enabled",
            "FragmentPath": "/etc/systemd/system/gpustack.service",
            "DropInPaths": "",
            "InvocationID": f"{self._pid:032x}",
            "Result": "exit-code" if self.fails else "success",
            "ExecMainStatus": "3" if self.fails else "0",
            **self.properties,
        }
        return CommandResult(0, "".join(f"{name}={known[name]}\n" for name in names.split(",") if name in known), "")

    def _do_show_environment(self) -> CommandResult:
        return CommandResult(0, "".join(f"{name}={value}\n" for name, value in {**self.configured, **self.manager}.items()), "")

    def _do_unset_environment(self, name: str) -> CommandResult:
        self.manager.pop(name, None)
        return CommandResult(0, "", "")

    def _do_daemon_reload(self) -> CommandResult:
        return CommandResult(0, "", "")

    def _do_restart(self, _unit: str) -> CommandResult:
        if self.fails:
            return CommandResult(1, "", f"Job for {UNIT} failed because the control process exited with error code.\n")
        self._pid += 1
        self._runs_at = self.clock + self.start_seconds
        self._put_environ()
        return CommandResult(0, "", "")
