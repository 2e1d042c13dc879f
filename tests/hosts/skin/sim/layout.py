# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""How `launchctl print` and `list` lay out what they show; after recordings of real Macs (one tab, two in blocks)."""

from __future__ import annotations

import os
import signal
import typing as t
import zlib

from .jobs import DEFAULT_PATH, Job

SYSEXITS = {64: "EX_USAGE", 70: "EX_SOFTWARE", 71: "EX_OSERR", 73: "EX_CANTCREAT", 75: "EX_TEMPFAIL", 77: "EX_NOPERM", 78: "EX_CONFIG"}
# signal(3) numbers of macOS differ from Linux' where jobs seldom die of them; these are the same
SIGNALS = {1: "Hangup", 2: "Interrupt", 3: "Quit", 6: "Abort trap", 9: "Killed", 11: "Segmentation fault", 15: "Terminated"}


def _number(seconds: float) -> str:
    return str(int(seconds)) if seconds == int(seconds) else str(seconds)


def _block(name: str, lines: t.Iterable[str]) -> t.List[str]:
    return [f"\t{name} = {{", *(f"\t\t{line}" for line in lines), "\t}"]


def _pairs(variables: t.Dict[str, str]) -> t.List[str]:
    return [f"{key} => {value}" for key, value in variables.items()]


def state(job: Job) -> str:
    if job.pid:
        return "running"
    return "spawn scheduled" if job.due is not None else "not running"


def _last_exit(job: Job) -> t.List[str]:
    """A process ended by a signal has no exit code line at all."""
    if job.status is None:
        return ["\tlast exit code = (never exited)"]
    if os.WIFSIGNALED(job.status):
        number = os.WTERMSIG(job.status)
        return [f"\tlast terminating signal = {SIGNALS.get(number, signal.Signals(number).name)}: {number}"]
    code = os.WEXITSTATUS(job.status)
    return [f"\tlast exit code = {code}: {SYSEXITS[code]}" if code in SYSEXITS else f"\tlast exit code = {code}"]


def _properties(job: Job) -> str:
    names = [("KeepAlive", "keepalive"), ("RunAtLoad", "runatload")]
    return " | ".join([word for key, word in names if job.definition.get(key)] + ["inferred program", "system service"])


def service(job: Job, domain_environment: t.Dict[str, str]) -> str:
    definition = job.definition
    active = 1 if job.pid else 0
    lines = [
        f"system/{job.label} = {{",
        f"\tactive count = {active}",
        f"\tpath = {job.path}",
        "\ttype = LaunchDaemon",
        f"\tstate = {state(job)}",
        "",
        f"\tprogram = {job.program}",
        *_block("arguments", job.argv),
        "",
    ]
    if "WorkingDirectory" in definition:
        lines += [f"\tworking directory = {definition['WorkingDirectory']}", ""]
    for key, name in (("StandardInPath", "stdin"), ("StandardOutPath", "stdout"), ("StandardErrorPath", "stderr")):
        if key in definition:
            lines.append(f"\t{name} path = {definition[key]}")
    inherited = job.inherited if job.pid else domain_environment
    if inherited:
        lines += [*_block("inherited environment", _pairs(inherited)), ""]
    lines += [*_block("default environment", [f"PATH => {DEFAULT_PATH}"]), "", *_block("environment", _pairs(job.environment)), ""]
    lines.append("\tdomain = system")
    if "UserName" in definition:
        lines += [f"\tusername = {definition['UserName']}", f"\tgroup = {definition.get('GroupName', 'staff')}"]
    lines += [
        f"\tminimum runtime = {_number(job.throttle_seconds)}",
        f"\tbase minimum runtime = {_number(job.throttle_seconds)}",
        f"\texit timeout = {_number(job.exit_timeout_seconds)}",
        f"\truns = {job.runs}",
    ]
    if job.pid:
        lines += [f"\tpid = {job.pid}", "\timmediate reason = speculative", "\tforks = 0", "\texecs = 1", "\tinitialized = 1",
                  "\ttrampolined = 1", "\tstarted suspended = 0", "\tproxy started suspended = 0"]  # fmt: skip
    lines += [*_last_exit(job), ""]
    for number, kind in enumerate(("resource", "jetsam")):
        coalition = zlib.crc32(job.label.encode()) % 100000 * 2 + number
        lines += _block(f"{kind} coalition", [f"ID = {coalition}", f"type = {kind}", f"state = {'active' if active else 'inactive'}",
                                              f"active count = {active}", f"name = {job.label}"])  # fmt: skip
        lines.append("")
    lines += ["\tspawn type = daemon (3)", "\tjetsam priority = 40", "\tjetsam memory limit (active) = (unlimited)",
              f"\tproperties = {_properties(job)}", "}"]  # fmt: skip
    return "\n".join(lines) + "\n"


def domain(jobs: t.Dict[str, Job], disabled: t.Dict[str, bool], environment: t.Dict[str, str]) -> str:
    rows = [f"{job.pid:8d} {_status(job):>7} \t{label}" for label, job in sorted(jobs.items())]
    lines = ["system = {", "\ttype = system", "\thandle = 0", f"\tactive count = {len(jobs)}", "\tservice count = " + str(len(jobs)),
             f"\tactive service count = {sum(1 for job in jobs.values() if job.pid)}", "\tcreator = launchd[1]",
             "\tcreator euid = 0", ""]  # fmt: skip
    lines += [*_block("environment", _pairs({"PATH": DEFAULT_PATH, **environment})), "", *_block("services", rows), ""]
    lines += [*_block("disabled services", _disabled(disabled)), "}"]
    return "\n".join(lines) + "\n"


def _disabled(disabled: t.Dict[str, bool]) -> t.List[str]:
    return [f'"{label}" => {"disabled" if off else "enabled"}' for label, off in disabled.items()]


def disabled_services(disabled: t.Dict[str, bool]) -> str:
    return "\n".join(["disabled services = {", *(f"\t{line}" for line in _disabled(disabled)), "}"]) + "\n"


def _status(job: Job) -> str:
    return "-" if job.status is None else str(os.waitstatus_to_exitcode(job.status))


def listing(jobs: t.Dict[str, Job]) -> str:
    rows = [f"{job.pid or '-'}\t{0 if job.status is None else _status(job)}\t{label}" for label, job in sorted(jobs.items())]
    return "\n".join(["PID\tStatus\tLabel", *rows]) + "\n"


def listed(job: Job) -> str:
    lines = ["{"]
    for key, name in (("StandardOutPath", "StandardOutPath"), ("StandardErrorPath", "StandardErrorPath")):
        if key in job.definition:
            lines.append(f'\t"{name}" = "{job.definition[key]}";')
    lines += ['\t"LimitLoadToSessionType" = "System";', f'\t"Label" = "{job.label}";',
              f'\t"OnDemand" = {"false" if job.definition.get("KeepAlive") else "true"};',
              f'\t"LastExitStatus" = {job.status or 0};']  # fmt: skip
    if job.pid:
        lines.append(f'\t"PID" = {job.pid};')
    lines += [f'\t"Program" = "{job.program}";', '\t"ProgramArguments" = (', *(f'\t\t"{word}";' for word in job.argv), "\t);", "};"]
    return "\n".join(lines) + "\n"
