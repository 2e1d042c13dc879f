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
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import CommandTimeoutError, HostError
from ansible_collections.metalfleet.gpustack.tests.unit import fake_bus
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost

LABEL = "ai.gpustack"
PLIST = "/Library/LaunchDaemons/ai.gpustack.plist"
UNIT = "gpustack.service"
UNIT_FILE = "/etc/systemd/system/gpustack.service"
WORKER_PORT = 10150

Environment = t.Mapping[str, str]


def _worker_port(environment: Environment) -> int:
    return int(environment.get("GPUSTACK_WORKER_PORT", WORKER_PORT))


def _is_fine(_environment: Environment) -> bool:
    return False


class FakeLaunchd(MemoryHost):
    """A Mac with one daemon.

    teardown_seconds: how long the job stays after bootout; then bootout returns 36. starts_by_itself: RunAtLoad.
    start_seconds: from start to running. answer_seconds: from running until /healthz answers. child_seconds: until its children
    run. forced: subcommand -> exit codes of its next uses; 0 is the real thing.
    hangs: subcommands that never end. dies: the program exits with 78 at once. flaps: each look shows it with another pid.
    kills: environments with which it does so. children: the commands of what it starts; crashes: environments with which
    these end, and are started again, at each look. stops: how often it ran when it was told to go.
    """

    def __init__(self, environment: t.Optional[t.Dict[str, str]] = None, **options: t.Any) -> None:
        content = {"Label": LABEL, "ProgramArguments": ["/usr/local/bin/gpustack", "start"], "EnvironmentVariables": environment or {}}
        super().__init__(files={PLIST: plistlib.dumps(content)}, **options)
        self.teardown_seconds = 0.0
        self.start_seconds = 0.0
        self.answer_seconds = 0.0
        self.child_seconds = 0.0
        self.starts_by_itself = True
        self.dies = False
        self.flaps = False
        self.exit_timeout_seconds = 5
        self.disabled: t.Dict[str, bool] = {}
        self.domain: t.Dict[str, str] = {}
        self.forced: t.Dict[str, t.List[int]] = {}
        self.hangs: t.Set[str] = set()
        self.kills: t.Callable[[Environment], bool] = _is_fine
        self.crashes: t.Callable[[Environment], bool] = _is_fine
        self.children: t.List[str] = []
        self.stops = 0
        self.unset_works = True
        self._pids = 800
        self._gone_at: t.Optional[float] = None
        self._runs_at: t.Optional[float] = None
        self._pid: t.Optional[int] = None
        self._children_since = 0.0
        self._loaded: t.Optional[t.Dict[str, str]] = None
        self._bootstrap()
        # As of a node that was not started for the test.
        self._runs_at = self._children_since = self.clock - 3600.0

    def run(self, argv: t.Sequence[str], timeout_seconds: float = 30.0) -> CommandResult:
        if argv[0] == "ps" and tuple(argv) not in self.commands:
            self.calls.append(tuple(argv))
            return self._ps(argv)
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

    def environment(self) -> t.Dict[str, str]:
        """With which the job was loaded."""
        return {**self.domain, **(self._loaded or {})}

    def is_up(self) -> bool:
        """Whether its program runs."""
        return self._is_loaded() and self._pid is not None and self._runs_at is not None and self.clock >= self._runs_at

    def answers(self, port: int, path: str, timeout_seconds: float = 3.0) -> t.Optional[int]:
        if port == _worker_port(self.environment()) and path == "/healthz":
            return 200 if self.is_up() and self.clock >= (self._runs_at or 0.0) + self.answer_seconds else None
        return super().answers(port, path, timeout_seconds)

    def _ps(self, argv: t.Sequence[str]) -> CommandResult:
        if "pid=,command=" in argv:
            variables = "".join(f" {name}={value}" for name, value in {"PATH": "/usr/bin", **self.environment()}.items())
            shown = variables if "E" in argv[1] else ""
            lines = [f"{self._pid} /usr/local/bin/gpustack start{shown}"] if self.is_up() else []
            lines += [f"{pid} {command}{shown}" for pid, command in self._child_pids().items()]
            return CommandResult(0, "".join(f"  {line}\n" for line in lines), "")
        if argv[1] == "-axww":
            if self.crashes(self.environment()):
                self._pids += len(self.children)
                self._children_since = self.clock
            lines = [f"{self._pid} 1 /usr/local/bin/gpustack start"] if self.is_up() else []
            lines += [f"{pid} {self._pid} {command}" for pid, command in self._child_pids().items()]
            return CommandResult(0, "".join(f"  {line}\n" for line in ["1 0 /sbin/launchd", *lines]), "")
        pid = int(argv[-1])
        if not self.is_up() or pid not in (self._pid, *self._child_pids()):
            return CommandResult(1, "", "")
        since = self._children_since if pid != self._pid else self._runs_at or 0.0
        if argv[2] == "etime=":
            minutes, seconds = divmod(int(self.clock - since), 60)
            return CommandResult(0, f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}\n", "")
        return CommandResult(0, f"Sat Nov 22 {pid}\n", "")

    def _child_pids(self) -> t.Dict[int, str]:
        has_begun = self.is_up() and self.clock >= self._children_since
        return {10 * self._pids + number: command for number, command in enumerate(self.children)} if has_begun else {}

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
        self._pid = None if self.dies or self.kills(self.environment()) else self._pids
        self._runs_at = self.clock + self.start_seconds
        self._children_since = self._runs_at + self.child_seconds

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
        self.stops += self.is_up()
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

    def _do_setenv(self, name: str, value: str) -> CommandResult:
        self.domain[name] = value
        return CommandResult(0, "", "")

    def _do_unsetenv(self, name: str) -> CommandResult:
        if self.unset_works:
            self.domain.pop(name, None)
        return CommandResult(0, "", "")


class FakeSystemd(MemoryHost):
    """A Linux host with one unit.

    start_seconds: how long the unit is "activating" after a restart. fails: the restart fails and the unit with it.
    flaps: each look shows another process. answer_seconds, child_seconds, kills, children, crashes, stops: as of FakeLaunchd.
    properties override what `systemctl show` says. forced: subcommand -> what its next uses say instead.
    unit: the text of its file as it was when systemd read it last. bus: whether there is a system bus.
    """

    def __init__(self, **options: t.Any) -> None:
        super().__init__(system="Linux", machine="aarch64", **options)
        self.start_seconds = 0.0
        self.answer_seconds = 0.0
        self.child_seconds = 0.0
        self.fails = False
        self.flaps = False
        self.properties: t.Dict[str, str] = {}
        self.manager: t.Dict[str, str] = {}
        self.configured: t.Dict[str, str] = {}
        self.forced: t.Dict[str, t.List[t.Union[CommandResult, Exception]]] = {}
        self.kills: t.Callable[[Environment], bool] = _is_fine
        self.crashes: t.Callable[[Environment], bool] = _is_fine
        self.children: t.List[str] = []
        self.stops = 0
        self._pid = 700
        self._runs_at = 0.0
        self._is_killed = False
        self._started = -3600.0
        self._children_started = -3600.0
        self.unit = ""
        self.bus = True
        self._environment: t.Dict[str, str] = {}
        self.boot()

    def boot(self) -> None:
        """Start as with the files that are there now."""
        self._do_daemon_reload()
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

    def environment(self) -> t.Dict[str, str]:
        """With which the main process was started."""
        return dict(self._environment)

    def is_up(self) -> bool:
        """Whether its program runs."""
        return self.clock >= self._runs_at and not self.fails and not self._is_killed

    def answers(self, port: int, path: str, timeout_seconds: float = 3.0) -> t.Optional[int]:
        if port == _worker_port(self.environment()) and path == "/healthz":
            return 200 if self.is_up() and self.clock >= self._runs_at + self.answer_seconds else None
        return super().answers(port, path, timeout_seconds)

    def systemd_properties(self, questions: t.Sequence[t.Any], timeout_seconds: float = 5.0) -> t.List[t.List[bytes]]:
        """What systemctl shows, and nothing that it does not."""
        if not self.bus:
            return super().systemd_properties(questions, timeout_seconds)
        found = []
        for path, interface, names in questions:
            if path == fake_bus.MANAGER_PATH:
                assert (interface, list(names)) == (fake_bus.MANAGER, [b"Environment"])
                said = self._answer("show-environment")
                found.append([fake_bus.variant("as", said.stdout.splitlines())])
            else:
                assert path == b"/org/freedesktop/systemd1/unit/gpustack_2eservice"
                shown = self._answer("show", UNIT, "-p", b",".join(names).decode())
                found.append(fake_bus.properties(interface, names, shown.stdout))
        return found

    def _answer(self, subcommand: str, *arguments: str) -> CommandResult:
        """What it says on the bus, where a failure is one, too."""
        if any(not isinstance(reply, CommandResult) or reply.rc for reply in self.forced.get(subcommand, [])[:1]):
            raise HostError("systemd cannot be asked on the system bus: timed out")
        return t.cast("CommandResult", getattr(self, "_do_" + subcommand.replace("-", "_"))(*arguments))

    def read(self, path: str, limit_bytes: int = 16 * 1024 * 1024) -> t.Optional[bytes]:
        if path == "/proc/uptime":
            return f"{self.clock:.2f} 0.00\n".encode()
        return super().read(path, limit_bytes)

    def names(self, folder: str) -> t.List[str]:
        if folder == "/proc":
            self._put_children(self.crashes(self.environment()))
        return super().names(folder)

    def _put_environ(self) -> None:
        variables = {"PATH": "/usr/bin", "INVOCATION_ID": str(self._pid), **self.configured, **self.manager}
        for line in self.unit.splitlines():
            key, _equals, value = line.partition("=")
            entries = [value] if key == "Environment" else []
            if key == "EnvironmentFile":
                entries = (super().read(value.lstrip("-")) or b"").decode().splitlines()
            for entry in entries:
                if entry[:1] not in ("", "#"):
                    name, _equals, text = entry.partition("=")
                    variables[name] = text
        self._environment = variables
        self._put(f"/proc/{self._pid}/environ", MemoryFile("".join(f"{name}={value}\0" for name, value in variables.items()).encode()))
        self._put_process(self._pid, 1, "/root/.local/bin/gpustack start", self._started)

    def _put_children(self, anew: bool) -> None:
        for path in [path for path in self.files if path.startswith("/proc/9")]:
            del self.files[path]
        if anew:
            self._children_started = self.clock
        for number, command in enumerate(self.children if self.is_up() and self.clock >= self._children_started else []):
            since = int(self._children_started * 10) % 100_000
            pid = int(f"9{self._pid}{since:05d}{number}")
            self._put_process(pid, self._pid, command, self._children_started)
            self._put(
                f"/proc/{pid}/environ", MemoryFile("".join(f"{name}={value}\0" for name, value in self._environment.items()).encode())
            )

    def _put_process(self, pid: int, parent: int, command: str, started: float) -> None:
        fields = ["S", str(parent), *["0"] * 17, str(int(started * 100)), "0"]
        self._put(f"/proc/{pid}/stat", MemoryFile(f"{pid} (x) {' '.join(fields)}\n".encode()))
        self._put(f"/proc/{pid}/cmdline", MemoryFile(command.replace(" ", "\0").encode()))
        self._put(f"/proc/{pid}/task/{pid}/children", MemoryFile())

    def _do_show(self, unit: str, option: str, names: str) -> CommandResult:
        assert (unit, option) == (UNIT, "-p")
        self._pid += self.flaps
        runs, fails = self.is_up(), self.fails or self._is_killed
        known = {
            "LoadState": "loaded",
            "ActiveState": "failed" if fails else "active" if runs else "activating",
            "SubState": "failed" if fails else "running" if runs else "auto-restart",
            "MainPID": str(self._pid) if runs else "0",
            "ExecMainStartTimestampMonotonic": str(self._pid * 1000),
            "UnitFileState": "enabled",
            "FragmentPath": UNIT_FILE,
            "DropInPaths": "",
            "InvocationID": f"{self._pid:032x}",
            "Result": "exit-code" if fails else "success",
            "ExecMainStatus": "3" if fails else "0",
            **self.properties,
        }
        return CommandResult(0, "".join(f"{name}={known[name]}\n" for name in names.split(",") if name in known), "")

    def _do_show_environment(self) -> CommandResult:
        return CommandResult(0, "".join(f"{name}={value}\n" for name, value in {**self.configured, **self.manager}.items()), "")

    def _do_unset_environment(self, name: str) -> CommandResult:
        self.manager.pop(name, None)
        return CommandResult(0, "", "")

    def _do_set_environment(self, assignment: str) -> CommandResult:
        name, _equals, value = assignment.partition("=")
        self.manager[name] = value
        return CommandResult(0, "", "")

    def _do_daemon_reload(self) -> CommandResult:
        self.unit = self.files[UNIT_FILE].content.decode() if UNIT_FILE in self.files else ""
        return CommandResult(0, "", "")

    def _do_restart(self, _unit: str) -> CommandResult:
        failure = CommandResult(1, "", f"Job for {UNIT} failed because the control process exited with error code.\n")
        self.stops += self.is_up()
        if self.fails:
            return failure
        for path in [path for path in self.files if path.startswith(f"/proc/{self._pid}/")]:
            del self.files[path]
        self._pid += 1
        self._started = self._runs_at = self.clock + self.start_seconds
        self._children_started = self._runs_at + self.child_seconds
        self._put_environ()
        self._is_killed = self.kills(self.environment())
        return failure if self._is_killed else CommandResult(0, "", "")
