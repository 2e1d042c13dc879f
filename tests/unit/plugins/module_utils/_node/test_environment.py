# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The environment as a resource: a host in memory, and a service that keeps the environment it was started with."""

from __future__ import annotations

import dataclasses
import plistlib
import re
import typing as t
import unittest.mock

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import environment, transaction
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.environment import Environment, Sources, observe
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import SeenEnvironment, SeenVariable, ServiceState
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_readers import decode, read_systemd
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_state import Desired
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError, ServiceError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE as RESIDENCY
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost

FILE = "/etc/default/gpustack"
OTHER = "/etc/default/more"
UNIT = "/etc/systemd/system/gpustack.service"
PLIST = "/Library/LaunchDaemons/ai.gpustack.plist"
DESKTOP_PLIST = "/Library/Application Support/GPUStack/ai.gpustack.plist"
WANTED = Desired({"A": "1", "S": "s3cr3t"}, ("A=1", "S=s3cr3t"), frozenset({"S"}))
BLOCK = "# BEGIN managed by metalfleet.gpustack\nA=1\nS=s3cr3t\n# END managed by metalfleet.gpustack\n"
LIVE = {"A": "1", "S": "s3cr3t"}


class CrashError(Exception):
    """The power cord."""


class CrashingHost(MemoryHost):
    """Dies before the step of that number (from 1) that changes anything; 0 never."""

    def __init__(self, *arguments: t.Any, **options: t.Any) -> None:
        super().__init__(*arguments, **options)
        self.crash_at = 0
        self.steps: t.List[str] = []

    def _step(self, step: str) -> None:
        if self.crash_at == len(self.steps) + 1:
            raise CrashError(step)
        self.steps.append(step)

    def write(self, path: str, data: bytes, mode_if_new: int, mode: t.Optional[int] = None) -> None:
        self._step(f"write {path}")
        super().write(path, data, mode_if_new, mode)

    def remove(self, path: str) -> None:
        self._step(f"remove {path}")
        super().remove(path)


class Service:
    """A service that takes its environment from the host's files when it starts, as launchd and systemd do."""

    name = "gpustack"

    def __init__(self, host: CrashingHost, live: t.Optional[t.Mapping[str, str]] = None, pid: t.Optional[int] = 100) -> None:
        self.host = host
        self.live = dict(LIVE if live is None else live)
        self.pid = pid
        self.manager: t.Dict[str, str] = {}
        self.wrapper: t.Dict[str, str] = {}
        self.restarts = 0
        self.hidden = ""
        self.complete = True
        self.knows_manager = True
        self.not_restartable = ""
        self.cannot_start = self.unknown = ""
        self.is_idle = False
        self.started: t.List[bool] = []
        self._pids = 0

    def state(self) -> ServiceState:
        if self.unknown:
            return ServiceState(None, None, detail=self.unknown)
        if self.is_idle:
            return ServiceState(True, False)
        return ServiceState(True, self.pid is not None, self.pid, f"start of {self.pid}")

    def holds_environment(self, state: ServiceState) -> bool:
        return bool(state.running) or self.is_idle

    def look(self) -> t.Tuple[ServiceState, SeenEnvironment]:
        return self.state(), SeenEnvironment(None if self.hidden else self.live, self.hidden, self.complete)

    def manager_variable(self, name: str) -> SeenVariable:
        return SeenVariable(name in self.manager) if self.knows_manager else SeenVariable(None, "no bus")

    def unset_manager_variable(self, name: str) -> None:
        self.host._step(f"unset {name}")
        del self.manager[name]

    def set_variable_command(self, name: str, value: str) -> t.Tuple[str, ...]:
        return ("setenv", name, value)

    def unset_variable_command(self, name: str) -> t.Tuple[str, ...]:
        return ("unsetenv", name)

    def reload_files(self) -> None:
        self.host._step("reload")

    def check_restartable(self) -> None:
        if self.not_restartable:
            raise ServiceError(self.not_restartable)

    def restart(self, start: bool = True) -> None:
        self.host._step("stop")
        self._pids = max(self._pids, self.pid or 0)
        self.pid = None
        if self.cannot_start:
            raise ServiceError(self.cannot_start)
        self.host._step("start")
        self.restarts += 1
        self.started.append(start)
        self._pids += 1
        self.pid = self._pids if start else None
        self.live = {**self.manager, **self._from_files(), **self.wrapper}

    def _from_files(self) -> t.Dict[str, str]:
        if self.host.system() == "Darwin":
            return dict(plistlib.loads(self.host.read(PLIST) or b"").get("EnvironmentVariables", {}))
        found: t.Dict[str, str] = {}
        for line in decode(self.host.read(UNIT) or b"").split("\n"):
            if line.startswith("Environment="):
                name, _equals, value = line.partition("=")[2].partition("=")
                found[name] = value
        for path in (OTHER, FILE):
            found.update(read_systemd(decode(self.host.read(path) or b"")).variables())
        return found

    def wait_running(self, timeout_seconds: float) -> ServiceState:
        raise NotImplementedError


def plist_bytes(variables: t.Mapping[str, str]) -> bytes:
    content: t.Dict[str, t.Any] = {"Label": "ai.gpustack"}
    if variables:
        content["EnvironmentVariables"] = dict(variables)
    return plistlib.dumps(content, sort_keys=False)


def linux(text: t.Optional[str] = BLOCK, **more: t.Any) -> CrashingHost:
    files: t.Dict[str, t.Any] = {"/etc/default/x": b"", "/var/lib/x": b""}
    if text is not None:
        files[FILE] = MemoryFile(text.encode(), mode=0o600)
    return CrashingHost(system="Linux", files={**files, **more})


def mac(text: t.Optional[str] = BLOCK, variables: t.Optional[t.Mapping[str, str]] = None, plist: str = PLIST) -> CrashingHost:
    files: t.Dict[str, t.Any] = {
        "/var/db/x": b"",
        "/etc/default/x": b"",
        plist: MemoryFile(plist_bytes(LIVE if variables is None else variables), mode=0o600),
    }
    if text is not None:
        files[FILE] = MemoryFile(text.encode(), mode=0o600)
    host = CrashingHost(system="Darwin", files=files)
    if plist != PLIST:
        host.link(PLIST, plist)
    return host


def sources(host: CrashingHost, service: t.Optional[Service], follow: bool = False) -> Sources:
    if host.system() == "Darwin":
        return Sources(FILE, follow, service, plist_path=PLIST)
    return Sources(FILE, follow, service, unit_paths=(UNIT,), read_paths=(FILE, OTHER))


class Outcome(t.NamedTuple):
    """What one run did."""

    changes: int
    reasons: t.Tuple[str, ...]
    due: bool
    steps: t.List[str]
    warnings: t.Tuple[str, ...]


def run(host: CrashingHost, service: t.Optional[Service], desired: Desired = WANTED, restart: bool = True, follow: bool = False) -> Outcome:
    """What the module does. Of the transaction's own bookkeeping only the pending restart is among the steps."""
    host.steps = []
    resource = Environment(host, sources(host, service, follow), desired)  # type: ignore[arg-type]
    options = transaction.Options("now" if restart else "never", settle_seconds=0)
    with unittest.mock.patch.object(transaction, "service_manager", return_value=service):
        outcome = transaction.carry_out(host, Installation("none"), [resource], options, check_mode=False)  # type: ignore[arg-type]
    steps = [step for step in host.steps if "/metalfleet/" not in step or step.endswith("/pending-restart.json")]
    result = outcome.as_result()
    warnings = tuple(warning for warning in outcome.warnings() if "a restart is pending" not in warning and " sick as " not in warning)
    return Outcome(len(result["changes"]), tuple(result["restart_reasons"]), bool(result["restart_reasons"]), steps, warnings)


def pending_path(host: CrashingHost) -> str:
    return "/var/db/metalfleet/pending-restart.json" if host.system() == "Darwin" else "/var/lib/metalfleet/pending-restart.json"


def assert_nothing_to_do(host: CrashingHost, service: t.Optional[Service], desired: Desired = WANTED) -> None:
    outcome = run(host, service, desired)
    assert (outcome.changes, outcome.reasons, outcome.due, outcome.steps) == (0, (), False, [])


@pytest.mark.parametrize("make", [linux, mac])
def test_nothing_to_do(make: t.Callable[[], CrashingHost]) -> None:
    host = make()
    assert_nothing_to_do(host, Service(host))
    assert_nothing_to_do(host, None)


@pytest.mark.parametrize(
    ("host", "manager", "live"),
    [
        (linux(f"{RESIDENCY}=1\n" + BLOCK), False, False),
        (linux(**{OTHER: f"{RESIDENCY}=1\n".encode()}), False, False),
        (linux(**{UNIT: f"[Service]\nEnvironment={RESIDENCY}=1\n".encode()}), False, False),
        (linux(), True, False),
        (linux(), False, True),
        (
            linux(
                f"{RESIDENCY}=1\n" + BLOCK, **{OTHER: f"{RESIDENCY}=1\n".encode(), UNIT: f"[Service]\nEnvironment={RESIDENCY}=1\n".encode()}
            ),
            True,
            True,
        ),
        (mac(variables={**LIVE, RESIDENCY: "0"}), False, False),
        (mac(variables={**LIVE, f"export {RESIDENCY}": "0"}), False, False),
        (mac(), True, False),
        (mac(), False, True),
        (mac(f"{RESIDENCY}=1\n" + BLOCK, {**LIVE, RESIDENCY: ""}), True, True),
    ],
)
def test_the_variable_goes_from_wherever_it_is_with_one_restart(host: CrashingHost, manager: bool, live: bool) -> None:
    service = Service(host)
    if manager:
        service.manager[RESIDENCY] = "1"
    if live:
        service.live[RESIDENCY] = "1"
    outcome = run(host, service)
    assert outcome.due
    assert service.restarts == 1
    assert RESIDENCY not in service.live
    assert LIVE.items() <= service.live.items()
    assert not any(RESIDENCY.encode() in file.content for path, file in host.files.items() if "/metalfleet/" not in path)
    assert pending_path(host) not in host.files
    # Until it runs again, the record says that we stopped it.
    assert outcome.steps[-4:] == [f"write {pending_path(host)}", "stop", "start", f"remove {pending_path(host)}"]
    assert_nothing_to_do(host, service)
    assert service.restarts == 1


def test_on_a_mac_a_change_of_the_file_alone_restarts_nothing() -> None:
    host = mac(f"{RESIDENCY}=1\n" + BLOCK)
    service = Service(host)
    assert run(host, service).steps == [f"write {FILE}"]
    assert service.restarts == 0


def test_the_property_list_is_written_before_the_file() -> None:
    host = mac(None, {})
    service = Service(host, live={})
    steps = run(host, service).steps
    assert steps == [
        f"write {PLIST}",
        f"write {FILE}",
        f"write {pending_path(host)}",
        "stop",
        "start",
        f"remove {pending_path(host)}",
    ]
    assert service.live == LIVE
    assert_nothing_to_do(host, service)


def test_a_folder_that_does_not_exist_yet_is_made() -> None:
    host = CrashingHost(system="Linux", files={"/etc/x": b""})
    run(host, None)
    assert host.files[FILE].content.startswith(b"# BEGIN")
    assert host.files[FILE].mode == 0o600


def test_the_mode_is_handed_on() -> None:
    host = linux()
    run(host, None, dataclasses.replace(WANTED, mode=0o640))
    assert host.files[FILE].mode == 0o640
    assert_nothing_to_do(host, None, dataclasses.replace(WANTED, mode=0o640))


def test_a_restart_that_was_not_wanted_stays_due_until_it_happened() -> None:
    host = linux(f"{RESIDENCY}=1\n" + BLOCK)
    service = Service(host)
    service.hidden = "no permission"
    first = run(host, service, restart=False)
    assert (first.changes, first.due, service.restarts) == (1, True, 0)
    assert pending_path(host) in host.files
    # Whoever looks again finds it still due, and has nothing to write down.
    for _again in range(2):
        again = run(host, service, restart=False)
        assert (again.changes, again.due, again.reasons, again.steps) == (0, True, first.reasons, [])
    # A reason that is new is added.
    host.files[OTHER] = MemoryFile(f"{RESIDENCY}=1\n".encode())
    more = run(host, service, restart=False)
    assert more.reasons == (*first.reasons, f"{OTHER} changes, and systemd reads it when the service starts")
    assert run(host, service, restart=False).reasons == more.reasons
    # Somebody else restarts it.
    service.pid = 101
    assert run(host, service).steps == [f"remove {pending_path(host)}"]
    assert_nothing_to_do(host, service)


def test_a_restart_whose_reason_can_be_seen_is_not_written_down() -> None:
    host = linux(f"{RESIDENCY}=1\n" + BLOCK)
    service = Service(host, live={**LIVE, RESIDENCY: "1"})
    first = run(host, service, restart=False)
    assert len(first.reasons) == 2
    again = run(host, service, restart=False)
    assert (again.reasons, again.steps) == ((f"the running service still has {RESIDENCY}",), [])
    now = run(host, service)
    assert now.steps == [f"write {pending_path(host)}", "stop", "start", f"remove {pending_path(host)}"]
    assert_nothing_to_do(host, service)


def test_a_service_that_does_not_run_is_not_restarted_nor_remembered() -> None:
    host = linux(f"{RESIDENCY}=1\n" + BLOCK)
    service = Service(host, pid=None)
    outcome = run(host, service)
    assert (outcome.changes, outcome.due, outcome.steps) == (1, False, [f"write {FILE}"])
    assert service.restarts == 0


def test_without_a_service_files_are_all_there_is() -> None:
    host = linux(f"{RESIDENCY}=1\n" + BLOCK)
    outcome = run(host, None)
    assert (outcome.changes, outcome.due, outcome.steps) == (1, False, [f"write {FILE}"])


def test_an_environment_that_cannot_be_seen_is_said_and_is_no_reason() -> None:
    host = linux()
    service = Service(host, live={})
    service.hidden = "no permission"
    service.knows_manager = False
    outcome = run(host, service)
    assert (outcome.changes, outcome.reasons) == (0, ())
    assert outcome.warnings == (
        "the environment of the running service cannot be seen (no permission), so it is not compared",
        f"whether the service manager gives {RESIDENCY} to the service cannot be seen (no bus)",
    )


def test_an_environment_of_which_a_part_is_seen() -> None:
    host = linux()
    service = Service(host, live={RESIDENCY: "1"})
    service.complete = False
    outcome = run(host, service, restart=False)
    assert outcome.reasons == (f"the running service still has {RESIDENCY}",)
    assert outcome.warnings == ("the environment of the running service cannot be seen as a whole ()",)


def futile_case(*, wrapper: t.Mapping[str, str]) -> t.Tuple[CrashingHost, Service]:
    """A service that gets something from a place that is not ours, and was restarted for it once."""
    host = linux(f"{RESIDENCY}=1\n" + BLOCK)
    service = Service(host, live={**LIVE, RESIDENCY: "1"})
    service.wrapper = dict(wrapper)
    with pytest.raises(ServiceError):
        run(host, service)
    assert service.restarts == 1
    return host, service


@pytest.mark.parametrize(
    ("wrapper", "what"),
    [
        ({f"export {RESIDENCY}": "1", RESIDENCY: "1", "X": "1"}, f"the running service still has {RESIDENCY}"),
        ({"A": "2", "S": "other"}, "the running service does not have the wanted value of A, S"),
    ],
)
@pytest.mark.parametrize("restart", [True, False])
def test_a_service_is_not_restarted_again_for_what_a_restart_did_not_cure(wrapper: t.Mapping[str, str], what: str, restart: bool) -> None:
    host, service = futile_case(wrapper=wrapper)
    with pytest.raises(ServiceError) as caught:
        run(host, service, restart=restart)
    assert str(caught.value) == (
        f"the service was restarted, and {what}: something that this module does not govern decides it (UnsetEnvironment=,"
        " a wrapper script, a package's unit; node_info lists the places)."
        " It is not restarted for that again until one of its files changes"
    )
    assert service.restarts == 1


def test_after_a_futile_restart_a_new_reason_is_one() -> None:
    host, service = futile_case(wrapper={RESIDENCY: "1"})
    host.files[FILE] = MemoryFile((f"{RESIDENCY}=1\n" + BLOCK).encode())
    service.wrapper = {}
    assert run(host, service).reasons
    assert service.restarts == 2
    assert_nothing_to_do(host, service)


def test_a_futile_restart_is_forgotten_when_somebody_mended_the_cause_and_restarted() -> None:
    host, service = futile_case(wrapper={RESIDENCY: "1"})
    service.wrapper = {}
    service.restart()
    assert run(host, service).steps == [f"remove {pending_path(host)}"]
    assert_nothing_to_do(host, service)


def test_a_futile_restart_is_not_tried_again_after_a_crash_or_a_boot() -> None:
    host, service = futile_case(wrapper={RESIDENCY: "1"})
    service.restart()
    with pytest.raises(ServiceError):
        run(host, service)
    assert service.restarts == 2


def test_a_restart_that_failed_half_way_is_finished_by_the_next_run() -> None:
    host = linux(f"{RESIDENCY}=1\n" + BLOCK)
    service = Service(host, live={**LIVE, RESIDENCY: "1"})
    service.cannot_start = "launchctl bootstrap failed: rc 5"
    undone = "everything that was changed was put back, but the service did not come back (launchctl bootstrap failed: rc 5)"
    with pytest.raises(ServiceError, match=re.escape(undone)):
        run(host, service)
    assert (service.pid, service.restarts) == (None, 0)
    assert host.files[FILE].content.decode() == f"{RESIDENCY}=1\n" + BLOCK
    # Also a run that may not restart says that the service is down because of us.
    with_record = run(host, service, restart=False)
    assert (with_record.due, with_record.changes) == (True, 1)
    service.cannot_start = ""
    assert run(host, service).due
    assert (service.pid is not None, service.restarts) == (True, 1)
    assert_nothing_to_do(host, service)


def test_a_service_that_cannot_be_asked_stops_the_run_before_anything_is_changed() -> None:
    host = linux(f"{RESIDENCY}=1\n" + BLOCK)
    service = Service(host)
    service.unknown = "systemctl show failed (rc 1: no bus)"
    with pytest.raises(ServiceError) as caught:
        run(host, service)
    assert str(caught.value) == (
        "the service cannot be asked (systemctl show failed (rc 1: no bus)), so nothing was changed;"
        " mend that, or say restart: never and restart it yourself"
    )
    assert host.steps == []
    outcome = run(host, service, restart=False)
    assert (outcome.changes, outcome.due, service.restarts) == (1, False, 0)


def test_a_restart_that_cannot_be_done_is_refused_before_anything_is_changed() -> None:
    host = linux(f"{RESIDENCY}=1\n" + BLOCK)
    service = Service(host, live={**LIVE, RESIDENCY: "1"})
    service.not_restartable = "it is masked"
    with pytest.raises(ServiceError, match=r"^it is masked$"):
        run(host, service)
    assert host.steps == []
    assert run(host, service, restart=False).due


def test_a_job_that_did_not_run_is_not_started() -> None:
    host = mac(BLOCK, {**LIVE, RESIDENCY: "1"})
    service = Service(host, live={**LIVE, RESIDENCY: "1"})
    service.is_idle = True
    assert run(host, service).due
    assert (service.restarts, service.started) == (1, [False])
    assert_nothing_to_do(host, service)


def test_a_restart_in_vain_is_refused_before_anything_is_changed() -> None:
    host = linux(f"{RESIDENCY}=1\n" + BLOCK)
    host.files[OTHER] = MemoryFile(b"A=2\n")
    service = Service(host, live={**LIVE, "A": "2"})
    with pytest.raises(BadInputError) as caught:
        run(host, service)
    assert str(caught.value) == (
        f"nothing was changed, as a restart would not help: {OTHER}, which the unit reads after {FILE},"
        " sets A to something else; take it out there"
    )
    assert (host.steps, service.restarts) == ([], 0)


def test_changed_unit_files_are_read_anew_without_a_restart() -> None:
    host = linux(BLOCK)
    host.files[UNIT] = MemoryFile(f"[Service]\nEnvironment={RESIDENCY}=1\n".encode())
    service = Service(host, live={**LIVE, RESIDENCY: "1"})
    assert run(host, service, restart=False).steps == [f"write {UNIT}", "reload"]
    stopped = linux(BLOCK)
    stopped.files[UNIT] = MemoryFile(f"[Service]\nEnvironment={RESIDENCY}=1\n".encode())
    assert run(stopped, Service(stopped, pid=None)).steps == [f"write {UNIT}", "reload"]


def test_an_environment_that_cannot_be_seen_after_the_restart_is_no_error() -> None:
    host = linux(f"{RESIDENCY}=1\n" + BLOCK)
    service = Service(host)
    service.hidden = "no permission"
    run(host, service)
    assert service.restarts == 1


def test_the_variable_stays_where_it_is_to_stay() -> None:
    host = mac(f"{RESIDENCY}=1\n" + BLOCK, {**LIVE, RESIDENCY: "1"})
    service = Service(host, live={**LIVE, RESIDENCY: "1"})
    service.manager[RESIDENCY] = "1"
    assert_nothing_to_do(host, service, dataclasses.replace(WANTED, remove_residency=False))


@pytest.mark.parametrize("make", [linux, mac])
def test_absent_gives_up_our_lines_and_nothing_else(make: t.Callable[..., CrashingHost]) -> None:
    host = make(f"{RESIDENCY}=1\n" + BLOCK)
    service = Service(host, live={**LIVE, RESIDENCY: "1"})
    gone = Desired(remove_residency=False)
    run(host, service, gone)
    assert host.files[FILE].content == f"{RESIDENCY}=1\n".encode()
    assert service.restarts == 1
    assert not set(LIVE) & set(service.live)
    assert_nothing_to_do(host, service, gone)


def test_absent_removes_a_file_that_was_ours() -> None:
    host = linux(None)
    service = Service(host, live={})
    run(host, service)
    outcome = run(host, service, Desired(remove_residency=False))
    assert f"remove {FILE}" in outcome.steps
    assert FILE not in host.files
    assert service.live == {}
    assert_nothing_to_do(host, service, Desired(remove_residency=False))


def test_a_link_is_refused_unless_it_is_to_be_followed() -> None:
    host = linux(None, **{"/srv/env": MemoryFile(b"X=1\n", mode=0o600)})
    host.link(FILE, "/srv/env")
    with pytest.raises(BadInputError) as caught:
        run(host, None)
    assert str(caught.value) == f"{FILE} is a symbolic link to /srv/env: say follow: true to manage that file, or put a file in its place"
    assert host.steps == []
    assert run(host, None, follow=True).steps == ["write /srv/env"]
    assert host.files[FILE].target == "/srv/env"
    assert host.files["/srv/env"].content == b"X=1\n" + BLOCK.encode()


def test_a_link_to_nothing_is_followed_to_where_it_points() -> None:
    host = linux(None, **{"/srv/x": b""})
    host.link(FILE, "/srv/env")
    assert run(host, None, follow=True).steps == ["write /srv/env"]
    assert host.files[FILE].target == "/srv/env"


def test_the_desktop_s_property_list_lies_behind_a_link() -> None:
    host = mac(variables={**LIVE, RESIDENCY: "1"}, plist=DESKTOP_PLIST)
    service = Service(host)
    assert f"write {DESKTOP_PLIST}" in run(host, service).steps
    assert host.files[PLIST].target == DESKTOP_PLIST
    assert service.live == LIVE
    assert_nothing_to_do(host, service)


def test_links_among_units_and_other_files_are_followed() -> None:
    host = linux(**{"/etc/units/real": f"[Service]\nEnvironment={RESIDENCY}=1\n".encode(), "/etc/real": f"{RESIDENCY}=1\n".encode()})
    host.link(UNIT, "/etc/units/real")
    host.link(OTHER, "/etc/real")
    assert run(host, None).steps == ["write /etc/units/real", "write /etc/real"]


def test_no_property_list_is_made_where_there_is_none() -> None:
    host = mac()
    del host.files[PLIST]
    assert_nothing_to_do(host, None)


def test_a_broken_property_list_stops_it_before_anything_is_changed() -> None:
    host = mac(f"{RESIDENCY}=1\n")
    host.files[PLIST].content = b"<plist>&</plist>"
    with pytest.raises(BadInputError, match=f"^{PLIST} is not a property list"):
        run(host, Service(host))
    assert host.steps == []


def test_a_binary_property_list_stays_binary() -> None:
    host = mac(variables={})
    host.files[PLIST].content = plistlib.dumps({"Label": "é"}, fmt=plistlib.FMT_BINARY)
    run(host, None)
    assert host.files[PLIST].content == plistlib.dumps(
        {"Label": "é", "EnvironmentVariables": LIVE}, fmt=plistlib.FMT_BINARY, sort_keys=False
    )


def test_what_cannot_be_read_stops_it() -> None:
    host = linux()
    host.unreadable.add(OTHER)
    with pytest.raises(HostError, match=f"^{OTHER} cannot be read"):
        run(host, None)


def everywhere(system: str) -> t.Tuple[CrashingHost, Service]:
    """A node with everything amiss at once."""
    old = "# BEGIN managed by metalfleet.gpustack\nGONE=1\nA=0\n# END managed by metalfleet.gpustack\n"
    sick = {"GONE": "1", "A": "0", RESIDENCY: "1"}
    if system == "Darwin":
        host = mac(f"{RESIDENCY}=1\n{old}", sick)
    else:
        unit = f"[Service]\nEnvironment={RESIDENCY}=1\n".encode()
        host = linux(f"{RESIDENCY}=1\n{old}", **{OTHER: f"{RESIDENCY}=1\n".encode(), UNIT: unit})
    service = Service(host, live=sick)
    service.manager[RESIDENCY] = "1"
    return host, service


@pytest.mark.parametrize("system", ["Darwin", "Linux"])
@pytest.mark.parametrize("visible", [True, False])
def test_after_a_crash_at_any_step_the_next_run_ends_in_the_wanted_state(system: str, visible: bool) -> None:
    host, service = everywhere(system)
    steps = run(host, service).steps
    assert "stop" in steps
    wanted = {path: (file.content, file.mode) for path, file in host.files.items() if "/metalfleet/" not in path}
    for number in range(1, len(steps) + 1):
        host, service = everywhere(system)
        service.hidden = "" if visible else "no permission"
        host.crash_at = number
        with pytest.raises(CrashError):
            run(host, service)
        host.crash_at = 0
        run(host, service)
        # Only where it dies between the restart and forgetting it, is there a restart already; none is done twice.
        assert service.restarts == 1, steps[number - 1]
        assert service.live == LIVE
        assert {path: (file.content, file.mode) for path, file in host.files.items() if "/metalfleet/" not in path} == wanted
        service.hidden = ""
        assert_nothing_to_do(host, service)


def test_sources_name_what_the_unit_reads_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    host = linux(**{"/etc/default/gpustack.d/b": b"", "/etc/default/gpustack.d/a": b"", "/etc/default/gpustack.d/c.bak": b""})
    host.link("/etc/alias", FILE)

    @dataclasses.dataclass(frozen=True)
    class Found:
        unit_path: t.Optional[str] = UNIT
        drop_in_paths: t.Tuple[str, ...] = ("/etc/drop-in.conf",)
        plist_path: t.Optional[str] = None
        environment_files: t.Tuple[str, ...] = (f"-{FILE}", "/etc/alias", OTHER, OTHER, "/etc/default/gpustack.d/[ab]", "/none/*")

    monkeypatch.setattr(environment, "service_manager", lambda _host, installation: installation)
    installation = Found(environment_files=tuple(path.lstrip("-") for path in Found().environment_files))
    found = Sources.of(host, installation, FILE, True)  # type: ignore[arg-type]
    assert found == Sources(
        FILE,
        True,
        service=installation,  # type: ignore[arg-type]
        plist_path=None,
        unit_paths=(UNIT, "/etc/drop-in.conf"),
        read_paths=(FILE, "/etc/alias", OTHER, OTHER, "/etc/default/gpustack.d/a", "/etc/default/gpustack.d/b"),
    )
    # A link to the main file is the main file.
    observed, _warnings = observe(host, dataclasses.replace(found, service=None))  # type: ignore[arg-type]
    assert observed.read_order[:4] == (FILE, FILE, OTHER, OTHER)
    assert observed.other_files[0].path == OTHER
    monkeypatch.setattr(environment, "service_manager", lambda _host, _installation: None)
    bare = dataclasses.replace(installation, unit_path=None, drop_in_paths=())  # type: ignore[type-var]
    assert Sources.of(host, bare, FILE, False).unit_paths == ()  # type: ignore[arg-type]
