# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is run and killed: a module with its arguments, and the state that it starts from."""

from __future__ import annotations

import dataclasses
import typing as t

from crash_layer import ARCHIVES, BUILDS, CRASHING, VERSIONS

PRISTINE = "pristine"
CURED = "cured"
# Short, since each point costs two runs: the stand-in starts in half a second.
_LIMITS = {"settle_seconds": 0.3}
_HEALTH = {**_LIMITS, "health_timeout_seconds": 3.0, "lock_wait_seconds": 5.0}
_ENVIRONMENT = {"variables": {"HF_ENDPOINT": "https://hub.example.com"}, "secrets": {"HF_TOKEN": "canary-secret-1"}, "mode": "0600"}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """resource: as the table names it. start: the saved state before it. undone: whether the run has to put back what it did."""

    resource: str
    module: str
    arguments: t.Mapping[str, t.Any]
    start: str = PRISTINE
    undone: bool = False


def _llama_box(kind: str, lock: t.Mapping[str, t.Any], version: str) -> t.Dict[str, t.Any]:
    toolkit = BUILDS[kind].rsplit("-", 1)[-1]
    return {"version": version, "lock": lock, "source": "folder", "folder": ARCHIVES, "toolkit": toolkit}


def cure(kind: str, lock: t.Mapping[str, t.Any]) -> Scenario:
    """Everything in one transaction: what makes the state `cured`."""
    wired_limit: t.Dict[str, t.Any] = {"wired_limit": {}} if kind == "mac" else {}
    resources = {"llama_box": _llama_box(kind, lock, VERSIONS[0]), "environment": _ENVIRONMENT, **wired_limit}
    return Scenario("node", "node", {**resources, **_HEALTH, "receipt_for": "crash"})


def scenarios(kind: str, lock: t.Mapping[str, t.Any]) -> t.List[Scenario]:
    """All for a kind of host."""
    absent = {"llama_box": {"state": "absent"}, "environment": {"state": "absent"}}
    found = [
        cure(kind, lock),
        Scenario("environment", "environment", {**_ENVIRONMENT, **_LIMITS}),
        Scenario("llama_box", "llama_box", {**_llama_box(kind, lock, VERSIONS[0]), **_LIMITS}),
        Scenario("llama_box, another version", "llama_box", {**_llama_box(kind, lock, VERSIONS[1]), **_LIMITS}, CURED),
        Scenario("rollback", "rollback", _LIMITS, CURED),
        Scenario("node, undone", "node", {"llama_box": _llama_box(kind, lock, CRASHING), "environment": {}, **_HEALTH}, undone=True),
    ]
    if kind == "mac":
        absent["wired_limit"] = {"state": "absent"}
        # Not by the module of that name: it gives the service ten seconds to settle, at each point.
        found.append(Scenario("wired_limit", "node", {"wired_limit": {"limit_mib": "400000"}, **_HEALTH}))
        found.append(Scenario("wired_limit, absent", "node", {"wired_limit": {"state": "absent"}, **_HEALTH}, CURED))
    found.append(Scenario("node, absent", "node", {**absent, **_HEALTH}, CURED))
    return found
