# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill the sshd that serves a run of real Ansible, or its whole host, at each stage of its transaction; and two runs at once."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import typing as t

import crash
import crash_layer
import judge
import pull
from crash_rows import FINISHED, MADE_ALL, NOTHING, WRONG, Row
from fleet import ROOT, Fleet
from scenarios import PRISTINE, Scenario, cure
from target import Target
from two_at_once import two_at_once

from playbooks import Machine, Playbook, until

SSHD, PIPELINED, HOST = "sshd", "sshd with pipelining", "host"
_STATE = {"linux": "/var/lib/metalfleet", "mac": "/var/db/metalfleet"}
Question = t.Callable[[Machine], bool]


def stages(records: int) -> t.List[t.Tuple[str, Question]]:
    """What the transaction has written down when it is cut short. records: how many changes it makes."""

    def has_records(number: int) -> Question:
        return lambda machine: len((machine.journal() or {"records": ()})["records"]) >= number and machine.journal() is not None

    found = [(f"with {number} records in the journal", has_records(number)) for number in range(records + 1)]
    found.insert(0, ("with the lock", lambda machine: machine.has("lock")))
    found.append(("with the service being restarted", lambda machine: bool((machine.journal() or {}).get("restarting"))))
    found.append(("with previous.json", lambda machine: machine.has("previous.json")))
    return found


class Cut:
    """One scenario on one host, cut short at each stage."""

    def __init__(self, fleet: Fleet, target: Target, scenario: Scenario) -> None:
        self._fleet, self._kind, self._scenario = fleet, target.kind, scenario
        self.target = target
        self.resource = f"{scenario.resource}, by ssh"
        self.machine = Machine(fleet, target.name, _STATE[target.kind])
        self._playbook = Playbook(fleet, target.name, scenario.module, scenario.arguments, "cut")
        self.target.ask("restore", name=PRISTINE)
        self._before = self.target.ask("look", calm=True)
        said = self._playbook.run()
        self._after = self.target.ask("look", calm=True)
        if said.get("failed") or not said.get("changed"):
            raise SystemExit(f"crash: {said}")
        previous = self._fleet.ssh(target.name, f"cat {_STATE[target.kind]}/previous.json")
        self.records = len(json.loads(previous)["records"])

    def at(self, what: str, stage: str, question: Question) -> t.Tuple[Row, t.List[str]]:
        """Cut it there."""
        self.target.ask("restore", name=PRISTINE)
        self._playbook.start(pipelining=what == PIPELINED)
        until(lambda: question(self.machine), f"the run is {stage}")
        if what != HOST:
            self.machine.kill_sessions()
            lost = self._playbook.wait()
            # Without a terminal a module goes on without its sshd; with one it dies of SIGHUP.
            until(lambda: not self.machine.holder(), "the module has ended")
        else:
            self.machine.cut_power()
            lost = self._playbook.wait()
            self.target.close()
            self.machine.boot()
            self.target = Target(self._fleet, self.target.name, self._kind, crash.pid_of(self._fleet, self.target.name))
        found = self.target.ask("look")
        # What a service manager or a kernel was told by a command is gone after a boot, and the service started with what files there are.
        outcome, wrong = judge.outcome(self._before, self._after, found)
        if not lost.get("unreachable"):
            wrong.append(f"the run has not lost its node: {lost}")
        said = self._playbook.run()
        end = self.target.ask("look", calm=True)
        wrong += judge.differences(self._after, end)
        if said.get("failed") or said.get("unreachable"):
            wrong.append(f"the next run: {said}")
        made = {judge.BEFORE: MADE_ALL, judge.AFTER: NOTHING}.get(outcome, FINISHED)
        if what == PIPELINED and outcome != judge.AFTER:
            wrong.append("the module has not gone on without its sshd")
        wanted = {judge.BEFORE: [True], judge.AFTER: [False]}.get(outcome, [True, False])
        if said.get("changed") not in wanted:
            wrong.append(f"the next run, on a host that is as {outcome}, says changed: {said.get('changed')}")
        if not said.get("changed"):
            # A restart may go on without the run that began it.
            made = NOTHING
        return Row(self._kind, self.resource, self.point(what, stage), outcome, WRONG if wrong else made), wrong

    @staticmethod
    def point(what: str, stage: str) -> str:
        """As the table names it."""
        return f"{what} killed {stage}"


def main() -> None:
    """One kind of host after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="linux,mac")
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--only", choices=[SSHD, PIPELINED, HOST, "two"], action="append")
    parser.add_argument("--missing", action="store_true", help="only points of which the results have no row yet")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / ".cache/crash/crash-points.json")
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    results = crash.Results(options.results, options.minutes)
    wanted = options.only or [SSHD, PIPELINED, HOST, "two"]
    with Fleet("crash") as fleet:
        folder = fleet.folder / "layer"
        lock = crash_layer.make(folder)
        if "two" in wanted:
            pull.add_to(folder)
        for kind in options.kinds.split(","):
            fleet.boot({kind: f"{kind}:{crash.PROFILES[kind]}:{folder}"})
            # What only the service manager's memory holds would not be there after a boot.
            target = crash.prepare(fleet, kind, lock, in_manager=False)
            whole = cure(kind, lock)
            # What only the kernel's memory holds would not be there either, and the receipt is the action plugin's matter here.
            arguments = {key: value for key, value in whole.arguments.items() if key not in ("receipt_for", "wired_limit")}
            scenario = dataclasses.replace(whole, arguments={**arguments, "lock_wait_seconds": 60.0})
            cut = Cut(fleet, target, scenario)
            if "two" in wanted:
                for line in two_at_once(fleet, cut.target, cut.machine, scenario):
                    print(f"crash: {kind}: {line}", flush=True)
            for what in (SSHD, PIPELINED, HOST):
                for stage, question in stages(cut.records) if what in wanted else ():
                    is_known = options.missing and results.knows(kind, cut.resource, cut.point(what, stage))
                    if not (is_known or results.is_late()):
                        results.add(*cut.at(what, stage, question))
            fleet.halt([kind])
    results.finish()


if __name__ == "__main__":
    main()
