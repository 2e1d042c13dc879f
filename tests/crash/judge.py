# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has become of a host on which a run was killed, and whether the next run did right. Plain data in, words out."""

from __future__ import annotations

import re
import typing as t

BEFORE = "before"
AFTER = "after"
JOURNALLED = "journalled"
OTHER = "other"
OUTCOMES = (BEFORE, AFTER, JOURNALLED, OTHER)

Look = t.Mapping[str, t.Any]
# What a journal has of a command; see looking.py.
COMMAND = "command"

# What a run leaves beside a file while it makes the new one, and in its own folder.
_TEMPORARY = re.compile(r"/\.[^/]+\.\d+(\.old)?\.metalfleet(/|$)")


def outcome(before: Look, after: Look, found: Look) -> t.Tuple[str, t.List[str]]:
    """What the host is like, and what is wrong with it. found: after a run that was to bring `before` to `after` was killed."""
    wrong = torn(before, after, found)
    if wrong:
        return OTHER, wrong
    if found["journal"]:
        return JOURNALLED, []
    files = _without_temporaries(found["files"])
    for name, state in ((BEFORE, before), (AFTER, after)):
        if files == state["files"] and all(
            found["live"][key] == state["live"][key] for key in ("running", "environment", "manager", "sysctls")
        ):
            return name, []
    return OTHER, ["the host is neither as before nor as after, and no journal says so"]


def torn(before: Look, after: Look, found: Look) -> t.List[str]:
    """Paths that are neither wholly old nor wholly new, temporary files apart."""
    wrong = []
    files = _without_temporaries(found["files"])
    for path in sorted({*files, *before["files"], *after["files"]}):
        known = [before["files"].get(path), after["files"].get(path)]
        if files.get(path) not in known:
            wrong.append(f"{path} is {files.get(path)}, and not one of {known}")
    return wrong


def differences(wanted: Look, found: Look) -> t.List[str]:
    """In what a host differs from one on which nothing was killed."""
    wrong = []
    for part in ("files", "notes", "live"):
        for key in sorted({*wanted[part], *found[part]}):
            if wanted[part].get(key) != found[part].get(key):
                wrong.append(f"{part}: {key} is {found[part].get(key)} and not {wanted[part].get(key)}")
    if not found["answers"]:
        wrong.append("the service does not answer")
    if found["journal"]:
        wrong.append("a journal is left")
    return wrong


def changes_left(changes: t.Sequence[t.Mapping[str, t.Any]], after: Look, found: Look) -> t.List[t.Tuple[str, str]]:
    """Of the changes of a run that is not killed, those that have still to be made: (resource, where).

    A rollback that dies between a command and the note that it was given is followed by one that gives it again, and says so. That is
    the one place where a run cannot know better: the command is the last thing that its journal holds. Everywhere else the host says
    what is left, and not the journal, so that a note that is missing or too early is found.
    """
    left = []
    commands = 0
    for change in changes:
        where = str(change["where"])
        is_in_doubt = False
        if change["resource"] == "previous" and change["action"] == "undone":
            commands += 1
            is_in_doubt = found["records"][-1:] == [COMMAND] and commands == found["records"].count(COMMAND)
        if is_in_doubt or not _is_made(where, str(change.get("name", "")), after, found):
            left.append((str(change["resource"]), where))
    return left


def _is_made(where: str, name: str, after: Look, found: Look) -> bool:
    for key in (where, name):
        if key in after["live"]["sysctls"]:
            return bool(after["live"]["sysctls"][key] == found["live"]["sysctls"][key])
    if where.startswith("/") and not where.endswith(("/launchctl", "/systemctl")):
        wanted, there = _everything(after), _everything(found)
        below = {path for path in {*wanted, *there} if path == where or path.startswith(f"{where}/")}
        return all(wanted.get(path) == there.get(path) for path in below)
    return bool(after["live"]["manager"] == found["live"]["manager"])


def _everything(look: Look) -> t.Dict[str, t.Any]:
    return {**look["files"], **{look["state"] + name: described for name, described in look["notes"].items()}}


def _without_temporaries(files: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    return {path: described for path, described in files.items() if not _TEMPORARY.search(path)}
