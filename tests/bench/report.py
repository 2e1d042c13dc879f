# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make bench-report`: bring the figures in docs/ to what docs/performance.json says.

The pages have marked places, <!-- figures: NAME --> to <!-- end of figures -->. What is between is written by this, and by nobody else.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import statistics
import sys
import typing as t

import part_table
from plot import Panel, draw
from rows import COLUMNS, FIRST, NO_CHANGE, NOT_MEASURED, Row, median_of, number, ratios, read_rows, select

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
PAGES = ("performance.md", "scale.md")
GOAL_NODES = 50
LARGE_FLEET = 5000
# What each line of the tables is. Order and names are those of the bench.
TITLES = {
    "ssh": "`ssh true`",
    "ssh_cold": "`ssh true`, new connections",
    "ssh_python": "`ssh sudo python3 -I -S -c pass`",
    "ping": "play with one `ping`",
    "ping_cold": "play with one `ping`, new connections",
    "node": "**`node`, fast path**",
    "node_cold": "**`node`, fast path**, new connections",
    "node_free": "`node`, fast path, `strategy: free`",
    "node_forks_50": "`node`, fast path, 50 forks",
    "node_content": "`node`, `verify: content`",
    "node_push": "`node`, archive pushed",
    "role": "**role `gpustack_node`**, fast path",
    "pyinfra": "pyinfra, llama-box by size",
    "pyinfra_hash": "pyinfra, llama-box by digest",
    "ordinary": "role of built-in modules",
}
PLOTTED = ("ssh", "ping", "node", "node_content", "role", "pyinfra", "ordinary")
_PLACE = re.compile(r"(<!-- figures: ([a-z_]+) -->\n).*?(<!-- end of figures -->)", re.S)


@dataclasses.dataclass(frozen=True)
class Goal:
    """One of issue 5. Of wall times if there is another tool, else of a column."""

    title: str
    limit: float
    tool: str
    other: str = ""
    column: str = ""
    phase: str = NO_CHANGE

    def values(self, rows: t.Sequence[Row]) -> t.List[float]:
        """One for each pair."""
        if self.other:
            return ratios(rows, self.tool, self.other, self.phase, GOAL_NODES)
        return [getattr(row, self.column) for row in select(rows, self.tool, self.phase, GOAL_NODES)]


GOALS = (
    Goal("task `node`: wall time / that of a play with one `ping`", 0.4, "node", "ping"),
    Goal("task `node`: wall time / that of pyinfra", 1 / 3, "node", "pyinfra"),
    Goal("task `node`, `verify: content`: wall time / that of pyinfra by digest", 1 / 2, "node_content", "pyinfra_hash"),
    Goal("task `node`: wall time / that of the role of built-in modules", 1 / 40, "node", "ordinary"),
    Goal("task `node`: controller CPU, ms per node", 60, "node", column="controller_cpu_ms_per_node"),
    Goal("task `node`: target CPU, ms", 30, "node", column="target_cpu_ms_per_node"),
    Goal("task `node`: target memory, MiB", 12, "node", column="target_rss_mib"),
    Goal("role `gpustack_node`: wall time / that of the task `node`", 1.6, "role", "node"),
    Goal("task `node`, first run: wall time / that of the role of built-in modules", 1 / 8, "node", "ordinary", phase=FIRST),
)


def goals(rows: t.Sequence[Row]) -> str:
    """Whether each goal is met."""
    lines = [f"| goal, {GOAL_NODES} nodes | at most | median | range | pairs | |", "|---|---|---|---|---|---|"]
    for goal in GOALS:
        values = sorted(goal.values(rows))
        if not values:
            lines.append(f"| {goal.title} | {number(goal.limit)} | {NOT_MEASURED} | | | | |")
            continue
        middle = statistics.median(values)
        verdict = "met" if middle <= goal.limit else "**not met**"
        spread = f"{number(values[0])} - {number(values[-1])}"
        lines.append(f"| {goal.title} | {number(goal.limit)} | {number(middle)} | {spread} | {len(values)} | {verdict} |")
    return "\n".join(lines)


def table(rows: t.Sequence[Row], phase: str, other: str) -> str:
    """Medians of every tool, by number of nodes. other: the tool whose wall time is 1."""
    parts = []
    for nodes in sorted({row.nodes for row in rows if row.phase == phase}):
        columns = f"pairs | wall s | / that of {TITLES[other]} | controller CPU, ms per node | target CPU, ms | target MiB"
        lines = [f"| {nodes} node{'s' if nodes > 1 else ''} | {columns} |", "|---" * 7 + "|"]
        for tool, title in TITLES.items():
            own = select(rows, tool, phase, nodes)
            if not own:
                continue
            by = sorted(ratios(rows, tool, other, phase, nodes))
            ratio = f"{number(statistics.median(by))} ({number(by[0])} - {number(by[-1])})" if by else ""
            wall, *others = (number(_known(median_of(own, column))) for column in COLUMNS)
            lines.append(f"| {title} | {len(own)} | {wall} | {ratio} | {' | '.join(others)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) or f"({NOT_MEASURED})"


def growth(rows: t.Sequence[Row]) -> str:
    """What one more node costs."""
    counts = sorted({row.nodes for row in rows if row.phase == NO_CHANGE and row.tool == "node"})
    lines = ["| nodes | " + " | ".join(f"{TITLES[tool]}: wall s | controller CPU, ms per node" for tool in ("ping", "node", "role")) + " |"]
    lines.append("|---" * 7 + "|")
    for nodes in counts:
        cells = [str(nodes)]
        for tool in ("ping", "node", "role"):
            own = select(rows, tool, NO_CHANGE, nodes)
            for column in ("wall_seconds", "controller_cpu_ms_per_node"):
                value = median_of(own, column)
                cells.append(NOT_MEASURED if value is None else number(value))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if counts else f"({NOT_MEASURED})"


def large_fleet(rows: t.Sequence[Row], measured_parts: t.Mapping[str, t.Any]) -> str:
    """What follows for a fleet that is larger than any that was measured, of each tool from the most nodes that were."""
    if not rows:
        return f"({NOT_MEASURED})"
    columns = "from | ms per node | CPU seconds of a run | with 8 cores, minutes at least | in 10 slices of 8 cores, minutes at least"
    lines = [f"| {LARGE_FLEET} nodes | {columns} |", "|---" * 6 + "|"]
    wanted = (
        ("node", NO_CHANGE),
        ("role", NO_CHANGE),
        ("node_content", NO_CHANGE),
        ("ping", NO_CHANGE),
        ("node", FIRST),
        ("node_push", FIRST),
    )
    for tool, phase in wanted:
        most = max((row.nodes for row in rows if (row.tool, row.phase) == (tool, phase)), default=0)
        cost = median_of(select(rows, tool, phase, most), "controller_cpu_ms_per_node")
        title = TITLES[tool] + (", first run" if phase == FIRST else "")
        if cost is None:
            lines.append(f"| {title} | {NOT_MEASURED} | | | | |")
            continue
        seconds = cost * LARGE_FLEET / 1000
        times = (number(value) for value in (cost, seconds, seconds / 60 / 8, seconds / 60 / 80))
        lines.append(f"| {title} | {most} nodes | {' | '.join(times)} |")
    for part, title in (("main", TITLES["node"]), ("role_main", TITLES["role"])):
        if measured_parts:
            own = measured_parts["parts"][part]
            minutes = number(own * LARGE_FLEET / 1000 / 60)
            spent = f"about {number(own)} ms per node, from {measured_parts['nodes']} nodes"
            lines += ["", f"{title}: {spent}, are Ansible's main process, for one core: {minutes} minutes, a tenth in each slice."]
    alone = select(rows, "node", NO_CHANGE, 1)
    if alone:
        own = _known(median_of(alone, "controller_cpu_ms_per_node")) + _known(median_of(alone, "target_cpu_ms_per_node"))
        lines += ["", f"A run on one node alone costs {number(own)} ms of CPU, Ansible's own start included."]
    return "\n".join(lines)


def first_bound(rows: t.Sequence[Row], measured_parts: t.Mapping[str, t.Any]) -> str:
    """How much of what another tool spends on a first run is spent before ours has changed anything."""
    own, other = (select(rows, tool, FIRST, GOAL_NODES) for tool in ("node", "ordinary"))
    if not (own and other and measured_parts):
        return f"({NOT_MEASURED})"
    parts = measured_parts["parts"]
    whole = sum(_known(median_of(other, column)) for column in ("controller_cpu_ms_per_node", "target_cpu_ms_per_node"))
    shared = _known(median_of(own, "controller_cpu_ms_per_node")) + parts["first_archive"] + parts["first_restart"]
    least, looking = (shared + parts[part] for part in ("first_module", "first_look"))
    shares = f"{number(least / whole)} of that; with our module, which looks at everything, {number(looking / whole)}"
    return (
        f"The role of built-in modules takes {number(whole)} ms of CPU for each of {GOAL_NODES} nodes. The archive, the restart, our"
        f" controller's part and one module of Ansible are {shares}."
    )


def runs(described: t.Mapping[str, t.Mapping[str, t.Mapping[str, t.Any]]]) -> str:
    """On what it was measured."""
    keys = ("date", "processor", "cores", "memory_gib", "kernel", "ansible_core", "python", "load_before", "command")
    names = ("date", "processor", "cores", "memory, GiB", "kernel", "ansible-core", "Python", "load before it", "command")
    lines = [f"| nodes | runs that | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for nodes, phases in sorted(described.items(), key=lambda item: int(item[0])):
        for phase, one in phases.items():
            cells = [f"`{one[key]}`" if key == "command" else str(one[key]) for key in keys]
            lines.append(f"| {nodes} | {'come first' if phase == FIRST else 'change nothing'} | {' | '.join(cells)} |")
    return "\n".join(lines) if described else f"({NOT_MEASURED})"


def picture(rows: t.Sequence[Row]) -> str:
    """The plot."""
    panels = []
    for title, label, column in (
        ("A run that changes nothing", "wall time, seconds", "wall_seconds"),
        ("CPU of the controller for it", "ms per node", "controller_cpu_ms_per_node"),
    ):
        lines = {}
        for tool in PLOTTED:
            counts = sorted({row.nodes for row in rows if (row.tool, row.phase) == (tool, NO_CHANGE)})
            points = [(nodes, _known(median_of(select(rows, tool, NO_CHANGE, nodes), column))) for nodes in counts]
            if points:
                lines[TITLES[tool].replace("`", "").replace("*", "")] = [(nodes, max(value, 0.001)) for nodes, value in points]
        panels.append(Panel(title, label, lines))
    return draw(panels, "nodes")


def fill(page: str, figures: t.Mapping[str, str]) -> str:
    """A page with its places filled. Raises KeyError for a place of an unknown name."""
    return _PLACE.sub(lambda found: f"{found.group(1)}{figures[found.group(2)]}\n{found.group(3)}", page)


def figures_of(
    rows: t.Sequence[Row], described: t.Mapping[str, t.Mapping[str, t.Any]], measured_parts: t.Mapping[str, t.Any]
) -> t.Dict[str, str]:
    """All that pages may have."""
    return {
        "parts": part_table.table(measured_parts),
        "goals": goals(rows),
        "no_change": table(rows, NO_CHANGE, "ping"),
        "first": table(rows, FIRST, "ordinary"),
        "growth": growth(rows),
        "large_fleet": large_fleet(rows, measured_parts),
        "first_bound": first_bound(rows, measured_parts),
        "runs": runs(described),
    }


def read_json(path: pathlib.Path) -> t.Dict[str, t.Any]:
    """Empty where nothing was measured."""
    found: t.Dict[str, t.Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _known(value: t.Optional[float]) -> float:
    """Of rows that are known to be there."""
    assert value is not None
    return value


def main() -> int:
    """Write all pages and the plot."""
    rows = read_rows(DOCS / "performance.json")
    figures = figures_of(rows, read_json(DOCS / "performance_runs.json"), read_json(DOCS / "performance_parts.json"))
    for name in PAGES:
        page = DOCS / name
        page.write_text(fill(page.read_text(), figures))
    (DOCS / "performance.svg").write_text(picture(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
