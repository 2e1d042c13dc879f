# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows of docs/crash-points.json: one for each point at which a run was killed."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

# What the next run did.
MADE_ALL = "made all changes"
FINISHED = "finished"
UNDID = "undid"
NOTHING = "changed nothing"
WRONG = "wrong"


@dataclasses.dataclass(frozen=True, order=True)
class Row:
    """point: the call, command or place of death. outcome: before, after, journalled or other. next_run: what it did, in words."""

    host_kind: str
    resource: str
    point: str
    outcome: str
    next_run: str

    @property
    def key(self) -> t.Tuple[str, str, str]:
        """What makes it a point of its own."""
        return (self.host_kind, self.resource, self.point)


def read_rows(path: pathlib.Path) -> t.List[Row]:
    """The rows of a file; none where there is no file."""
    return [Row(**one) for one in json.loads(path.read_text())] if path.exists() else []


def write_rows(path: pathlib.Path, rows: t.Iterable[Row]) -> None:
    """One row a line, sorted, so that a change is one line."""
    lines = ",\n".join(json.dumps(dataclasses.asdict(row)) for row in sorted(rows))
    path.write_text(f"[\n{lines}\n]\n")


def merged(known: t.Iterable[Row], new: t.Iterable[Row]) -> t.List[Row]:
    """New rows in the place of those of the same point."""
    found = {row.key: row for row in known}
    found.update({row.key: row for row in new})
    return sorted(found.values())
