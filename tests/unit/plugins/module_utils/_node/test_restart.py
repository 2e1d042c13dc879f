# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision about a restart; test_environment and test_transaction have those that follow from a real resource."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.launchd import Launchd
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import PendingRestart, write_pending
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.restart import Decision, decide, fingerprint, futile
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service_view import ServiceView, look
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, ServiceError
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import LABEL, PLIST, FakeLaunchd

ONE = Planned(restart_reasons=("one", "both"), fingerprint="a")
OTHER = Planned(restart_reasons=("both", "other"), fingerprint="b")
IDLE = Planned(fingerprint="c")


def view(mac: FakeLaunchd) -> ServiceView:
    return look(mac, Launchd(mac, LABEL, PLIST))  # type: ignore[arg-type]


def decision(mac: FakeLaunchd, *planned: Planned, restart: str = "now") -> Decision:
    return decide(mac, view(mac), planned, restart)  # type: ignore[arg-type]


def remember(mac: FakeLaunchd, **fields: t.Any) -> None:
    state = view(mac).state
    record = PendingRestart(state.pid, state.started, ("earlier", "one"), replaced=True)
    write_pending(mac, dataclasses.replace(record, **fields))  # type: ignore[arg-type]


def test_without_a_service_or_a_reason_there_is_nothing_to_decide() -> None:
    mac = FakeLaunchd()
    assert decide(mac, None, [ONE], "now") == Decision()  # type: ignore[arg-type]
    assert decision(mac, IDLE) == Decision()


@pytest.mark.parametrize(("restart", "now"), [("now", True), ("when_idle", True), ("never", False)])
def test_each_reason_is_given_once_those_of_an_earlier_run_first(restart: str, now: bool) -> None:
    mac = FakeLaunchd()
    assert decision(mac, ONE, IDLE, OTHER, restart=restart) == Decision(("one", "both", "other"), now)
    remember(mac)
    assert decision(mac, ONE, OTHER, restart=restart) == Decision(("earlier", "one", "both", "other"), now)
    assert decision(mac, restart=restart) == Decision(("earlier", "one"), now)


def test_a_model_makes_it_wait_only_where_it_may() -> None:
    mac = FakeLaunchd()
    mac.children = ["/opt/llama-box --port 1"]
    why = "1 model instance runs on this node"
    assert decision(mac, ONE, restart="when_idle") == Decision(("one", "both"), now=False, why_not=why)
    assert decision(mac, ONE, restart="now") == Decision(("one", "both"), now=True)
    assert decision(mac, ONE, restart="never") == Decision(("one", "both"))


def test_a_service_that_is_not_loaded_takes_everything_new_by_itself() -> None:
    mac = FakeLaunchd()
    mac.run(["launchctl", "bootout", f"system/{LABEL}"])
    assert decision(mac, ONE) == Decision()
    # Unless it was we who stopped it.
    remember(mac, stopping=True)
    assert decision(mac, ONE) == Decision(("earlier", "one", "both"), now=True)
    assert decision(mac, restart="when_idle") == Decision(("earlier", "one"), now=True)
    assert decision(mac, restart="never") == Decision(("earlier", "one"))


@pytest.mark.parametrize("restart", ["now", "never"])
def test_what_is_blocked_is_refused(restart: str) -> None:
    mac = FakeLaunchd()
    blocked = [dataclasses.replace(ONE, blocked=("a wall",)), dataclasses.replace(OTHER, blocked=("a moat",))]
    with pytest.raises(BadInputError, match=r"^nothing was changed, as a restart would not help: a wall; a moat$"):
        decision(mac, *blocked, restart=restart)
    assert decision(mac, dataclasses.replace(IDLE, blocked=("a wall",))) == Decision()


@pytest.mark.parametrize("restart", ["now", "never", "when_idle"])
def test_what_was_in_vain_is_refused(restart: str) -> None:
    mac = FakeLaunchd()
    remember(mac, replaced=False, futile=fingerprint([ONE, IDLE, OTHER]))
    with pytest.raises(ServiceError) as caught:
        decision(mac, ONE, OTHER, restart=restart)
    assert str(caught.value) == futile(["one", "both", "both", "other"])
    assert decision(mac, ONE).now
    assert decision(mac, dataclasses.replace(ONE, fingerprint="changed"), OTHER).now


def test_the_fingerprint_is_of_the_resources_that_need_the_restart() -> None:
    assert fingerprint([ONE, IDLE]) == fingerprint([IDLE, ONE]) == fingerprint([ONE])
    others = [dataclasses.replace(ONE, fingerprint="z"), dataclasses.replace(ONE, restart_reasons=("one",)), OTHER]
    assert len({fingerprint([planned]) for planned in [ONE, *others]}) == 4


def test_a_service_that_would_not_come_back_is_refused_unless_it_is_to_be_left_alone() -> None:
    mac = FakeLaunchd()
    mac.disabled[LABEL] = True
    for restart in ("now", "when_idle"):
        with pytest.raises(ServiceError, match="is disabled"):
            decision(mac, ONE, restart=restart)
    assert decision(mac, ONE, restart="never") == Decision(("one", "both"))
    assert decision(mac, IDLE) == Decision()


@pytest.mark.parametrize("restart", ["now", "when_idle"])
def test_a_service_that_cannot_be_asked_is_refused(restart: str) -> None:
    mac = FakeLaunchd()
    mac.hangs.add("print")
    with pytest.raises(
        ServiceError, match=r"^the service cannot be asked \(launchctl print .*\), so nothing was changed; mend that, or say"
    ):
        decision(mac, IDLE, restart=restart)
    assert decision(mac, ONE, restart="never") == Decision()


def test_a_view_of_a_service() -> None:
    mac = FakeLaunchd({"A": "1"})
    found = view(mac)
    assert (found.holds_environment(), found.pending, found.record, found.was_stopped_by_us()) == (True, None, None, False)
    live = found.live()
    assert live is not None
    assert live["A"] == "1"
    remember(mac, replaced=False, gone=("A",), stopping=True, was_idle=True)
    found = view(mac)
    assert found.record == found.pending
    # It runs, so it was not we who stopped it.
    assert (found.was_stopped_by_us(), found.was_idle_before_that()) == (False, True)
    remember(mac, replaced=False, gone=("B",))
    found = view(mac)
    assert found.record is not None
    assert (found.pending, found.was_idle_before_that()) == (None, False)
    mac.run(["launchctl", "bootout", f"system/{LABEL}"])
    assert (view(mac).holds_environment(), view(mac).live(), view(mac).loaded.reason) == (False, None, "it is not running")
