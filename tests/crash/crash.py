# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill runs of the collection's modules on disposable hosts at every change that they make. See README.md."""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import random
import threading
import time
import traceback
import typing as t

import crash_layer
from crash_rows import Row, merged, read_rows, write_rows
from fleet import ROOT, Fleet
from points import Point
from scenarios import CURED, PRISTINE, cure, scenarios
from target import Target
from trial import Trial

# The two layouts of llama-box are those of GPUStack 0.6, files, and of 0.7, folders.
PLANTED = {"linux": ("systemd", "drop_in", "0.6.2"), "mac": ("script", "plist", "0.7.1")}
PROFILES = {"linux": "", "mac": "m3_ultra_512"}


class Results:
    """Rows as they come, in a file after each, and what was wrong."""

    def __init__(self, path: pathlib.Path, minutes: float) -> None:
        self._deadline = time.monotonic() + minutes * 60
        self._path = path
        self._lock = threading.Lock()
        self._known = read_rows(path)
        self.new: t.List[Row] = []
        self.wrong: t.List[str] = []

    def add(self, row: Row, wrong: t.Sequence[str]) -> None:
        """Take note of a point."""
        with self._lock:
            self.new.append(row)
            write_rows(self._path, merged(self._known, self.new))
            if wrong:
                self.fail(f"{row.host_kind}, {row.resource}, {row.point} ({row.outcome}): {'; '.join(wrong)}")

    def knows(self, kind: str, resource: str, point: str) -> bool:
        """Whether there was a row before this run."""
        return any(row.key == (kind, resource, point) for row in self._known)

    def is_late(self) -> bool:
        """Whether no further point is to be begun."""
        return time.monotonic() > self._deadline

    def finish(self) -> None:
        """Say how many there were, and end with 1 if anything was wrong."""
        outcomes = [row.outcome for row in self.new]
        counts = ", ".join(f"{outcomes.count(name)} {name}" for name in sorted(set(outcomes)))
        print(f"crash: {len(self.new)} points: {counts}; {len(self.wrong)} wrong")
        if self.wrong:
            raise SystemExit(1)

    def fail(self, story: str) -> None:
        """Take note of something that has to be looked at."""
        self.wrong.append(story)
        print(f"crash: {story}", flush=True)


def work(fleet: Fleet, kind: str, lock: t.Mapping[str, t.Any], options: argparse.Namespace, results: Results) -> None:
    """Everything on the host of one kind."""
    try:
        target = prepare(fleet, kind, lock)
        wanted = [one for one in scenarios(kind, lock) if not options.only or one.resource in options.only.split("/")]
        trials = [Trial(target, scenario) for scenario in wanted]
        for trial, point in in_turns([(trial, trial.chosen(options.points)) for trial in trials]):
            if results.is_late():
                break
            if options.point and point.name not in options.point:
                continue
            if options.missing and results.knows(kind, trial.scenario.resource, point.name):
                continue
            results.add(*trial.try_point(point))
        for trial in trials:
            print(f"crash: {kind}, {trial.scenario.resource}: {trial.tried} of {len(trial.points)} points", flush=True)
        target.close()
    except Exception:
        results.fail(f"{kind}: {traceback.format_exc()}")


def in_turns(chosen: t.Sequence[t.Tuple[Trial, t.List[Point]]]) -> t.Iterator[t.Tuple[Trial, Point]]:
    """A point of each scenario in turn, those of one scenario in no order, so that what was tried when the time is over is spread."""
    queues = []
    for trial, points in chosen:
        queue = list(points)
        random.Random(1907).shuffle(queue)
        queues.append([(trial, point) for point in queue])
    for round_of_all in itertools.zip_longest(*queues):
        yield from filter(None, round_of_all)


def pid_of(fleet: Fleet, name: str) -> int:
    """The first process of a host, as its session has it."""
    return int(json.loads((ROOT / f".cache/hosts/sessions/{fleet.session}/hosts/{name}.json").read_text())["pid"])


def prepare(fleet: Fleet, kind: str, lock: t.Mapping[str, t.Any], in_manager: bool = True) -> Target:
    """The stand-in for GPUStack with gpustack#1907's variable in every place, and the two states that runs start from."""
    form, place, version = PLANTED[kind]
    plants = [word for name in ("file", "file_export", *(["manager"] if in_manager else []), place) for word in ("--plant", name)]
    fleet.install_stand_in(kind, "--kind", form, "--version", version, *plants)
    target = Target(fleet, kind, kind, pid_of(fleet, kind))
    target.ask("save", name=PRISTINE)
    whole = cure(kind, lock)
    done = target.run(whole.module, whole.arguments)
    if done["status"]:
        raise SystemExit(f"crash: {kind}: {done['text']} {done['result'].get('msg')}")
    target.ask("save", name=CURED)
    return target


def main() -> None:
    """Both kinds of host side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=0, help="at most so many of each scenario, evenly spread; 0: all")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no further point after that")
    parser.add_argument("--missing", action="store_true", help="only points of which the results have no row yet")
    parser.add_argument("--only", help="resources, separated by /")
    parser.add_argument("--point", action="append", help="only the points of this name, such as one that went wrong")
    parser.add_argument("--kinds", default="linux,mac")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / ".cache/crash/crash-points.json")
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    results = Results(options.results, options.minutes)
    kinds = options.kinds.split(",")
    with Fleet("crash") as fleet:
        folder = fleet.folder / "layer"
        lock = crash_layer.make(folder)
        fleet.boot({kind: f"{kind}:{PROFILES[kind]}:{folder}" for kind in kinds})
        workers = [threading.Thread(target=work, args=(fleet, kind, lock, options, results)) for kind in kinds]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    results.finish()


if __name__ == "__main__":
    main()
