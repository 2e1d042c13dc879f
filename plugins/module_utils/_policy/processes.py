# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What ps on macOS and /proc on Linux say about processes and their environments.

A process may write over its own environment: GPUStack's Python processes give themselves titles (setproctitle), which
on both systems takes the place of arguments and environment. So an environment that does not look like one is unknown.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

# Every process that launchd or systemd starts has one of these; where none is seen, the environment is not seen.
_USUAL_VARIABLES = ("PATH", "HOME", "XPC_SERVICE_NAME", "INVOCATION_ID")

# A command may hold line feeds, and then whatever its user likes: thousands of digits, say, which int() refuses.
_PS_LINE = re.compile(r"\s*(?P<pid>[0-9]{1,10})\s+(?P<ppid>[0-9]{1,10})(?:\s(?P<command>.*))?\Z")
_PS_PID_LINE = re.compile(r"\s*(?P<pid>[0-9]{1,10})(?:\s(?P<command>.*))?\Z")
_STAT = re.compile(r"[0-9]+ \((?P<name>.*)\) \S (?P<ppid>[0-9]{1,10}) (?P<rest>.*)", re.DOTALL)
# proc(5): starttime is field 22, the 18th behind the parent's pid, in ticks of which USER_HZ makes 100 a second everywhere.
_START_FIELD = 17
_TICKS_PER_SECOND = 100
_ETIME = re.compile(r"(?:(?:([0-9]{1,9})-)?([0-9]{1,9}):)?([0-9]{1,9}):([0-9]{1,9})")


@dataclasses.dataclass(frozen=True)
class Process:
    """A process as the process table has it. command: its arguments joined by blanks. They can hold secrets (--token)."""

    pid: int
    ppid: int
    command: str


def parse_ps(text: str) -> t.List[Process]:
    """Read `ps -axww -o pid=,ppid=,command=`; lines that are not of this form are left out."""
    found = (_PS_LINE.match(line) for line in text.split("\n"))
    return [Process(int(match.group("pid")), int(match.group("ppid")), (match.group("command") or "").strip()) for match in found if match]


def parse_ps_commands(text: str) -> t.Dict[int, str]:
    """Read `ps -ww -o pid=,command=`, with -E or without: pid -> text. A line without a pid belongs to the one before."""
    commands: t.Dict[int, str] = {}
    pid: t.Optional[int] = None
    for line in text.split("\n"):
        match = _PS_PID_LINE.match(line)
        if match is not None:
            pid = int(match.group("pid"))
            commands[pid] = (match.group("command") or "").strip()
        elif pid is not None and line:
            commands[pid] += "\n" + line
    return commands


def parse_stat_ppid(text: str) -> t.Optional[int]:
    """The parent's pid from /proc/PID/stat; the name before it may hold blanks and parentheses."""
    match = _STAT.match(text)
    return int(match.group("ppid")) if match is not None else None


def parse_age(stat: str, uptime: str) -> t.Optional[float]:
    """For how many seconds a process has run, from /proc/PID/stat and /proc/uptime."""
    match = _STAT.match(stat)
    try:
        ticks = int(match.group("rest").split()[_START_FIELD]) if match else None
        return None if ticks is None else float(uptime.partition(" ")[0]) - ticks / _TICKS_PER_SECOND
    except (ValueError, IndexError):
        return None


def parse_etime(text: str) -> t.Optional[float]:
    """For how many seconds a process has run, from `ps -o etime=`: [[days-]hours:]minutes:seconds.

    Not from its start time: ps writes that in the host's time zone, and a task's environment may give us another one.
    """
    match = _ETIME.fullmatch(text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(number or 0) for number in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def parse_cmdline(data: bytes) -> str:
    """The command from /proc/PID/cmdline; empty for a kernel thread or a zombie."""
    return data.replace(b"\0", b" ").decode(errors="surrogateescape").strip()


def parse_environ(data: bytes) -> t.Optional[t.Dict[str, str]]:
    """The variables from /proc/PID/environ; None where the process wrote something else over them."""
    entries = (entry.partition("=") for entry in data.decode(errors="surrogateescape").split("\0"))
    variables: t.Dict[str, str] = {}
    for name, equals, value in entries:
        # The first of two assignments is the one that getenv(3) finds.
        if equals and name:
            variables.setdefault(name, value)
    return variables if any(name in variables for name in _USUAL_VARIABLES) else None


def has_variable(with_environment: str, command: str, name: str) -> t.Optional[bool]:
    """Whether a variable is among the environment words that `ps -E` puts behind the command.

    command: what ps shows without -E, so that an argument `NAME=1` is not taken for the variable. None where no
    environment is visible: ps hides that of restricted processes and, from other users than root, that of everybody else.
    """
    words = (with_environment[len(command) :] if with_environment.startswith(command) else with_environment).split()
    names = {word.partition("=")[0] for word in words if "=" in word}
    if name in names:
        return True
    return False if names.intersection(_USUAL_VARIABLES) else None


def with_descendants(processes: t.Iterable[Process], pid: int) -> t.List[Process]:
    """The process and all that descend from it, the process first; empty where it does not run."""
    children: t.Dict[int, t.List[Process]] = {}
    found: t.List[Process] = []
    for process in processes:
        if process.pid == pid:
            found.append(process)
        else:
            children.setdefault(process.ppid, []).append(process)
    for process in found:
        # pop: a table that is read while processes come and go may show a circle.
        found.extend(children.pop(process.pid, ()))
    return found
