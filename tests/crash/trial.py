# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One scenario on one host: a run that is not disturbed, then one that is killed at each point, and what follows it."""

from __future__ import annotations

import signal
import typing as t

import judge
from calls import DURING
from crash_rows import FINISHED, MADE_ALL, NOTHING, UNDID, WRONG, Row
from points import Point, bare, died_at, points_of, spread
from scenarios import Scenario
from target import Target, TargetError

# A third run is made after each so many points: where the host is equal to one that has had no second run to make, it will not differ.
_EACH = 3

Answer = t.Mapping[str, t.Any]


class Trial:
    """before, after: what the host is like on both ends of a run that nobody kills. goal: what a run aims at, also if it is undone."""

    def __init__(self, target: Target, scenario: Scenario) -> None:
        self.target = target
        self.scenario = scenario
        target.ask("restore", name=scenario.start)
        self.before = target.ask("look", calm=True)
        done = self._run(trace=True)
        self.result = done["result"]
        self.after = target.ask("look", calm=True)
        self.points = points_of(done["trace"])
        self.goal = self._goal() if scenario.undone else self.after
        self.tried = 0
        if bool(done["status"]) != scenario.undone or judge.torn(self.before, self.goal, self.after):
            raise TargetError(f"{scenario.resource} on {target.name}: {done['text'] or done['result']}")

    def chosen(self, limit: int) -> t.List[Point]:
        """Points to try; 0: all."""
        return spread(self.points, limit)

    def try_point(self, point: Point) -> t.Tuple[Row, t.List[str]]:
        """Kill a run there; what has become of the host, and everything that is wrong with that."""
        self.tried += 1
        self.target.ask("restore", name=self.scenario.start)
        wrong = judge.differences({**self.before, "notes": {}, "live": {}}, {**self.target.ask("look"), "notes": {}, "live": {}})
        died = self._run(kill=point.kill)
        if died["killed"] != signal.SIGKILL:
            wrong.append(f"it did not die: {died['status']} {died['text']} {died['result']}")
        elif "call" in point.kill and died_at(died["trace"]) != bare(point.name):
            wrong.append(f"it died at {died_at(died['trace'])}")
        found = self.target.ask("look")
        outcome, said = judge.outcome(self.before, self.goal, found)
        wrong += said
        # A command that was started goes on without the run that is dead, so what it does is not seen here, and the next run meets it.
        next_run, said = self._next_run(outcome, found, point.kill.get("when") == DURING)
        wrong += said
        return Row(self.target.kind, self.scenario.resource, point.name, outcome, WRONG if wrong else next_run), wrong

    def _run(self, **options: t.Any) -> t.Dict[str, t.Any]:
        return self.target.run(self.scenario.module, self.scenario.arguments, **options)

    def _goal(self) -> t.Dict[str, t.Any]:
        """What the host is like when everything has been made and nothing undone: at the first restart."""
        restarts = ("bootout system/", "restart ")
        kill = next(point.kill for point in self.points if any(word in point.kill.get("command", "") for word in restarts))
        self.target.ask("restore", name=self.scenario.start)
        self._run(kill=kill)
        goal = self.target.ask("look", calm=True)
        self._run()
        return goal

    def _next_run(self, outcome: str, found: Answer, is_racing: bool) -> t.Tuple[str, t.List[str]]:
        done = self._run()
        end = self.target.ask("look", calm=True)
        wrong = judge.differences(self.after, end)
        result = done["result"]
        if self.scenario.undone:
            if done["status"] != 1 or "put back" not in result.get("msg", ""):
                wrong.append(f"the next run says {done['status']} {done['text']} {result}")
            return UNDID, wrong
        if done["status"] != 0:
            return WRONG, [*wrong, f"the next run fails: {done['text']} {result.get('msg')}"]
        changes = {(str(one["resource"]), str(one["where"])) for one in result["changes"]}
        if not is_racing:
            left = set(judge.changes_left(self.result["changes"], self.after, found))
            if changes != left:
                wrong.append(f"the next run says {sorted(changes)} and not {sorted(left)}")
            if result.get("restarted", False) != (found["pid"] != end["pid"]):
                wrong.append(
                    f"the next run says restarted: {result.get('restarted')}, and the process was {found['pid']} and is {end['pid']}"
                )
        if result["changed"] != bool(changes or result.get("restarted")):
            wrong.append(f"the next run says changed: {result['changed']}")
        if self.tried % _EACH == 1:
            wrong += self._third_run(end)
        return {judge.BEFORE: MADE_ALL, judge.AFTER: NOTHING}.get(outcome, FINISHED), wrong

    def _third_run(self, end: Answer) -> t.List[str]:
        """It has nothing to do."""
        done = self._run()
        wrong = [] if done["status"] == 0 and not done["result"]["changed"] else [f"the third run says {done['text']} {done['result']}"]
        now = self.target.ask("look")
        wrong += [f"third run: {one}" for one in judge.differences(end, now)]
        if now["pid"] != end["pid"]:
            wrong.append("the third run has restarted the service")
        return wrong
