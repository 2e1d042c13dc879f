# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""A loaded job: its definition as it was when it was loaded, and the life of its process."""

from __future__ import annotations

import contextlib
import os
import plistlib
import signal
import stat
import time
import typing as t
from xml.parsers import expat

from . import spawn
from .common import append_line, read_json

DEFAULT_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
DEFAULT_THROTTLE_SECONDS = 10
# both recordings of `launchctl print` show 5 for system daemons
DEFAULT_EXIT_TIMEOUT_SECONDS = 5


class RefusedError(Exception):
    """launchd does not take this plist; the caller hears error 5 and nothing else."""


def knob(name: str, default: t.Any) -> t.Any:
    """A test's setting in /.sim/launchd.json, read when it is needed so that it can change at any time."""
    return read_json("launchd.json").get(name, default)


def event(name: str, label: str, **more: t.Any) -> None:
    append_line("events.jsonl", {"event": name, "label": label, **more})


def read_definition(path: str) -> t.Dict[str, t.Any]:
    """For a symbolic link the target's owner and mode count, as GPUStack's desktop package relies on."""
    try:
        status = os.stat(path)
        with open(path, "rb") as file:
            definition = plistlib.load(file)
    except (OSError, ValueError, expat.ExpatError) as error:
        raise RefusedError(str(error)) from error
    if not stat.S_ISREG(status.st_mode) or (status.st_uid, status.st_gid) != (0, 0) or status.st_mode & 0o022:
        raise RefusedError("Path had bad ownership/permissions")
    if not isinstance(definition, dict) or not isinstance(definition.get("Label"), str) or not definition["Label"]:
        raise RefusedError("no Label")
    if not definition.get("ProgramArguments") and not definition.get("Program"):
        raise RefusedError("no Program or ProgramArguments")
    return definition


class Job:
    """States: waiting (pid 0, due None), scheduled (due set), running (pid), draining (removing, pid)."""

    def __init__(self, path: str, definition: t.Dict[str, t.Any]) -> None:
        self.path = path
        self.definition = definition
        self.label: str = definition["Label"]
        self.pid = 0
        self.runs = 0
        self.status: t.Optional[int] = None
        self.started = 0.0
        self.due: t.Optional[float] = None
        self.kill_at: t.Optional[float] = None
        self.removing = False
        self.restarting = False
        self.inherited: t.Dict[str, str] = {}

    @property
    def argv(self) -> t.List[str]:
        return [str(word) for word in self.definition.get("ProgramArguments") or [self.definition["Program"]]]

    @property
    def program(self) -> str:
        return str(self.definition.get("Program") or self.argv[0])

    @property
    def environment(self) -> t.Dict[str, str]:
        """What `launchctl print` shows: launchd's own additions around the plist's variables."""
        given = self.definition.get("EnvironmentVariables") or {}
        strings = {str(key): value for key, value in given.items() if isinstance(value, str)}
        return {"OSLogRateLimit": "64", **strings, "XPC_SERVICE_NAME": self.label}

    @property
    def throttle_seconds(self) -> float:
        return float(self.definition.get("ThrottleInterval", knob("throttle_interval", DEFAULT_THROTTLE_SECONDS)))

    @property
    def exit_timeout_seconds(self) -> float:
        return float(self.definition.get("ExitTimeOut", knob("exit_timeout", DEFAULT_EXIT_TIMEOUT_SECONDS)))

    def starts_at_load(self) -> bool:
        """KeepAlive alone starts a job too, but launchd does not always do so at once: a knob has the other behaviour."""
        rule = self.definition.get("KeepAlive")
        # launchd.plist(5): SuccessfulExit implies RunAtLoad, since there is no exit status before a first run
        if self.definition.get("RunAtLoad") or (isinstance(rule, dict) and "SuccessfulExit" in rule):
            return True
        return rule is True and bool(knob("keep_alive_starts_at_load", True))

    def wanted_after_exit(self) -> bool:
        rule = self.definition.get("KeepAlive", False)
        if not isinstance(rule, dict):
            return bool(rule)
        clean = self.status is not None and os.WIFEXITED(self.status) and os.WEXITSTATUS(self.status) == 0
        crashed = self.status is not None and os.WIFSIGNALED(self.status)
        return ("SuccessfulExit" in rule and bool(rule["SuccessfulExit"]) == clean) or (
            "Crashed" in rule and bool(rule["Crashed"]) == crashed
        )

    def spawn(self, domain_environment: t.Dict[str, str]) -> None:
        """domain_environment: launchctl setenv reaches every process started after it, loaded before or not."""
        self.due = None
        self.inherited = dict(domain_environment)
        environment = {"PATH": DEFAULT_PATH, **self.inherited, **self.environment}
        self.runs += 1
        self.started = time.monotonic()
        argv = self.argv if "Program" not in self.definition else [self.program, *self.argv[1:]]
        self.pid = spawn.start(self.definition, argv, environment)
        event("spawn", self.label, pid=self.pid, env=sorted(environment), runs=self.runs)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.signal(number)
        if self.kill_at is None:
            self.kill_at = time.monotonic() + self.exit_timeout_seconds

    def signal(self, number: int) -> None:
        if self.pid:
            os.kill(self.pid, number)

    def ended(self, status: int) -> None:
        """What remains of the job's process group goes with it (AbandonProcessGroup says otherwise)."""
        event("exit", self.label, pid=self.pid, status=os.waitstatus_to_exitcode(status))
        if not self.definition.get("AbandonProcessGroup"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGTERM)
        self.pid, self.status, self.kill_at = 0, status, None
        if self.removing:
            return
        if self.restarting:
            self.restarting, self.due = False, time.monotonic()
        elif self.wanted_after_exit():
            self.due = max(time.monotonic(), self.started + self.throttle_seconds)
