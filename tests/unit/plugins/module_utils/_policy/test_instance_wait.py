# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import instance_wait
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.instance_wait import Look
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance, Subordinate
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model

STATES = ["pending", "analyzing", "scheduled", "initializing", "downloading", "starting", "running", "error", "unreachable"]


def instance(letter: str = "a", state: str | None = "running", **changes: t.Any) -> Instance:
    return Instance(**{"name": f"chat-{letter}", "state": state, "worker_name": "mac-1", **changes})


def look(
    *instances: Instance, old: t.Collection[str] = (), expected: int = 1, restarts: bool | None = True, replicas: int | None = None
) -> Look:
    return instance_wait.look(Model(name="chat", restart_on_error=restarts, replicas=replicas), instances, old, expected)


def test_patience_with_what_the_scheduler_says_outlasts_its_longest_pause() -> None:
    assert 180 < instance_wait.PENDING_SECONDS <= 300


def test_an_instance_that_runs() -> None:
    assert look(instance()) == Look(running=1, failed="", text="1 of 1 running", stuck="", downloading=False)


def test_no_instance_yet() -> None:
    assert look(expected=2) == Look(0, "", "0 of 2 running")


def test_old_instances_are_not_looked_at() -> None:
    found = look(instance("a"), instance("b", "error"), instance("c"), instance("d", "starting"), old=["chat-a", "chat-b"], expected=2)
    assert found == Look(1, "", "1 of 2 running, chat-d starting on mac-1")


@pytest.mark.parametrize("state", [state for state in STATES if state != "running"])
def test_only_running_is_running(state: str) -> None:
    found = look(instance("a", state), instance("b"))
    assert found.running == 1
    assert found.text.startswith("1 of 1 running, chat-a " + state)
    assert found.downloading is (state == "downloading")
    # Each of them may get better by itself; an instance in error is started again.
    assert (found.failed, found.stuck) == ("", "")


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (instance(state="pending", worker_name=None), "chat-a pending"),
        (instance(state="pending", worker_name=None, state_message="No suitable\n workers."), "chat-a pending (No suitable workers.)"),
        (instance(state="analyzing", worker_name=None, state_message="Evaluating"), "chat-a analyzing"),
        (instance(state=None), "chat-a in no state on mac-1"),
        (instance(state="unreachable"), "chat-a unreachable on mac-1, since its worker does not answer"),
        (instance(state="error", state_message="exit 1\n"), "chat-a error on mac-1 (exit 1)"),
        (instance(state="error"), "chat-a error on mac-1"),
        (instance(state="starting", download_percent=100.0), "chat-a starting on mac-1"),
        (instance(state="downloading"), "chat-a downloading on mac-1"),
        (instance(state="downloading", download_percent=0.0), "chat-a downloading 0.0 % on mac-1"),
        (instance(state="downloading", download_percent=34.25), "chat-a downloading 34.2 % on mac-1"),
    ],
)
def test_the_state_of_an_instance_for_people(one: Instance, text: str) -> None:
    assert look(one).text == f"0 of 1 running, {text}"


def test_a_download_is_as_far_as_the_worker_that_is_behind() -> None:
    parts = (Subordinate(download_percent=50.0), Subordinate(download_percent=7.5), Subordinate())
    assert "downloading 7.5 %" in look(instance(state="downloading", download_percent=90.0, subordinates=parts)).text
    assert "downloading 7.5 %" in look(instance(state="downloading", subordinates=parts)).text
    assert "downloading 5.0 %" in look(instance(state="downloading", download_percent=5.0, subordinates=parts)).text


@pytest.mark.parametrize(
    ("restarts", "count", "broken"),
    [
        (True, None, False),
        (True, 0, False),
        (True, 1, False),
        (True, 2, True),
        (True, 3, True),
        (False, 0, True),
        (None, None, True),
    ],
)
def test_an_instance_in_error_is_given_up_when_no_start_is_left(restarts: bool | None, count: int | None, broken: bool) -> None:
    found = look(instance(state="error", state_message="exited with\ncode 1", restart_count=count), restarts=restarts)
    assert found.failed == ("chat-a on mac-1: exited with code 1" if broken else "")


def test_what_runs_or_starts_is_not_broken_however_often_it_failed() -> None:
    assert look(instance(restart_count=9), instance("b", "starting", restart_count=9), restarts=False).failed == ""


def test_the_first_that_is_broken_is_named() -> None:
    broken = [instance("b", "error", worker_name=None), instance("c", "error", state_message="other")]
    found = look(instance("a"), *broken, restarts=False, expected=3)
    assert found.failed == "chat-b on no worker: GPUStack does not say why"


@pytest.mark.parametrize(
    ("expected", "replicas", "old", "enough"),
    [
        (1, 3, [], True),
        (2, 3, [], True),
        (3, 3, [], False),
        # One is still to be made.
        (3, 4, [], True),
        (2, None, [], True),
        (3, None, [], False),
        # What is old has no successor yet.
        (1, 3, ["chat-b"], True),
        (2, 3, ["chat-b"], False),
    ],
)
def test_what_is_broken_or_stuck_matters_where_too_few_are_left(expected: int, replicas: int | None, old: list[str], enough: bool) -> None:
    for one in (instance("a", "error"), instance("a", "pending", state_message="no")):
        found = look(one, instance("b", "starting"), instance("c"), restarts=False, expected=expected, replicas=replicas, old=old)
        assert (found.failed == found.stuck == "") is enough


def test_what_is_broken_and_what_is_stuck_count_together() -> None:
    both = [instance("a", "error"), instance("b", "pending", state_message="no"), instance("c", "starting")]
    assert (look(*both, restarts=False, expected=1).failed, look(*both, restarts=False, expected=1).stuck) == ("", "")
    assert look(*both, restarts=False, expected=2).stuck.startswith("GPUStack finds no worker for chat-b")
    assert look(*both, restarts=False, expected=2).failed == ""


def test_an_instance_that_no_worker_takes() -> None:
    message = "No suitable workers.\nDetails:\n- needs 664 GiB"
    found = look(
        instance("a", "pending", worker_name=None),
        instance("b", "pending", worker_name=None, state_message=message),
        instance("c", "pending", worker_name=None, state_message="other"),
        expected=3,
    )
    assert found.stuck == "GPUStack finds no worker for chat-b: No suitable workers. Details: - needs 664 GiB"
    assert found.failed == ""


def test_a_download_of_another_instance_is_a_download() -> None:
    assert look(instance("a", "starting"), instance("b", "downloading")).downloading is True
    assert look(instance("b", "downloading"), old=["chat-b"]).downloading is False
