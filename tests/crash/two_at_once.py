# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two runs on one node: of two controllers by ssh, and of ansible-pull on the node itself."""

from __future__ import annotations

import datetime
import functools
import os
import re
import signal
import time
import typing as t

from fleet import Fleet
from pull import Pull
from scenarios import PRISTINE, Scenario
from target import Target

from playbooks import Machine, Playbook, until

_ATTEMPTS = 5
_TIME = "%Y-%m-%d %H:%M:%S"
_HELD = re.compile(
    r"another run works on this node: process (?P<pid>\d+) since (?P<since>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC; wait until it has ended"
)
Said = t.Mapping[str, t.Any]


class NotSeenError(Exception):
    """What was to be seen was not."""


def two_at_once(fleet: Fleet, target: Target, machine: Machine, scenario: Scenario) -> t.Iterator[str]:
    """Says what was seen, one line each. Raises NotSeenError."""
    waiting = {**scenario.arguments, "lock_wait_seconds": 120}
    hasty = {**scenario.arguments, "lock_wait_seconds": 0}
    first = Playbook(fleet, target.name, scenario.module, scenario.arguments, "first")
    patient = Playbook(fleet, target.name, scenario.module, waiting, "patient")
    impatient = Playbook(fleet, target.name, scenario.module, hasty, "impatient")
    pull = Pull(fleet, target.name, scenario.module, scenario.arguments, "first")
    patient_pull = Pull(fleet, target.name, scenario.module, waiting, "patient")
    impatient_pull = Pull(fleet, target.name, scenario.module, hasty, "impatient")

    def begin(run: t.Union[Playbook, Pull]) -> t.Tuple[int, datetime.datetime]:
        """Have it hold the lock for as long as the others need, however slow this machine is. Returns its process, and when it began.

        It is stopped between two files: later its commands run, whose time limits would be over when it goes on.
        """
        for _attempt in range(_ATTEMPTS):
            target.ask("restore", name=PRISTINE)
            since = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0, tzinfo=None)
            run.start()
            (holder,) = until(machine.holder, "the first run has the lock")
            until(functools.partial(_has_changed, machine, holder), "the first run changes something")
            os.kill(holder, signal.SIGSTOP)
            if (machine.journal() or {"restarting": True})["restarting"] is False:
                return holder, since
            # Too late, on a machine that is busy.
            os.kill(holder, signal.SIGCONT)
            run.wait()
        raise NotSeenError(f"no run was stopped in time, of {_ATTEMPTS}")

    def need_held(said: Said, since: datetime.datetime) -> str:
        held = _HELD.search(said.get("msg", ""))
        _need(said.get("failed") is True and held is not None, f"with lock_wait_seconds 0: {said}")
        assert held is not None
        _need(held["pid"] == str(machine.named_holder()), f"the holder is {machine.named_holder()}: {said}")
        now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        _need(since <= datetime.datetime.strptime(held["since"], _TIME) <= now, f"begun at {since}: {said}")
        return held.group()

    holder, since = begin(first)
    yield f"another controller, lock_wait_seconds 0: {need_held(impatient.run(), since)}"
    yield f"ansible-pull, lock_wait_seconds 0: {need_held(impatient_pull.run(), since)}"
    patient.start()
    patient_pull.start()
    until(lambda: len(machine.at_lock()) >= 3, "two runs wait for the lock")
    os.kill(holder, signal.SIGCONT)
    _need_changed(first.wait(), True)
    _need_changed(patient.wait(), False)
    _need_changed(patient_pull.wait(), False)
    yield "another controller and ansible-pull that wait: both succeed after the first one, and change nothing"

    holder, since = begin(first)
    os.kill(holder, signal.SIGKILL)
    start = time.monotonic()
    _need_changed(impatient_pull.run(), True)
    yield f"a controller's run killed with SIGKILL: ansible-pull, lock_wait_seconds 0, succeeds after {time.monotonic() - start:.1f} s"
    first.wait()

    holder, since = begin(pull)
    yield f"a controller while ansible-pull works, lock_wait_seconds 0: {need_held(impatient.run(), since)}"
    patient.start()
    until(lambda: len(machine.at_lock()) >= 2, "a controller's run waits for the lock")
    os.kill(holder, signal.SIGCONT)
    _need_changed(pull.wait(), True)
    _need_changed(patient.wait(), False)
    yield "a controller that waits for ansible-pull: it succeeds afterwards, and changes nothing"

    holder, since = begin(pull)
    os.kill(holder, signal.SIGKILL)
    start = time.monotonic()
    _need_changed(impatient.run(), True)
    yield f"ansible-pull's run killed with SIGKILL: a controller, lock_wait_seconds 0, succeeds after {time.monotonic() - start:.1f} s"
    pull.wait()


def _has_changed(machine: Machine, holder: int) -> bool:
    return bool((machine.journal(holder) or {}).get("records"))


def _need_changed(said: Said, changed: bool) -> None:
    _need(said.get("changed") is changed and not said.get("failed"), f"not a success with changed: {changed}: {said}")


def _need(condition: t.Any, story: str) -> None:
    if not condition:
        raise NotSeenError(story)
