# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was measured: the rows of docs/performance.json, and what is computed from them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
import typing as t

NOT_MEASURED = "not measured"
FIRST, NO_CHANGE = "first", "no_change"
COLUMNS = ("wall_seconds", "controller_cpu_ms_per_node", "target_cpu_ms_per_node", "target_rss_mib")


@dataclasses.dataclass(frozen=True)
class Row:
    """One run of one tool. target_rss_mib: of the largest process that it had on a host, at its peak."""

    tool: str
    phase: str
    nodes: int
    pair: int
    wall_seconds: float
    controller_cpu_ms_per_node: float
    target_cpu_ms_per_node: float
    target_rss_mib: float


def read_rows(path: pathlib.Path) -> t.List[Row]:
    """The rows of a file, none where there is no file. Raises TypeError for a row with other keys."""
    return [Row(**one) for one in json.loads(path.read_text())] if path.exists() else []


def write_rows(path: pathlib.Path, rows: t.Iterable[Row]) -> None:
    """One row a line, so that a diff shows which were measured again."""
    lines = ",\n".join(json.dumps(dataclasses.asdict(row)) for row in rows)
    path.write_text(f"[\n{lines}\n]\n")


def merged(known: t.Sequence[Row], new: t.Sequence[Row]) -> t.List[Row]:
    """The new rows in place of those that the same tools had in the same phase on as many nodes."""
    replaced = {(row.nodes, row.phase, row.tool) for row in new}
    kept = [row for row in known if (row.nodes, row.phase, row.tool) not in replaced]
    return sorted([*kept, *new], key=lambda row: (row.nodes, row.phase, row.pair, row.tool))


def select(rows: t.Iterable[Row], tool: str, phase: str, nodes: int) -> t.List[Row]:
    """Of one tool, phase and number of nodes, by pair."""
    return sorted((row for row in rows if (row.tool, row.phase, row.nodes) == (tool, phase, nodes)), key=lambda row: row.pair)


def median_of(rows: t.Sequence[Row], value: str) -> t.Optional[float]:
    """The median of one column; None where there are no rows."""
    return statistics.median(getattr(row, value) for row in rows) if rows else None


def ratios(rows: t.Iterable[Row], tool: str, other: str, phase: str, nodes: int) -> t.List[float]:
    """Wall time of a tool by that of another in the same pair, for the pairs that have both."""
    rows = list(rows)
    others = {row.pair: row.wall_seconds for row in select(rows, other, phase, nodes)}
    return [row.wall_seconds / others[row.pair] for row in select(rows, tool, phase, nodes) if row.pair in others]


def number(value: float) -> str:
    """Three figures that count."""
    if value == 0:
        return "0"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
