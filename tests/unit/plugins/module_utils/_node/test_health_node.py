# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node's health before and after a restart, and whether anybody would notice one."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.health import baseline, wait_healthy, why_busy
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.launchd import Launchd
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceManager, ServiceState
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.systemd import Systemd
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.health import SERVER, WORKER, Health, losses
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import LABEL, PLIST, UNIT, FakeLaunchd, FakeSystemd
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile

HERE = Installation("none")
RPC_SERVER = "/opt/gpustack/llama-box-rpc-server --rpc-server-host 0.0.0.0 --rpc-server-port 50052"
MODEL = "/opt/gpustack/llama-box --port 40000"
NETSTAT = ("/usr/sbin/netstat", "-an", "-p", "tcp")
Fake = t.Union[FakeLaunchd, FakeSystemd]
AGE = "ansible_collections.metalfleet.gpustack.plugins.module_utils._node.health.age_seconds"
SYSTEMS = pytest.mark.parametrize("system", ["Darwin", "Linux"])


def node(system: str, *children: str, age: float = 3600.0) -> Fake:
    """A node whose service has run for so long."""
    host: Fake = FakeLaunchd() if system == "Darwin" else FakeSystemd()
    host.children = list(children)
    restart(host)
    host.clock += age
    host.stops = 0
    return host


def booted(system: str, age: float, child_seconds: float = 0.0, answer_seconds: float = 0.0) -> Fake:
    """A node whose service was started so long ago and takes these times until its RPC server runs and until it answers."""
    host: Fake = FakeLaunchd() if system == "Darwin" else FakeSystemd()
    host.children, host.child_seconds, host.answer_seconds = [RPC_SERVER], child_seconds, answer_seconds
    host.clock += 3600.0
    restart(host)
    host.clock += age
    return host


def restart(host: Fake) -> None:
    host.run(["launchctl", "bootout", f"system/{LABEL}"] if isinstance(host, FakeLaunchd) else ["systemctl", "--no-pager", "restart", UNIT])
    if isinstance(host, FakeLaunchd):
        host.run(["launchctl", "bootstrap", "system", PLIST])


def manager(host: Fake) -> ServiceManager:
    return Launchd(host, LABEL, PLIST) if isinstance(host, FakeLaunchd) else Systemd(host, UNIT)  # type: ignore[arg-type]


def look(host: Fake, settle_seconds: float = 10.0, installation: Installation = HERE, timeout_seconds: float = 60.0) -> Health:
    return baseline(host, installation, manager(host), settle_seconds, timeout_seconds)  # type: ignore[arg-type]


def wait(host: Fake, before: Health, settle_seconds: float = 10.0, timeout_seconds: float = 60.0) -> t.Tuple[Health, float]:
    """What was waited for, and for how long."""
    start = host.clock
    return wait_healthy(host, HERE, manager(host), before, settle_seconds, timeout_seconds), host.clock - start  # type: ignore[arg-type]


@SYSTEMS
def test_a_node_that_works(system: str) -> None:
    host = node(system, RPC_SERVER, RPC_SERVER, MODEL)
    start = host.clock
    found = look(host)
    assert (found.running, found.answering, found.rpc_servers) == (True, (WORKER,), 2)
    assert found.detail == manager(host).state().detail
    assert host.clock == start


@SYSTEMS
def test_a_service_that_does_not_run(system: str) -> None:
    host = node(system, RPC_SERVER)
    host.kills = lambda _environment: True
    restart(host)
    found = look(host)
    assert (found.running, found.answering, found.rpc_servers) == (False, (), 0)


@SYSTEMS
def test_the_ports_of_the_installation_are_asked(system: str) -> None:
    host = node(system)
    host.http = {(8080, "/healthz"): 200, (10151, "/healthz"): 200, (80, "/healthz"): 503}
    assert look(host).answering == (WORKER,)
    assert look(host, installation=Installation("none", port=8080)).answering == (SERVER, WORKER)
    assert look(host, installation=Installation("none", port=80, worker_port=10151)).answering == (WORKER,)
    assert look(host, installation=Installation("none", port=8080, worker_port=1)).answering == (SERVER,)


@SYSTEMS
def test_a_young_process_is_waited_for_until_it_counts(system: str) -> None:
    host = node(system, RPC_SERVER, age=4.0)
    start = host.clock
    found = look(host)
    assert (found.running, found.rpc_servers, host.clock - start) == (True, 1, 6.0)
    older = node(system, RPC_SERVER, age=10.0)
    start = older.clock
    assert look(older).rpc_servers == 1
    assert older.clock == start


@SYSTEMS
def test_an_rpc_server_is_younger_than_the_service_that_starts_it(system: str) -> None:
    """gpustack/worker/worker.py starts it three seconds after itself, and a node may be looked at at any time after that."""
    for age in (4.0, 9.0, 11.0, 12.0):
        host = booted(system, age, child_seconds=3.0)
        start = host.clock
        assert look(host).rpc_servers == 1
        assert host.clock - start == 13.0 - age


@SYSTEMS
def test_what_is_still_to_come_on_a_node_that_was_just_started_is_waited_for(system: str) -> None:
    host = booted(system, 1.0, child_seconds=30.0, answer_seconds=25.0)
    start = host.clock
    found = look(host)
    assert (found.running, found.answering, found.rpc_servers) == (True, (WORKER,), 1)
    assert host.clock - start == 39.0


@SYSTEMS
@pytest.mark.parametrize("settle_seconds", [0.0, 1.0, 10.0])
def test_a_node_without_rpc_servers_is_waited_for_once(system: str, settle_seconds: float) -> None:
    """They may come 23 seconds after the worker (worker.py), however long anything has to run."""
    host = booted(system, 12.0)
    host.children = []
    start = host.clock
    assert look(host, settle_seconds).rpc_servers == 0
    assert host.clock - start == 30.0
    # A minute after its start, nothing new is expected.
    older = booted(system, 60.0)
    older.children = []
    start = older.clock
    assert look(older, settle_seconds).rpc_servers == 0
    assert older.clock == start


@SYSTEMS
def test_a_server_answers_before_its_worker(system: str) -> None:
    host = booted(system, 6.0, child_seconds=28.0, answer_seconds=25.0)
    host.http[80, "/healthz"] = 200
    found = look(host)
    assert (found.answering, found.rpc_servers) == ((SERVER, WORKER), 1)


@SYSTEMS
def test_a_service_that_ends_once_begins_again(system: str) -> None:
    """A worker whose server does not run yet, after a power cut, gives up and is started again."""
    host = booted(system, 5.0)
    pause, start = host.pause, host.clock

    def end(seconds: float) -> None:
        pause(seconds)
        if host.clock - start == 3.0:
            host.answer_seconds, host.child_seconds = 8.0, 9.0
            restart(host)

    host.pause = end  # type: ignore[method-assign]
    found = look(host)
    assert (found.running, found.answering, found.rpc_servers) == (True, (WORKER,), 1)
    assert host.clock - start == 3.0 + 9.0 + 10.0


@SYSTEMS
def test_one_question_that_is_not_answered_says_nothing(system: str) -> None:
    host = booted(system, 5.0, child_seconds=9.0)
    pause, start = host.pause, host.clock

    def forget(seconds: float) -> None:
        pause(seconds)
        if host.clock - start == 3.0:
            if isinstance(host, FakeLaunchd):
                host.forced["print"] = [1]
            else:
                host.forced["show"] = [CommandResult(1, "", "no bus")]

    host.pause = forget  # type: ignore[method-assign]
    found = look(host)
    assert (found.running, found.answering, found.rpc_servers) == (True, (WORKER,), 1)


@SYSTEMS
def test_rpc_servers_of_several_gpus_come_one_after_the_other(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(system, RPC_SERVER)
    pause, start, main = host.pause, host.clock, manager(host).state().pid

    def more(seconds: float) -> None:
        pause(seconds)
        if host.clock - start == 1.0:
            host.children = [RPC_SERVER, RPC_SERVER]

    def age(_host: Fake, pid: int) -> float:
        # The last digit is the number of the child.
        return 3600.0 if pid == main else 8.0 if pid % 10 == 0 else 0.0

    host.pause = more  # type: ignore[method-assign]
    monkeypatch.setattr(AGE, age)
    assert look(host).rpc_servers == 2
    assert host.clock - start == 11.0


@SYSTEMS
def test_an_age_that_cannot_be_is_none(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, /proc/uptime may be the container's, and the start of a process the machine's."""
    host = node(system, RPC_SERVER)
    start = host.clock
    monkeypatch.setattr(AGE, lambda *_: -2_589_000.0)
    found = look(host)
    assert (found.running, found.rpc_servers, host.clock - start) == (True, 1, 10.0)


@SYSTEMS
def test_an_age_that_nobody_tells(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(system, RPC_SERVER)
    start = host.clock
    monkeypatch.setattr(AGE, lambda *_: None)
    found = look(host)
    assert (found.running, found.rpc_servers, host.clock - start) == (True, 1, 10.0)


@SYSTEMS
def test_a_process_table_that_cannot_be_read_any_more(system: str) -> None:
    host = booted(system, 4.0)
    pause = host.pause

    def hide(seconds: float) -> None:
        pause(seconds)
        if isinstance(host, FakeLaunchd):
            host.commands["ps", "-axww", "-o", "pid=,ppid=,command="] = CommandResult(1, "", "no")
        else:
            host.unreadable.add("/proc")

    host.pause = hide  # type: ignore[method-assign]
    found = look(host)
    assert (found.running, found.rpc_servers) == (True, None)


@SYSTEMS
def test_what_is_too_young_is_waited_for_also_without_time_to_begin(system: str) -> None:
    host = booted(system, 1.0, answer_seconds=3600.0)
    start = host.clock
    found = look(host, settle_seconds=8.0, timeout_seconds=0.0)
    assert (found.running, found.answering, found.rpc_servers, host.clock - start) == (True, (), 1, 7.0)


@SYSTEMS
def test_an_rpc_server_that_ends_again_and_again_is_waited_for_twice_as_long(system: str) -> None:
    host = node(system, RPC_SERVER)
    host.crashes = lambda _environment: True
    start = host.clock
    assert look(host).rpc_servers == 0
    assert host.clock - start == 20.0


@SYSTEMS
def test_a_node_that_never_answers_is_not_waited_for_for_ever(system: str) -> None:
    host = booted(system, 15.0, answer_seconds=3600.0)
    start = host.clock
    found = look(host)
    assert (found.running, found.answering, found.rpc_servers) == (True, (), 1)
    assert 45.0 <= host.clock - start <= 47.0
    start = host.clock
    assert look(host).answering == ()
    assert host.clock == start


@SYSTEMS
def test_a_service_that_ends_while_it_is_waited_for_does_not_run(system: str) -> None:
    host = booted(system, 1.0)
    pause = host.pause

    def end(seconds: float) -> None:
        host.kills = lambda _environment: True
        restart(host)
        pause(seconds)

    host.pause = end  # type: ignore[method-assign]
    assert look(host).running is False


@SYSTEMS
def test_a_young_rpc_server_of_an_old_service_does_not_count(system: str) -> None:
    host = node(system, RPC_SERVER)
    host.crashes = lambda _environment: True
    found = look(host)
    assert (found.running, found.rpc_servers) == (True, 0)


@SYSTEMS
def test_a_service_that_is_started_again_and_again_does_not_run(system: str) -> None:
    host = node(system, age=4.0)
    pause = host.pause

    def respawn(seconds: float) -> None:
        restart(host)
        pause(seconds)

    host.pause = respawn  # type: ignore[method-assign]
    start = host.clock
    found = look(host)
    assert found.running is False
    assert found.detail.startswith("its main process ends and is started again, ")
    assert host.clock - start == 1.0


@SYSTEMS
def test_processes_that_cannot_be_seen_are_not_counted(system: str) -> None:
    host = node(system, RPC_SERVER)
    if isinstance(host, FakeLaunchd):
        host.commands["ps", "-axww", "-o", "pid=,ppid=,command="] = CommandResult(1, "", "no")
    else:
        host.unreadable.add("/proc")
    assert look(host).rpc_servers is None
    found, _seconds = wait(host, Health(True, (WORKER,), 1))
    assert found.rpc_servers is None


def be_silent(host: Fake, times: int) -> None:
    """The service manager does not answer these next questions."""
    if isinstance(host, FakeLaunchd):
        host.forced["print"] = [1] * times
    else:
        host.forced["show"] = [CommandResult(1, "", "no bus")] * times


@SYSTEMS
def test_a_service_that_cannot_be_asked(system: str) -> None:
    host = node(system, RPC_SERVER)
    be_silent(host, 3)
    found = look(host)
    assert (found.running, found.rpc_servers) == (None, None)
    assert " failed" in found.detail
    be_silent(host, 2)
    found = look(host)
    assert (found.running, found.rpc_servers) == (True, 1)


@SYSTEMS
def test_a_manager_that_is_silent_for_a_moment_has_not_said_that_anything_ended(system: str) -> None:
    host = node(system, RPC_SERVER)
    before = look(host)
    pause, start = host.pause, host.clock

    def forget(seconds: float) -> None:
        pause(seconds)
        if host.clock - start == 4.0:
            be_silent(host, 2)

    host.pause = forget  # type: ignore[method-assign]
    after, seconds = wait(host, before, timeout_seconds=0.0)
    assert (losses(before, after), seconds) == ((), 10.0)


@SYSTEMS
def test_a_process_that_ends_before_its_age_is_asked_for_is_not_old(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = booted(system, 5.0)
    host.children = []
    start = host.clock

    def age(_host: Fake, _pid: int) -> t.Optional[float]:
        if host.clock > start:
            return 0.0
        restart(host)
        return None

    monkeypatch.setattr(AGE, age)
    pause = host.pause

    def respawn(seconds: float) -> None:
        pause(seconds)
        restart(host)

    host.pause = respawn  # type: ignore[method-assign]
    assert look(host).running is False


@SYSTEMS
@pytest.mark.parametrize("late", [1, 2])
def test_one_late_answer_is_asked_for_again(system: str, late: int) -> None:
    host = node(system, RPC_SERVER)
    answers = [None] * (late + 1)
    host.http[80, "/healthz"] = lambda: answers.pop() if answers else 200
    start = host.clock
    assert look(host).answering == (SERVER, WORKER)
    assert host.clock == start


@SYSTEMS
def test_a_process_that_comes_after_one_that_ended_gets_all_of_its_time(system: str) -> None:
    host = booted(system, 50.0, answer_seconds=3600.0)
    pause, start = host.pause, host.clock

    def end(seconds: float) -> None:
        pause(seconds)
        if host.clock - start == 5.0:
            host.answer_seconds, host.child_seconds = 20.0, 23.0
            restart(host)

    host.pause = end  # type: ignore[method-assign]
    found = look(host)
    assert (found.running, found.answering, found.rpc_servers) == (True, (WORKER,), 1)


@SYSTEMS
@pytest.mark.parametrize("settle_seconds", [0.0, 10.0])
def test_after_a_restart_everything_has_to_work_for_a_while(system: str, settle_seconds: float) -> None:
    host = node(system, RPC_SERVER)
    before = look(host)
    restart(host)
    after, seconds = wait(host, before, settle_seconds)
    assert (after.running, after.answering, after.rpc_servers, seconds) == (True, (WORKER,), 1, settle_seconds)


@SYSTEMS
@pytest.mark.parametrize("look_seconds", [0.05, 0.3, 2.0])
def test_a_service_that_was_left_alone_is_not_worse_because_looking_takes_time(system: str, look_seconds: float) -> None:
    """As after a restart that was refused, when nothing is waited for."""
    host = node(system, RPC_SERVER)
    before = look(host)
    run = host.run

    def slowly(argv: t.Sequence[str], timeout_seconds: float = 30.0) -> CommandResult:
        host.clock += look_seconds
        return run(argv, timeout_seconds)

    host.run = slowly  # type: ignore[method-assign]
    health, _waited = wait(host, before, timeout_seconds=0.0)
    assert (health.running, health.rpc_servers) == (True, 1)


@SYSTEMS
def test_what_comes_late_is_waited_for(system: str) -> None:
    host = node(system, RPC_SERVER)
    host.http[80, "/healthz"] = 200
    before = look(host)
    restart(host)
    since = host.clock
    host.http[80, "/healthz"] = lambda: 200 if host.clock - since >= 40.0 else 503
    after, seconds = wait(host, before)
    assert (after.answering, seconds) == ((SERVER, WORKER), 50.0)


@SYSTEMS
def test_an_answer_that_does_not_last_is_none(system: str) -> None:
    host = node(system, RPC_SERVER)
    host.http[80, "/healthz"] = 200
    before = look(host)
    restart(host)
    since = host.clock
    host.http[80, "/healthz"] = lambda: 200 if host.clock - since < 9.0 else None
    after, seconds = wait(host, before)
    assert (after.running, after.answering, seconds) == (True, (WORKER,), 70.0)


@SYSTEMS
def test_a_single_answer_may_be_missing(system: str) -> None:
    """A server that loads a model may be late with one."""
    host = node(system, RPC_SERVER)
    host.http[80, "/healthz"] = 200
    before = look(host)
    restart(host)
    since = host.clock
    host.http[80, "/healthz"] = lambda: None if 4.0 <= host.clock - since < 7.0 else 200
    after, seconds = wait(host, before)
    assert (after.answering, seconds) == ((SERVER, WORKER), 10.0)


@SYSTEMS
def test_an_answer_of_a_process_that_was_started_anew_meanwhile_does_not_count(system: str) -> None:
    host = node(system, RPC_SERVER)
    before = look(host)
    restart(host)
    pause, since = host.pause, host.clock

    def end(seconds: float) -> None:
        if host.clock - since == 6.0:
            restart(host)
        pause(seconds)

    host.pause = end  # type: ignore[method-assign]
    after, seconds = wait(host, before)
    assert (after.answering, seconds) == ((WORKER,), 16.5)


@SYSTEMS
def test_what_does_not_come_is_waited_for_until_the_time_is_over(system: str) -> None:
    host = node(system, RPC_SERVER)
    host.http[80, "/healthz"] = 200
    before = look(host)
    restart(host)
    host.http.clear()
    after, seconds = wait(host, before, settle_seconds=10.0, timeout_seconds=60.0)
    assert (after.running, after.answering, seconds) == (True, (WORKER,), 70.0)


@SYSTEMS
def test_a_service_that_does_not_come_back(system: str) -> None:
    host = node(system)
    before = look(host)
    host.kills = lambda _environment: True
    restart(host)
    after, seconds = wait(host, before)
    assert (after.running, seconds) == (False, 70.0)


@SYSTEMS
def test_an_rpc_server_that_crashes_again_and_again_ends_the_waiting(system: str) -> None:
    host = node(system, RPC_SERVER)
    before = look(host)
    restart(host)
    host.crashes = lambda _environment: True
    after, seconds = wait(host, before)
    assert (after.running, after.rpc_servers, seconds) == (True, 0, 1.0)
    assert losses(before, after) == ("0 of 1 RPC servers of llama-box go on running",)


@SYSTEMS
def test_one_that_did_so_before_does_not(system: str) -> None:
    host = node(system, RPC_SERVER)
    host.crashes = lambda _environment: True
    before = look(host)
    restart(host)
    after, seconds = wait(host, before)
    assert (before.rpc_servers, after.rpc_servers, seconds) == (0, 0, 10.0)


@SYSTEMS
def test_such_a_one_does_not_cut_the_waiting_for_others_short(system: str) -> None:
    host = node(system, RPC_SERVER)
    host.crashes = lambda _environment: True
    before = look(host)
    host.answer_seconds = 12.0
    restart(host)
    after, seconds = wait(host, before)
    assert (before.rpc_servers, before.answering) == (0, (WORKER,))
    assert (after.answering, seconds) == ((WORKER,), 22.0)


@SYSTEMS
def test_servers_that_end_together_or_with_the_service_have_not_crashed(system: str) -> None:
    host = node(system, *[RPC_SERVER] * 3)
    before = look(host)
    restart(host)
    started = host.clock
    pause = host.pause

    def disturb(seconds: float) -> None:
        if host.clock - started == 2.0:
            restart(host)
        host.crashes = lambda _environment: host.clock - started == 5.0
        pause(seconds)

    host.pause = disturb  # type: ignore[method-assign]
    after, seconds = wait(host, before)
    assert (after.rpc_servers, seconds) == (3, 15.0)


@SYSTEMS
def test_a_main_process_that_changes_at_each_look_does_not_run(system: str) -> None:
    host = node(system)
    before = Health(True)
    host.flaps = True
    after, seconds = wait(host, before, settle_seconds=10.0, timeout_seconds=20.0)
    assert (after.running, seconds) == (False, 30.0)
    assert after.detail.startswith("its main process ends and is started again, ")


# When a restart would be noticed.


def busy(host: Fake) -> str:
    return why_busy(host, manager(host).state())  # type: ignore[arg-type]


def connect(host: Fake, *ports: int) -> None:
    """What the system shows of connections to these ports."""
    if isinstance(host, FakeLaunchd):
        lines = [f"tcp4       0      0  10.0.0.5.{port}         10.0.0.6.49152         ESTABLISHED\n" for port in ports]
        host.commands[NETSTAT] = CommandResult(0, "".join(lines), "")
    else:
        lines = [f"   0: 0500000A:{port:04X} 0600000A:C000 01 0 0\n" for port in ports]
        host._put("/proc/net/tcp", MemoryFile(b""))
        host._put("/proc/net/tcp6", MemoryFile("".join(lines).encode()))


@SYSTEMS
def test_a_node_without_llama_boxes_is_idle(system: str) -> None:
    # Connections are not even looked at.
    assert busy(node(system, "gpustack_worker")) == ""


@SYSTEMS
@pytest.mark.parametrize(("count", "why"), [(1, "1 model instance runs on this node"), (2, "2 model instances run on this node")])
def test_models_run(system: str, count: int, why: str) -> None:
    assert busy(node(system, RPC_SERVER, *[MODEL] * count)) == why


@SYSTEMS
def test_another_node_uses_the_gpus(system: str) -> None:
    host = node(system, RPC_SERVER, RPC_SERVER.replace("50052", "50051"))
    connect(host, 22, 10150)
    assert busy(host) == ""
    connect(host, 22, 50052, 50051)
    assert busy(host) == "another node uses the GPUs of this one (port 50051)"


@SYSTEMS
def test_what_cannot_be_seen_is_not_idle(system: str) -> None:
    host = node(system, RPC_SERVER, "/opt/llama-box-rpc-server")
    connect(host)
    unseen = "whether other nodes use this one's GPUs cannot be seen"
    assert busy(host) == f"{unseen} (an RPC server does not tell its port)"
    if isinstance(host, FakeLaunchd):
        host.commands[NETSTAT] = CommandResult(1, "", "no\n")
        assert busy(host) == f"{unseen} (netstat failed: rc 1: no)"
        del host.commands[NETSTAT]
        assert busy(host) == f"{unseen} (/usr/sbin/netstat does not exist on this host)"
        host.commands["ps", "-axww", "-o", "pid=,ppid=,command="] = CommandResult(1, "", "no\n")
        assert busy(host) == "whether models run cannot be seen (ps failed (rc 1: no))"
    else:
        host.unreadable.add("/proc/net/tcp6")
        assert busy(host) == f"{unseen} (/proc/net/tcp6 cannot be read: Permission denied)"
        host.remove("/proc/net/tcp")
        assert busy(host) == f"{unseen} (/proc/net/tcp6 cannot be read: Permission denied)"
        host.unreadable.clear()
        assert busy(host) == f"{unseen} (/proc/net/tcp does not exist)"
        host.unreadable.add("/proc")
        assert busy(host) == "whether models run cannot be seen (/proc cannot be listed: Permission denied)"


def test_a_kernel_without_ipv6_has_one_table() -> None:
    host = node("Linux", RPC_SERVER)
    connect(host)
    host.remove("/proc/net/tcp6")
    assert busy(host) == ""


@SYSTEMS
@pytest.mark.parametrize("state", [ServiceState(False, False), ServiceState(True, True, None), ServiceState(None, None, 5)])
def test_what_does_not_run_is_idle(system: str, state: ServiceState) -> None:
    assert why_busy(node(system, MODEL), state) == ""  # type: ignore[arg-type]
