# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make crash-report`: bring the tables of docs/crash-points.md to what docs/crash-points.json says."""

from __future__ import annotations

import collections
import pathlib
import re
import sys
import typing as t

from crash_rows import Row, read_rows
from judge import OUTCOMES

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
_PLACE = re.compile(r"(<!-- figures: ([a-z_]+) -->\n).*?(<!-- end of figures -->)", re.S)


def outcomes_table(rows: t.Sequence[Row]) -> str:
    """One line for what was killed on each kind of host, and one for all."""
    lines = [f"| host | what was killed | points | {' | '.join(OUTCOMES)} |", f"|---|---|{'---:|' * (1 + len(OUTCOMES))}"]
    groups: t.Dict[t.Tuple[str, str], t.List[Row]] = collections.defaultdict(list)
    for row in sorted(rows):
        groups[row.host_kind, row.resource].append(row)
    for (kind, resource), group in groups.items():
        lines.append(_line([_TITLES[kind], resource], group))
    return "\n".join([*lines, _line(["", "all"], rows)]) + "\n"


def next_runs_table(rows: t.Sequence[Row]) -> str:
    """What the next run did after each outcome."""
    words = sorted({row.next_run for row in rows})
    lines = [f"| the next run | {' | '.join(OUTCOMES)} |", f"|---|{'---:|' * len(OUTCOMES)}"]
    for word in words:
        counts = [sum(row.next_run == word and row.outcome == outcome for row in rows) for outcome in OUTCOMES]
        lines.append(f"| {word} | {' | '.join(str(count) for count in counts)} |")
    return "\n".join(lines) + "\n"


_TITLES = {"mac": "simulated Mac", "linux": "Linux"}
TABLES: t.Mapping[str, t.Callable[[t.Sequence[Row]], str]] = {"outcomes": outcomes_table, "next_runs": next_runs_table}


def page(text: str, rows: t.Sequence[Row]) -> str:
    """The page with its tables renewed."""
    return _PLACE.sub(lambda place: f"{place.group(1)}{TABLES[place.group(2)](rows)}{place.group(3)}", text)


def _line(titles: t.Sequence[str], rows: t.Sequence[Row]) -> str:
    counts = [len(rows), *(sum(row.outcome == outcome for row in rows) for outcome in OUTCOMES)]
    return f"| {' | '.join([*titles, *(str(count) for count in counts)])} |"


def main() -> None:
    """Write the page."""
    path = DOCS / "crash-points.md"
    rows = read_rows(DOCS / "crash-points.json")
    if not rows:
        sys.exit("crash-report: docs/crash-points.json has no rows; make crash writes it")
    path.write_text(page(path.read_text(), rows))


if __name__ == "__main__":
    main()
