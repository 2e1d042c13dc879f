# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of the collection was not run, by what the collection has and not by a list of our own."""

from __future__ import annotations

import collections
import pathlib
import typing as t


def find_missing(root: pathlib.Path, results: t.Iterable[t.Mapping[str, t.Any]], played: t.Collection[str], some: bool) -> list[str]:
    """One clause for each module, role and playbook below root that was left out.

    results: of tasks, with action, role, status and check. played: names of playbooks. some: not in check mode.
    """
    seen: dict[str, set[tuple[str, bool]]] = collections.defaultdict(set)
    roles = set()
    for result in results:
        seen[result["action"].rpartition(".")[2]].add((result["status"], result["check"]))
        roles.add(result["role"].rpartition(".")[2])
    wanted = {(status, check) for status in ("ok", "failed") for check in ((False,) if some else (False, True))}
    modules = sorted(path.stem for path in (root / "plugins/modules").glob("*.py") if path.stem != "__init__")
    found = [
        f"the module {name} was not run in every way: only (status, check mode) {sorted(seen[name])}"
        for name in modules
        if not seen[name] >= wanted
    ]
    found += [f"the role {path.name} was not run" for path in sorted((root / "roles").iterdir()) if path.name not in roles]
    playbooks = sorted(path.stem for path in (root / "playbooks").glob("*.yml"))
    return found + [f"the playbook {name} was not run" for name in playbooks if name not in played]
