# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fuzz all targets, one after the other, and say how many executions each had and what was found.

Each target is a process of its own, ended by libFuzzer when an input takes longer than INPUT_SECONDS or more than MEMORY_MIB. Of
one that ends with a finding the input is kept below .cache/fuzz/findings, and the others go on. The corpora stay in
.cache/fuzz/corpus, so that each campaign begins where the last one ended; --fresh begins with the seeds. --continue adds what is
executed to what docs/fuzzing.json has: hours need not be spent in one sitting.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
ONE = pathlib.Path(__file__).with_name("one.py")
RESULTS = ROOT / "docs" / "fuzzing.json"
PAGE = ROOT / "docs" / "fuzzing.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

INPUT_SECONDS = 10
MEMORY_MIB = 1024
_EXECUTIONS = re.compile(r"stat::number_of_executed_units: (\d+)")
_PULSE = re.compile(r"^#(\d+)\s.*?(?:cov: (\d+))?(?: ft: (\d+))?(?: corp: (\d+)).*$", re.MULTILINE)


@dataclasses.dataclass
class Outcome:
    """Of one target. edges, features: as libFuzzer counts them. inputs: in the corpus at the end. findings: files."""

    target: str
    executions: int
    seconds: float
    edges: int
    features: int
    inputs: int
    findings: list[str]


def fuzz(cache: pathlib.Path, target: str, executions: int, seconds: float, seed: int) -> Outcome:
    """One target, for that many executions or seconds, whichever ends first; 0 for no limit."""
    corpus, findings = cache / "corpus" / target, cache / "findings" / target
    findings.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    options = [
        *(f"-runs={executions or -1}", f"-max_total_time={int(seconds)}", f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MIB}"),
        *(f"-seed={seed}", f"-artifact_prefix={findings}/", "-print_final_stats=1"),
    ]
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, str(ONE), target, str(corpus), *options], check=False, capture_output=True, text=True, errors="replace"
    )
    took = time.monotonic() - began
    counts = _PULSE.findall(result.stderr)
    stated = _EXECUTIONS.search(result.stderr)
    executed = int(stated.group(1)) if stated else max((int(count[0]) for count in counts), default=0)
    found = sorted(str(path.relative_to(ROOT)) for path in set(findings.iterdir()) - before)
    if result.returncode != 0:
        print(result.stderr[-3000:], file=sys.stderr)
        # One that ended without an input to blame, such as an import that fails, is one as well.
        found = found or [f"{target} ended with {result.returncode}"]
    edges, features = (max((int(count[column] or 0) for count in counts), default=0) for column in (1, 2))
    return Outcome(target, executed, round(took, 1), edges, features, len(list(corpus.iterdir())), found)


def machine() -> str:
    """The processor, for the report."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return f"{found.group(1) if found else platform.machine()}, one core of {os.cpu_count()}"


def together(earlier: Outcome, later: Outcome) -> Outcome:
    """Two sittings of one campaign; the later one began with the inputs that the earlier one had kept."""
    return Outcome(
        later.target,
        earlier.executions + later.executions,
        round(earlier.seconds + later.seconds, 1),
        max(earlier.edges, later.edges),
        max(earlier.features, later.features),
        later.inputs,
        sorted({*earlier.findings, *later.findings}),
    )


def continued(report: dict[str, t.Any], outcomes: list[Outcome]) -> list[Outcome]:
    """The targets of a report, with what was executed since."""
    for name, now in versions().items():
        if report[name] != now:
            raise SystemExit(f"{RESULTS.relative_to(ROOT)} is of a campaign with {name} {report[name]}, and this is {now}: begin a new one")
    since = {one.target: one for one in outcomes}
    earlier = [Outcome(**one) for one in report["targets"]]
    known = {one.target for one in earlier}
    return [
        *(together(one, since[one.target]) if one.target in since else one for one in earlier),
        *(one for one in outcomes if one.target not in known),
    ]


def versions() -> dict[str, object]:
    """What sittings of one campaign have in common."""
    return {
        "python": platform.python_version(),
        "atheris": importlib.metadata.version("atheris"),
        "input_seconds": INPUT_SECONDS,
        "memory_mib": MEMORY_MIB,
    }


def campaign(outcomes: list[Outcome]) -> dict[str, t.Any]:
    """What the report says."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        **versions(),
        "machine": machine(),
        "executions": sum(outcome.executions for outcome in outcomes),
        "targets": [dataclasses.asdict(outcome) for outcome in outcomes],
    }


def table(report: dict[str, t.Any], outcomes: list[Outcome]) -> str:
    """The figures of the page."""
    rows = [
        f"| `{one.target}` | {one.executions:,} | {one.seconds:.0f} | {one.edges} | {one.features} | {one.inputs} | {len(one.findings)} |"
        for one in outcomes
    ]
    return "\n".join(
        [
            f"{report['date']}, Python {report['python']}, atheris {report['atheris']}, {report['machine']}:",
            f"**{report['executions']:,} executions**, {sum(len(one.findings) for one in outcomes)} findings.",
            "",
            "| target | executions | seconds | edges | features | inputs kept | findings |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *rows,
        ]
    )


def write(outcomes: list[Outcome]) -> None:
    """Bring docs to what was measured."""
    report = campaign(outcomes)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    head, _begin, rest = PAGE.read_text().partition(BEGIN)
    _old, _end, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n{table(report, outcomes)}\n{END}{tail}")


def main() -> None:
    """All targets, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0, help="for each target")
    parser.add_argument("--executions", type=int, default=0, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()) & 0x7FFFFFFF)
    parser.add_argument("--fresh", action="store_true", help="forget what earlier campaigns have kept")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / ".cache" / "fuzz", help="for corpora and findings")
    parser.add_argument("--results", action="store_true", help="write docs/fuzzing.json and the table in docs/fuzzing.md")
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--continue", action="store_true", dest="goes_on", help="add to what docs/fuzzing.json has, and write it")
    options = parser.parse_args()
    if not options.seconds and not options.executions:
        parser.error("say --seconds or --executions")
    if options.fresh:
        shutil.rmtree(options.folder, ignore_errors=True)
    listed = subprocess.run([sys.executable, str(ONE), "--list"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    before = json.loads(RESULTS.read_text()) if options.goes_on else None
    outcomes: list[Outcome] = []
    print(f"seed {options.seed}", flush=True)
    for target in options.targets or listed:
        outcome = fuzz(options.folder, target, options.executions, options.seconds, options.seed)
        outcomes.append(outcome)
        print(
            f"{target:32} {outcome.executions:>9} executions {outcome.seconds:>7.1f} s {outcome.edges:>5} edges"
            f" {outcome.features:>6} features {len(outcome.findings)} findings {' '.join(outcome.findings)}",
            flush=True,
        )
        # After each, so that a campaign that is cut short is written down as far as it came.
        if before:
            write(continued(before, outcomes))
        elif options.results:
            write(outcomes)
    failed = [outcome.target for outcome in outcomes if outcome.findings]
    print(f"{sum(outcome.executions for outcome in outcomes):,} executions")
    print(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
