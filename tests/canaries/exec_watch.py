# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write down every program that some processes and all their descendants start, with its arguments and its environment.

    exec_watch.py OUTPUT LABEL=PID...

By ptrace(2), so that none is missed however short it lives; the kernel stops them at forks and at execs alone. A line of JSON for each:
label, argv, environ. It prints a line when it watches, and ends with SIGTERM; what it watched goes on.
"""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import signal
import sys
import typing as t

_CONT, _GETEVENTMSG, _SEIZE, _LISTEN = 7, 0x4201, 0x4206, 0x4208
_FORK, _VFORK, _CLONE, _EXEC, _STOP = 1, 2, 3, 4, 128
_OPTIONS = sum(1 << event for event in (_FORK, _VFORK, _CLONE, _EXEC))
_WALL = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBC.ptrace.restype = ctypes.c_long


def ptrace(request: int, pid: int, data: t.Any = 0) -> bool:
    """One call; False where the process has ended meanwhile."""
    return bool(_LIBC.ptrace(request, pid, None, ctypes.cast(data, ctypes.c_void_p) if data else None) >= 0)


def words(pid: int, name: str) -> list[str]:
    """/proc/PID/cmdline or environ."""
    try:
        content = pathlib.Path("/proc", str(pid), name).read_bytes()
    except OSError:
        return []
    return [word.decode("utf-8", "surrogateescape") for word in content.split(b"\0")[:-1]]


def label_of(pid: int, labels: dict[int, str]) -> str:
    """That of the process, or of its parent, where a child is heard of before the fork that made it."""
    if pid not in labels:
        try:
            status = pathlib.Path("/proc", str(pid), "status").read_text()
        except OSError:
            return "?"
        labels[pid] = labels.get(int(status.partition("\nPPid:")[2].split()[0]), "?")
    return labels[pid]


def watch(output: t.TextIO, labels: dict[int, str]) -> None:
    """Until nothing is left to watch, or SIGTERM comes."""
    while True:
        try:
            pid, status = os.waitpid(-1, _WALL)
        except ChildProcessError:
            return
        if not os.WIFSTOPPED(status):
            labels.pop(pid, None)
            continue
        number, event = os.WSTOPSIG(status), status >> 16
        if event in (_FORK, _VFORK, _CLONE):
            child = ctypes.c_ulong()
            if ptrace(_GETEVENTMSG, pid, ctypes.pointer(child)):
                labels[child.value] = label_of(pid, labels)
        elif event == _EXEC:
            said = {"label": label_of(pid, labels), "argv": words(pid, "cmdline"), "environ": words(pid, "environ")}
            output.write(json.dumps(said) + "\n")
        stopped = event == _STOP and number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
        # A signal of its own is handed on; what stopped it for us is not.
        ptrace(_LISTEN if stopped else _CONT, pid, 0 if event else number)


def main() -> None:
    """Attach, watch."""
    path, *roots = sys.argv[1:]
    # Not to outlive who started it.
    _LIBC.prctl(1, signal.SIGTERM, 0, 0, 0)
    # What is watched waits for us at every fork, so we must not wait for others.
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    labels = {int(pid): label for label, pid in (root.split("=") for root in roots)}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with open(path, "w") as output:
        for pid in labels:
            if not ptrace(_SEIZE, pid, _OPTIONS):
                sys.exit(f"process {pid} cannot be watched: {os.strerror(ctypes.get_errno())}")
        print("watching", flush=True)
        watch(output, labels)


if __name__ == "__main__":
    main()
