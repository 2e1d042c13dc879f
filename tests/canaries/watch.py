# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller and the hosts as they are searched: where everything that a run writes can be found."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

from disposable import cgroups
from disposable.state import SessionState
from fleet import ROOT, Fleet

HERE = ROOT / "tests/canaries"
_MOST_BYTES = 8 << 20
# Of a host, where something can be written. What was there before the start is of the image.
_TOPS = {
    "mac": ("etc", "var", "tmp", "run", "dev/shm", "Users", "Library", "Applications", ".sim", "opt"),
    "linux": ("etc", "var", "tmp", "run", "dev/shm", "root", "home", "opt"),
}


class Piece(t.NamedTuple):
    """Something that was written. where: as places.py has it. open_to_others: whether it is a file that not only its owner may read."""

    where: str
    data: bytes
    open_to_others: bool = False


class Watch:
    """Watches a session's hosts and this process, from `with` on. outputs: the controller's folder, a file system of its own."""

    def __init__(self, fleet: Fleet, hosts: t.Sequence[str], outputs: pathlib.Path) -> None:
        self._hosts = hosts
        self._folder = fleet.folder / "watched"
        self._began = time.time()
        group = cgroups.session_group(fleet.session)
        self._sshd = {host: _sshd(group / host) for host in hosts}
        keeper = pathlib.Path("/proc", str(SessionState(fleet.session).read_facts()["keeper_pid"]), "root")
        self._outputs_path = f"{outputs}/"
        # It is mounted where the hosts are, and is gone with them.
        self._outputs = keeper / outputs.relative_to("/")
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Watch:
        execs = [f"{host}={pid}" for host, pid in self._sshd.items()]
        self._start("exec_watch.py", str(self._folder.parent / "execs.jsonl"), f"controller={os.getpid()}", *execs)
        roots = [f"controller={self._outputs}"]
        for host, pid in self._sshd.items():
            # The main file system, then those that are mounted in it.
            for top in ("", "/run", "/dev/shm", *(["/tmp"] if host == "linux" else [])):
                roots.append(f"{host}:{top}=/proc/{pid}/root{top}")
        self._start("file_watch.py", str(self._folder), *roots)
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.wait()

    def _start(self, program: str, *arguments: str) -> None:
        process = subprocess.Popen([sys.executable, str(HERE / program), *arguments], stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        assert process.stdout is not None
        if process.stdout.readline() != "watching\n":
            sys.exit(f"{program} does not watch")

    def executed(self) -> t.Iterator[Piece]:
        """Arguments and environments of all programs that were started."""
        for line in (self._folder.parent / "execs.jsonl").read_text().splitlines():
            said = json.loads(line)
            name = " ".join(pathlib.PurePath(word).name for word in said["argv"][:4])[:100]
            for what, words in (("argv", said["argv"]), ("environ", said["environ"])):
                yield Piece(f"{said['label']}:{what}:{name}", "\0".join(words).encode("utf-8", "surrogateescape"))

    def written(self) -> t.Iterator[Piece]:
        """All that was written to files, also those that are gone."""
        for line in (self._folder / "index.jsonl").read_text().splitlines():
            said = json.loads(line)
            host, _colon, top = said["label"].partition(":")
            path = said["path"].removesuffix(" (deleted)")
            where = f"{host}:file:{path.removeprefix(self._outputs_path) if host == 'controller' else top + path}"
            yield Piece(where, path.encode() + b"\0" + (self._folder / said["copy"]).read_bytes(), bool(said["mode"] & 0o077))

    def left(self) -> t.Iterator[Piece]:
        """What files hold at the end: also those that are open still, such as logs."""
        yield from _files(self._outputs, "controller:file:", self._began)
        for host, pid in self._sshd.items():
            root = pathlib.Path("/proc", str(pid), "root")
            for top in _TOPS[host]:
                yield from _files(root / top, f"{host}:file:/{top}/", self._began)


def _files(folder: pathlib.Path, begin: str, since: float) -> t.Iterator[Piece]:
    device = folder.stat().st_dev if folder.is_dir() else None
    for above, folders, names in os.walk(folder):
        # What is mounted there has an entry of its own, or is of the kernel, such as the hidden /proc of a simulated Mac.
        folders[:] = [name for name in folders if os.lstat(os.path.join(above, name)).st_dev == device]
        for name in names:
            path = pathlib.Path(above, name)
            try:
                status = path.lstat()
                if path.is_symlink() or not path.is_file() or max(status.st_mtime, status.st_ctime) < since:
                    continue
                with path.open("rb") as file:
                    data = file.read(_MOST_BYTES)
            except OSError:
                continue
            # The name counts, too.
            yield Piece(f"{begin}{path.relative_to(folder)}", name.encode() + b"\0" + data)


def _sshd(group: pathlib.Path) -> int:
    """The ssh server that listens, as this process sees it."""
    for processes in sorted(group.rglob("cgroup.procs")):
        for pid in processes.read_text().split():
            if (
                b"sshd" in pathlib.Path("/proc", pid, "cmdline").read_bytes()
                and b"listener" in pathlib.Path("/proc", pid, "cmdline").read_bytes()
            ):
                return int(pid)
    sys.exit(f"{group.name} has no ssh server")
