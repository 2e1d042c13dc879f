# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""One cgroup (version 2) per host: systemd needs its own, and a killed session leaves empty folders to remove."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import time
import typing as t

from .places import HostsError, cache_tag

TOP = "disposable-hosts"


def mount_point() -> pathlib.Path:
    """cgroup2 is at /sys/fs/cgroup, or beside the version 1 controllers on a hybrid machine."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            fields = line.split()
            if fields[2] == "cgroup2":
                return pathlib.Path(fields[1])
    raise HostsError("no cgroup2 file system is mounted; mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")


def session_group(session: str) -> pathlib.Path:
    return mount_point() / TOP / f"{cache_tag()}-{session}"


def our_sessions() -> t.Iterator[str]:
    """Sessions of this cache that have a cgroup, alive or not."""
    prefix = f"{cache_tag()}-"
    top = mount_point() / TOP
    for entry in sorted(top.iterdir()) if top.is_dir() else []:
        if entry.is_dir() and entry.name.startswith(prefix):
            yield entry.name[len(prefix) :]


def create(group: pathlib.Path) -> None:
    try:
        group.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostsError(f"cannot make the cgroup {group}: {error.strerror}; run as root on a writable cgroup2") from error


def _kill_all(group: pathlib.Path) -> None:
    killer = group / "cgroup.kill"
    if killer.exists():
        killer.write_text("1", encoding="ascii")
        return
    for processes in group.rglob("cgroup.procs"):  # Linux < 5.14
        for pid in processes.read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def remove(group: pathlib.Path, limit_seconds: float = 10.0) -> None:
    """Kill what is left inside and remove the tree; a dying process keeps its cgroup busy for a moment."""
    if not group.is_dir():
        return
    _kill_all(group)
    deadline = time.monotonic() + limit_seconds
    while True:
        for folder, _folders, _files in os.walk(group, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                continue
        if not group.is_dir():
            break
        if time.monotonic() > deadline:
            raise HostsError(f"the cgroup {group} still has processes after {limit_seconds:.0f} s")
        time.sleep(0.02)
    if group.parent.name == TOP:
        try:
            group.parent.rmdir()
        except OSError:
            return  # another session's groups are there
