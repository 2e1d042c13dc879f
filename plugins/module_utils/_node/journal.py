# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The record of a transaction that has not ended, and what it takes to undo it.

It is written before each change, so that the next run finds whatever a run that died has left: it goes on from there, and
knows what the node was like before. Root only: what is remembered includes files that hold secrets.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import (
    PendingRestart,
    pending_of,
    read_state,
    state_folder,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import Step, Undo, undo
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.temporary import belongs_to
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.tree_digest import tree_digest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.health import Health, health_of

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host

_NAME = "journal.json"
_PREVIOUS = "previous.json"
_BACKUPS = "undo-"


@dataclasses.dataclass(frozen=True)
class Journal:
    """A transaction.

    started: when, in seconds since the epoch; it names the folder of what is remembered, too. health: of the node before its
    first change; pending: the restart that was due then. needs_restart: it changes something that the service reads at its start
    only. rolls_back: the transaction that it takes back, 0 for none. restarting: the service has been, or is being, restarted for
    it. undoing: why it is being undone; empty while it goes forward. records: how to undo its steps, oldest first. left: path ->
    digest of what it left there, once it has ended.
    """

    started: int
    health: Health
    pending: t.Optional[PendingRestart] = None
    needs_restart: bool = False
    rolls_back: int = 0
    restarting: bool = False
    undoing: str = ""
    records: t.Tuple[Undo, ...] = ()
    left: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


def read_journal(host: Host) -> Journal | None:
    """The transaction that a run which died has left, or None."""
    return _read(host, _NAME)


def read_previous(host: Host) -> Journal | None:
    """The last transaction that succeeded, or None."""
    return _read(host, _PREVIOUS)


def oldest(journal: Journal) -> t.Dict[str, Undo]:
    """Path -> what was there before the transaction changed it for the first time."""
    found: t.Dict[str, Undo] = {}
    for record in journal.records:
        if "path" in record:
            found.setdefault(record["path"], record)
    return found


def begin(host: Host, journal: Journal) -> Journal:
    """Start a transaction: from here on a run that dies leaves its record. It may be given another time."""
    host.make_folder(state_folder(host), 0o700)
    while host.status(_backups(host, journal)) is not None:
        # A clock that was set back, or two transactions in one second.
        journal = dataclasses.replace(journal, started=journal.started + 1)
    host.make_folder(_backups(host, journal), 0o700)
    try:
        _write(host, _NAME, journal)
    except HostError:
        # A transaction that could not even be begun leaves nothing.
        with contextlib.suppress(HostError):
            host.remove(_backups(host, journal))
        raise
    return journal


def remember(host: Host, journal: Journal, step: Step) -> Journal:
    """Write down how to undo a step, before it is made."""
    backup = f"{_backups(host, journal)}/{len(journal.records)}"
    # What a run that died between the two has remembered but not written down.
    host.remove(backup)
    journal = dataclasses.replace(journal, records=(*journal.records, step.save(host, backup)))
    _write(host, _NAME, journal)
    return journal


def note(host: Host, journal: Journal, **facts: t.Any) -> Journal:
    """Write down that fields of the journal are others now, unless they are already."""
    noted = dataclasses.replace(journal, **facts)
    if noted != journal:
        _write(host, _NAME, noted)
    return noted


def undo_all(host: Host, journal: Journal, reason: str) -> Journal:
    """Undo every step, the last one first, and those that can be if one cannot. Doing so again is the same. Raises HostError."""
    noted = dataclasses.replace(journal, undoing=journal.undoing or reason)
    # A full disk must not keep us from undoing what filled it. Who dies without this note is followed by a run that goes forward.
    with contextlib.suppress(HostError):
        journal = note(host, journal, undoing=noted.undoing)
    failures = []
    for record in reversed(journal.records):
        try:
            undo(host, record)
        except HostError as exc:
            failures.append(str(exc))
    if failures:
        raise HostError("; ".join(dict.fromkeys(failures)))
    return noted


def forget(host: Host) -> None:
    """The transaction was undone: nothing of it is kept."""
    host.remove(journal_path(host))
    tidy(host)


def commit(host: Host, journal: Journal) -> None:
    """The transaction has succeeded: what it takes to undo it is kept in place of that of the one before.

    After one that took back another one there is nothing to go back to.
    """
    if journal.rolls_back:
        host.remove(f"{state_folder(host)}/{_PREVIOUS}")
    elif journal.records:
        _write(host, _PREVIOUS, dataclasses.replace(journal, left={path: tree_digest(host, path) for path in oldest(journal)}))
    forget(host)


def journal_path(host: Host) -> str:
    """Where the journal lies."""
    return f"{state_folder(host)}/{_NAME}"


def tidy(host: Host) -> None:
    """Remove what was remembered for transactions that are gone, also where a run died that was about to."""
    previous = read_previous(host)
    kept = None if previous is None else f"{_BACKUPS}{previous.started}"
    # What is left now goes another time.
    with contextlib.suppress(HostError):
        for name in host.names(state_folder(host)):
            # A run may also have died while it removed one.
            meant = belongs_to(name) or name
            if meant.startswith(_BACKUPS) and name != kept:
                host.remove(f"{state_folder(host)}/{name}")


def clean(host: Host, journal: Journal) -> None:
    """Remove what the run that left this journal was making, or had replaced, when it died: nobody else may come by there again."""
    for path in oldest(journal):
        host.remove_leftovers(path)


def _backups(host: Host, journal: Journal) -> str:
    return f"{state_folder(host)}/{_BACKUPS}{journal.started}"


def _read(host: Host, name: str) -> Journal | None:
    data = read_state(host, name)
    try:
        content = json.loads(data or b"null")
        return Journal(
            int(content["started"]),
            health_of(content["health"]),
            None if content["pending"] is None else pending_of(content["pending"]),
            content["needs_restart"] is True,
            int(content["rolls_back"]),
            content["restarting"] is True,
            str(content["undoing"]),
            tuple({str(key): value for key, value in record.items()} for record in content["records"]),
            {str(path): str(digest) for path, digest in content["left"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _write(host: Host, name: str, journal: Journal) -> None:
    content = {**dataclasses.asdict(journal), "health": journal.health.as_dict()}
    host.write(f"{state_folder(host)}/{name}", json.dumps(content).encode(), 0o600)
