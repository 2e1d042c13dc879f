# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import find_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service_manager import service_manager
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.plugins.modules import node_info
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import FakeLaunchd
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost
from ansible_collections.metalfleet.gpustack.tests.unit.installations import (
    PLIST,
    SECRETS,
    UNIT,
    fixture,
    script_mac,
    systemd_linux,
    venv_files,
)

SITE = "/Users/synthetic/.local/pipx/venvs/gpustack/lib/python3.11/site-packages"
BOX = f"{SITE}/gpustack/third_party/bin/llama-box/llama-box"
DEFAULTS = {"service_name": None, "environment_file": "/etc/default/gpustack", "checksums": True, "run_binaries": True}


def mac(version: str = "0.6.2") -> MemoryHost:
    host = script_mac(version)
    host._put(BOX, MemoryFile(b"program", mode=0o755))
    host._put(f"{SITE}/gpustack/third_party/bin/versions.json", MemoryFile(b'{"llama-box": "v0.0.154"}'))
    host.commands[(BOX, "--version")] = CommandResult(0, "", fixture("synthetic_llama_box_version.txt").decode())
    host.commands[("launchctl", "print", "system/ai.gpustack")] = CommandResult(113, "", "Could not find service\n")
    host.commands[("launchctl", "getenv", "GGML_METAL_NO_RESIDENCY")] = CommandResult(0, "", "")
    return host


def describe(host: MemoryHost, **params: t.Any) -> dict[str, t.Any]:
    return node_info.describe(host, {**DEFAULTS, **params})


def test_a_whole_node() -> None:
    node = describe(mac())
    assert (node["gpustack_version"], node["supported"], node["reason"]) == ("0.6.2", True, "")
    assert node["installation"]["kind"] == "script"
    assert [(box["slot"], box["version"], box["recorded_version"]) for box in node["llama_box"]] == [("builtin", "v0.0.136", "v0.0.154")]
    assert node["residency"]["state"] == "present"
    assert {(place["kind"], place["state"]) for place in node["residency"]["places"]} == {
        ("environment_file", "absent"),
        ("plist", "present"),
        ("loaded_job", "absent"),
        ("launchd_environment", "absent"),
    }
    assert node["service"] == {
        "manager": "launchd",
        "known": False,
        "running": False,
        "enabled": None,
        "pid": None,
        "started": None,
        "detail": "ai.gpustack is not loaded",
    }
    assert node["warnings"] == []


def test_nothing_changes_on_the_node() -> None:
    host = mac()
    describe(host)
    assert host.writes == []
    assert not any({"bootstrap", "bootout", "kickstart", "setenv", "unsetenv"} & set(call) for call in host.calls)


def test_option_service_name() -> None:
    host = mac()
    plist = fixture("synthetic_script.plist").replace(b"<string>ai.gpustack<", b"<string>ai.gpustack-b<")
    host._put("/Library/LaunchDaemons/ai.gpustack-b.plist", MemoryFile(plist))
    host.remove(PLIST)
    assert describe(host)["installation"]["kind"] == "none"
    node = describe(host, service_name="ai.gpustack-b")
    assert (node["installation"]["kind"], node["service"]["manager"]) == ("script", "launchd")
    assert ("launchctl", "print", "system/ai.gpustack-b") in host.calls


def test_option_environment_file() -> None:
    host = mac()
    host._put("/etc/gpustack-b", MemoryFile(b"GGML_METAL_NO_RESIDENCY=1\n"))
    place = describe(host, environment_file="/etc/gpustack-b")["residency"]["places"][0]
    assert (place["where"], place["state"], place["lines"]) == ("/etc/gpustack-b", "present", [1])


def test_option_checksums() -> None:
    assert describe(mac(), checksums=False)["llama_box"][0]["sha256"] is None
    assert len(describe(mac())["llama_box"][0]["sha256"]) == 64


def test_option_run_binaries() -> None:
    host = mac()
    assert describe(host, run_binaries=False)["llama_box"][0]["version"] is None
    assert (BOX, "--version") not in host.calls


@pytest.mark.parametrize(
    ("version", "supported", "reason"),
    [("2.0.0", False, "since GPUStack 2 there is no llama-box"), ("0.5.1", False, "the oldest is 0.6.0"), ("0.0.0", None, "says nothing")],
)
def test_other_versions_are_facts_and_no_failure(version: str, supported: bool | None, reason: str) -> None:
    node = describe(mac(version))
    assert node["supported"] is supported
    assert reason in node["reason"]


class LoadedWithoutPlist(FakeLaunchd):
    """A Mac whose property list was removed while the job was loaded."""

    def __init__(self, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables)
        self.remove(PLIST)
        self.commands[("ps", "-axww", "-o", "pid=,ppid=,command=")] = CommandResult(0, "801 1 /x/gpustack start\n", "")
        self.commands[("ps", "-ww", "-o", "pid=,command=", "-p", "801")] = CommandResult(0, "801 /x/gpustack start\n", "")
        environment = "".join(f" {name}={value}" for name, value in {**(variables or {}), "XPC_SERVICE_NAME": "ai.gpustack"}.items())
        with_environment = CommandResult(0, f"801 /x/gpustack start{environment}\n", "")
        self.commands[("ps", "-E", "-ww", "-o", "pid=,command=", "-p", "801")] = with_environment


@pytest.mark.parametrize(("variables", "state"), [({"GGML_METAL_NO_RESIDENCY": "1"}, "present"), ({"A": "1"}, "absent")])
def test_a_job_that_outlives_its_property_list(variables: dict[str, str], state: str) -> None:
    host = LoadedWithoutPlist(variables)
    node = describe(host)
    assert node["installation"]["kind"] == "none"
    assert [(place["kind"], place["where"], place["state"]) for place in node["residency"]["places"]] == [
        ("environment_file", "/etc/default/gpustack", "absent"),
        ("loaded_job", "system/ai.gpustack", state),
        ("process", "pid 801 (gpustack)", state),
        ("launchd_environment", "launchctl getenv", "absent"),
    ]
    assert node["residency"]["state"] == state
    assert (node["service"]["manager"], node["service"]["running"], node["service"]["pid"]) == ("launchd", True, 801)
    (warning,) = node["warnings"]
    assert warning == (
        "ai.gpustack is loaded although /Library/LaunchDaemons/ai.gpustack.plist is gone, so it keeps its environment until the next boot: "
        "run `launchctl bootout system/ai.gpustack`, or install GPUStack again"
    )
    # What only looks is no manager to restart it with.
    assert service_manager(host, find_installation(host)) is None


def test_a_loaded_job_with_its_property_list_is_no_leftover() -> None:
    node = describe(FakeLaunchd())
    assert (node["service"]["known"], node["service"]["running"]) == (True, True)
    assert not any("is gone" in warning for warning in node["warnings"])


def test_a_mac_without_gpustack_is_asked_all_the_same() -> None:
    host = FakeLaunchd({"GGML_METAL_NO_RESIDENCY": "1"})
    host.remove(PLIST)
    host.run(["launchctl", "bootout", "system/ai.gpustack"])
    node = describe(host)
    assert {(place["kind"], place["state"]) for place in node["residency"]["places"]} == {
        ("environment_file", "absent"),
        ("loaded_job", "absent"),
        ("launchd_environment", "absent"),
    }
    assert (node["service"]["manager"], node["service"]["known"], node["service"]["running"]) == (None, False, False)
    assert node["service"]["detail"] == "GPUStack is not installed as a service"
    assert node["warnings"] == []


def test_a_mac_whose_launchd_does_not_answer_is_unknown() -> None:
    host = FakeLaunchd()
    host.remove(PLIST)
    host.hangs.add("print")
    node = describe(host)
    assert (node["residency"]["state"], node["service"]["manager"], node["service"]["known"]) == ("unknown", "launchd", None)
    assert node["warnings"] == []


def test_another_label_without_a_property_list() -> None:
    host = mac()
    host.commands[("launchctl", "print", "system/ai.gpustack-b")] = CommandResult(113, "", "Could not find service\n")
    places = describe(host, service_name="ai.gpustack-b")["residency"]["places"]
    assert [place["where"] for place in places if place["kind"] == "loaded_job"] == ["system/ai.gpustack-b"]


def test_a_unit_that_outlives_its_file() -> None:
    host = systemd_linux(LoadState="not-found", FragmentPath="", ActiveState="active", SubState="running", MainPID="812")
    host.remove(UNIT)
    host._put("/proc/812/stat", MemoryFile(b"812 (gpustack) S 1 "))
    host._put("/proc/812/cmdline", MemoryFile(b"/x/gpustack\0start\0"))
    host._put("/proc/812/environ", MemoryFile(b"PATH=/bin\0GGML_METAL_NO_RESIDENCY=1\0"))
    node = describe(host)
    assert (node["installation"]["kind"], node["residency"]["state"]) == ("none", "present")
    assert (node["service"]["manager"], node["service"]["running"]) == ("systemd", True)
    (warning,) = node["warnings"]
    assert warning == (
        "gpustack.service runs although its unit file is gone, so it keeps its environment until it is stopped: "
        "run `systemctl stop gpustack.service`, or install GPUStack again"
    )
    assert service_manager(host, find_installation(host)) is None


def test_a_unit_that_is_gone_and_does_not_run() -> None:
    host = systemd_linux(LoadState="not-found", FragmentPath="")
    host.remove(UNIT)
    node = describe(host)
    assert (node["service"]["manager"], node["service"]["known"], node["warnings"]) == (None, False, [])


def test_nothing_installed() -> None:
    node = describe(MemoryHost(system="Linux"))
    assert (node["supported"], node["reason"], node["gpustack_version"]) == (None, "no GPUStack was found on this host", None)
    assert (node["service"]["manager"], node["service"]["known"]) == (None, False)
    assert node["residency"]["state"] == "absent"
    assert node["warnings"] == []


def test_without_privileges_what_is_not_seen_is_unknown() -> None:
    files = venv_files("/Users/synthetic", "0.6.2")
    plist = fixture("synthetic_script.plist").replace(b"GGML_METAL_NO_RESIDENCY", b"OTHER")
    host = MemoryHost(files={**files, PLIST: plist, "/etc/default/gpustack": b""}, uid=501)
    host.unreadable.update({"/etc/default/gpustack", f"{SITE[: -len('/python3.11/site-packages')]}"})
    host.commands[("launchctl", "print", "system/ai.gpustack")] = HostError("launchctl cannot be run: Operation not permitted")
    node = describe(host)
    assert node["residency"]["state"] == "unknown"
    assert (node["service"]["known"], node["service"]["running"]) == (None, None)
    assert (node["gpustack_version"], node["supported"]) == (None, None)
    assert node["warnings"]


@pytest.mark.parametrize("host", [mac(), systemd_linux()])
def test_nothing_secret_is_returned(host: MemoryHost) -> None:
    text = json.dumps(describe(host))
    assert not any(secret in text for secret in SECRETS)


def documented(contains: dict[str, t.Any]) -> dict[str, t.Any]:
    return {name: documented(entry["contains"]) if "contains" in entry else None for name, entry in contains.items()}


def returned(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {name: returned(entry) for name, entry in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return returned(value[0])
    return None


def test_what_is_returned_is_what_is_documented() -> None:
    assert returned(describe(mac())) == documented(yaml.safe_load(node_info.RETURN)["node"]["contains"])


def test_the_options_are_those_documented() -> None:
    options = yaml.safe_load(node_info.DOCUMENTATION)["options"]
    assert {name: option["type"] for name, option in options.items()} == {
        name: spec["type"] for name, spec in node_info.ARGUMENT_SPEC.items()
    }
    assert {name: option.get("default") for name, option in options.items()} == DEFAULTS
    assert {name: spec.get("default") for name, spec in node_info.ARGUMENT_SPEC.items()} == DEFAULTS


class Ended(Exception):
    """What exit_json and fail_json raise here."""


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch) -> t.Callable[[MemoryHost], tuple[str, dict[str, t.Any]]]:
    def run(host: MemoryHost) -> tuple[str, dict[str, t.Any]]:
        results: list[tuple[str, dict[str, t.Any]]] = []

        def end(kind: str) -> t.Callable[..., None]:
            def ended(_module: object, **values: t.Any) -> None:
                results.append((kind, values))
                raise Ended

            return ended

        class Module(AnsibleModule):
            def __init__(self, argument_spec: dict[str, t.Any], supports_check_mode: bool) -> None:
                assert supports_check_mode
                self.params = {name: spec.get("default") for name, spec in argument_spec.items()}

        monkeypatch.setattr(Module, "exit_json", end("exit"))
        monkeypatch.setattr(Module, "fail_json", end("fail"))
        monkeypatch.setattr(node_info, "Module", Module)
        monkeypatch.setattr(node_info, "Host", lambda: host)
        with pytest.raises(Ended):
            node_info.main()
        return results[0]

    return run


def test_main(run_main: t.Callable[[MemoryHost], tuple[str, dict[str, t.Any]]]) -> None:
    kind, values = run_main(mac())
    assert (kind, values["changed"], values["node"]["gpustack_version"]) == ("exit", False, "0.6.2")


def test_an_unforeseen_failure_is_a_message(run_main: t.Callable[[MemoryHost], tuple[str, dict[str, t.Any]]]) -> None:
    host = mac()

    class Broken(MemoryHost):
        def system(self) -> str:
            raise HostError("uname cannot be run")

    broken = Broken(files=dict(host.files))
    assert run_main(broken) == ("fail", {"msg": "uname cannot be run"})
