# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""The host's processes, from the proc file system that only stand-ins know of."""

from __future__ import annotations

import os
import pwd
import typing as t

from .common import PROC, read_bytes

TICKS = os.sysconf("SC_CLK_TCK")
PYTHON = "/usr/bin/python3"
HIDDEN = ("REAL_UNAME",)


class Process:
    """One process; attributes are read when asked for, and a process that has ended raises ProcessLookupError."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            stat = read_bytes(f"{PROC}/{pid}/stat").decode(errors="replace")
            self.uid = os.stat(f"{PROC}/{pid}").st_uid
        except OSError as error:
            raise ProcessLookupError(pid) from error
        self._short = stat[stat.index("(") + 1 : stat.rindex(")")]
        self._fields = stat[stat.rindex(")") + 2 :].split()

    @property
    def ppid(self) -> int:
        return int(self._fields[1])

    @property
    def pgid(self) -> int:
        return int(self._fields[2])

    @property
    def state(self) -> str:
        return self._fields[0]

    @property
    def terminal(self) -> str:
        device = int(self._fields[4])
        return f"ttys{device & 0xFF:03d}" if device else "??"

    @property
    def user(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def resident_kib(self) -> int:
        return int(self._fields[21]) * os.sysconf("SC_PAGESIZE") // 1024

    @property
    def virtual_kib(self) -> int:
        return int(self._fields[20]) // 1024

    @property
    def cpu_seconds(self) -> float:
        return (int(self._fields[11]) + int(self._fields[12])) / TICKS

    @property
    def started(self) -> float:
        return boot_time() + int(self._fields[19]) / TICKS

    @property
    def argv(self) -> t.List[str]:
        """Without the interpreter of our stand-ins: on a Mac PID 1 is /sbin/launchd."""
        try:
            raw = read_bytes(f"{PROC}/{self.pid}/cmdline")
        except OSError:
            raw = b""
        argv = [word.decode(errors="replace") for word in raw.rstrip(b"\0").split(b"\0")] if raw else []
        if len(argv) > 2 and argv[0] == PYTHON and argv[1] == "-IS":
            return argv[2:]
        return argv or [f"({self._short})"]

    @property
    def environment(self) -> t.List[str]:
        """NAME=value words; empty where the kernel does not let the caller look."""
        try:
            raw = read_bytes(f"{PROC}/{self.pid}/environ")
        except OSError:
            return []
        words = [word.decode(errors="replace") for word in raw.split(b"\0") if word]
        return [word for word in words if word.partition("=")[0] not in HIDDEN]


def boot_time() -> int:
    """The kernel's own: a start time must be the same text whenever ps is asked."""
    for line in read_bytes(f"{PROC}/stat").decode().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    raise RuntimeError("no btime")


def everything() -> t.List[Process]:
    found = []
    for name in sorted((entry for entry in os.listdir(PROC) if entry.isdigit()), key=int):
        try:
            found.append(Process(int(name)))
        except ProcessLookupError:
            continue
    return found
