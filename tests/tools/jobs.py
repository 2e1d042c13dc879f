# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run make targets side by side: jobs.py [--slots N] TARGET...

Each target has a log of its own below .cache/logs; the end of a failed one's log is shown. A table closes the run, then the
line "N passed, N failed". Whatever a target leaves running is ended, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOGS = ROOT / ".cache" / "logs"
RUNS_KEPT = 10
LINES_OF_A_FAILURE = 60
# Enough for tests that stop their disposable hosts before they end.
GRACE_SECONDS = 60.0
LIMIT_SECONDS = 3600.0
PR_SET_CHILD_SUBREAPER = 36

# What a tool says of itself at its end, worth repeating in the table: "812 passed, 3 skipped in 4.10s".
TOOL_SUMMARY = re.compile(r"^=*\s*((?:\d+ (?:passed|failed|skipped|errors?|xfailed|deselected|warnings?)(?:, )?)+ in [\d.]+s)")
NOT_RUN = re.compile(r"^not run: .*")
# Where Ansible or pytest says what went wrong, which Molecule's last lines do not repeat, and how much of it is shown.
CAUSE = re.compile(r"fatal: \[|^\W*E  ")
LINES_OF_A_CAUSE = 6


class Interrupted(Exception):
    """The user, or whoever runs us, wants everything to end."""


@dataclasses.dataclass
class Job:
    """One make target on its way."""

    target: str
    log: pathlib.Path
    process: subprocess.Popen[bytes]
    started: float
    seconds: float = 0.0
    outcome: str = ""


def interrupt(signum: int, _frame: t.Any) -> t.NoReturn:
    raise Interrupted(signal.Signals(signum).name)


def adopt_orphans() -> None:
    """Have processes whose parents are gone handed to this one, so that none that a job started can hide."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def child_pids() -> list[int]:
    """All direct children, adopted ones and zombies among them."""
    return [int(pid) for pid in pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()]


def reap_orphans(jobs: list[Job]) -> None:
    """Take leave of what was adopted and has ended, as init would; a test that looks for remains must not find it."""
    for pid in set(child_pids()) - {job.process.pid for job in jobs}:
        os.waitpid(pid, os.WNOHANG)


def children() -> dict[int, str]:
    """pid -> command of each direct child that is not a zombie."""
    found = {}
    for pid in child_pids():
        try:
            command = pathlib.Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if command:
            found[pid] = command.strip()
    return found


def signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Signal a job's process group; False if none of it is left."""
    process.poll()
    try:
        # The orphans of the group are ours, and count as alive until they are waited for.
        while os.waitpid(-process.pid, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def end_orphans() -> list[str]:
    """End what the jobs left running; the commands of it. Only to be called when no job runs."""
    commands = []
    for number, grace_seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 5.0)):
        signalled: set[int] = set()
        deadline = time.monotonic() + grace_seconds
        # A process that ends hands its own children to us, hence the loop.
        while (left := children()) and time.monotonic() < deadline:
            for pid in left.keys() - signalled:
                commands.append(left[pid])
                os.kill(pid, number)
                signalled.add(pid)
            time.sleep(0.1)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
    return list(dict.fromkeys(commands))


def start(target: str, folder: pathlib.Path) -> Job:
    log = folder / f"{target}.log"
    # Flags of the make that called us name a job server that is not handed on.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [os.environ.get("MAKE", "make"), "--no-print-directory", target],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Job(target, log, process, time.monotonic())


def finish(job: Job, outcome: str) -> None:
    job.seconds = time.monotonic() - job.started
    job.outcome = outcome
    print(f"{outcome:7} {job.target:16} {job.seconds:6.1f} s", flush=True)
    if outcome != "passed":
        lines = job.log.read_text("utf-8", "replace").splitlines()
        print(f"---- what {job.log.relative_to(ROOT)} says of failures, and its last lines")
        print("\n".join([*causes(lines[:-LINES_OF_A_FAILURE]), *lines[-LINES_OF_A_FAILURE:]]))
        print("----", flush=True)


def without_colours(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def causes(lines: list[str]) -> list[str]:
    """The lines that name a failure, each with those that follow it; the last of them, if they are many."""
    hits = [number for number, line in enumerate(lines) if CAUSE.search(without_colours(line))]
    shown = {later for number in hits for later in range(number, number + LINES_OF_A_CAUSE)}
    return [lines[number] for number in sorted(shown) if number < len(lines)][-LINES_OF_A_FAILURE:]


def stop(jobs: list[Job]) -> None:
    """End jobs with the signal that lets them clean up, and with the one that does not ask if they take too long."""
    left = [job for job in jobs if signal_group(job.process, signal.SIGTERM)]
    deadline = time.monotonic() + GRACE_SECONDS
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = [job for job in left if signal_group(job.process, 0)]
    for job in left:
        signal_group(job.process, signal.SIGKILL)
    for job in jobs:
        job.process.wait()


def run(targets: list[str], slots: int, folder: pathlib.Path) -> list[Job]:
    waiting = list(targets)
    running: list[Job] = []
    done: list[Job] = []
    try:
        while waiting or running:
            while waiting and len(running) < slots:
                running.append(start(waiting.pop(0), folder))
                print(f"started {running[-1].target}", flush=True)
            time.sleep(0.1)
            reap_orphans(running)
            for job in list(running):
                overdue = time.monotonic() - job.started > LIMIT_SECONDS
                if overdue:
                    stop([job])
                if job.process.poll() is not None:
                    running.remove(job)
                    done.append(job)
                    finish(job, "passed" if job.process.returncode == 0 and not overdue else "failed")
    except Interrupted as signal_name:
        print(f"\n{signal_name}: ending {', '.join(job.target for job in running) or 'nothing'}", flush=True)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stop(running)
        for job in running:
            job.seconds, job.outcome = time.monotonic() - job.started, "stopped"
            done.append(job)
    return done


def remark(job: Job) -> str:
    """What the table says besides the outcome: the tool's own count, and what was not run."""
    remarks = []
    for line in job.log.read_text("utf-8", "replace").splitlines():
        plain = without_colours(line)
        match = TOOL_SUMMARY.match(plain)
        if match:
            remarks.append(match.group(1))
        elif NOT_RUN.match(plain):
            remarks.append(plain)
    return "; ".join(remarks)


def new_log_folder() -> pathlib.Path:
    LOGS.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%dT%H%M%S-"), dir=LOGS))
    for old in sorted(LOGS.iterdir())[:-RUNS_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description="Run make targets side by side.")
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("targets", nargs="+")
    arguments = parser.parse_args()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    adopt_orphans()
    started = time.monotonic()
    folder = new_log_folder()
    print(f"logs: {folder.relative_to(ROOT)}", flush=True)
    jobs = run(arguments.targets, arguments.slots, folder)
    orphans = end_orphans()

    print(f"\n{'job':16} {'result':8} {'seconds':>8}  remarks")
    for job in jobs:
        print(f"{job.target:16} {job.outcome:8} {job.seconds:8.1f}  {remark(job)}".rstrip())
    for target in arguments.targets[len(jobs) :]:
        print(f"{target:16} not run")
    print(f"{'all':16} {'':8} {time.monotonic() - started:8.1f}")
    for command in orphans:
        print(f"ended what a job left running: {command[:200]}")
    passed = sum(job.outcome == "passed" for job in jobs)
    print(f"{passed} passed, {len(arguments.targets) - passed} failed")
    return 0 if passed == len(arguments.targets) else 1


if __name__ == "__main__":
    sys.exit(main())
