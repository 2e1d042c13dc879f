# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a command cost: wall time, CPU here, CPU of hosts, and the memory of the largest process that it had on one host."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import threading
import time
import typing as t

# What a run has in common with every other: the connection, and the service that it restarts.
_NOT_COUNTED = ("sshd", "sshd-session")
_SERVICE_GROUP = "gpustack.service"
_SAMPLE_SECONDS = 0.001


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one command. CPU in seconds, of all targets together."""

    wall_seconds: float
    controller_cpu_seconds: float
    target_cpu_seconds: float


def cpu_seconds(group: pathlib.Path) -> float:
    """What all processes of a control group have spent, those included that have ended."""
    return int(dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())["usage_usec"]) / 1e6


class Meter:
    """controller: a control group that is made for what runs here. targets: those of the hosts."""

    def __init__(self, controller: pathlib.Path, targets: t.Sequence[pathlib.Path]) -> None:
        self.controller = controller
        self.targets = targets
        self.idle_per_second = 0.0
        # Processes that ssh leaves behind for the next connection encrypt what later runs send; they are nobody's children, but
        # they stay in the group.
        controller.mkdir(parents=True, exist_ok=True)

    def measure_idle(self, seconds: float) -> None:
        """What hosts spend while nobody asks them; it is taken off."""
        before = self._target_cpu()
        time.sleep(seconds)
        self.idle_per_second = (self._target_cpu() - before) / seconds

    def run(self, command: t.Sequence[str], environment: t.Mapping[str, str]) -> t.Tuple[subprocess.CompletedProcess[str], Cost]:
        """Run a command; its output is kept as one text."""

        def enter() -> None:
            (self.controller / "cgroup.procs").write_text("0")

        start, target, controller = time.monotonic(), self._target_cpu(), cpu_seconds(self.controller)
        done = subprocess.run(
            command,
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**_inherited(), **environment},
            preexec_fn=enter,
        )
        seconds = time.monotonic() - start
        of_targets = max(self._target_cpu() - target - self.idle_per_second * seconds, 0.0)
        return done, Cost(seconds, cpu_seconds(self.controller) - controller, of_targets)

    def _target_cpu(self) -> float:
        return sum(cpu_seconds(group) for group in self.targets)


def _inherited() -> t.Dict[str, str]:
    """Our own environment. A variable that keeps Python from writing what it has compiled would have it compile Ansible at each start."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class LargestProcess:
    """The peak of memory of the largest process that appears in a control group during a `with` block, by looking again and again.

    It costs CPU, so what is timed is not looked at, except where it takes long anyway.
    """

    def __init__(self, group: pathlib.Path) -> None:
        self._group = group
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._there: t.Set[str] = set()
        self.peak_kib = 0
        self.name = ""

    def __enter__(self) -> LargestProcess:
        self._there = set(self._processes())
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak_mib(self) -> float:
        """MiB of resident memory."""
        return self.peak_kib / 1024

    def _processes(self) -> t.Iterator[str]:
        for folder, _folders, _files in os.walk(self._group):
            if _SERVICE_GROUP not in folder:
                with contextlib.suppress(OSError):
                    yield from pathlib.Path(folder, "cgroup.procs").read_text().split()

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            for pid in self._processes():
                if pid not in self._there:
                    with contextlib.suppress(OSError):
                        self._look(pathlib.Path(f"/proc/{pid}/status").read_text())

    def _look(self, status: str) -> None:
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        # One that has ended and was not waited for has no memory any more.
        peak_kib = int(fields.get("VmHWM", "0 kB").split()[0])
        if peak_kib > self.peak_kib and fields["Name"].strip() not in _NOT_COUNTED:
            self.peak_kib, self.name = peak_kib, fields["Name"].strip()
