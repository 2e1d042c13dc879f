# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every write, rename and service call of a transaction as the last one of its run, and the run after that."""

from __future__ import annotations

import hashlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.environment import Environment, Sources
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import find_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.journal import read_journal
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.previous import Previous
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned, Resource
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import (
    Act,
    PlaceFile,
    PlaceFolder,
    PlaceLink,
    RemovePath,
    Step,
    WriteFile,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_state import Desired
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError, ServiceError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE as RESIDENCY
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import LABEL, PLIST, UNIT_FILE
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile
from ansible_collections.metalfleet.gpustack.tests.unit.fault_points import (
    Mortal,
    MortalLinux,
    MortalMac,
    dying_run,
    is_accounted_for,
    is_at_rest,
    own_files,
    run,
    state_of,
)

FILE = "/etc/default/gpustack"
RPC_SERVER = "/opt/gpustack/llama-box/llama-box-rpc-server --rpc-server-host 0.0.0.0 --rpc-server-port 50052"
OLD = b"OLD=1\nGGML_METAL_NO_RESIDENCY=1\n"
BOX = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("one", "two")}
PUT_BACK = r"; everything that was changed was put back, and the node works as before$"
SYSTEMS = pytest.mark.parametrize("system", ["Darwin", "Linux"])


class Things:
    """A resource that takes every kind of step that the environment does not, and a restart like llama-box's."""

    name = "things"

    def __init__(self, host: Mortal) -> None:
        self._host = host

    def plan(self) -> Planned:
        steps: t.List[Step] = []
        if self._host.kernel.get("limit") != "2":
            steps.append(Act(self._set, ("kernel", "set", f"limit={self._host.kernel['limit']}")))
        if self._host.status("/opt/box/extra/file") is None:
            steps.append(PlaceFile("/opt/box/extra/file", "/opt/store/one", BOX["one"]))
        if self._host.sha256("/opt/box/program") != BOX["one"]:
            steps.append(PlaceFile("/opt/box/program", "/opt/store/one", BOX["one"]))
        replaced = self._host.names("/opt/box/folder") != ["link", "one", "two"]
        if replaced:
            steps.append(PlaceFolder("/opt/box/folder", "/opt/store", BOX, {"link": "one"}))
        if self._host.resolve("/opt/box/current") != "/opt/box/folder":
            steps.append(PlaceLink("/opt/box/current", "folder"))
        if self._host.status("/opt/box/old") is not None:
            steps.append(RemovePath("/opt/box/old"))
        if self._host.status("/opt/box/note") is not None:
            steps.append(WriteFile("/opt/box/note", None))
        changes = tuple({"resource": self.name, "step": type(step).__name__} for step in steps)
        reasons = ("the program was replaced",) if replaced else ()
        return Planned(tuple(steps), changes, restart_reasons=reasons, replaced=replaced)

    def prepare(self) -> None:
        """All is there."""

    def check(self) -> t.Tuple[str, ...]:
        return tuple(str(change) for change in self.plan().changes)

    def finish(self) -> t.Tuple[str, ...]:
        return ()

    def _set(self) -> None:
        self._host.run(["kernel", "set", "limit=2"])


def node(system: str) -> Mortal:
    """A node with everything amiss, whose service has run for long with what its files say."""
    files: t.Dict[str, t.Union[bytes, MemoryFile]] = {
        FILE: MemoryFile(OLD, mode=0o600),
        "/opt/store/one": b"one",
        "/opt/store/two": b"two",
        "/opt/box/program": MemoryFile(b"older", mode=0o755),
        "/opt/box/folder/one": MemoryFile(b"older", mode=0o755),
        "/opt/box/folder/stale": b"stale",
        "/opt/box/old/x": b"x",
        "/opt/box/note": MemoryFile(b"note", mode=0o640),
        "/opt/box/current": MemoryFile(target="old"),
    }
    host: Mortal
    if system == "Darwin":
        host = MortalMac(environment={"OLD": "1", RESIDENCY: "1"})
        host.domain[RESIDENCY] = "1"
        for path, content in files.items():
            host._put(path, content if isinstance(content, MemoryFile) else MemoryFile(content))
    else:
        unit = f"[Service]\nExecStart=/usr/bin/gpustack start\nEnvironment={RESIDENCY}=1\nEnvironmentFile=-{FILE}\n"
        host = MortalLinux(files={**files, UNIT_FILE: unit.encode()})
        host.manager[RESIDENCY] = "1"
        host.boot()
    host.children = [RPC_SERVER]
    host.kernel["limit"] = "1"
    host.clock += 3600.0
    assert host.environment()[RESIDENCY] == "1"
    return host


def wanted(host: Mortal, **variables: str) -> t.List[Resource]:
    variables = {"NEW": "1", **variables}
    desired = Desired(variables, tuple(f"{name}={value}" for name, value in variables.items()))
    sources = Sources.of(host, find_installation(host), FILE, follow=False)  # type: ignore[arg-type]
    return [Things(host), Environment(host, sources, desired)]  # type: ignore[arg-type]


def goal(system: str, **variables: str) -> t.Dict[str, t.Any]:
    """The state of a node whose only run succeeded."""
    host = node(system)
    run(host, wanted(host, **variables))
    return state_of(host)


def assert_well(host: Mortal, **variables: str) -> None:
    """It runs with what it shall, systemd knows its files, and nothing is left to do."""
    environment = host.environment()
    assert host.is_up()
    assert {"NEW": "1", **variables}.items() <= environment.items()
    assert RESIDENCY not in environment
    if isinstance(host, MortalLinux):
        assert host.unit == host.files[UNIT_FILE].content.decode()
    assert is_at_rest(host)
    assert own_files(host) == ["previous.json", "undo-"]
    before, stops = state_of(host), host.stops
    outcome = run(host, wanted(host, **variables)).as_result()
    assert (outcome["changed"], outcome["restart_pending"], host.stops, host.points) == (False, False, stops, [])
    assert state_of(host) == before


def points_of(system: str) -> t.List[str]:
    """The changes of a run that nothing happens to."""
    host = node(system)
    run(host, wanted(host))
    return host.points


def is_broken(environment: t.Mapping[str, str]) -> bool:
    return "BROKEN" in environment


SICKNESSES = pytest.mark.parametrize("sickness", ["kills", "crashes"])
# How often a service is stopped that runs: one that is killed does not when it is restarted with its old files.
USUAL_STOPS = {"kills": 1, "crashes": 2}


def points_of_undone(system: str, sickness: str) -> t.List[str]:
    """The changes of a run that makes the node worse."""
    host = node(system)
    setattr(host, sickness, is_broken)
    with pytest.raises(ServiceError, match=PUT_BACK):
        run(host, wanted(host, BROKEN="1"), health_timeout_seconds=30.0)
    assert host.stops == USUAL_STOPS[sickness]
    return host.points


NOTES = {"Darwin": "/var/db/metalfleet", "Linux": "/var/lib/metalfleet"}
OWN_COPY = {"Darwin": PLIST, "Linux": UNIT_FILE}
UNSET = {"Darwin": f"launchctl unsetenv {RESIDENCY}", "Linux": f"systemctl unset-environment {RESIDENCY}"}
SET = {"Darwin": f"launchctl setenv {RESIDENCY} 1", "Linux": f"systemctl set-environment {RESIDENCY}=1"}
RESTART = {
    "Darwin": [f"launchctl bootout system/{LABEL}", f"launchctl bootstrap system {PLIST}"],
    "Linux": ["systemctl daemon-reload", "systemctl restart gpustack.service"],
}


def expected_points(system: str) -> t.List[str]:
    """All changes of a transaction, in order. `journal` comes before each step, and before the restart."""
    journal, pending = (f"write {NOTES[system]}/{name}.json" for name in ("journal", "pending-restart"))
    begin = [f"make_folder {NOTES[system]}", f"make_folder {NOTES[system]}/undo-1800003600", journal, pending]
    steps = [
        [journal, "kernel set limit=2"],
        [journal, "make_folder /opt/box/extra", "place_file /opt/box/extra/file"],
        ["snapshot /opt/box/program", journal, "place_file /opt/box/program", "remove /opt/box/program"],
        ["snapshot /opt/box/folder", journal, "place_folder /opt/box/folder", "remove /opt/box/folder"],
        ["snapshot /opt/box/current", journal, "place_link /opt/box/current", "remove /opt/box/current"],
        ["snapshot /opt/box/old", journal, "remove /opt/box/old"],
        ["snapshot /opt/box/note", journal, "remove /opt/box/note"],
        [f"snapshot {OWN_COPY[system]}", journal, f"write {OWN_COPY[system]}"],
        [f"snapshot {FILE}", journal, f"write {FILE}"],
        [journal, UNSET[system]],
    ]
    end = [f"remove {NOTES[system]}/pending-restart.json", f"write {NOTES[system]}/previous.json", f"remove {NOTES[system]}/journal.json"]
    return [*begin, *(point for step in steps for point in step), pending, journal, *RESTART[system], *end]


def expected_points_of_undoing(system: str, sickness: str) -> t.List[str]:
    """All changes from the restart with which the node gets worse."""
    started = [f"launchctl kickstart system/{LABEL}"] if (system, sickness) == ("Darwin", "kills") else []
    journal = f"write {NOTES[system]}/journal.json"
    undone = [
        SET[system],
        *(f"{how} {path}" for path in (FILE, OWN_COPY[system]) for how in ("restore", "remove")),
        "restore /opt/box/note",
        "restore /opt/box/old",
        *(f"{how} /opt/box/{name}" for name in ("current", "folder", "program", "extra/file") for how in ("restore", "remove")),
        "remove /opt/box/extra",
        "kernel set limit=1",
    ]
    forget = [f"remove {NOTES[system]}/{name}" for name in ("pending-restart.json", "journal.json", "undo-1800003600")]
    return [*RESTART[system], *started, journal, *undone, *RESTART[system], journal, *forget]


@SYSTEMS
def test_the_points_are_all_changes_of_a_transaction(system: str) -> None:
    assert points_of(system) == expected_points(system)
    assert len(points_of(system)) == 42


@SYSTEMS
@SICKNESSES
def test_the_points_are_all_changes_of_one_that_is_undone(system: str, sickness: str) -> None:
    expected = [*expected_points(system)[:-5], *expected_points_of_undoing(system, sickness)]
    assert points_of_undone(system, sickness) == expected
    assert len(expected) == (64 if (system, sickness) == ("Darwin", "kills") else 63)


@SYSTEMS
def test_wherever_a_run_dies_the_next_one_goes_on_with_one_restart(system: str) -> None:
    after = goal(system)
    for number, _point in enumerate(points_of(system), start=1):
        host = node(system)
        before = state_of(host)
        point = dying_run(host, wanted(host), number)
        assert is_accounted_for(host, before, after), point
        run(host, wanted(host))
        assert (state_of(host), host.stops) == (after, 1), point
        host.points = []
        assert_well(host)


@SYSTEMS
def test_wherever_that_run_dies_too_the_third_one_goes_on(system: str) -> None:
    after = goal(system)
    count = len(points_of(system))
    for number in range(1, count + 1):
        host = node(system)
        dying_run(host, wanted(host), number)
        middle = (count - number) // 2 + 1
        try:
            dying_run(host, wanted(host), middle)
        except AssertionError:
            # It had less to do.
            host.points = []
        run(host, wanted(host))
        assert (state_of(host), host.stops) == (after, 1), number
        host.points = []
        assert_well(host)


@SYSTEMS
@SICKNESSES
def test_wherever_a_run_dies_that_has_to_be_undone_the_next_one_sees_to_it(system: str, sickness: str) -> None:
    again = []
    points = points_of_undone(system, sickness)
    for number in range(1, len(points) + 1):
        host = node(system)
        setattr(host, sickness, is_broken)
        before, environment = state_of(host), host.environment()
        point = dying_run(host, wanted(host, BROKEN="1"), number, health_timeout_seconds=30.0)
        assert is_accounted_for(host, before), point
        if read_journal(host) is None:  # type: ignore[arg-type]
            # Nothing is known of that run any more: the next one starts from the beginning.
            host.stops = 0
        with pytest.raises(GpustackError, match="everything that was changed was put back"):
            run(host, wanted(host, BROKEN="1"), health_timeout_seconds=30.0)
        assert state_of(host) == before, point
        assert (is_at_rest(host), own_files(host), host.is_up()) == (True, [], True), point
        assert {**host.environment(), "INVOCATION_ID": ""} == {**environment, "INVOCATION_ID": ""}
        if host.stops != USUAL_STOPS[sickness]:
            again.append((point, host.stops - USUAL_STOPS[sickness]))
        # Whoever wants something else gets it.
        host.points, host.stops = [], 0
        run(host, wanted(host))
        assert host.stops == 1
        host.points = []
        assert_well(host)
    # Between a restart and the note that it has happened there is an instant in which only one of them is there.
    assert again == [(f"write {NOTES[system]}/journal.json", 1)]


@SYSTEMS
def test_what_a_dead_run_and_the_next_one_have_changed_is_undone_to_what_was_there_before_both(system: str) -> None:
    journalled = 0
    for number in range(1, len(points_of(system)) + 1):
        host = node(system)
        before = state_of(host)
        point = dying_run(host, wanted(host), number)
        if read_journal(host) is None:  # type: ignore[arg-type]
            continue
        journalled += 1
        host.kills = is_broken
        with pytest.raises(GpustackError, match=PUT_BACK):
            run(host, wanted(host, BROKEN="1"))
        assert (state_of(host), is_at_rest(host), host.is_up()) == (before, True, True), point
    # The first three make the journal.
    assert journalled == len(points_of(system)) - 3


@SYSTEMS
def test_a_restart_that_one_run_was_told_to_leave_is_done_by_the_next(system: str) -> None:
    host = node(system)
    assert run(host, wanted(host), restart="never").as_result()["restart_pending"] is True
    points = host.points
    assert len(points) > 30
    for number in range(1, len(points) + 1):
        host = node(system)
        point = dying_run(host, wanted(host), number, restart="never")
        outcome = run(host, wanted(host), restart="never").as_result()
        assert (outcome["restart_pending"], outcome["restarted"], host.stops) == (True, False, 0), point
        run(host, wanted(host))
        assert (state_of(host), host.stops) == (goal(system), 1), point
        host.points = []
        assert_well(host)


@SYSTEMS
def test_a_run_that_may_not_restart_leaves_what_a_dead_one_has_begun_to_the_next(system: str) -> None:
    for number in range(1, len(points_of(system)) + 1):
        host = node(system)
        point = dying_run(host, wanted(host), number)
        stops = host.stops
        run(host, wanted(host), restart="never")
        assert host.stops == stops
        run(host, wanted(host))
        assert (state_of(host), host.stops) == (goal(system), 1), point
        host.points = []
        assert_well(host)


@SYSTEMS
def test_also_the_judgement_is_left_to_the_next(system: str) -> None:
    """The service is down because of a run that died in its restart, and would not run with the new files."""
    host = node(system)
    host.kills = is_broken
    before = state_of(host)
    restart = points_of_undone(system, "kills").index(RESTART[system][-1]) + 1
    dying_run(host, wanted(host, BROKEN="1"), restart)
    result = run(host, wanted(host, BROKEN="1"), restart="never").as_result()
    assert (result["restart_pending"], result["changed"]) == (True, False)
    with pytest.raises(ServiceError, match=PUT_BACK):
        run(host, wanted(host, BROKEN="1"))
    assert (state_of(host), host.is_up(), is_at_rest(host)) == (before, True, True)


@SYSTEMS
def test_wherever_a_rollback_dies_the_next_one_goes_on(system: str) -> None:
    host = node(system)
    run(host, wanted(host))
    host.points = []
    roll_back(host)
    points = host.points
    assert len(points) > 30
    for number in range(1, len(points) + 1):
        host = node(system)
        before = state_of(host)
        run(host, wanted(host))
        after = state_of(host)
        point = dying_run(host, [Previous(host, force=False)], number)  # type: ignore[arg-type]
        assert is_accounted_for(host, before, after), point
        roll_back(host)
        assert (state_of(host), host.stops, is_at_rest(host)) == (before, 2, True), point
        assert host.environment()[RESIDENCY] == "1"
        host.points = []
        assert roll_back(host) is False
        assert (host.points, own_files(host)) == ([], []), point
        # Forward again, as the inventory says.
        run(host, wanted(host))
        host.points = []
        assert_well(host)


@SYSTEMS
def test_a_run_that_died_can_be_rolled_back(system: str) -> None:
    for number in range(1, len(points_of(system)) + 1):
        host = node(system)
        before = state_of(host)
        point = dying_run(host, wanted(host), number)
        roll_back(host)
        assert (state_of(host), is_at_rest(host), own_files(host)) == (before, True, []), point
        assert host.is_up()
        assert host.environment()[RESIDENCY] == "1"
        assert host.stops <= 2


def roll_back(host: Mortal) -> bool:
    return bool(run(host, [Previous(host, force=False)]).as_result()["changed"])  # type: ignore[arg-type]
