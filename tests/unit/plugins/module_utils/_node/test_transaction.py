# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a transaction does where something goes wrong, short of dying (test_fault_points)."""

from __future__ import annotations

import dataclasses
import re
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.environment import Environment, Sources
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import find_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.journal import read_journal, read_previous
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import PendingRestart, read_pending, write_pending
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.previous import Previous
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import receipt_path
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned, Resource
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import Act, WriteFile
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_state import Desired
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import (
    BadInputError,
    GpustackError,
    HostError,
    ServiceError,
)
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import LABEL, PLIST, UNIT, UNIT_FILE
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile
from ansible_collections.metalfleet.gpustack.tests.unit.fault_points import (
    Mortal,
    MortalLinux,
    MortalMac,
    dying_run,
    is_at_rest,
    own_files,
    run,
    state_of,
)

FILE = "/etc/default/gpustack"
BOX = "/opt/box"
RPC_SERVER = "/opt/llama-box-rpc-server --rpc-server-port 50052"
MODEL = "/opt/llama-box --port 40000"
NETSTAT = ("/usr/sbin/netstat", "-an", "-p", "tcp")
SYSTEMS = pytest.mark.parametrize("system", ["Darwin", "Linux"])
PUT_BACK = "everything that was changed was put back"


@dataclasses.dataclass
class Box:
    """A program that is wanted at a path. restarts: whether the service has to be restarted for it."""

    host: Mortal
    content: bytes = b"new"
    restarts: bool = True
    path: str = BOX
    name: str = "box"
    log: t.List[str] = dataclasses.field(default_factory=list)
    fails: t.Optional[GpustackError] = None
    prepares: t.Callable[[], None] = lambda: None
    left: t.Tuple[str, ...] = ()
    extra: t.Tuple[t.Any, ...] = ()
    reloads: bool = False
    fingerprint: str = ""

    def plan(self) -> Planned:
        if self.host.read(self.path) == self.content:
            return Planned(fingerprint=self.fingerprint, result={"path": self.path})
        reasons = ("the box was replaced",) if self.restarts else ()
        return Planned(
            (WriteFile(self.path, self.content), *self.extra),
            ({"resource": self.name, "where": self.path},),
            ({"before": "old", "after": "new"},),
            restart_reasons=reasons,
            replaced=self.restarts,
            fingerprint=self.fingerprint,
            reloads=self.reloads,
            result={"path": self.path},
        )

    def prepare(self) -> None:
        self.log.append(f"prepare {self.name}, {len(self.host.writes)} writes")
        self.prepares()
        if self.fails is not None:
            raise self.fails

    def check(self) -> t.Tuple[str, ...]:
        return self.left

    def finish(self) -> t.Tuple[str, ...]:
        self.log.append(f"finish {self.name}")
        return (f"note of {self.name}",)


def linux() -> MortalLinux:
    host = node("Linux")
    assert isinstance(host, MortalLinux)
    return host


def node(system: str, *children: str) -> Mortal:
    """A node that works, whose service was started long ago."""
    host: Mortal
    if system == "Darwin":
        host = MortalMac(environment={"OLD": "1"})
        host._put(BOX, MemoryFile(b"old", mode=0o755))
        host._put(FILE, MemoryFile(b"OLD=1\n"))
    else:
        unit = f"[Service]\nExecStart=/usr/bin/gpustack start\nEnvironmentFile=-{FILE}\n"
        host = MortalLinux(files={UNIT_FILE: unit.encode(), FILE: b"OLD=1\n", BOX: MemoryFile(b"old", mode=0o755)})
    host.children = list(children)
    host.clock += 3600.0
    return host


def environment(host: Mortal, **variables: str) -> Environment:
    desired = Desired(variables, tuple(f"{name}={value}" for name, value in variables.items()))
    return Environment(host, Sources.of(host, find_installation(host), FILE, follow=False), desired)  # type: ignore[arg-type]


def fails(*argv: str) -> Act:
    """A step that fails, after a half of its work was done."""

    def act() -> None:
        raise HostError(f"{argv[0]} failed")

    return Act(act, ("kernel", "set", "limit=1"))


def refuse(host: Mortal, times: int = 1) -> None:
    """The next restarts are refused, and the service runs on."""
    if isinstance(host, MortalMac):
        host.forced["bootout"] = [5] * times
    else:
        host.forced["restart"] = [CommandResult(1, "", "refused")] * times


def pid_of(host: Mortal) -> int:
    return host._pid or 0


# What comes before the first change.


@SYSTEMS
def test_nothing_to_do(system: str) -> None:
    host = node(system)
    box = Box(host, b"old")
    outcome = run(host, [box])
    assert outcome.as_result() == {
        "changed": False,
        "changes": [],
        "applied": True,
        "restarted": False,
        "restart_pending": False,
        "restart_reasons": [],
        "health": None,
        "diff": [],
        "path": BOX,
    }
    assert (outcome.warnings(), box.log, host.writes, own_files(host), host.stops) == ([], [], [], [], 0)


@SYSTEMS
def test_everything_is_prepared_before_the_first_change_and_tidied_up_after_the_last(system: str) -> None:
    host = node(system)
    log: t.List[str] = []
    boxes: t.List[Resource] = [Box(host, path=f"{BOX}-{name}", name=name, log=log) for name in "ab"]
    idle = Box(host, b"old", name="idle", log=log)
    outcome = run(host, [*boxes, idle])
    assert log == ["prepare a, 0 writes", "prepare b, 0 writes", "finish a", "finish b", "finish idle"]
    assert outcome.warnings() == ["note of a", "note of b", "note of idle"]
    assert host.stops == 1
    log.clear()
    assert run(host, [*boxes, idle]).warnings() == []
    assert log == []


@SYSTEMS
def test_what_cannot_be_fetched_changes_nothing(system: str) -> None:
    host = node(system)
    before = state_of(host)
    with pytest.raises(BadInputError, match=r"^not in the lock$"):
        run(host, [Box(host), Box(host, path="/opt/other", name="other", fails=BadInputError("not in the lock"))])
    assert (state_of(host), own_files(host), host.stops) == (before, [], 0)


@SYSTEMS
def test_the_receipt_goes_with_the_first_change(system: str) -> None:
    host = node(system)
    path = receipt_path(host)  # type: ignore[arg-type]
    host._put(path, MemoryFile(b"{}"))
    run(host, [Box(host, b"old")])
    assert path in host.files
    dying_run(host, [Box(host)], host_points(system).index(f"write {BOX}"))
    assert path not in host.files


def host_points(system: str) -> t.List[str]:
    host = node(system)
    host._put(receipt_path(host), MemoryFile(b"{}"))  # type: ignore[arg-type]
    run(host, [Box(host)])
    return host.points


@SYSTEMS
def test_without_a_service_there_is_no_restart_and_no_health(system: str) -> None:
    host = node(system)
    host.remove(PLIST if system == "Darwin" else UNIT_FILE)
    if isinstance(host, MortalLinux):
        host.properties.update(LoadState="not-found", FragmentPath="")
    result = run(host, [Box(host)]).as_result()
    assert (result["changed"], result["restarted"], result["restart_pending"], result["health"]) == (True, False, False, None)
    assert host.files[BOX].content == b"new"
    previous = read_previous(host)  # type: ignore[arg-type]
    assert previous is not None
    assert (previous.health.running, previous.health.detail, previous.needs_restart) == (None, "there is no service", True)
    with pytest.raises(HostError, match=rf"^x failed; {PUT_BACK}$"):
        run(host, [Box(host, b"newer", extra=(fails("x"),))])
    assert host.files[BOX].content == b"new"


@SYSTEMS
def test_the_lock(system: str) -> None:
    host = node(system)
    folder = "/var/db/metalfleet" if system == "Darwin" else "/var/lib/metalfleet"
    holders: t.List[str] = []
    box = Box(host, prepares=lambda: holders.extend(host.locked.values()))
    run(host, [box])
    assert holders == ["process 4711 since 2027-01-15 09:00:00 UTC"]
    assert host.locked == {}
    host.locked[f"{folder}/lock"] = "process 1"
    start = host.clock
    with pytest.raises(HostError, match="another run works on this node: process 1;"):
        run(host, [Box(host, b"newer")], lock_wait_seconds=30.0)
    assert host.clock - start == 30.0
    # Who only looks takes no lock.
    assert run(host, [Box(host, b"newer")], check_mode=True).as_result()["changed"] is True


@SYSTEMS
@pytest.mark.parametrize("restart", ["now", "when_idle", "never"])
@pytest.mark.parametrize("children", [(), (MODEL,)])
def test_check_mode_announces_exactly_what_is_done(system: str, restart: str, children: t.Tuple[str, ...]) -> None:
    host = node(system, *children)
    resources: t.List[Resource] = [Box(host), environment(host, NEW="1")]
    before, folders = state_of(host), folders_of(host)
    announced = run(host, resources, check_mode=True, restart=restart)
    assert (state_of(host), folders_of(host), own_files(host), host.points, host.stops) == (before, folders, [], [], 0)
    done = run(host, resources, restart=restart)
    one, other = announced.as_result(), done.as_result()
    assert (one.pop("applied"), other.pop("applied")) == (False, True)
    # What health a restart leads to cannot be announced, nor what tidying up finds.
    assert (one.pop("health"), bool(other.pop("health"))) == (None, other["restarted"])
    assert one == other
    assert announced.warnings() == [warning for warning in done.warnings() if not warning.startswith("note of")]
    assert one["restarted"] is (restart == "now" or (restart == "when_idle" and not children))
    assert host.stops == one["restarted"]


def folders_of(host: Mortal) -> t.Set[str]:
    return {folder for folder in host.folders if not folder.startswith("/proc")}


@SYSTEMS
def test_check_mode_tells_of_changes_that_are_half_undone(system: str) -> None:
    host, before = cut_off_in_undoing(system)
    points = list(host.points)
    with pytest.raises(GpustackError) as caught:
        run(host, [Box(host, b"old")], check_mode=True)
    assert str(caught.value) == (
        "an earlier run was cut off while it undid its changes, because x failed; the next run that is no check puts back the rest"
    )
    assert host.points == points
    with pytest.raises(GpustackError) as caught:
        run(host, [Box(host, b"old")])
    assert str(caught.value) == f"an earlier run was cut off while it undid its changes, because x failed; {PUT_BACK}"
    assert (state_of(host), is_at_rest(host)) == (before, True)


def cut_off_in_undoing(system: str) -> t.Tuple[Mortal, t.Dict[str, t.Any]]:
    def make() -> t.Tuple[Mortal, Box]:
        host = node(system)
        host.kernel["limit"] = "1"
        return host, Box(host, extra=(fails("x"),))

    host, box = make()
    with pytest.raises(HostError, match=PUT_BACK):
        run(host, [box])
    number = host.points.index(f"restore {BOX}") + 1
    host, box = make()
    before = state_of(host)
    dying_run(host, [box], number)
    assert state_of(host) != before
    return host, before


# Steps that fail.


@SYSTEMS
def test_a_step_that_fails_is_undone_with_those_before_it(system: str) -> None:
    host = node(system)
    host.kernel["limit"] = "1"
    before = state_of(host)

    def act() -> None:
        host.kernel["limit"] = "2"
        raise ServiceError("launchctl did a half of it")

    box = Box(host, extra=(Act(act, ("kernel", "set", "limit=1")),))
    with pytest.raises(ServiceError, match=rf"^launchctl did a half of it; {PUT_BACK}$"):
        run(host, [box])
    assert (state_of(host), own_files(host), host.stops) == (before, [], 0)
    assert "finish box" not in box.log
    if isinstance(host, MortalLinux):
        assert host.points.count("systemctl daemon-reload") == 1


@SYSTEMS
def test_a_restart_that_was_due_before_still_is_after_that(system: str) -> None:
    host = node(system)
    run(host, [environment(host, GIVEN="1")])
    # What is given up can be seen in the record only.
    assert run(host, [environment(host)], restart="never").as_result()["restart_pending"] is True
    earlier = read_pending(host)  # type: ignore[arg-type]
    assert earlier is not None
    with pytest.raises(HostError, match=PUT_BACK):
        run(host, [Box(host, extra=(fails("x"),)), environment(host)])
    assert read_pending(host) == earlier  # type: ignore[arg-type]
    assert run(host, [environment(host)]).as_result()["restarted"] is True
    assert is_at_rest(host)


@SYSTEMS
def test_a_full_disk_does_not_keep_from_undoing(system: str) -> None:
    host = node(system)
    before = state_of(host)
    write = host.write

    def full(path: str, data: bytes, mode_if_new: int, mode: t.Optional[int] = None) -> None:
        if host.files[BOX].content == b"new":
            raise HostError(f"{path} cannot be written: No space left on device")
        write(path, data, mode_if_new, mode)

    host.write = full  # type: ignore[method-assign]
    with pytest.raises(HostError, match=rf"cannot be written: No space left on device; {PUT_BACK}$"):
        run(host, [Box(host)])
    assert (state_of(host), own_files(host), host.stops) == (before, [], 0)


@SYSTEMS
def test_what_cannot_be_undone_does_not_keep_from_undoing_the_rest(system: str) -> None:
    host = node(system)
    before = state_of(host)
    broken = Act(lambda: None, ("vanished", "command"))
    with pytest.raises(HostError) as caught:
        run(host, [Box(host, extra=(broken, fails("x")))])
    journal = "/var/db/metalfleet/journal.json" if system == "Darwin" else "/var/lib/metalfleet/journal.json"
    failed = (
        "putting back what was changed failed, and the next run tries again: vanished does not exist on this host"
        f" (to give that up and keep what is there now, remove {journal})"
    )
    assert str(caught.value) == f"x failed; {failed}"
    assert host.files[BOX].content == b"old"
    with pytest.raises(GpustackError, match=re.escape(f"cut off while it undid its changes, because x failed; {failed}")):
        run(host, [Box(host, b"old")])
    host.commands["vanished", "command"] = CommandResult(0, "", "")
    with pytest.raises(GpustackError, match=rf"because x failed; {PUT_BACK}$"):
        run(host, [Box(host, b"old")])
    assert ({**state_of(host), "kernel": {}}, is_at_rest(host)) == (before, True)
    run(host, [Box(host)])
    assert host.files[BOX].content == b"new"


def test_files_that_are_back_count_where_systemd_cannot_be_told() -> None:
    host = linux()
    host.forced["daemon-reload"] = [CommandResult(1, "", "no bus")]
    with pytest.raises(HostError, match=rf"^x failed; {PUT_BACK}, but systemctl daemon-reload failed \(rc 1: no bus\)$"):
        run(host, [Box(host, extra=(fails("x"),))])
    assert is_at_rest(host)


@SYSTEMS
def test_a_journal_that_cannot_be_removed_is_left_to_the_next_run(system: str) -> None:
    host = node(system)
    remove = host.remove

    def stuck(path: str) -> None:
        if path.endswith("/journal.json"):
            raise HostError(f"{path} cannot be removed: Input/output error")
        remove(path)

    host.remove = stuck  # type: ignore[method-assign]
    with pytest.raises(HostError, match=rf"^x failed; {PUT_BACK}, but .*/journal.json cannot be removed: .*, and the next run tries that"):
        run(host, [Box(host, extra=(fails("x"),))])
    host.remove = remove  # type: ignore[method-assign]
    with pytest.raises(GpustackError, match=rf"{PUT_BACK}$"):
        run(host, [Box(host)])
    assert is_at_rest(host)


def test_changed_unit_files_are_read_anew_without_a_restart_and_a_failure_of_that_is_undone() -> None:
    host = linux()
    run(host, [Box(host, restarts=False)])
    assert "systemctl daemon-reload" not in host.points
    run(host, [Box(host, b"newer", restarts=False, reloads=True)])
    assert host.points.count("systemctl daemon-reload") == 1
    host.forced["daemon-reload"] = [CommandResult(1, "", "no bus")]
    with pytest.raises(ServiceError, match=rf"^systemctl daemon-reload failed \(rc 1: no bus\); {PUT_BACK}$"):
        run(host, [Box(host, b"newest", restarts=False, reloads=True)])
    assert host.files[BOX].content == b"newer"


# Restarts that fail, and nodes that get worse.


@SYSTEMS
def test_a_restart_that_is_refused_is_undone_without_another_one(system: str) -> None:
    host = node(system, RPC_SERVER)
    before, pid = state_of(host), pid_of(host)
    refuse(host)
    with pytest.raises(ServiceError) as caught:
        run(host, [Box(host)])
    assert str(caught.value).startswith("the service was not restarted: ")
    assert str(caught.value).endswith(f"; {PUT_BACK}")
    assert (state_of(host), own_files(host), pid_of(host), host.stops) == (before, [], pid, 0)
    run(host, [Box(host)])
    assert (is_at_rest(host), host.stops) == (True, 1)


@SYSTEMS
def test_but_with_one_where_an_earlier_run_had_restarted_it(system: str) -> None:
    host = node(system, RPC_SERVER)
    before = state_of(host)
    number = points_of(system).index(remove_pending(system)) + 1
    dying_run(host, [Box(host)], number)
    assert host.stops == 1
    refuse(host)
    with pytest.raises(ServiceError, match=rf"^the service was not restarted: .*; {PUT_BACK}, and the node works as before$"):
        run(host, [Box(host, b"newer")])
    assert (state_of(host), is_at_rest(host), host.stops) == (before, True, 2)


def points_of(system: str) -> t.List[str]:
    host = node(system)
    run(host, [Box(host)])
    return host.points


def remove_pending(system: str) -> str:
    return f"remove /var/{'db' if system == 'Darwin' else 'lib'}/metalfleet/pending-restart.json"


@SYSTEMS
def test_a_refused_restart_of_a_run_that_changed_nothing_stays_due(system: str) -> None:
    host = node(system)
    run(host, [Box(host)], restart="never")
    refuse(host)
    with pytest.raises(ServiceError, match="failed"):
        run(host, [Box(host)])
    assert host.files[BOX].content == b"new"
    assert run(host, [Box(host)]).as_result()["restarted"] is True
    assert (is_at_rest(host), host.stops) == (True, 1)


def unconnected(host: Mortal) -> Mortal:
    """No other node uses the GPUs of this one."""
    host.commands[NETSTAT] = CommandResult(0, "", "")
    host._put("/proc/net/tcp", MemoryFile(b""))
    return host


def just_started(system: str, **seconds: float) -> Mortal:
    """A node whose service was started a second ago, and takes these times for what it does."""
    host = unconnected(node(system, RPC_SERVER))
    for name, value in seconds.items():
        setattr(host, name, value)
    start(host)
    host.clock += 1.0
    host.stops = 0
    return host


def start(host: Mortal) -> None:
    if host.system() == "Linux":
        host.run(["systemctl", "--no-pager", "restart", UNIT])
    else:
        host.run(["launchctl", "bootout", f"system/{LABEL}"])
        host.run(["launchctl", "bootstrap", "system", PLIST])


@SYSTEMS
def test_a_model_that_starts_while_the_service_begins_is_not_stopped(system: str) -> None:
    host = just_started(system, answer_seconds=8.0, child_seconds=9.0)
    pause, since = host.pause, host.clock

    def serve(seconds: float) -> None:
        pause(seconds)
        if host.clock - since >= 11.0:
            host.children = [RPC_SERVER, MODEL]

    host.pause = serve  # type: ignore[method-assign]
    done = run(host, [Box(host)], restart="when_idle", settle_seconds=10.0)
    assert (done.as_result()["changed"], done.as_result()["restarted"], host.stops) == (True, False, 0)
    assert done.decision.why_not == "1 model instance runs on this node"


@SYSTEMS
def test_a_restart_that_is_due_is_that_of_the_process_which_was_there_last(system: str) -> None:
    host = just_started(system)
    pause, since = host.pause, host.clock

    def again(seconds: float) -> None:
        pause(seconds)
        if host.clock - since == 2.0:
            start(host)

    host.pause = again  # type: ignore[method-assign]
    assert run(host, [Box(host)], restart="never", settle_seconds=10.0).as_result()["restart_pending"] is True
    assert run(host, [Box(host)], restart="never").as_result()["restart_pending"] is True
    assert run(host, [Box(host)]).as_result()["restarted"] is True


@SYSTEMS
@pytest.mark.parametrize(("restart", "waited_seconds"), [("never", 9.0), ("now", 119.0)])
def test_only_a_run_that_restarts_waits_for_what_a_service_has_not_begun(system: str, restart: str, waited_seconds: float) -> None:
    host = just_started(system, answer_seconds=3600.0)
    pause, since, paused = host.pause, host.clock, [0.0]

    def count(seconds: float) -> None:
        if not host.writes:
            paused[0] = host.clock + seconds - since
        pause(seconds)

    host.pause = count  # type: ignore[method-assign]
    run(host, [Box(host)], restart=restart, settle_seconds=10.0)
    assert paused == [waited_seconds]


@SYSTEMS
def test_a_node_that_becomes_idle_while_a_release_is_fetched_is_looked_at_as_any_other(system: str) -> None:
    host = unconnected(node(system, MODEL, RPC_SERVER))
    box = Box(host)

    def anew() -> None:
        host.children, host.answer_seconds, host.child_seconds = [RPC_SERVER], 8.0, 12.0
        start(host)

    box.prepares = anew
    host.crashes = lambda _environment: host.files[BOX].content == b"new"
    with pytest.raises(ServiceError, match="0 of 1 RPC servers of llama-box go on running"):
        run(host, [box], restart="when_idle", settle_seconds=10.0)
    assert host.files[BOX].content == b"old"


@SYSTEMS
def test_a_refused_restart_stays_one_when_the_manager_is_silent_for_a_moment(system: str) -> None:
    host = node(system, RPC_SERVER)
    refuse(host)
    pause, since = host.pause, host.clock

    def forget(seconds: float) -> None:
        pause(seconds)
        if host.clock - since == 4.0:
            if isinstance(host, MortalMac):
                host.forced["print"] = [1]
            else:
                host.forced["show"] = [CommandResult(1, "", "no bus")]

    host.pause = forget  # type: ignore[method-assign]
    with pytest.raises(ServiceError, match=r"^the service was not restarted: "):
        run(host, [Box(host)], settle_seconds=10.0)
    assert (host.files[BOX].content, host.stops) == (b"old", 0)


@SYSTEMS
def test_a_service_of_which_nobody_knew_whether_it_ran_is_started_again(system: str) -> None:
    host = node(system)
    if isinstance(host, MortalMac):
        host.starts_by_itself = False
    host.kills = lambda _environment: host.files[BOX].content == b"new"
    box = Box(host)

    def fall_silent() -> None:
        if isinstance(host, MortalMac):
            host.forced["print"] = [1] * 3
        else:
            host.forced["show"] = [CommandResult(1, "", "no bus")] * 3

    box.prepares = fall_silent
    with pytest.raises(ServiceError, match=r"the worker does not answer /healthz; everything that was changed was put back"):
        run(host, [box], settle_seconds=10.0)
    assert (host.files[BOX].content, host.is_up()) == (b"old", True)


@SYSTEMS
def test_a_restart_that_makes_a_run_worse_which_changed_nothing(system: str) -> None:
    host = node(system)
    run(host, [Box(host)], restart="never")
    host.kills = lambda _environment: True
    with pytest.raises(ServiceError) as caught:
        run(host, [Box(host)])
    assert str(caught.value).startswith("the node is worse than before, and no change of this run can be undone: ")
    assert str(caught.value).endswith("; the playbook rollback takes back those of the last run that made any")
    assert read_journal(host) is None  # type: ignore[arg-type]
    # It is down because of us, so the next run starts it.
    host.kills = lambda _environment: False
    assert run(host, [Box(host)]).as_result()["restarted"] is True
    assert (host.is_up(), is_at_rest(host)) == (True, True)


@SYSTEMS
def test_what_a_later_restart_breaks_is_taken_back_by_a_rollback(system: str) -> None:
    host = node(system)
    host.kills = lambda _environment: host.files[BOX].content == b"new"
    run(host, [Box(host)], restart="never")
    with pytest.raises(ServiceError, match="the playbook rollback"):
        run(host, [Box(host)])
    result = run(host, [Previous(host, force=False)]).as_result()  # type: ignore[arg-type, list-item]
    assert (result["restarted"], host.files[BOX].content, host.is_up(), is_at_rest(host)) == (True, b"old", True, True)


@SYSTEMS
def test_both_stories_are_told(system: str) -> None:
    host = node(system, RPC_SERVER)
    host.kills = lambda _environment: host.files[BOX].content == b"new"
    with pytest.raises(ServiceError) as caught:
        run(host, [Box(host)])
    told = str(caught.value)
    assert told.startswith("the node got worse: ")
    assert "; the service does not run (" in told
    assert "; the worker does not answer /healthz; 0 of 1 RPC servers of llama-box go on running; " in told
    assert told.endswith(f"; {PUT_BACK}, and the node works as before")
    assert (host.files[BOX].content, host.is_up(), is_at_rest(host)) == (b"old", True, True)


@SYSTEMS
def test_undoing_may_not_help(system: str) -> None:
    host = node(system, RPC_SERVER)
    host.crashes = lambda _environment: host.stops > 0
    with pytest.raises(ServiceError) as caught:
        run(host, [Box(host)])
    assert str(caught.value) == (
        f"the node got worse: 0 of 1 RPC servers of llama-box go on running; {PUT_BACK}, but that did not help:"
        " 0 of 1 RPC servers of llama-box go on running"
    )
    assert (host.files[BOX].content, is_at_rest(host), host.stops) == (b"old", True, 2)


@SYSTEMS
def test_the_restart_after_undoing_may_fail_too(system: str) -> None:
    host = node(system)
    host.kills = lambda _environment: True
    with pytest.raises(ServiceError, match=rf"; {PUT_BACK}, but the service did not come back \("):
        run(host, [Box(host)])
    assert host.files[BOX].content == b"old"
    record = read_pending(host)  # type: ignore[arg-type]
    assert record is not None
    assert (record.reasons, record.stopping, record.was_idle) == (("a restart that failed is not finished",), True, False)
    # Also a run that wants nothing starts it.
    host.kills = lambda _environment: False
    result = run(host, [Box(host, b"old")]).as_result()
    assert (result["restarted"], host.is_up(), is_at_rest(host)) == (True, True, True)


@SYSTEMS
@pytest.mark.parametrize("comes", [True, False])
def test_a_service_is_brought_up_although_something_cannot_be_put_back(system: str, comes: bool) -> None:
    host = node(system)
    host.kills = lambda _environment: host.files[BOX].content == b"new" or not comes
    with pytest.raises(ServiceError) as caught:
        run(host, [Box(host, extra=(Act(lambda: None, ("vanished", "command")),))])
    assert "putting back what was changed failed, and the next run tries again: vanished does not exist" in str(caught.value)
    if comes:
        assert str(caught.value).endswith("; the service was started with what is there now")
    else:
        assert re.search(r"; and the service does not run \(.*\)$", str(caught.value))
    assert host.is_up() is comes


@SYSTEMS
def test_a_service_that_runs_is_left_alone_while_something_cannot_be_put_back(system: str) -> None:
    host = node(system, RPC_SERVER)
    host.crashes = lambda _environment: host.files[BOX].content == b"new"
    with pytest.raises(ServiceError, match=r"remove \S*/journal\.json\)$"):
        run(host, [Box(host, extra=(Act(lambda: None, ("vanished", "command")),))])
    assert host.stops == 1


def test_a_restart_that_says_it_failed_is_judged_by_the_next_run() -> None:
    host = linux()
    restart = host._do_restart

    def lies(_unit: str) -> CommandResult:
        restart(_unit)
        return CommandResult(1, "", "timed out")

    host._do_restart = lies  # type: ignore[method-assign]
    with pytest.raises(ServiceError, match=r"^systemctl restart gpustack\.service failed \(rc 1: timed out"):
        run(host, [Box(host)])
    assert (host.files[BOX].content, host.is_up()) == (b"new", True)
    result = run(host, [Box(host)]).as_result()
    assert (result["changed"], result["restarted"], result["health"]["sick"]) == (False, False, [])
    assert (is_at_rest(host), host.stops) == (True, 1)


@SYSTEMS
def test_a_node_that_was_sick_before_is_configured_and_reported(system: str) -> None:
    host = node(system, RPC_SERVER)
    host.crashes = lambda _environment: True
    outcome = run(host, [Box(host)])
    assert outcome.as_result()["health"]["before"] == {**outcome.as_result()["health"]["after"]}
    assert (host.files[BOX].content, is_at_rest(host), host.stops) == (b"new", True, 1)


def test_a_service_that_did_not_run_before_is_configured_and_reported() -> None:
    host = node("Darwin")
    host.dies = True  # type: ignore[union-attr]
    host.respawn()  # type: ignore[union-attr]
    outcome = run(host, [Box(host)])
    sick = "the service does not run (state = not running, last exit = 78: EX_CONFIG)"
    assert outcome.as_result()["health"]["sick"] == [sick]
    assert outcome.warnings() == [f"the node is configured, and sick as it was before: {sick}", "note of box"]
    assert (host.files[BOX].content, is_at_rest(host), outcome.as_result()["restarted"]) == (b"new", True, True)


def test_a_job_that_is_loaded_and_does_not_run_is_loaded_anew_and_not_started() -> None:
    def idle() -> MortalMac:
        host = t.cast("MortalMac", node("Darwin"))
        host.starts_by_itself = False
        host.run(["launchctl", "bootout", f"system/{LABEL}"])
        host.run(["launchctl", "bootstrap", "system", PLIST])
        host.points.clear()
        host.stops = 0
        return host

    host = idle()
    assert run(host, [environment(host, NEW="1")]).as_result()["restarted"] is True
    points = list(host.points)
    assert (host.environment(), host.is_up(), is_at_rest(host)) == ({"OLD": "1", "NEW": "1"}, False, True)
    assert f"launchctl kickstart system/{LABEL}" not in points
    for number in range(1, len(points) + 1):
        host = idle()
        dying_run(host, [environment(host, NEW="1")], number)
        run(host, [environment(host, NEW="1")])
        assert (host.environment(), host.is_up(), is_at_rest(host)) == ({"OLD": "1", "NEW": "1"}, False, True), points[number - 1]


@SYSTEMS
def test_a_port_that_changes_makes_nothing_worse(system: str) -> None:
    host = node(system)
    result = run(host, [environment(host, GPUSTACK_WORKER_PORT="10151")]).as_result()
    assert result["health"]["before"]["answering"] == result["health"]["after"]["answering"] == ["worker"]
    assert host.answers(10151, "/healthz") == 200


# Restarts that wait.


@SYSTEMS
def test_a_model_that_is_started_while_a_release_is_fetched_is_not_stopped(system: str) -> None:
    host = node(system)
    outcome = run(host, [Box(host, prepares=lambda: host.children.append(MODEL))], restart="when_idle")
    assert (outcome.as_result()["restarted"], outcome.as_result()["restart_pending"], host.stops) == (False, True, 0)
    assert outcome.warnings()[0].startswith("a restart is pending (the box was replaced); not now, as 1 model instance runs on this node; ")
    assert run(host, [Box(host)], restart="when_idle").as_result()["restart_pending"] is True
    host.children.clear()
    assert run(host, [Box(host)], restart="when_idle").as_result()["restarted"] is True
    assert (host.stops, is_at_rest(host)) == (1, True)


@SYSTEMS
def test_what_cannot_be_asked_forgets_no_restart(system: str) -> None:
    host = node(system)
    run(host, [Box(host)], restart="never")
    record = read_pending(host)  # type: ignore[arg-type]
    if isinstance(host, MortalMac):
        host.hangs.add("print")
    else:
        host.properties["LoadState"] = ""
    run(host, [Box(host)], restart="never")
    run(host, [Box(host, b"newer", restarts=False)], restart="never")
    assert record is not None
    assert read_pending(host) == record  # type: ignore[arg-type]


@SYSTEMS
def test_what_a_dead_run_restarted_is_not_judged_by_a_service_that_cannot_be_asked(system: str) -> None:
    host = node(system)
    dying_run(host, [Box(host)], points_of(system).index(remove_pending(system)) + 1)
    if isinstance(host, MortalMac):
        host.hangs.add("print")
    else:
        host.properties["LoadState"] = ""
        host.forced["daemon-reload"] = []
    run(host, [Box(host)], restart="never")
    assert read_journal(host) is not None  # type: ignore[arg-type]
    if isinstance(host, MortalMac):
        host.hangs.clear()
    else:
        host.properties.clear()
    assert run(host, [Box(host)]).as_result()["restarted"] is False
    assert (is_at_rest(host), host.stops) == (True, 1)


@SYSTEMS
def test_a_dead_run_that_had_not_restarted_anything_is_not_judged(system: str) -> None:
    """Its service was stopped by somebody else meanwhile, for a reason of theirs."""
    host = node(system)
    dying_run(host, [Box(host, restarts=False)], [*points_without_restart(system)].index(f"write {BOX}") + 1)
    if isinstance(host, MortalMac):
        host._do_bootout(f"system/{LABEL}")
    else:
        host.properties.update(ActiveState="inactive", SubState="dead", MainPID="0")
    start = host.clock
    result = run(host, [Box(host, restarts=False)]).as_result()
    assert (result["health"], host.clock, is_at_rest(host)) == (None, start, True)


def points_without_restart(system: str) -> t.List[str]:
    host = node(system)
    run(host, [Box(host, restarts=False)])
    return host.points


# What is left to do afterwards.


@SYSTEMS
def test_what_is_not_as_wanted_afterwards_is_an_error(system: str) -> None:
    host = node(system)
    box = Box(host, restarts=False, left=("the box is empty", "and cold"))
    with pytest.raises(ServiceError, match=r"^everything was changed as wanted, and still the box is empty; and cold$"):
        run(host, [box])
    assert (host.files[BOX].content, is_at_rest(host), "finish box" in box.log) == (b"new", True, False)


@SYSTEMS
def test_what_a_restart_did_not_cure_is_said_and_not_tried_again(system: str) -> None:
    """Also by a run that is about more, or less, than this resource."""

    class Stubborn(Box):
        def plan(self) -> Planned:
            return dataclasses.replace(super().plan(), restart_reasons=("it is cold",))

    host = node(system)
    stubborn = Stubborn(host, left=("it is cold",), fingerprint="files")
    told = "^the service was restarted, and it is cold: something that this module does not govern decides it "
    with pytest.raises(ServiceError, match=told):
        run(host, [stubborn])
    assert (host.stops, own_files(host)) == (1, ["pending-restart.json", "previous.json", "undo-"])
    other = Box(host, path="/opt/other", name="other", restarts=False, fingerprint="more files")
    for resources in ([stubborn], [stubborn, other], [other, stubborn]):
        with pytest.raises(ServiceError, match=told):
            run(host, resources)
    assert (host.stops, "/opt/other" in host.files) == (1, False)
    stubborn.fingerprint, stubborn.left = "other files", ()
    run(host, [stubborn])
    assert host.stops == 2


@SYSTEMS
def test_what_is_left_is_not_asked_while_a_restart_is_due(system: str) -> None:
    host = node(system)
    assert run(host, [Box(host, left=("it is cold",))], restart="never").as_result()["restart_pending"] is True


@SYSTEMS
def test_each_transaction_takes_the_place_of_the_one_before(system: str) -> None:
    host = node(system)
    host.pause = lambda seconds: None  # type: ignore[method-assign]
    found = []
    for content in (b"1", b"2", b"3"):
        run(host, [Box(host, content, restarts=False)])
        previous = read_previous(host)  # type: ignore[arg-type]
        assert previous is not None
        found.append((previous.started, host.files[previous.records[0]["backup"]].content))
    second = int(host.clock)
    assert found == [(second, b"old"), (second + 1, b"1"), (second, b"2")]
    assert len([folder for folder in host.folders if "/undo-" in folder]) == 1
    # One that only restarts leaves it alone.
    write_pending(host, PendingRestart(pid_of(host), started_of(host), ("somebody said so",), replaced=True))  # type: ignore[arg-type]
    host.__dict__.pop("pause")
    assert run(host, [Box(host, b"3")]).as_result()["restarted"] is True
    assert read_previous(host) == previous  # type: ignore[arg-type]


def started_of(host: Mortal) -> str:
    return f"Sat Nov 22 {host._pid}" if isinstance(host, MortalMac) else f"{host._pid:032x}"


@SYSTEMS
def test_what_cannot_be_tidied_up_is_no_error(system: str) -> None:
    host = node(system)
    run(host, [Box(host, b"1", restarts=False)])
    remove = host.remove

    def stuck(path: str) -> None:
        if "/undo-" in path and path.count("/") == 4:
            raise HostError(f"{path} cannot be removed: Operation not permitted")
        remove(path)

    host.clock += 1.0
    host.remove = stuck  # type: ignore[method-assign]
    run(host, [Box(host, b"2", restarts=False)])
    assert len([folder for folder in host.folders if "/undo-" in folder]) == 2
    host.remove = remove  # type: ignore[method-assign]
    run(host, [Box(host, b"2", restarts=False)])
    assert len([folder for folder in host.folders if "/undo-" in folder]) == 1


def test_the_unit_of_the_tests_is_that_of_the_fake() -> None:
    assert find_installation(node("Linux")).label_or_unit == UNIT  # type: ignore[arg-type]
