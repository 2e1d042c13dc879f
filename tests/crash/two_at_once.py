# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two runs on one node: from two controllers by ssh, and on the node itself, as ansible-pull runs a module."""

from __future__ import annotations

import re
import signal
import threading
import time
import typing as t

from fleet import Fleet
from scenarios import PRISTINE, Scenario
from target import Target

from playbooks import Machine, Playbook, until

_HELD = re.compile(r"another run works on this node: process \d+ since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC; wait until it has ended")


class NotSeenError(Exception):
    """What was to be seen was not."""


def two_at_once(fleet: Fleet, target: Target, machine: Machine, scenario: Scenario) -> t.Iterator[str]:
    """Says what was seen, one line each. Raises NotSeenError."""
    waiting = {**scenario.arguments, "lock_wait_seconds": 120}
    hasty = {**scenario.arguments, "lock_wait_seconds": 0}
    first = Playbook(fleet, target.name, scenario.module, scenario.arguments, "first")
    patient = Playbook(fleet, target.name, scenario.module, waiting, "patient")
    impatient = Playbook(fleet, target.name, scenario.module, hasty, "impatient")

    target.ask("restore", name=PRISTINE)
    first.start()
    until(lambda: (machine.journal() or {}).get("restarting"), "the first run restarts the service")
    # It holds the lock for as long as the others need, however slow this machine is.
    machine.signal_holder(signal.SIGSTOP)
    patient.start()
    said = impatient.run()
    _need(said.get("failed") is True and _HELD.search(said.get("msg", "")), f"with lock_wait_seconds 0: {said}")
    yield f"another controller, lock_wait_seconds 0: {_HELD.search(said['msg']).group(0)}"  # type: ignore[union-attr]
    said = target.run(scenario.module, hasty)
    _need(said["status"] == 1 and _HELD.search(said["result"].get("msg", "")), f"on the node, with lock_wait_seconds 0: {said}")
    yield "on the node itself, lock_wait_seconds 0: fails at once, with the same words"
    local: t.Dict[str, t.Any] = {}
    waits = threading.Thread(target=lambda: local.update(target.run(scenario.module, waiting)))
    waits.start()
    until(lambda: len(machine.at_lock()) >= 3, "two runs wait for the lock")
    machine.signal_holder(signal.SIGCONT)
    one, two = first.wait(), patient.wait()
    waits.join()
    _need(one.get("changed") is True and not one.get("failed"), f"the first run: {one}")
    _need(two.get("changed") is False and not two.get("failed"), f"the one that waited: {two}")
    _need(local["status"] == 0 and local["result"]["changed"] is False, f"the one that waited on the node: {local}")
    yield "another controller and a run on the node that wait: both succeed after the first one, and change nothing"

    target.ask("restore", name=PRISTINE)
    first.start()
    until(lambda: (machine.journal() or {}).get("restarting"), "the first run restarts the service")
    machine.signal_holder(signal.SIGKILL)
    start = time.monotonic()
    said = target.run(scenario.module, hasty)
    _need(said["status"] == 0, f"after the holder was killed: {said}")
    seconds = time.monotonic() - start
    yield f"the holder killed with SIGKILL: the next run, lock_wait_seconds 0, has the lock at once and ends after {seconds:.1f} s"
    first.wait()


def _need(condition: t.Any, story: str) -> None:
    if not condition:
        raise NotSeenError(story)
