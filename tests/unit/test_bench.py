# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What turns measured rows into pages and a plot, and what takes the contenders at their word. The bench itself is run by `make bench`."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import sys
import typing as t
from xml.etree import ElementTree

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Programs that import one another by their folders, as `make bench` has them.
for _folder in ("bench", "fleet", "hosts", "mirror"):
    sys.path.append(str(ROOT / "tests" / _folder))

import machine  # noqa: E402
import part_table  # noqa: E402
import plot  # noqa: E402
import report  # noqa: E402
import tools  # noqa: E402
from rows import FIRST, NO_CHANGE, NOT_MEASURED, Row, median_of, merged, ratios, read_rows, select, write_rows  # noqa: E402
from targets import BenchError  # noqa: E402

TOOL = {tool.name: tool for tool in tools.TOOLS}


def row(tool: str, wall: float, pair: int = 1, nodes: int = 50, phase: str = NO_CHANGE, **other: float) -> Row:
    figures = {"controller_cpu_ms_per_node": 50.0, "target_cpu_ms_per_node": 20.0, "target_rss_mib": 9.0, **other}
    return Row(tool, phase, nodes, pair, wall, **figures)


def fleet_rows() -> list[Row]:
    """Five pairs on 50 nodes with which every goal is just met, and some on others."""
    rows = [row("node", 2.0, nodes=1), row("node", 3.0, nodes=10)]
    for pair in range(1, 6):
        walls = {"node": 4.0, "ping": 10.0, "pyinfra": 12.0, "node_content": 20.0, "pyinfra_hash": 40.0, "ordinary": 160.0, "role": 6.4}
        rows += [row(tool, wall * pair, pair) for tool, wall in walls.items()]
    return [*rows, row("node", 20.0, phase=FIRST), row("ordinary", 160.0, phase=FIRST)]


def test_rows_have_exactly_the_keys_that_were_agreed_upon(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "performance.json"
    write_rows(path, fleet_rows())
    keys = {"tool", "phase", "nodes", "pair", "wall_seconds", "controller_cpu_ms_per_node", "target_cpu_ms_per_node", "target_rss_mib"}
    assert {frozenset(one) for one in json.loads(path.read_text())} == {frozenset(keys)}
    assert read_rows(path) == fleet_rows()
    path.write_text('[{"tool": "node", "phase": "first"}]')
    with pytest.raises(TypeError, match="nodes"):
        read_rows(path)
    assert read_rows(tmp_path / "none.json") == []


def test_new_rows_replace_those_of_the_same_tool_phase_and_number_of_nodes() -> None:
    known = [row("node", 1.0, pair) for pair in (1, 2, 3)] + [row("node", 2.0, nodes=10), row("node", 3.0, phase=FIRST), row("ping", 4.0)]
    kept = merged(known, [row("node", 9.0)])
    assert select(kept, "node", NO_CHANGE, 50) == [row("node", 9.0)]
    assert len(kept) == 4
    assert set(known[3:]) < set(kept)


def test_medians_and_ratios_are_of_pairs() -> None:
    rows = [row("node", 1.0, 1), row("node", 2.0, 2), row("node", 9.0, 3), row("ping", 4.0, 2), row("ping", 3.0, 3)]
    assert median_of(select(rows, "node", NO_CHANGE, 50), "wall_seconds") == 2.0
    assert median_of([], "wall_seconds") is None
    assert ratios(rows, "node", "ping", NO_CHANGE, 50) == [0.5, 3.0]


def test_goals_that_are_just_met() -> None:
    lines = report.goals(fleet_rows()).splitlines()[2:]
    assert len(lines) == len(report.GOALS) == 9
    assert all(line.endswith("| met |") for line in lines)
    assert "| task `node`: wall time / that of a play with one `ping` | 0.4 | 0.4 | 0.4 - 0.4 | 5 | met |" in "\n".join(lines)


@pytest.mark.parametrize("number", range(9))
def test_a_goal_that_is_missed_by_a_little(number: int) -> None:
    goal = report.GOALS[number]
    worse = {"wall_seconds": 1.01, "controller_cpu_ms_per_node": 1.21, "target_cpu_ms_per_node": 1.51, "target_rss_mib": 1.34}
    rows = []
    for one in fleet_rows():
        by = worse[goal.column or "wall_seconds"] if (one.tool, one.phase) == (goal.tool, goal.phase) else 1
        column = goal.column or "wall_seconds"
        rows.append(Row(**{**vars(one), column: getattr(one, column) * by}))
    (line,) = (line for line in report.goals(rows).splitlines() if line.startswith(f"| {goal.title} |"))
    assert line.endswith("| **not met** |")


def test_what_was_not_measured_is_said_and_no_figure_is_made_up() -> None:
    figures = report.figures_of([], {}, {})
    assert figures["goals"].count(NOT_MEASURED) == 9
    for name in ("no_change", "first", "growth", "large_fleet", "first_bound", "runs", "parts"):
        assert figures[name] == f"({NOT_MEASURED})"
    only_ten = report.figures_of([row("node", 3.0, nodes=10)], {}, {})
    assert only_ten["goals"].count(NOT_MEASURED) == 9
    assert "| `verify: content`" not in only_ten["no_change"]
    assert "play with one `ping` | not measured" in only_ten["large_fleet"]


def test_tables() -> None:
    figures = report.figures_of(fleet_rows(), {}, {})
    assert "| **`node`, fast path** | 5 | 12 | 0.4 (0.4 - 0.4) | 50 | 20 | 9 |" in figures["no_change"]
    assert "| **`node`, fast path** | 1 | 20 | 0.125 (0.125 - 0.125) | 50 | 20 | 9 |" in figures["first"]
    assert "| 10 | not measured | not measured | 3 | 50 | not measured | not measured |" in figures["growth"]
    # 5,000 nodes of 50 ms: 250 s, on 8 cores half a minute, on 80 a twentieth of one.
    assert "| **`node`, fast path** | 50 nodes | 50 | 250 | 0.521 | 0.0521 |" in figures["large_fleet"]
    assert "A run on one node alone costs 70 ms of CPU" in figures["large_fleet"]


def test_every_part_of_a_run_has_its_line_and_is_counted_once() -> None:
    # 1, 2, 4 ...: no two sums are the same. What a run has only one of is divided among its nodes.
    found = {part: float(2**place) for place, part in enumerate(part_table.PARTS)}
    first = dict.fromkeys(part_table.FIRST_PARTS, 5.0)
    role = {part: float(2**place) for place, part in enumerate(part_table.ROLE_PARTS)}
    lines = part_table.table({"nodes": 2, "runs": 5, "parts": {**found, **role, **first, "start": 2.0}}).splitlines()
    assert len(lines) == 2 + len(found) + 2 + 1 + 2 + 1 + len(role) + 1 + 1 + 2 + len(first)
    assert lines.count("| start of Ansible, the inventory, the playbook | 1 |") == 2
    assert "| **controller, sum** | **127** |" in lines
    # 1 of the start, and 1 + 2 + 4 + 8.
    assert "| **controller, sum** | **16** |" in lines
    assert "| **node, sum** | **1920** |" in lines


def test_each_tool_counts_with_the_most_nodes_that_it_was_measured_with() -> None:
    rows = [row("node", 3.0, nodes=200), row("role", 3.0, nodes=50), row("node", 3.0, nodes=10, phase=FIRST)]
    lines = report.large_fleet(rows, {}).splitlines()[2:]
    assert [line.split(" | ")[:2] for line in lines if NOT_MEASURED not in line] == [
        ["| **`node`, fast path**", "200 nodes"],
        ["| **role `gpustack_node`**, fast path", "50 nodes"],
        ["| **`node`, fast path**, first run", "10 nodes"],
    ]


def test_what_more_cores_do_not_divide_is_said() -> None:
    found = report.large_fleet(fleet_rows(), {"nodes": 20, "parts": {"main": 12.0, "role_main": 36.0}})
    about = "**{}: about {} ms per node, from 20 nodes, are Ansible's main process, for one core: {} minutes, a tenth in each slice."
    assert about.format("`node`, fast path**", 12, 1) in found
    assert about.format("role `gpustack_node`**, fast path", 36, 3) in found


def test_what_bounds_a_first_run_is_computed() -> None:
    """Of the other tool 300 + 700 ms; 10 of our controller, and 20 and 30 for what any tool does there."""
    costs = {"node": (10.0, 900.0), "ordinary": (300.0, 700.0)}
    rows = [
        dataclasses.replace(row(tool, 1.0, phase=FIRST), controller_cpu_ms_per_node=controller, target_cpu_ms_per_node=target)
        for tool, (controller, target) in costs.items()
    ]
    parts = {"first_archive": 20.0, "first_restart": 30.0, "first_module": 40.0, "first_look": 140.0}
    found = report.first_bound(rows, {"parts": parts})
    assert "takes 1000 ms of CPU for each of 50 nodes." in found
    assert found.endswith("one module of Ansible are 0.1 of that; with our module, which looks at everything, 0.2.")


def test_each_phase_keeps_how_it_was_measured(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "runs.json"
    keys = ("date", "processor", "cores", "memory_gib", "kernel", "ansible_core", "python", "load_before")
    for nodes, phases, command in ((50, [NO_CHANGE, FIRST], "a"), (50, [FIRST], "b"), (9, [FIRST], "c")):
        machine.note(path, nodes, phases, {**dict.fromkeys(keys, "-"), "command": command})
    lines = report.runs(report.read_json(path)).splitlines()[2:]
    assert [line.split(" | ")[:2] + [line.split(" | ")[-1]] for line in lines] == [
        ["| 9", "come first", "`c` |"],
        ["| 50", "come first", "`b` |"],
        ["| 50", "change nothing", "`a` |"],
    ]


def test_pages_are_filled_and_filled_again() -> None:
    page = "before\n<!-- figures: goals -->\nold\n<!-- end of figures -->\nafter <!-- figures: runs -->\n<!-- end of figures -->\n"
    figures = {"goals": "| a |", "runs": "| b |"}
    filled = (
        "before\n<!-- figures: goals -->\n| a |\n<!-- end of figures -->\nafter <!-- figures: runs -->\n| b |\n<!-- end of figures -->\n"
    )
    assert report.fill(page, figures) == filled
    assert report.fill(filled, figures) == filled
    with pytest.raises(KeyError):
        report.fill("<!-- figures: other -->\n<!-- end of figures -->", figures)


def test_what_is_in_docs_is_what_the_rows_say() -> None:
    rows = read_rows(report.DOCS / "performance.json")
    figures = report.figures_of(rows, *(report.read_json(report.DOCS / f"performance_{name}.json") for name in ("runs", "parts")))
    for name in report.PAGES:
        page = (report.DOCS / name).read_text()
        assert "<!-- figures: " in page
        assert report.fill(page, figures) == page, "call `make bench-report`"
    assert (report.DOCS / "performance.svg").read_text() == report.picture(rows), "call `make bench-report`"


def parsed(text: str) -> t.Any:
    return ElementTree.fromstring(text)


def test_a_plot_is_the_same_text_each_time() -> None:
    text = report.picture(fleet_rows())
    assert text == report.picture(list(reversed(fleet_rows())))
    assert parsed(text).tag.endswith("svg")
    code = "import sys; sys.path[:0] = sys.argv[1:]; import plot; print(plot.draw([plot.Panel('a', 'b', {'c': [(1, 2), (10, 3)]})], 'x'))"
    texts = {
        subprocess.run([sys.executable, "-c", code, str(ROOT / "tests/bench")], check=True, stdout=subprocess.PIPE).stdout
        for _process in range(2)
    }
    assert len(texts) == 1


def test_points_are_where_their_values_say() -> None:
    panel = plot.Panel("a < b", "y", {"one": [(1, 10.0), (10, 100.0), (100, 1000.0)], "two": [(1, 1000.0)]})
    document = parsed(plot.draw([panel], "nodes & more"))
    name = "{http://www.w3.org/2000/svg}"
    circles = [(float(one.get("cx")), float(one.get("cy"))) for one in document.iter(f"{name}circle")]
    assert len(circles) == 4
    (left, low), (middle, half), (right, high), (alone, up) = circles
    # Equal factors are equal distances; upwards is less.
    assert middle - left == pytest.approx(right - middle, abs=0.11)
    assert low - half == pytest.approx(half - high, abs=0.11)
    assert left < middle < right
    assert low > half > high
    assert (alone, up) == (left, high)
    texts = [one.text for one in document.iter(f"{name}text")]
    assert {"a < b", "nodes & more", "one", "two", "1", "10", "100", "1000"} <= set(texts)


def test_a_plot_of_nothing_says_so() -> None:
    assert "not measured yet" in plot.draw([plot.Panel("a", "b", {})], "x")


RECAP = """
PLAY RECAP *********************************************************************
node-0                     : ok=1    changed={0}    unreachable=0    failed=0    skipped=0    rescued=0    ignored=0
node-1                     : ok=1    changed=0    unreachable={1}    failed={2}    skipped=0    rescued=0    ignored=0
"""


def test_ansible_is_taken_at_its_word() -> None:
    assert tools.changes_of(TOOL["node"], RECAP.format(3, 0, 0), 2) == 3
    assert tools.changes_of(TOOL["node"], RECAP.format(0, 0, 0), 2) == 0


@pytest.mark.parametrize(("text", "hosts"), [(RECAP.format(0, 1, 0), 2), (RECAP.format(0, 0, 1), 2), (RECAP.format(0, 0, 0), 3), ("", 1)])
def test_a_play_that_failed_or_left_a_host_out_is_no_measurement(text: str, hosts: int) -> None:
    with pytest.raises(BenchError, match="failed, or does not speak of all"):
        tools.changes_of(TOOL["node"], text, hosts)


# As pyinfra 3.10.0 prints it.
PYINFRA = """
--> Results:
    Operation                                            Hosts   Success   Error   No Change
    Take the variable out of the environment file        2       {0}         {1}       2
    Have HF_ENDPOINT in the environment file             2       1         -       1
    Put llama-box in its place                           1       1         -       -
    Grand total                                          5       {0}         {1}       3
"""


def test_pyinfra_is_taken_at_its_word() -> None:
    assert tools.changes_of(TOOL["pyinfra"], PYINFRA.format("-", "-"), 2) == 2
    assert tools.changes_of(TOOL["pyinfra"], PYINFRA.format("2", "-"), 2) == 4


@pytest.mark.parametrize(("text", "hosts"), [(PYINFRA.format("-", "1"), 2), (PYINFRA.format("-", "-"), 3), ("", 1)])
def test_pyinfra_that_failed_or_left_a_host_out_is_no_measurement(text: str, hosts: int) -> None:
    with pytest.raises(BenchError, match="failed, or does not speak of all"):
        tools.changes_of(TOOL["pyinfra"], text, hosts)


def test_every_contender_has_a_line_in_the_tables() -> None:
    assert set(report.TITLES) == set(TOOL)
    assert set(report.PLOTTED) < set(TOOL)
    assert {name for goal in report.GOALS for name in (goal.tool, goal.other) if name} <= set(TOOL)
