# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mutation test of the pure code with mutmut: mutation.py [FILE...] (default: all of plugins/module_utils/_policy).

mutmut changes one thing at a time in the functions of a file (not in its constants) and runs the unit tests that come by
it. A change that no test notices is a survivor: a test is missing, or the code is. Those that cannot be noticed are named
in tests/mutation_survivors.yml with the reason, by their diff, so an entry dies with the line that it speaks of.
Fails on a survivor without an entry and on an entry without a survivor.
"""

from __future__ import annotations

import collections
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import typing as t

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
POLICY = "plugins/module_utils/_policy"
SURVIVORS = ROOT / "tests" / "mutation_survivors.yml"
COLLECTION = "ansible_collections/metalfleet/gpustack"
# A change that makes a loop endless, and one that breaks the interpreter, are noticed.
NOTICED = ("killed", "timeout", "segfault", "caught by type check")

# mutmut writes its progress over itself, a line a state.
SPINNER = tuple("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

CONFIGURATION = """
[tool.mutmut]
source_paths = [{sources}]
also_copy = ["{collection}"]
pytest_add_cli_args = ["--hypothesis-seed=0"]
pytest_add_cli_args_test_selection = ["{collection}/tests/unit/plugins/module_utils/_policy"]
"""


def mutmut(run: pathlib.Path, *arguments: str) -> str:
    """Output of mutmut."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    environment = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(run / "hypothesis"), "PYTHONWARNINGS": "ignore"}
    result = subprocess.run(command, cwd=run, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        lines = [line for line in result.stdout.splitlines() if not line.startswith(SPINNER)]
        sys.exit("\n".join([f"mutmut {arguments[0]} failed:", *lines]))
    return result.stdout


def change_of(run: pathlib.Path, mutant: str) -> str:
    """The lines that a mutant takes away and puts in, without their indentation."""
    lines = mutmut(run, "show", mutant).splitlines()
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---"))


def function_of(mutant: str) -> str:
    """`_policy/chips.py: Chip.tier` for `….chips.xǁChipǁtier__mutmut_3`, `_policy/chips.py: parse` for `….chips.x_parse__mutmut_1`."""
    module, _dot, name = mutant.rpartition(".")
    name = name.rpartition("__mutmut_")[0]
    name = name[2:] if name.startswith("x_") else name[2:].replace("ǁ", ".")
    return f"_policy/{module.rpartition('.')[2]}.py: {name}"


def expected_survivors(files: t.Sequence[str]) -> dict[tuple[str, str], str]:
    """(function, change) -> reason, of the files that are looked at."""
    names = tuple(f"_policy/{pathlib.Path(file).name}: " for file in files)
    entries = yaml.safe_load(SURVIVORS.read_text("utf-8")) or []
    return {(entry["function"], entry["change"].rstrip("\n")): entry["reason"] for entry in entries if entry["function"].startswith(names)}


def main() -> int:
    files = sys.argv[1:] or sorted(str(path.relative_to(ROOT)) for path in (ROOT / POLICY).glob("*.py") if path.stat().st_size)
    run = pathlib.Path(tempfile.mkdtemp(prefix="run.", dir=ROOT / ".cache"))
    try:
        subprocess.run([sys.executable, ROOT / "tests/tools/copy_collection.py", run / COLLECTION], check=True)
        sources = ", ".join(f'"{COLLECTION}/{file}"' for file in files)
        (run / "pyproject.toml").write_text(CONFIGURATION.format(sources=sources, collection=COLLECTION), "utf-8")
        print(mutmut(run, "run").splitlines()[-1])
        outcomes = dict(line.strip().split(": ", 1) for line in mutmut(run, "results", "--all", "true").splitlines() if ": " in line)
        print(", ".join(f"{number} {outcome}" for outcome, number in sorted(collections.Counter(outcomes.values()).items())))
        survivors = {}
        for mutant, outcome in outcomes.items():
            if outcome not in NOTICED:
                survivors[(function_of(mutant), change_of(run, mutant))] = outcome
    finally:
        shutil.rmtree(run)

    expected = expected_survivors(files)
    unexplained = sorted(set(survivors) - set(expected))
    stale = sorted(set(expected) - set(survivors))
    for function, change in unexplained:
        print(f"\n{survivors[function, change]}: {function}\n{change}")
    for function, change in stale:
        print(f"\nno survivor any more, take it out of {SURVIVORS.name}: {function}\n{change}")
    print(f"\n{len(outcomes)} mutants, {len(survivors)} survivors, {len(unexplained)} of them unexplained, {len(stale)} stale explanations")
    return 1 if unexplained or stale or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
