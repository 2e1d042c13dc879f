# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.instance_wait import PENDING_SECONDS
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import NotFoundError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_wait import NotRunningError, Waiter
from ansible_collections.metalfleet.gpustack.tests.unit.memory_world import StillClock
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import Json

MODEL = Model(id=3, name="chat", replicas=1, restart_on_error=True)


def instance(state: str = "running", name: str = "chat-a", **fields: t.Any) -> Json:
    return {"id": 1, "name": name, "model_id": 3, "model_name": "chat", "state": state, "worker_name": "mac-1", **fields}


PENDING = instance("pending", worker_name=None, state_message="No suitable workers")


class Place:
    """A client that sees these lists of instances in turn, the last one again and again, and a waiter with its clock."""

    def __init__(self, *looks: list[Json], limit_seconds: float = 1800) -> None:
        self.looks = [*looks]
        self.clock = StillClock()
        self.said: list[str] = []
        self.asked: list[tuple[float, t.Any]] = []
        self.models: list[str] = []
        self.waiter = Waiter(self, limit_seconds, self.said.append, self.clock)

    def list(self, path: str, query: t.Any) -> list[Json]:
        assert path == "/v1/model-instances"
        self.asked.append((self.clock.now, query))
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def get(self, path: str) -> Json:
        self.models.append(path)
        if len(self.models) > 1:
            raise NotFoundError("no", "", 404, "NotFound", "Model not found")
        return {"id": 3, "name": "chat"}

    @property
    def times(self) -> t.Sequence[float]:
        return [time for time, _query in self.asked]


def test_what_runs_is_not_waited_for() -> None:
    place = Place([instance()])
    place.waiter.until_running(MODEL, 1)
    assert (place.asked, place.said) == ([(0.0, {"model_id": 3})], ["chat: 1 of 1 running"])


def test_nothing_is_expected() -> None:
    place = Place([])
    place.waiter.until_running(MODEL, 0)
    assert (place.said, place.models) == (["chat: 0 of 0 running"], [])


def test_a_model_that_somebody_deletes_is_not_waited_for() -> None:
    place = Place([instance("starting")], [])
    with pytest.raises(NotFoundError):
        place.waiter.until_running(MODEL, 1)
    # It is asked for where it has no instances at all.
    assert (place.times, place.models) == ([0.0, 1.0, 2.0], ["/v1/models/3"] * 2)


def test_old_instances_do_not_count() -> None:
    place = Place([instance()], [instance(), instance(name="chat-b")])
    place.waiter.until_running(MODEL, 1, ["chat-a"])
    assert place.said == ["chat: 0 of 1 running", "chat: 1 of 1 running"]


def test_what_is_said_is_said_once() -> None:
    place = Place([], [instance("starting")], [instance("starting")], [instance()])
    place.waiter.until_running(MODEL, 1)
    assert place.said == ["chat: 0 of 1 running", "chat: 0 of 1 running, chat-a starting on mac-1", "chat: 1 of 1 running"]


def test_pauses_grow_and_are_short_again_when_something_moves() -> None:
    place = Place(*[[instance("scheduled")]] * 10, [instance("starting")], [instance("starting")], [instance()])
    place.waiter.until_running(MODEL, 1)
    pauses = [after - before for before, after in zip(place.times, place.times[1:])]
    assert pauses[:3] == [1.0, 1.5, 2.25]
    # The longest.
    assert pauses[6:10] == [10.0] * 4
    assert pauses[10:] == [1.0, 1.5]


def test_the_limit() -> None:
    place = Place([instance("starting")], limit_seconds=20)
    with pytest.raises(
        NotRunningError, match=r"^after 20 seconds: 0 of 1 running, chat-a starting on mac-1$|^after 2[0-9] seconds: "
    ) as caught:
        place.waiter.until_running(MODEL, 1)
    assert (caught.value.downloading, place.clock.now >= 20, place.clock.now < 30) == (False, True, True)


def test_what_runs_at_the_last_look_runs() -> None:
    place = Place([instance("starting")], [instance()], limit_seconds=1)
    place.waiter.until_running(MODEL, 1)
    assert place.clock.now == 1.0


def test_files_that_are_being_fetched_at_the_limit() -> None:
    place = Place([instance("downloading", download_progress=3.0)], limit_seconds=1)
    with pytest.raises(NotRunningError) as caught:
        place.waiter.until_running(MODEL, 1)
    assert caught.value.downloading is True


def test_what_is_broken_is_not_waited_for() -> None:
    place = Place([instance("error", restart_count=2, state_message="exit 1")])
    with pytest.raises(NotRunningError, match=r"^chat-a on mac-1: exit 1$") as caught:
        place.waiter.until_running(MODEL, 1)
    assert (caught.value.downloading, place.clock.now) == (False, 0.0)


def test_enough_that_run_are_enough_whatever_the_others_do() -> None:
    broken = instance("error", restart_count=2)
    place = Place([broken, instance(name="chat-b")])
    place.waiter.until_running(MODEL, 1)
    assert place.said == ["chat: 1 of 1 running, chat-a error on mac-1"]


def test_what_no_worker_takes_is_given_up_after_a_while() -> None:
    place = Place([PENDING])
    with pytest.raises(NotRunningError, match=r"^GPUStack finds no worker for chat-a: No suitable workers$"):
        place.waiter.until_running(MODEL, 1)
    assert PENDING_SECONDS <= place.clock.now < PENDING_SECONDS + 11


def test_what_no_worker_takes_for_a_moment_is_waited_for() -> None:
    # The while begins anew when it has moved.
    place = Place(*[[PENDING]] * 20, [instance("scheduled")], *[[PENDING]] * 20, [instance()])
    place.waiter.until_running(MODEL, 1)
    assert place.clock.now > PENDING_SECONDS


def test_a_successor() -> None:
    place = Place([instance()], [], [instance("pending", "chat-b")])
    place.waiter.until_replaced(MODEL, "chat-a")
    assert place.times == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("replicas", [0, None])
def test_no_successor_where_none_is_wanted(replicas: t.Optional[int]) -> None:
    place = Place([instance()], [])
    place.waiter.until_replaced(Model(id=3, name="chat", replicas=replicas), "chat-a")
    assert place.times == [0.0, 1.0]


def test_a_successor_that_does_not_come_is_no_reason_to_wait_forever() -> None:
    place = Place([])
    place.waiter.until_replaced(MODEL, "chat-a")
    assert place.times == [float(second) for second in range(10)]


def test_a_model_that_is_gone() -> None:
    place = Place([instance()], [{**instance(), "model_name": "other"}])
    place.waiter.until_gone(MODEL)
    assert place.asked == [(0.0, {"model_id": 3}), (1.0, {"model_id": 3})]


def test_a_model_that_stays() -> None:
    place = Place([instance(), instance(name="chat-b")], limit_seconds=3)
    with pytest.raises(NotRunningError, match=r"^the model chat is deleted, and chat-a, chat-b is still there after 3 seconds$"):
        place.waiter.until_gone(MODEL)
    assert place.times == [0.0, 1.0, 2.0, 3.0]
