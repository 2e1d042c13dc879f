# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The state of a node before its last transaction, as a resource: wanting it back is one more transaction."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import journal as journals
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import state_folder
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import Act, RestorePath, Step, Undo, undo
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.tree_digest import tree_digest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import command_text
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.diffs import diff_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.journal import Journal

_NOTHING = "no earlier state is kept: nothing was changed here since, or it was rolled back already"


class Previous:
    """What the last transaction found. force: whether edits made since are given up."""

    name = "previous"

    def __init__(self, host: Host, force: bool) -> None:
        self._host = host
        self._force = force
        self._target: Journal | None = None
        self._undone: set[int] = set()

    def plan(self) -> Planned:
        """Compare with what the last transaction found. Raises BadInputError for files that somebody edited since."""
        target = self._target = self._find_target()
        if target is None:
            return Planned(result={"rolled_back_to": None, "reason": _NOTHING})
        oldest = journals.oldest(target)
        moved = {path for path, record in oldest.items() if self._is_other(path, record)}
        self._refuse_edited(target, moved)
        steps: list[Step] = []
        changes: list[dict[str, str]] = []
        # As in undoing, the last change goes first.
        for number, record in reversed(list(enumerate(target.records))):
            path = record.get("path")
            if path in moved and record is oldest[path]:
                steps.append(RestorePath(path, record["backup"], record["kind"]))
                changes.append({"resource": self.name, "where": path, "action": "restored", "name": record["kind"]})
            elif record.get("argv") and number not in self._undone:
                argv = record["argv"]
                steps += [self._command(record), _Note(number)]
                changes.append({"resource": self.name, "where": argv[0], "action": "undone", "name": command_text.subject(argv)})
        when = datetime.datetime.fromtimestamp(target.started, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        reasons = (f"the node goes back to its state before {when}",) if target.needs_restart and steps else ()
        return Planned(
            steps=tuple(steps),
            changes=tuple(changes),
            diffs=tuple(_diff(change) for change in changes),
            restart_reasons=reasons,
            replaced=bool(reasons),
            reloads=bool(moved),
            rolls_back=target.started,
            result={"rolled_back_to": when, "reason": ""},
        )

    def prepare(self) -> None:
        """Everything is on the node."""

    def check(self) -> tuple[str, ...]:
        """Every file is what it was, or the transaction would have failed."""
        return ()

    def finish(self) -> tuple[str, ...]:
        """Remove folders that were made for what is gone now, unless others have put something there."""
        records = self._target.records if self._target is not None else ()
        with contextlib.suppress(HostError):
            for folder in [folder for record in reversed(records) for folder in record.get("folders", ())]:
                if self._host.status(folder) is not None and not self._host.names(folder):
                    self._host.remove(folder)
        return ()

    def _find_target(self) -> Journal | None:
        """The transaction to take back: one that a run which died has left open, else the last one that succeeded."""
        journal = journals.read_journal(self._host)
        self._undone = {record["undone"] for record in journal.records if "undone" in record} if journal is not None else set()
        is_open = journal is not None and bool(journal.records) and journal.rolls_back in (0, journal.started)
        return journal if is_open else journals.read_previous(self._host)

    def _refuse_edited(self, target: Journal, moved: t.Iterable[str]) -> None:
        # What is not as it was left, but as it shall be, was put back by a run that died. What is below our own folder is nobody's
        # to edit, and tidying up goes on there after a transaction has ended.
        own = f"{state_folder(self._host)}/"
        edited = [path for path in sorted(moved) if not path.startswith(own) and tree_digest(self._host, path) != target.left.get(path)]
        if edited and target.left and not self._force:
            raise BadInputError(
                f"{' and '.join(edited)} changed since the run that is to be rolled back; look at what was changed, and say force: true"
                " to give it up"
            )

    def _is_other(self, path: str, record: t.Mapping[str, t.Any]) -> bool:
        # Where nothing was, nothing is at the backup's path either.
        return tree_digest(self._host, path) != tree_digest(self._host, record["backup"])

    def _command(self, record: dict[str, t.Any]) -> Act:
        return Act(lambda: undo(self._host, record), tuple(record.get("redo", ())), tuple(record["argv"]))


@dataclasses.dataclass(frozen=True)
class _Note:
    """No change, but the note that the command of that number was undone, which nobody can see: who goes on does not do it again."""

    number: int

    def save(self, host: Host, backup: str) -> Undo:
        """The note itself."""
        del host, backup
        return {"undone": self.number}

    def apply(self, host: Host) -> None:
        """That is all."""


def _diff(change: t.Mapping[str, str]) -> dict[str, str]:
    where = change["where"]
    return diff_of(where, "", f"{change['action']}: {change['name']}\n")
