# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceManager
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.systemd import Systemd
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import CommandTimeoutError, HostError, ServiceError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.systemd_show import EnvironmentFile
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import UNIT, FakeSystemd
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost

NAME = "GGML_METAL_NO_RESIDENCY"
NOT_BOOTED = CommandResult(
    1, "", "System has not been booted with systemd as init system (PID 1). Can't operate.\nFailed to connect to bus: Host is down\n"
)


def systemd(host: MemoryHost) -> Systemd:
    return Systemd(host, UNIT)  # type: ignore[arg-type]


def test_it_is_a_service_manager():
    manager: ServiceManager = systemd(FakeSystemd())
    assert manager.name == "systemd"


def test_the_state_of_a_running_unit():
    state = systemd(FakeSystemd()).state()
    assert (state.known, state.running, state.pid, state.enabled) == (True, True, 700, True)
    assert state.started == f"{700:032x}"
    assert state.detail == "loaded, active (running)"


def test_a_systemd_without_invocations_tells_the_time():
    host = FakeSystemd()
    host.properties["InvocationID"] = ""
    assert systemd(host).state().started == "700000"


@pytest.mark.parametrize(
    ("properties", "known", "running"),
    [
        ({"LoadState": "not-found", "ActiveState": "inactive", "MainPID": "0"}, False, False),
        ({"LoadState": "masked", "ActiveState": "inactive", "MainPID": "0"}, True, False),
        ({"ActiveState": "active", "SubState": "exited", "MainPID": "0"}, True, False),
        ({"ActiveState": "deactivating", "SubState": "stop-sigterm"}, True, False),
        ({"ActiveState": "reloading"}, True, True),
    ],
)
def test_other_states(properties, known, running):
    host = FakeSystemd()
    host.properties.update(properties)
    state = systemd(host).state()
    assert (state.known, state.running) == (known, running)
    assert systemd(host).holds_environment(state) is running


@pytest.mark.parametrize(
    ("word", "enabled"),
    [("enabled", True), ("enabled-runtime", True), ("disabled", False), ("masked", False), ("static", None), ("", None)],
)
def test_enabled(word, enabled):
    host = FakeSystemd()
    host.properties["UnitFileState"] = word
    assert systemd(host).state().enabled is enabled


def test_a_failed_unit_says_how_it_failed():
    host = FakeSystemd()
    host.fails = True
    assert systemd(host).state().detail == "loaded, failed (failed), result exit-code, exit status 3"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (NOT_BOOTED, "System has not been booted with systemd as init system"),
        (CommandResult(0, "", "Running in chroot, ignoring request: show\n"), "is this host booted with systemd?"),
        (CommandTimeoutError("systemctl show did not end within 30 seconds and was killed"), "did not end within 30 seconds"),
    ],
)
def test_what_cannot_be_asked_is_unknown(reply, reason):
    host = FakeSystemd()
    for ask in (lambda: systemd(host).state().detail, lambda: systemd(host).loaded_environment().reason):
        host.forced["show"] = [reply]
        assert reason in ask()
    host.forced["show"] = [reply] * 2
    state = systemd(host).state()
    assert (state.known, state.running, state.enabled) == (None, None, None)
    with pytest.raises(ServiceError, match=reason[:20]):
        systemd(host).restart(True)


def test_a_host_without_systemctl():
    host = MemoryHost(system="Linux")
    assert systemd(host).state().detail == "systemctl does not exist on this host"
    seen = systemd(host).manager_variable(NAME)
    assert (seen.present, seen.reason) == (None, "systemctl does not exist on this host")
    with pytest.raises(ServiceError, match="systemctl does not exist"):
        systemd(host).restart(True)


def test_the_loaded_environment_is_that_of_the_main_process():
    host = FakeSystemd()
    host.files["/proc/700/environ"] = MemoryFile(b"PATH=/usr/bin\0GGML_METAL_NO_RESIDENCY=\0")
    seen = systemd(host).loaded_environment()
    assert seen.variables == {"PATH": "/usr/bin", NAME: ""}
    assert seen.complete


def test_one_look_is_one_question():
    host = FakeSystemd()
    host.flaps = True
    before = len(host.calls)
    state, seen = systemd(host).look()
    assert len(host.calls) == before + 1
    assert (state.pid, seen.reason) == (701, "process 701 does not run")


def test_a_unit_that_does_not_run_has_no_environment():
    host = FakeSystemd()
    host.properties.update(ActiveState="inactive", MainPID="0")
    seen = systemd(host).loaded_environment()
    assert (seen.variables, seen.reason) == (None, "gpustack.service does not run")
    assert seen.variable(NAME).present is None


def test_a_variable_of_the_manager_is_found_and_taken_out():
    host = FakeSystemd()
    assert systemd(host).manager_variable(NAME).present is False
    host.manager[NAME] = ""
    assert systemd(host).manager_variable(NAME).present is True
    systemd(host).unset_manager_variable(NAME)
    assert host.manager == {}


def test_a_variable_of_systemds_configuration_cannot_be_taken_out_of_a_running_manager():
    host = FakeSystemd()
    host.configured[NAME] = "1"
    with pytest.raises(ServiceError, match="DefaultEnvironment="):
        systemd(host).unset_manager_variable(NAME)


def test_a_restart_reads_the_units_first():
    host = FakeSystemd()
    before = systemd(host).state()
    systemd(host).restart(True)
    after = systemd(host).state()
    assert host.used() == ["daemon-reload", "restart"]
    assert (after.pid, after.started) != (before.pid, before.started)


def test_a_restart_waits_for_the_main_process():
    host = FakeSystemd()
    host.start_seconds = 20
    start = host.clock
    systemd(host).restart(True)
    assert 20 <= host.clock - start < 22
    assert systemd(host).state().running


def test_a_restart_that_fails_says_how():
    host = FakeSystemd()
    host.fails = True
    with pytest.raises(ServiceError, match=r"rc 1: Job for gpustack\.service failed.*; failed \(failed\), result exit-code, exit status 3"):
        systemd(host).restart(True)


def test_a_daemon_reload_that_fails_stops_nothing():
    host = FakeSystemd()
    host.forced["daemon-reload"] = [CommandResult(1, "", "Failed to reload daemon: Access denied\n")]
    with pytest.raises(ServiceError, match=r"systemctl daemon-reload failed .*Access denied"):
        systemd(host).restart(True)
    assert host.used() == ["daemon-reload"]


@pytest.mark.parametrize("load_state", ["not-found", "masked"])
def test_what_cannot_be_restarted_is_told_before_anything_happens(load_state):
    host = FakeSystemd()
    host.properties["LoadState"] = load_state
    with pytest.raises(ServiceError, match=f"systemd says it is {load_state}"):
        systemd(host).restart(True)
    assert host.used() == []


def test_waiting_ends_with_the_last_state():
    host = FakeSystemd()
    host.start_seconds = 1000
    host.run(["systemctl", "--no-pager", "restart", UNIT])
    start = host.clock
    with pytest.raises(ServiceError, match=r"activating \(auto-restart\).*journalctl -u gpustack.service"):
        systemd(host).wait_running(7)
    assert 7 <= host.clock - start < 8


def test_waiting_for_a_unit_that_failed_ends_at_once():
    host = FakeSystemd()
    host.fails = True
    start = host.clock
    with pytest.raises(ServiceError, match="result exit-code"):
        systemd(host).wait_running(60)
    assert host.clock == start


FRAGMENT = "/etc/systemd/system/gpustack.service"


def test_the_files_of_a_unit_in_the_order_in_which_they_apply():
    files = {
        "/etc/systemd/system/gpustack.service.d/20-known.conf": b"",
        "/etc/systemd/system/gpustack.service.d/30-new.conf": b"",
        "/etc/systemd/system/gpustack.service.d/notes.txt": b"",
        # Hidden by the one in /etc.
        "/usr/lib/systemd/system/gpustack.service.d/20-known.conf": b"",
        "/run/systemd/system/gpustack.service.d/10-run.conf": b"",
        "/etc/systemd/system/service.d/05-all.conf": b"",
        # The unit's own, although it lies in /usr, hides that of all services.
        "/etc/systemd/system/service.d/15-both.conf": b"",
        "/usr/lib/systemd/system/gpustack.service.d/15-both.conf": b"",
        "/run/systemd/generator/gpustack.service.d/50-generated.conf": b"",
        "/lib/systemd/system/gpustack.service.d/99-masked.conf": b"",
    }
    host = FakeSystemd(files=files)
    host.link("/etc/systemd/system/gpustack.service.d/99-masked.conf", "/dev/null")
    host.properties["DropInPaths"] = (
        "/run/systemd/generator/gpustack.service.d/50-generated.conf /etc/systemd/system/gpustack.service.d/40-removed.conf [unprintable]"
    )
    assert systemd(host).unit_files()[0] == (
        FRAGMENT,
        "/etc/systemd/system/service.d/05-all.conf",
        "/run/systemd/system/gpustack.service.d/10-run.conf",
        "/usr/lib/systemd/system/gpustack.service.d/15-both.conf",
        "/etc/systemd/system/gpustack.service.d/20-known.conf",
        "/etc/systemd/system/gpustack.service.d/30-new.conf",
        "/run/systemd/generator/gpustack.service.d/50-generated.conf",
    )


def test_a_unit_without_files():
    host = FakeSystemd()
    host.properties["FragmentPath"] = ""
    assert systemd(host).unit_files()[0] == ()


def test_drop_ins_that_cannot_be_listed_or_examined(monkeypatch):
    host = FakeSystemd(files={"/etc/systemd/system/gpustack.service.d/a.conf": b""})
    host.unreadable.add("/etc/systemd/system/gpustack.service.d")
    with pytest.raises(ServiceError, match="cannot be listed"):
        systemd(host).unit_files()
    host.unreadable.clear()

    def refuse(path):
        raise HostError(f"{path} cannot be examined: Permission denied")

    monkeypatch.setattr(host, "status", refuse)
    with pytest.raises(ServiceError, match="cannot be examined"):
        systemd(host).unit_files()


def test_environment_files():
    host = FakeSystemd()
    host.properties["EnvironmentFiles"] = "/etc/default/gpustack (ignore_errors=yes)\nEnvironmentFiles=/etc/gpustack.env (ignore_errors=no)"
    assert systemd(host).unit_files()[1] == (
        EnvironmentFile("/etc/default/gpustack", optional=True),
        EnvironmentFile("/etc/gpustack.env", optional=False),
    )


def test_a_program_that_starts_again_and_again_does_not_run():
    host = FakeSystemd()
    host.flaps = True
    with pytest.raises(ServiceError, match="does not keep running after it was started"):
        systemd(host).restart(True)
