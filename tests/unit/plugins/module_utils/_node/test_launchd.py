# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import plistlib

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.launchd import Launchd
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import ServiceManager
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import (
    CommandMissingError,
    CommandTimeoutError,
    HostError,
    ServiceError,
)
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import LABEL, PLIST, FakeLaunchd
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost

NAME = "GGML_METAL_NO_RESIDENCY"
PRINT = ("launchctl", "print", f"system/{LABEL}")


def launchd(host: MemoryHost) -> Launchd:
    return Launchd(host, LABEL, PLIST)  # type: ignore[arg-type]


def write_plist(host: FakeLaunchd, **content: object) -> None:
    host.files[PLIST].content = plistlib.dumps({"Label": LABEL, **content})


def reload_job(host: FakeLaunchd) -> None:
    host.run(["launchctl", "bootout", f"system/{LABEL}"])
    host.run(["launchctl", "bootstrap", "system", PLIST])


def test_it_is_a_service_manager():
    manager: ServiceManager = launchd(FakeLaunchd())
    assert manager.name == "launchd"


def test_the_state_of_a_running_job():
    state = launchd(FakeLaunchd()).state()
    assert (state.known, state.running, state.pid, state.enabled) == (True, True, 801, True)
    assert state.started == "Sat Nov 22 801"
    assert state.detail == "state = running, last exit = (never exited)"


def test_the_state_of_a_job_that_does_not_run():
    host = FakeLaunchd()
    host.dies = True
    reload_job(host)
    state = launchd(host).state()
    assert (state.known, state.running, state.pid, state.started) == (True, False, None, None)
    assert state.detail == "state = not running, last exit = 78: EX_CONFIG"


def test_the_state_of_a_job_that_is_not_loaded():
    host = FakeLaunchd()
    host.run(["launchctl", "bootout", f"system/{LABEL}"])
    state = launchd(host).state()
    assert (state.known, state.running, state.pid, state.enabled) == (False, False, None, True)
    assert not launchd(host).holds_environment(state)


def test_an_unreadable_start_time_is_unknown():
    host = FakeLaunchd()
    host.commands["ps", "-o", "lstart=", "-p", "801"] = CommandResult(1, "", "")
    assert launchd(host).state().started is None
    host.commands["ps", "-o", "lstart=", "-p", "801"] = CommandMissingError("ps does not exist on this host")
    assert launchd(host).state().started is None


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        (MemoryHost(), "launchctl does not exist on this host"),
        (MemoryHost(commands={PRINT: CommandResult(1, "", "Not privileged\nto print\n")}), "rc 1: Not privileged to print"),
        (MemoryHost(commands={PRINT: CommandResult(125, "", "")}), "rc 125: it said nothing"),
    ],
)
def test_what_cannot_be_asked_is_unknown(host, reason):
    state = launchd(host).state()
    assert (state.known, state.running, state.enabled) == (None, None, None)
    assert reason in state.detail
    seen = launchd(host).loaded_environment()
    assert seen.variables is None
    assert reason in seen.reason
    assert seen.variable(NAME).present is None
    assert launchd(host).manager_variable(NAME).present is None


def test_an_output_that_is_not_understood_is_neither_running_nor_not():
    host = MemoryHost(commands={PRINT: CommandResult(0, "something new\n", "")})
    state = launchd(host).state()
    assert (state.known, state.running, state.enabled) == (True, None, None)
    assert launchd(host).loaded_environment().reason == f"launchctl print system/{LABEL} shows no environment"


def test_a_hung_launchctl_is_named():
    host = FakeLaunchd()
    host.hangs = {"print"}
    assert f"launchctl print system/{LABEL} did not end within 20 seconds" in launchd(host).state().detail


@pytest.mark.parametrize(
    ("override", "disabled_key", "enabled"),
    [(None, None, True), (None, True, False), (False, True, True), (True, False, False)],
)
def test_enabled(override, disabled_key, enabled):
    host = FakeLaunchd()
    if override is not None:
        host.disabled[LABEL] = override
    if disabled_key is not None:
        write_plist(host, Disabled=disabled_key)
    assert launchd(host).state().enabled is enabled


def test_enabled_is_unknown_without_a_readable_property_list():
    host = FakeLaunchd()
    host.files[PLIST].content = b"<plist><dict><key>a & b</key></dict></plist>"
    assert launchd(host).state().enabled is None
    host.unreadable.add(PLIST)
    assert launchd(host).state().enabled is None
    host.remove(PLIST)
    assert launchd(host).state().enabled is None
    host.hangs = {"print-disabled"}
    assert launchd(host).state().enabled is None


def test_the_loaded_environment_is_that_of_the_job_and_the_domain_whatever_the_file_says():
    host = FakeLaunchd(environment={NAME: "0"})
    host.domain["HF_ENDPOINT"] = "https://mirror.example"
    write_plist(host)
    seen = launchd(host).loaded_environment()
    assert seen.variables == {NAME: "0", "HF_ENDPOINT": "https://mirror.example", "XPC_SERVICE_NAME": LABEL}
    assert seen.complete
    assert seen.variable(NAME).present is True
    assert seen.variable("OTHER").present is False


def test_the_environment_of_a_job_that_is_not_loaded_is_unknown():
    host = FakeLaunchd()
    host.run(["launchctl", "bootout", f"system/{LABEL}"])
    assert launchd(host).loaded_environment().reason == f"{LABEL} is not loaded"


def test_a_part_of_an_environment_proves_presence_only():
    host = MemoryHost(commands={PRINT: CommandResult(0, "\tstate = running\n\tenvironment = {\n\t\tA => 1\n", "")})
    seen = launchd(host).loaded_environment()
    assert seen.variable("A").present is True
    assert seen.variable(NAME).present is None
    assert "only a part" in seen.variable(NAME).reason


def test_one_look_is_of_one_job():
    host = FakeLaunchd(environment={NAME: "0"})
    state, seen = launchd(host).look()
    assert (state, seen) == (launchd(host).state(), launchd(host).loaded_environment())
    assert host.used("print") == ["print"] * 3
    host.forced["print"] = [1]
    state, seen = launchd(host).look()
    assert (state.known, seen.variables, seen.complete) == (None, None, False)
    assert state.detail == seen.reason
    assert seen.reason.startswith(f"launchctl print system/{LABEL} failed")


def test_a_loaded_job_holds_its_environment_even_when_it_does_not_run():
    host = FakeLaunchd()
    host.start_seconds = 1000
    reload_job(host)
    state = launchd(host).state()
    assert (state.running, launchd(host).holds_environment(state)) == (False, True)


@pytest.mark.parametrize("value", ["1", "0", ""])
def test_a_variable_of_the_domain_is_found_by_its_presence_and_taken_out(value):
    host = FakeLaunchd()
    assert launchd(host).manager_variable(NAME).present is False
    host.commands["launchctl", "getenv", "OTHER"] = CommandResult(1, "", "")
    assert launchd(host).manager_variable("OTHER").present is False
    host.domain[NAME] = value
    assert launchd(host).manager_variable(NAME).present is True
    launchd(host).unset_manager_variable(NAME)
    assert host.domain == {}


def test_a_variable_of_the_domain_that_cannot_be_taken_out():
    host = FakeLaunchd()
    host.domain[NAME] = "1"
    host.forced["unsetenv"] = [1]
    with pytest.raises(ServiceError, match="launchctl unsetenv GGML_METAL_NO_RESIDENCY failed: rc 1: unsetenv failed"):
        launchd(host).unset_manager_variable(NAME)
    host.unset_works = False
    with pytest.raises(ServiceError, match="had no effect"):
        launchd(host).unset_manager_variable(NAME)
    host.forced["getenv"] = [1]
    assert launchd(host).manager_variable(NAME).reason.startswith(f"launchctl getenv {NAME} failed: rc 1")


def test_a_restart_loads_what_the_file_says():
    host = FakeLaunchd(environment={NAME: "1"})
    before = launchd(host).state()
    write_plist(host)
    launchd(host).restart(True)
    after = launchd(host).state()
    assert after.running
    assert (after.pid, after.started) != (before.pid, before.started)
    assert launchd(host).loaded_environment().variable(NAME).present is False
    assert host.used("bootout", "bootstrap", "kickstart") == ["bootout", "bootstrap"]


def test_a_restart_of_a_job_that_is_not_loaded_loads_it():
    host = FakeLaunchd()
    host.run(["launchctl", "bootout", f"system/{LABEL}"])
    launchd(host).restart(True)
    assert launchd(host).state().running


def test_a_restart_waits_until_the_old_job_is_gone():
    host = FakeLaunchd()
    host.teardown_seconds = 12
    start = host.clock
    launchd(host).restart(True)
    assert host.clock - start >= 12
    assert host.used("bootout", "bootstrap") == ["bootout", "bootstrap"]


def test_a_job_that_does_not_start_by_itself_is_kicked():
    host = FakeLaunchd()
    host.starts_by_itself = False
    launchd(host).restart(True)
    assert host.used("bootout", "bootstrap", "kickstart") == ["bootout", "bootstrap", "kickstart"]
    assert launchd(host).state().running


def test_a_restart_waits_for_a_slow_start():
    host = FakeLaunchd()
    host.start_seconds = 30
    launchd(host).restart(True)
    assert launchd(host).state().running


@pytest.mark.parametrize("code", [5, 37])
def test_a_bootstrap_that_comes_too_early_is_tried_again(code):
    host = FakeLaunchd()
    host.forced["bootstrap"] = [code, code, code]
    launchd(host).restart(True)
    assert host.used("bootstrap") == ["bootstrap"] * 4


def test_a_bootstrap_that_never_succeeds_ends():
    host = FakeLaunchd()
    host.forced["bootstrap"] = [5] * 1000
    start = host.clock
    with pytest.raises(ServiceError, match=r"launchctl bootstrap system /Library/\S+ failed: rc 5: bootstrap failed: 5"):
        launchd(host).restart(True)
    assert 60 <= host.clock - start <= 65


def test_any_other_code_of_bootstrap_fails_at_once():
    host = FakeLaunchd()
    host.forced["bootstrap"] = [134]
    with pytest.raises(ServiceError, match="rc 134"):
        launchd(host).restart(True)
    assert host.used("bootstrap") == ["bootstrap"]


def test_a_disabled_label_is_found_before_the_job_is_stopped():
    host = FakeLaunchd()
    host.disabled[LABEL] = True
    with pytest.raises(ServiceError, match=f"run `launchctl enable system/{LABEL}` first"):
        launchd(host).restart(True)
    assert launchd(host).state().running
    assert host.used("bootout") == []


def test_a_disabled_label_that_only_bootstrap_tells():
    host = FakeLaunchd()
    host.forced["bootstrap"] = [119]
    with pytest.raises(ServiceError, match=f"run `launchctl enable system/{LABEL}` first"):
        launchd(host).restart(True)


def test_a_property_list_that_launchd_would_refuse_is_found_before_the_job_is_stopped():
    host = FakeLaunchd()
    host.files[PLIST].mode = 0o664
    with pytest.raises(ServiceError, match="has owner 0 and mode 0664"):
        launchd(host).restart(True)
    host.files[PLIST].mode, host.files[PLIST].uid = 0o644, 501
    with pytest.raises(ServiceError, match="has owner 501"):
        launchd(host).restart(True)
    host.remove(PLIST)
    with pytest.raises(ServiceError, match="does not exist"):
        launchd(host).restart(True)
    assert host.used("bootout") == []
    assert launchd(host).state().running


def test_the_link_of_the_desktop_package_is_followed():
    host = FakeLaunchd()
    target = "/Library/Application Support/GPUStack/ai.gpustack.plist"
    host.files[target] = host.files.pop(PLIST)
    host.link(PLIST, target)
    assert launchd(host).state().enabled is True
    host.files[target].mode = 0o666
    with pytest.raises(ServiceError, match="Application Support"):
        launchd(host).restart(True)


def test_a_job_that_never_goes_is_told():
    host = FakeLaunchd()
    host.teardown_seconds = 10_000
    with pytest.raises(ServiceError, match=r"still loaded 65 seconds after launchctl bootout system/ai\.gpustack"):
        launchd(host).restart(True)
    assert host.used("bootstrap") == []


@pytest.mark.parametrize(("exit_timeout_seconds", "limit"), [(0, 660), (90, 150), (100_000, 660)])
def test_a_job_gets_the_time_it_asked_for(exit_timeout_seconds, limit):
    host = FakeLaunchd()
    host.exit_timeout_seconds = exit_timeout_seconds
    host.teardown_seconds = 10_000
    with pytest.raises(ServiceError, match=f"still loaded {limit} seconds"):
        launchd(host).restart(True)


def test_a_bootout_that_fails_is_told_unless_the_job_is_gone_all_the_same():
    host = FakeLaunchd()
    host.forced["bootout"] = [5]
    with pytest.raises(ServiceError, match=r"launchctl bootout system/ai\.gpustack failed: rc 5"):
        launchd(host).restart(True)
    host.run(["launchctl", "bootout", f"system/{LABEL}"])
    host.forced["bootout"] = [5]
    launchd(host).restart(True)
    assert launchd(host).state().running


def test_a_hung_bootout_is_named():
    host = FakeLaunchd()
    host.hangs = {"bootout"}
    with pytest.raises(ServiceError, match=f"launchctl bootout system/{LABEL} did not end within 65 seconds"):
        launchd(host).restart(True)


def test_a_kickstart_that_fails_is_told_unless_the_job_runs_all_the_same():
    host = FakeLaunchd()
    host.starts_by_itself = False
    host.forced["kickstart"] = [113]
    with pytest.raises(ServiceError, match=r"launchctl kickstart system/ai\.gpustack failed: rc 113"):
        launchd(host).restart(True)
    host.starts_by_itself, host.start_seconds = True, 3.4
    host.forced["kickstart"] = [37]
    host.commands["launchctl", "kickstart", f"system/{LABEL}"] = lambda: (host.pause(1), CommandResult(37, "", "busy"))[1]
    launchd(host).restart(True)
    assert launchd(host).state().running


def test_a_program_that_dies_at_once_is_told_with_its_exit_code():
    host = FakeLaunchd()
    host.dies = True
    with pytest.raises(ServiceError, match=r"state = not running, last exit = 78: EX_CONFIG.*StandardErrorPath"):
        launchd(host).restart(True)


def test_waiting_for_a_job_that_is_not_loaded_ends():
    host = FakeLaunchd()
    host.run(["launchctl", "bootout", f"system/{LABEL}"])
    start = host.clock
    with pytest.raises(ServiceError, match=r"does not run 7 seconds after it was started .*is not loaded"):
        launchd(host).wait_running(7)
    assert 7 <= host.clock - start < 8


def test_a_property_list_that_cannot_be_examined_is_told_before_the_job_is_stopped(monkeypatch):
    host = FakeLaunchd()

    def refuse(path):
        raise HostError(f"{path} cannot be examined: Permission denied")

    monkeypatch.setattr(host, "status", refuse)
    with pytest.raises(ServiceError, match="cannot be examined"):
        launchd(host).restart(True)
    assert host.used("bootout") == []


def test_a_program_that_starts_again_and_again_does_not_run():
    host = FakeLaunchd()
    host.flaps = True
    with pytest.raises(ServiceError, match="does not run 60 seconds after it was started"):
        launchd(host).restart(True)


def test_a_job_that_did_not_run_is_loaded_anew_and_not_started():
    host = FakeLaunchd()
    host.starts_by_itself = False
    host.run(["launchctl", "bootout", f"system/{LABEL}"])
    host.run(["launchctl", "bootstrap", "system", PLIST])
    launchd(host).restart(start=False)
    assert "kickstart" not in host.used("kickstart")
    assert launchd(host).state().known
    assert not launchd(host).state().running


def test_a_job_that_is_gone_after_a_bootout_that_hung_comes_back(monkeypatch):
    host = FakeLaunchd()

    def bootout(_target):
        host._loaded = host._pid = None
        raise CommandTimeoutError("launchctl bootout did not end")

    monkeypatch.setattr(host, "_do_bootout", bootout)
    launchd(host).restart(start=True)
    assert launchd(host).state().running


def test_a_bootout_that_fails_leaves_the_job_as_it_is():
    host = FakeLaunchd()
    host.forced["bootout"] = [1]
    with pytest.raises(ServiceError, match="launchctl bootout"):
        launchd(host).restart(start=True)
    assert host.used("bootstrap") == []
    assert launchd(host).state().running


def test_a_job_that_somebody_else_loaded_meanwhile_is_as_good(monkeypatch):
    host = FakeLaunchd()
    load = host._do_bootstrap

    def bootstrap(domain, path):
        load(domain, path)
        return CommandResult(5, "", "Bootstrap failed: 5: Input/output error")

    monkeypatch.setattr(host, "_do_bootstrap", bootstrap)
    launchd(host).restart(start=True)
    assert len(host.used("bootstrap")) == 1


@pytest.mark.parametrize(("content", "message"), [(b"<plist", "not a property list"), (None, "has the label 'ai.other'")])
def test_a_property_list_that_would_not_bring_the_job_back_is_refused_before_it_is_stopped(content, message):
    host = FakeLaunchd()
    host.files[PLIST].content = content or plistlib.dumps({"Label": "ai.other"})
    with pytest.raises(ServiceError, match=message):
        launchd(host).check_restartable()
    with pytest.raises(ServiceError, match=message):
        launchd(host).restart(start=True)
    assert host.used("bootout") == []
    assert launchd(host).reload_files() is None
