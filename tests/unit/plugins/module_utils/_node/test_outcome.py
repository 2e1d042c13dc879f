# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.outcome import Outcome
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.restart import Decision
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.health import Health

WELL = Health(True, ("worker",), 1, "state = running")
SICK = Health(False, (), 0, "state = not running")
ONE = Planned(changes=({"where": "/a"},), diffs=({"after": "a"},), warnings=("old", "one"), result={"path": "/a"})
OTHER = Planned(changes=({"where": "/b"},), diffs=({"after": "b"},), warnings=("one", "other"), result={"slots": []})
NOTHING = Planned(result={"path": "/c"})


def test_nothing_changed() -> None:
    outcome = Outcome({"a": NOTHING}, Decision(), applied=True)
    assert outcome.as_result() == {
        "changed": False,
        "changes": [],
        "applied": True,
        "restarted": False,
        "restart_pending": False,
        "restart_reasons": [],
        "health": None,
        "diff": [],
        "path": "/c",
    }
    assert outcome.warnings() == []


@pytest.mark.parametrize("nested", [False, True])
def test_everything(nested: bool) -> None:
    outcome = Outcome({"a": ONE, "b": OTHER}, Decision(("x", "y"), now=True), True, WELL, WELL, ("note", "old"))
    own = {"a": {"path": "/a"}, "b": {"slots": []}} if nested else {"path": "/a", "slots": []}
    assert outcome.as_result(nested=nested) == {
        "changed": True,
        "changes": [{"where": "/a"}, {"where": "/b"}],
        "applied": True,
        "restarted": True,
        "restart_pending": False,
        "restart_reasons": ["x", "y"],
        "health": {"before": WELL.as_dict(), "after": WELL.as_dict(), "sick": []},
        "diff": [
            {"after": "a"},
            {"after": "b"},
            {"before_header": "the service", "after_header": "the service", "before": "", "after": "restarted: x\nrestarted: y\n"},
        ],
        **own,
    }
    assert outcome.warnings() == ["old", "one", "other", "note"]


def test_a_restart_alone_is_a_change_and_one_that_is_due_is_none() -> None:
    assert Outcome({"a": NOTHING}, Decision(("x",), now=True), applied=False).as_result()["changed"] is True
    pending = Outcome({"a": NOTHING}, Decision(("x", "y")), applied=False).as_result()
    assert (pending["changed"], pending["restarted"], pending["restart_pending"], pending["diff"]) == (False, False, True, [])


def test_warnings_about_a_restart_that_is_due() -> None:
    how = "restart: now does it, or docs/environment.md says how"
    assert Outcome({"a": ONE}, Decision(("x", "y")), applied=True).warnings() == ["old", "one", f"a restart is pending (x; y); {how}"]
    busy = Outcome({"a": NOTHING}, Decision(("x",), why_not="2 model instances run on this node"), applied=True)
    assert busy.warnings() == [f"a restart is pending (x); not now, as 2 model instances run on this node; {how}"]
    assert Outcome({"a": NOTHING}, Decision(("x",), now=True), applied=True).warnings() == []


def test_a_sick_node_is_reported() -> None:
    outcome = Outcome({"a": NOTHING}, Decision(("x",), now=True), True, SICK, SICK)
    sick = "the service does not run (state = not running)"
    assert outcome.as_result()["health"] == {"before": SICK.as_dict(), "after": SICK.as_dict(), "sick": [sick]}
    assert outcome.warnings() == [f"the node is configured, and sick as it was before: {sick}"]


def test_health_needs_both_sides() -> None:
    assert Outcome({}, Decision(), True, before=WELL).as_result()["health"] is None
    assert Outcome({}, Decision(), True, after=WELL).as_result()["health"] is None
