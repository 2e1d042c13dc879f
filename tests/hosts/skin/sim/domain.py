# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""The system domain: which jobs are loaded, and what each subcommand of launchctl does to them."""

from __future__ import annotations

import os
import plistlib
import signal
import time
import typing as t

from . import layout
from .jobs import Job, RefusedError, event, knob, read_definition
from .replies import OK, ForcedCodes, Reply, failed, legacy, richer_as_root

DISABLED_DATABASE = "/var/db/com.apple.xpc.launchd/disabled.plist"
DAEMONS = "/Library/LaunchDaemons"
BOOTOUT_WAIT_SECONDS = 0.5
CHANGES = ("bootstrap", "bootout", "kickstart", "kill", "enable", "disable", "setenv", "unsetenv")


class Wait(t.NamedTuple):
    """A reply that depends on a process' end: asked again at each event, `late` when the time is over."""

    ask: t.Callable[[], t.Optional[Reply]]
    deadline: float
    late: Reply


Answer = t.Union[Reply, Wait]


def _label(arguments: t.List[str]) -> str:
    return arguments[-1].partition("/")[2] if arguments else ""


class Domain:
    def __init__(self) -> None:
        self.jobs: t.Dict[str, Job] = {}
        self.environment: t.Dict[str, str] = {}
        self.disabled: t.Dict[str, bool] = {}
        self.forced = ForcedCodes()

    def load_at_boot(self) -> None:
        if os.path.exists(DISABLED_DATABASE):
            with open(DISABLED_DATABASE, "rb") as file:
                self.disabled = plistlib.load(file)
        for name in sorted(os.listdir(DAEMONS)):
            if name.endswith(".plist"):
                self._bootstrap(os.path.join(DAEMONS, name))

    def answer(self, command: str, arguments: t.List[str], uid: int) -> Answer:
        handler: t.Optional[t.Callable[[t.List[str], int], Answer]] = getattr(self, "_do_" + command.replace("-", "_"), None)
        if handler is None:
            return Reply(64, err=f"Unrecognized subcommand: {command}\nUsage: launchctl <subcommand> ... | help [subcommand]\n")
        code = self.forced.next(command)
        label = _label(arguments)
        if code == 36:  # says "in progress", so it must be
            handler(arguments, uid)
        if code:
            return failed(command, code, label)
        if uid != 0 and command in CHANGES and command != "bootstrap":
            return failed(command, 1, label) if command != "kill" else Reply(1, err="Not privileged to signal service.\n")
        return handler(arguments, uid)

    def _do_bootstrap(self, arguments: t.List[str], uid: int) -> Reply:
        if len(arguments) < 2:
            return Reply(64, err="Usage: launchctl bootstrap <domain-target> [service-path, service-path2, ...]\n")
        if arguments[0] != "system":
            return failed("bootstrap", 125)
        if uid != 0:
            return richer_as_root(failed("bootstrap", 5), uid)
        replies = [self._bootstrap(path) for path in arguments[1:]]
        return next((reply for reply in replies if reply.rc), OK)

    def _bootstrap(self, path: str) -> Reply:
        try:
            definition = read_definition(path)
        except RefusedError as error:
            event("refused", path, reason=str(error))
            return failed("bootstrap", 5)
        label = definition["Label"]
        if label in self.jobs:
            draining = self.jobs[label].removing
            return failed("bootstrap", int(knob("draining_code", 5)) if draining else 5)
        if self.disabled.get(label, bool(definition.get("Disabled"))):
            reply = failed("bootstrap", 119)
            return reply._replace(err=f"{path}: Service is disabled\n{reply.err}")
        job = self.jobs[label] = Job(path, definition)
        event("bootstrap", label, path=path)
        if job.starts_at_load():
            job.spawn(self.environment)
        return OK

    def _do_bootout(self, arguments: t.List[str], uid: int) -> Answer:
        target = arguments[-1] if arguments else ""
        if len(arguments) == 2:  # domain and path
            label = self._label_of(target)
            missing = failed("bootout", 5)
        else:
            label = target.partition("/")[2]
            missing = failed("bootout", 3)
        job = self.jobs.get(label)
        if job is None:
            return missing
        if not job.removing:
            event("bootout", label, pid=job.pid)
        job.removing, job.due = True, None
        if not job.pid:
            self._forget(job)
            return OK
        job.stop()
        deadline = time.monotonic() + float(knob("bootout_wait", BOOTOUT_WAIT_SECONDS))
        return Wait(lambda: OK if self.jobs.get(label) is not job else None, deadline, failed("bootout", 36))

    def _label_of(self, path: str) -> str:
        """By the loaded job's path; the file may have changed or gone since."""
        by_path = [job.label for job in self.jobs.values() if job.path == path]
        if by_path:
            return by_path[0]
        try:
            return str(read_definition(path)["Label"])
        except RefusedError:
            return ""

    def _forget(self, job: Job) -> None:
        del self.jobs[job.label]
        event("removed", job.label)

    def _do_kickstart(self, arguments: t.List[str], uid: int) -> Answer:
        job = self._target(arguments)
        label = _label(arguments)
        if job is None:
            return failed("kickstart", 113, label)
        if job.removing:
            return failed("kickstart", 37, label)
        options = "".join(word.lstrip("-") for word in arguments[:-1])

        def started() -> Reply:
            return Reply(0, out=f"service spawned with pid: {job.pid}\n" if "p" in options else "")

        if not job.pid:
            job.spawn(self.environment)
            return started()
        if "k" not in options:
            return started()
        runs = job.runs
        job.restarting = True
        job.stop()
        late = time.monotonic() + job.exit_timeout_seconds + 5
        return Wait(lambda: started() if job.runs > runs and job.pid else None, late, failed("kickstart", 37, label))

    def _target(self, arguments: t.List[str]) -> t.Optional[Job]:
        return self.jobs.get(arguments[-1].partition("/")[2]) if arguments and arguments[-1].startswith("system/") else None

    def _do_kill(self, arguments: t.List[str], uid: int) -> Reply:
        job = self._target(arguments)
        if job is None:
            return failed("kill", 113, _label(arguments))
        name = arguments[0].upper()
        number = int(name) if name.isdigit() else int(getattr(signal, "SIG" + name[name.startswith("SIG") * 3 :], 0))
        if number not in signal.valid_signals():
            return Reply(64, err="Usage: launchctl kill <signal> <service-target>\n")
        if not job.pid:
            return Reply(3, err="No process to signal.\n")
        job.signal(number)
        return OK

    def _do_print(self, arguments: t.List[str], uid: int) -> Reply:
        if arguments in (["system"], ["system/"]):
            return Reply(0, out=layout.domain(self.jobs, self.disabled, self.environment))
        job = self._target(arguments)
        if job is None:
            return failed("print", 113, _label(arguments))
        return Reply(0, out=layout.service(job, self.environment))

    def _do_list(self, arguments: t.List[str], uid: int) -> Reply:
        if not arguments:
            return Reply(0, out=layout.listing(self.jobs))
        job = self.jobs.get(arguments[0])
        return Reply(0, out=layout.listed(job)) if job else failed("list", 113, arguments[0])

    def _do_enable(self, arguments: t.List[str], uid: int) -> Reply:
        return self._override(arguments, False)

    def _do_disable(self, arguments: t.List[str], uid: int) -> Reply:
        return self._override(arguments, True)

    def _override(self, arguments: t.List[str], off: bool) -> Reply:
        """Kept for labels that nobody knows, and after the plist is gone; a running job is left alone."""
        label = arguments[0].partition("/")[2] if arguments else ""
        if not label or not arguments[0].startswith("system/"):
            return Reply(64, err="Usage: launchctl enable|disable <service-target>\n")
        self.disabled[label] = off
        event("disable" if off else "enable", label)
        with open(DISABLED_DATABASE + ".new", "wb") as file:
            plistlib.dump(self.disabled, file)
        os.rename(DISABLED_DATABASE + ".new", DISABLED_DATABASE)
        return OK

    def _do_print_disabled(self, arguments: t.List[str], uid: int) -> Reply:
        return Reply(0, out=layout.disabled_services(self.disabled))

    def _do_setenv(self, arguments: t.List[str], uid: int) -> Reply:
        self.environment.update(zip(arguments[::2], arguments[1::2]))
        return OK

    def _do_unsetenv(self, arguments: t.List[str], uid: int) -> Reply:
        for name in arguments:
            self.environment.pop(name, None)
        return OK

    def _do_getenv(self, arguments: t.List[str], uid: int) -> Reply:
        value = self.environment.get(arguments[0]) if arguments else None
        return Reply(1) if value is None else Reply(0, out=value + "\n")

    def _do_load(self, arguments: t.List[str], uid: int) -> Reply:
        for path in [word for word in arguments if not word.startswith("-")]:
            if "-w" in arguments and uid == 0:
                self._override([f"system/{self._label_of(path)}"], False)
            reply = self._bootstrap(path) if uid == 0 else failed("bootstrap", 5)
            if reply.rc:
                return legacy(failed("load", reply.rc), "bootstrap")
        return OK

    def _do_unload(self, arguments: t.List[str], uid: int) -> Reply:
        for path in [word for word in arguments if not word.startswith("-")]:
            label = self._label_of(path)
            if "-w" in arguments and uid == 0 and label:
                self._override([f"system/{label}"], True)
            if uid != 0 or label not in self.jobs:
                return legacy(failed("unload", 5), "bootout")
            self._do_bootout(["system", path], uid)
        return OK

    def child_ended(self, pid: int, status: int) -> bool:
        for job in list(self.jobs.values()):
            if job.pid == pid:
                job.ended(status)
                if job.removing:
                    self._forget(job)
                return True
        return False

    def tick(self) -> t.Optional[float]:
        """Do what is due; the next moment when something will be."""
        now = time.monotonic()
        moments = []
        for job in self.jobs.values():
            if job.due is not None and job.due <= now:
                job.spawn(self.environment)
            if job.pid and job.kill_at is not None and job.kill_at <= now:
                job.signal(signal.SIGKILL)
                job.kill_at = None
            moments += [moment for moment in (job.due, job.kill_at) if moment is not None]
        return min(moments, default=None)
