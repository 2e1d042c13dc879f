# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""ps(1) of macOS, as far as Mac software uses it; what only the Linux one knows is refused."""

from __future__ import annotations

import os
import pwd
import sys
import time
import typing as t

from .common import complain, read_json, recorded
from .processes import Process, everything

USAGE = """usage: ps [-AaCcEefhjlMmrSTvwXx] [-O fmt | -o fmt] [-G gid[,gid...]]
          [-g grp[,grp...]] [-u [uid,uid...]]
          [-p pid[,pid...]] [-t tty[,tty...]] [-U user[,user...]]
       ps [-L]"""
FLAGS = "AaCcEefhjlMmrSTvwXx"
WITH_VALUE = "oOpUu"
SHORT_COLUMNS = ("pid", "tty", "time", "command")
FULL_COLUMNS = ("uid", "pid", "ppid", "tty", "time", "command")
USER_COLUMNS = ("user", "pid", "vsz", "rss", "tty", "stat", "start", "time", "command")


class UsageError(Exception):
    pass


class Request(t.NamedTuple):
    flags: str
    columns: t.List[t.Tuple[str, t.Optional[str]]]
    pids: t.Optional[t.Set[int]]
    users: t.Optional[t.Set[int]]


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours:02d}:{minutes:02d}:{rest:02d}" if hours or days else f"{minutes:02d}:{rest:02d}"
    return f"{days:02d}-{clock}" if days else clock


def _cpu(process: Process) -> str:
    minutes, seconds = divmod(process.cpu_seconds, 60)
    return f"{int(minutes)}:{seconds:05.2f}"


def _command(process: Process, flags: str) -> str:
    """-E appends the environment, unless the process is protected; a test names such programs in /.sim/ps.json."""
    if "c" in flags:
        return os.path.basename(process.argv[0])
    words = process.argv
    if "E" in flags and not any(text in " ".join(words) for text in read_json("ps.json").get("restricted", [])):
        words = words + process.environment
    return " ".join(words)


COLUMNS: t.Dict[str, t.Tuple[str, bool, t.Callable[[Process, str], str]]] = {
    "pid": ("PID", True, lambda process, _flags: str(process.pid)),
    "ppid": ("PPID", True, lambda process, _flags: str(process.ppid)),
    "pgid": ("PGID", True, lambda process, _flags: str(process.pgid)),
    "uid": ("UID", True, lambda process, _flags: str(process.uid)),
    "user": ("USER", False, lambda process, _flags: process.user),
    "tty": ("TTY", False, lambda process, _flags: process.terminal),
    "tt": ("TT", False, lambda process, _flags: process.terminal),
    "stat": ("STAT", False, lambda process, _flags: process.state),
    "state": ("STAT", False, lambda process, _flags: process.state),
    "rss": ("RSS", True, lambda process, _flags: str(process.resident_kib)),
    "vsz": ("VSZ", True, lambda process, _flags: str(process.virtual_kib)),
    "pcpu": ("%CPU", True, lambda _process, _flags: "0.0"),
    "pmem": ("%MEM", True, lambda _process, _flags: "0.0"),
    "time": ("TIME", True, lambda process, _flags: _cpu(process)),
    "start": ("STARTED", False, lambda process, _flags: time.strftime("%I:%M%p", time.localtime(process.started))),
    "lstart": ("STARTED", False, lambda process, _flags: time.ctime(process.started)),
    "etime": ("ELAPSED", True, lambda process, _flags: _span(time.time() - process.started)),
    "comm": ("COMM", False, lambda process, _flags: process.argv[0]),
    "ucomm": ("UCOMM", False, lambda process, _flags: os.path.basename(process.argv[0])),
    "command": ("COMMAND", False, _command),
    "args": ("ARGS", False, _command),
}
ALIASES = {"%cpu": "pcpu", "%mem": "pmem", "rssize": "rss", "vsize": "vsz", "cputime": "time"}


def _columns(text: str) -> t.List[t.Tuple[str, t.Optional[str]]]:
    found = []
    for word in text.replace(",", " ").split():
        name, equals, header = word.partition("=")
        name = ALIASES.get(name, name)
        if name not in COLUMNS:
            raise UsageError(f"ps: {name}: keyword not found\nps: no valid keywords; valid keywords:\n{' '.join(sorted(COLUMNS))}")
        found.append((name, header if equals else None))
    return found


def _pids(text: str) -> t.Set[int]:
    try:
        return {int(word) for word in text.replace(",", " ").split()}
    except ValueError as error:
        raise UsageError(f"ps: Invalid process id: {text}") from error


def _user(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid if not name.isdigit() else int(name)
    except KeyError as error:
        raise UsageError(f"ps: {name}: no such user") from error


def _parse(arguments: t.List[str]) -> Request:
    flags = ""
    columns: t.List[t.Tuple[str, t.Optional[str]]] = []
    pids: t.Optional[t.Set[int]] = None
    users: t.Optional[t.Set[int]] = None
    words = list(arguments)
    if words and not words[0].startswith("-"):
        if words[0].isdigit():
            pids = _pids(words.pop(0))
        else:  # `ps aux`: letters without a dash, where u means the long form and takes no value
            letters = words.pop(0)
            columns += [(name, None) for name in USER_COLUMNS] if "u" in letters else []
            words.insert(0, "-" + letters.replace("u", ""))
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            raise UsageError(f"ps: illegal argument: {word}\n{USAGE}")
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in FLAGS:
                flags += letter
            elif letter in WITH_VALUE:
                if not letters and not words:
                    raise UsageError(f"ps: option requires an argument -- {letter}\n{USAGE}")
                value, letters = letters or words.pop(0), ""
                if letter in "oO":
                    columns += _columns(value)
                elif letter == "p":
                    pids = (pids or set()) | _pids(value)
                else:
                    users = (users or set()) | {_user(name) for name in value.split(",")}
            else:
                raise UsageError(f"ps: illegal option -- {letter}\n{USAGE}")
    default = FULL_COLUMNS if "f" in flags else SHORT_COLUMNS
    return Request(flags, columns or [(name, None) for name in default], pids, users)


def _chosen(request: Request) -> t.List[Process]:
    processes = everything()
    if request.pids is not None:
        return [process for process in processes if process.pid in request.pids]
    if request.users is not None:
        return [process for process in processes if process.uid in request.users]
    if any(letter in request.flags for letter in "Ae") or ("a" in request.flags and "x" in request.flags):
        return processes
    own = [process for process in processes if "a" in request.flags or process.uid == os.getuid()]
    return [process for process in own if "x" in request.flags or process.terminal != "??"]


def _width(flags: str) -> t.Optional[int]:
    """Long lines are cut, also into a pipe: -ww is what gets whole command lines."""
    wide = flags.count("w")
    if wide > 1:
        return None
    return 131 if wide else 79


def _ps(arguments: t.List[str]) -> int:
    try:
        request = _parse(arguments)
    except UsageError as error:
        complain(str(error))
        return 1
    chosen = _chosen(request)
    rows = [[COLUMNS[name][2](process, request.flags) for name, _header in request.columns] for process in chosen]
    headers = [COLUMNS[name][0] if header is None else header for name, header in request.columns]
    widths = [max([len(headers[i]), *(len(row[i]) for row in rows)]) for i in range(len(headers))]
    limit = _width(request.flags)
    for row in ([headers] if any(headers) else []) + rows:
        cells = [
            text.rjust(width) if COLUMNS[name][1] else text if i == len(row) - 1 else text.ljust(width)
            for i, (text, width, (name, _header)) in enumerate(zip(row, widths, request.columns))
        ]
        print(" ".join(cells)[:limit])
    sys.stdout.flush()
    return 0 if chosen else 1


main = recorded("ps", _ps)
