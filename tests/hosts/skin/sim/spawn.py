# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""Starts a job's program.

A job gets a mount namespace with /proc, /sys and the real uname: what really runs there is Linux software such as a
GPUStack server with psutil. Everything else on the host keeps to what a Mac has.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import signal
import typing as t

CLONE_NEWNS = 0x00020000
MS_RDONLY_NOSUID_NODEV_NOEXEC = 1 | 2 | 4 | 8
MS_BIND = 4096
MS_REC_PRIVATE = 16384 | (1 << 18)
# launchd reports a program that it could not start as if it had ended with this: sysexits(3)
EX_CONFIG = 78

_LIBC = ctypes.CDLL(None, use_errno=True)


def start(definition: t.Dict[str, t.Any], argv: t.List[str], environment: t.Dict[str, str]) -> int:
    """The new process's pid. Whatever goes wrong after the fork is an exit with EX_CONFIG, as launchd has it."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        _linux_below()
        os.umask(int(definition.get("Umask", 0o022)))
        _streams(definition)
        _drop_privileges(definition)
        os.chdir(definition.get("WorkingDirectory", "/"))
        os.execve(_find(argv[0]), argv, environment)
    except BaseException:
        os._exit(EX_CONFIG)


def _linux_below() -> None:
    if _LIBC.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _mount(b"none", b"/", None, MS_REC_PRIVATE)
    _mount(b"proc", b"/proc", b"proc", MS_RDONLY_NOSUID_NODEV_NOEXEC & ~1)
    _mount(b"sysfs", b"/sys", b"sysfs", MS_RDONLY_NOSUID_NODEV_NOEXEC)
    _mount(b"/dev/null", b"/.sim/uname", None, MS_BIND)


def _mount(source: bytes, target: bytes, fstype: t.Optional[bytes], flags: int) -> None:
    if _LIBC.mount(source, target, fstype, ctypes.c_ulong(flags), None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target!r}")


def _streams(definition: t.Dict[str, t.Any]) -> None:
    paths = (definition.get("StandardInPath"), definition.get("StandardOutPath"), definition.get("StandardErrorPath"))
    for number, path in enumerate(paths):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = os.open(path or os.devnull, flags if path else os.O_RDWR, 0o644)
        os.dup2(descriptor, number)
        if descriptor > 2:
            os.close(descriptor)


def _drop_privileges(definition: t.Dict[str, t.Any]) -> None:
    if "UserName" not in definition:
        return
    user = pwd.getpwnam(definition["UserName"])
    group = grp.getgrnam(definition["GroupName"]).gr_gid if "GroupName" in definition else user.pw_gid
    os.initgroups(user.pw_name, group)
    os.setgid(group)
    os.setuid(user.pw_uid)


def _find(program: str) -> str:
    """A relative name is looked up as in launchd's own PATH."""
    if "/" in program:
        return program
    for folder in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        if os.access(f"{folder}/{program}", os.X_OK):
            return f"{folder}/{program}"
    return program
