# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What a transaction did, or in check mode would do, as a module returns it."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.diffs import diff_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.health import sickness

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.restart import Decision
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.health import Health


@dataclasses.dataclass(frozen=True)
class Outcome:
    """planned: of each resource, by its name. applied: False in check mode. before, after: health around a restart, None without one."""

    planned: t.Mapping[str, Planned]
    decision: Decision
    applied: bool
    before: Health | None = None
    after: Health | None = None
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was, or in check mode would be, other than before."""
        return any(one.changes for one in self.planned.values()) or self.decision.now

    @property
    def has_steps(self) -> bool:
        """Whether the host was, or in check mode would be, written to."""
        return any(one.steps for one in self.planned.values())

    def as_result(self, nested: bool = False) -> dict[str, t.Any]:
        """A module's return value: what all modules of the collection share, and what each resource says of itself.

        nested: below the resource's name, for a module that has several.
        """
        diffs = [diff for one in self.planned.values() for diff in one.diffs]
        if self.decision.now:
            restarts = "".join(f"restarted: {reason}\n" for reason in self.decision.reasons)
            diffs.append(diff_of("the service", "", restarts))
        result = {
            "changed": self.changed,
            "changes": [dict(change) for one in self.planned.values() for change in one.changes],
            "applied": self.applied,
            "restarted": self.decision.now,
            "restart_pending": bool(self.decision.reasons) and not self.decision.now,
            "restart_reasons": list(self.decision.reasons),
            "health": None,
            "diff": diffs,
        }
        if self.before is not None and self.after is not None:
            result["health"] = {"before": self.before.as_dict(), "after": self.after.as_dict(), "sick": list(sickness(self.after))}
        for name, one in self.planned.items():
            result.update({name: dict(one.result)} if nested else one.result)
        return result

    def warnings(self) -> list[str]:
        """What a person should know, each once."""
        found = [warning for one in self.planned.values() for warning in one.warnings]
        if self.decision.reasons and not self.decision.now:
            why = f"not now, as {self.decision.why_not}; " if self.decision.why_not else ""
            found.append(
                f"a restart is pending ({'; '.join(self.decision.reasons)}); {why}restart: now does it, or docs/environment.md says how"
            )
        if self.after is not None and sickness(self.after):
            found.append(f"the node is configured, and sick as it was before: {'; '.join(sickness(self.after))}")
        return list(dict.fromkeys([*found, *self.notes]))
