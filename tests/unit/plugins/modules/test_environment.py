# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every option of the module, on a Mac in memory whose launchd keeps the environment that the job was loaded with."""

from __future__ import annotations

import dataclasses
import plistlib
import typing as t

import pytest
import yaml
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import governed
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, ServiceError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import VIRTUAL_NAMES
from ansible_collections.metalfleet.gpustack.plugins.modules import environment
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import FakeLaunchd
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile

FILE = "/etc/default/gpustack"
PLIST = "/Library/LaunchDaemons/ai.gpustack.plist"
RESIDENCY = "GGML_METAL_NO_RESIDENCY"
DEFAULTS = {name: option.get("default") for name, option in yaml.safe_load(environment.DOCUMENTATION)["options"].items()}
BLOCK = b"# BEGIN managed by metalfleet.gpustack%s\n%s# END managed by metalfleet.gpustack\n"


class Mac(FakeLaunchd):
    """A real or a virtual Mac, whose job was loaded with what is in its property list."""

    def __init__(self, variables: dict[str, str] | None = None, is_virtual: bool | None = False) -> None:
        super().__init__(variables)
        if is_virtual is not None:
            reply = CommandResult(0, f"kern.hv_vmm_present: {int(is_virtual)}\n", "")
            question = ("/usr/sbin/sysctl", *VIRTUAL_NAMES)
            self.commands[question] = reply

    def bootouts(self) -> int:
        return len([call for call in self.calls if call[:2] == ("launchctl", "bootout")])

    def plist(self) -> dict[str, str]:
        found = plistlib.loads(self.files[PLIST].content).get("EnvironmentVariables", {})
        assert isinstance(found, dict)
        return found

    def text(self, path: str = FILE) -> bytes | None:
        return self.files[path].content if path in self.files else None


def run(mac: Mac, check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
    result, warnings = environment.run({**DEFAULTS, **options}, mac, check_mode)  # type: ignore[arg-type]
    return {**result, "warnings": warnings}


def test_without_options_the_variable_goes_and_the_service_restarts_once() -> None:
    mac = Mac({RESIDENCY: "1", "KEPT": "x"})
    mac._put(FILE, MemoryFile(b"KEPT=x\n" + RESIDENCY.encode() + b"=1\n"))
    result = run(mac)
    assert (mac.text(), mac.plist(), mac.bootouts()) == (b"KEPT=x\n", {"KEPT": "x"}, 1)
    assert (result["changed"], result["restarted"], result["restart_pending"], result["path"]) == (True, True, False, FILE)
    assert [(change["resource"], change["action"], change["name"], change["line"]) for change in result["changes"]] == [
        ("plist", "removed", RESIDENCY, None),
        ("environment_file", "removed", RESIDENCY, 2),
    ]
    again = run(mac)
    assert (again["changed"], again["changes"], again["restarted"], again["diff"], mac.bootouts()) == (False, [], False, [], 1)


def test_check_mode_announces_what_the_run_does_and_does_nothing() -> None:
    mac = Mac({RESIDENCY: "1"})
    before = dict(mac.files)
    announced = run(mac, check_mode=True, variables={"A": "1"})
    assert (mac.files, mac.bootouts()) == (before, 0)
    done = run(mac, variables={"A": "1"})
    assert (announced.pop("applied"), done.pop("applied")) == (False, True)
    # What health a restart leads to cannot be announced.
    assert announced.pop("health") is None
    assert done.pop("health")["after"]["running"] is True
    assert announced == done


def test_variables_and_secrets() -> None:
    mac = Mac()
    result = run(mac, variables={"B": 2, "A": "x y"}, secrets={"TOKEN": "s3cret"})
    assert mac.text() == BLOCK % (b" (new file)", b"A=x y\nB=2\nTOKEN=s3cret\n")
    assert mac.files[FILE].mode == 0o600
    assert mac.plist() == {"A": "x y", "B": "2", "TOKEN": "s3cret"}
    assert "s3cret" not in str(result)
    assert "A=x y" in result["diff"][1]["after"]


def test_secrets_are_marked_so_that_ansible_hides_them() -> None:
    assert environment.ARGUMENT_SPEC["secrets"]["no_log"] is True


def test_content() -> None:
    mac = Mac()
    run(mac, content="# why\nA=1\n", variables={"B": "2"})
    assert mac.text() == BLOCK % (b" (new file)", b"# why\nA=1\nB=2\n")
    assert mac.plist() == {"A": "1", "B": "2"}


def test_path() -> None:
    mac = Mac()
    with pytest.raises(BadInputError, match=r"^path: default/gpustack is relative; write it from / on$"):
        run(mac, path="default/gpustack")
    assert run(mac, path="/etc/default/other", variables={"A": "1"})["path"] == "/etc/default/other"
    assert mac.text() is None
    assert mac.text("/etc/default/other") is not None


def test_follow() -> None:
    mac = Mac()
    mac._put("/srv/env", MemoryFile(b"KEPT=x\n"))
    mac.link(FILE, "/srv/env")
    with pytest.raises(BadInputError, match=r"/etc/default/gpustack is a symbolic link to /srv/env: say follow: true"):
        run(mac, variables={"A": "1"})
    assert mac.writes == []
    assert run(mac, follow=True, variables={"A": "1"})["path"] == "/srv/env"
    assert mac.text("/srv/env") == b"KEPT=x\n" + BLOCK % (b"", b"A=1\n")
    assert mac.files[FILE].target == "/srv/env"


def test_unmanaged() -> None:
    mac = Mac()
    mac._put(FILE, MemoryFile(b"# note\nOTHER=1\n"))
    run(mac, variables={"A": "1"}, unmanaged="keep")
    assert mac.text() == b"# note\nOTHER=1\n" + BLOCK % (b"", b"A=1\n")
    run(mac, variables={"A": "1"}, unmanaged="remove")
    assert mac.text() == BLOCK % (b"", b"A=1\n")


def test_mode() -> None:
    mac = Mac()
    mac._put(FILE, MemoryFile(b"", mode=0o644))
    run(mac, variables={"A": "1"})
    assert (mac.files[FILE].mode, mac.files[PLIST].mode) == (0o644, 0o644)
    result = run(mac, variables={"A": "1"}, mode="0600")
    assert (mac.files[FILE].mode, mac.files[PLIST].mode, result["restarted"]) == (0o600, 0o600, False)
    with pytest.raises(BadInputError, match="mode: 'u=rw' is not three octal digits"):
        run(mac, mode="u=rw")


@pytest.mark.parametrize(
    ("option", "is_virtual", "removed"),
    [("auto", False, True), ("auto", True, False), ("absent", True, True), ("unmanaged", False, False)],
)
def test_residency_variable(option: str, is_virtual: bool, removed: bool) -> None:
    mac = Mac({RESIDENCY: "1"}, is_virtual=is_virtual)
    result = run(mac, residency_variable=option)
    assert (RESIDENCY not in mac.plist(), result["changed"], result["residency"]["remove"]) == (removed,) * 3
    assert result["residency"]["reason"]


def test_the_variable_stays_with_a_warning_where_it_cannot_be_told_whether_the_mac_is_virtual() -> None:
    mac = Mac({RESIDENCY: "1"}, is_virtual=None)
    result = run(mac)
    assert (result["changed"], mac.plist()) == (False, {RESIDENCY: "1"})
    assert [warning for warning in result["warnings"] if "virtual Mac" in warning] == [result["residency"]["reason"]]


def test_residency_variable_cannot_be_asked_for_by_its_name() -> None:
    with pytest.raises(BadInputError, match="residency_variable: unmanaged"):
        run(Mac(), variables={RESIDENCY: "1"})
    run(Mac(), variables={RESIDENCY: "1"}, residency_variable="unmanaged")


def test_restart_never_is_pending_until_somebody_restarts() -> None:
    mac = Mac({RESIDENCY: "1"})
    for _run in range(2):
        result = run(mac, restart="never")
        assert (result["restarted"], result["restart_pending"], mac.bootouts()) == (False, True, 0)
        assert result["restart_reasons"]
        assert any(warning.startswith("a restart is pending (") for warning in result["warnings"])
    result = run(mac, restart="now")
    assert (result["changed"], result["restarted"], result["restart_pending"], mac.bootouts()) == (True, True, False, 1)
    assert run(mac)["changed"] is False


def test_restart_when_idle_waits_until_no_model_runs() -> None:
    mac = Mac({RESIDENCY: "1"})
    mac.children = ["/opt/gpustack/llama-box --port 40000"]
    result = run(mac, restart="when_idle")
    assert (result["changed"], result["restarted"], result["restart_pending"], mac.bootouts()) == (True, False, True, 0)
    assert any("not now, as 1 model instance runs on this node" in warning for warning in result["warnings"])
    assert run(mac, check_mode=True, restart="when_idle")["restart_pending"] is True
    mac.children.clear()
    result = run(mac, restart="when_idle")
    assert (result["restarted"], result["restart_pending"], mac.bootouts()) == (True, False, 1)


@pytest.mark.parametrize("settle_seconds", [0.0, 45.0])
def test_settle_seconds(settle_seconds: float) -> None:
    mac = Mac({RESIDENCY: "1"})
    mac.clock += 3600.0
    start = mac.clock
    result = run(mac, settle_seconds=settle_seconds)
    # Launchd itself takes a second to see that the job stays.
    assert (result["restarted"], mac.clock - start) == (True, 1.0 + settle_seconds)


def test_a_variable_that_does_not_last_the_settle_seconds_is_undone() -> None:
    for settle_seconds, lasts in ((5.0, True), (30.0, False)):
        mac = Mac()
        mac.clock += 3600.0
        since = mac.clock
        mac.children = ["/opt/llama-box-rpc-server --rpc-server-port 50052"]
        mac.crashes = lambda variables, mac=mac, since=since: "A" in variables and mac.clock - since > 12.0  # type: ignore[misc]
        if lasts:
            assert run(mac, variables={"A": "1"}, settle_seconds=settle_seconds)["restarted"] is True
        else:
            with pytest.raises(ServiceError, match=r"^the node got worse: 0 of 1 RPC servers .*, and the node works as before$"):
                run(mac, variables={"A": "1"}, settle_seconds=settle_seconds)
        assert (mac.plist() == {"A": "1"}) is lasts


def test_a_job_that_died_and_was_started_again_still_has_to_be_loaded_anew() -> None:
    mac = Mac()
    run(mac, variables={"A": "1"})
    # What is given up cannot be seen in the live environment: only the record knows of it.
    assert run(mac, restart="never")["restart_pending"] is True
    mac.respawn()
    assert run(mac, restart="never")["restart_pending"] is True
    mac.run(["launchctl", "bootout", "system/ai.gpustack"])
    mac.run(["launchctl", "bootstrap", "system", PLIST])
    assert run(mac, restart="never")["restart_pending"] is False


def test_service_name() -> None:
    mac = Mac({RESIDENCY: "1"})
    with pytest.raises(BadInputError, match=r"^service_name: there is no service com\.example\.other on this host; correct the name"):
        run(mac, service_name="com.example.other")
    assert mac.plist() == {RESIDENCY: "1"}
    assert run(mac, service_name="ai.gpustack")["changed"] is True


def test_a_host_without_gpustack_gets_the_file_and_a_warning() -> None:
    mac = Mac()
    mac.remove(PLIST)
    result = run(mac, variables={"A": "1"})
    assert mac.text() == BLOCK % (b" (new file)", b"A=1\n")
    assert "no service ai.gpustack was found, so only /etc/default/gpustack was looked at" in result["warnings"]


def test_a_version_that_is_not_supported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = Mac({RESIDENCY: "1"})
    found = governed.find_installation(mac)  # type: ignore[arg-type]
    newer = dataclasses.replace(found, gpustack_version="2.0.1")
    monkeypatch.setattr(governed, "find_installation", lambda *_arguments: newer)
    with pytest.raises(BadInputError, match=r"^GPUStack 2\.0\.1 is not supported: since GPUStack 2 there is no llama-box"):
        run(mac)
    assert mac.plist() == {RESIDENCY: "1"}


def test_the_diff_tells_of_the_restart() -> None:
    mac = Mac({RESIDENCY: "1"})
    diff = run(mac, check_mode=True)["diff"]
    assert diff[-1]["after_header"] == "the service"
    assert f"restarted: the running service still has {RESIDENCY}\n" in diff[-1]["after"]
    assert [part["after_header"] for part in run(mac, check_mode=True, restart="never")["diff"]] == [PLIST]


def test_state_absent() -> None:
    mac = Mac()
    mac._put(FILE, MemoryFile(b"KEPT=x"))
    run(mac, variables={"A": "1"}, secrets={"TOKEN": "t"})
    assert mac.plist() == {"A": "1", "TOKEN": "t"}
    result = run(mac, state="absent")
    assert (mac.text(), mac.plist(), result["restarted"]) == (b"KEPT=x", {}, True)
    assert run(mac, state="absent")["changed"] is False


def test_every_option_is_tested_here() -> None:
    assert set(DEFAULTS) == {
        "state",
        "variables",
        "secrets",
        "content",
        "path",
        "follow",
        "unmanaged",
        "mode",
        "residency_variable",
        "restart",
        "settle_seconds",
        "service_name",
    }
