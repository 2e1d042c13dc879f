# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every option of the module, on a Mac in memory."""

from __future__ import annotations

import contextlib
import io
import json
import typing as t

import pytest
import yaml
from ansible.module_utils import basic
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import SYSCTL_NAMES
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit import OPTIONS
from ansible_collections.metalfleet.gpustack.plugins.modules import wired_limit
from ansible_collections.metalfleet.gpustack.tests.unit.fake_kernel import COLLECTOR, LIMIT, PLIST, KernelMac
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost

AUTO = 475136


class Mac(KernelMac):
    """A Mac Studio with 512 GiB."""

    def __init__(self, uid: int = 0) -> None:
        facts = {"hw.optional.arm64": 1, "hw.model": "Mac15,14", "hw.memsize": 512 * 1024**3, "kern.hv_vmm_present": 0}
        sysctl = "".join(f"{name}: {value}\n" for name, value in facts.items())
        super().__init__(
            uid=uid,
            commands={
                ("/usr/sbin/sysctl", *SYSCTL_NAMES): CommandResult(1, sysctl, ""),
                ("/usr/bin/sw_vers", "-productVersion"): CommandResult(0, "26.1\n", ""),
            },
        )


@pytest.fixture
def mac(monkeypatch):
    mac = Mac()
    monkeypatch.setattr(wired_limit, "Host", lambda: mac)
    return mac


@pytest.fixture
def run(monkeypatch):
    def run_module(**options):
        arguments = {"ANSIBLE_MODULE_ARGS": {"_ansible_remote_tmp": "/tmp", "_ansible_keep_remote_files": False, **options}}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(arguments).encode())
        # From ansible-core 2.19 on, arguments come with the name of their serialization.
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        # What ansible-core makes of warnings differs by version, and outlives the module in this process.
        warned: list[str] = []
        monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _self, warning: warned.append(warning))
        output = io.StringIO()
        with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as ended:
            wired_limit.main()
        result = json.loads(output.getvalue())
        assert bool(ended.value.code) is bool(result.get("failed"))
        # ansible-core before 2.21 adds what it was called with.
        result.pop("invocation", None)
        return {**result, "warned": warned}

    return run_module


def test_without_options_the_limit_is_auto_and_a_second_run_changes_nothing(run, mac) -> None:
    result = run()
    assert (mac.kernel, PLIST in mac.files) == ({LIMIT: AUTO, COLLECTOR: 0}, True)
    assert [(change["where"], change["action"]) for change in result["changes"]] == [(LIMIT, "set"), (PLIST, "written")]
    assert (result["changed"], result["applied"], result["limit_mib_before"], result["limit_mib"]) == (True, True, 0, AUTO)
    assert [part["after_header"] for part in result["diff"]] == ["sysctl", PLIST]
    again = run()
    assert (again["changed"], again["changes"], again["diff"], again["limit_mib_before"]) == (False, [], [], AUTO)


def test_check_mode_announces_what_the_run_does_and_does_nothing(run, mac) -> None:
    files = dict(mac.files)
    announced = run(_ansible_check_mode=True)
    assert (mac.kernel[LIMIT], mac.files) == (0, files)
    done = run()
    assert (announced.pop("applied"), done.pop("applied")) == (False, True)
    assert announced == done


@pytest.mark.parametrize("limit", [400000, "400000"])
def test_limit_mib(run, mac, limit: t.Union[int, str]) -> None:
    result = run(limit_mib=limit)
    assert (mac.kernel[LIMIT], result["reason"]) == (400000, "limit_mib was given")
    assert result["warned"] == ["limit_mib: 400000 is less than macOS gives by itself, about 440401 MiB"]


def test_disable_wired_collector(run, mac) -> None:
    assert run(disable_wired_collector=True)["wired_collector_disabled"] is True
    assert mac.kernel[COLLECTOR] == 1
    assert run(disable_wired_collector=False)["wired_collector_disabled"] is False
    mac.kernel[COLLECTOR] = 1
    assert (run()["changed"], mac.kernel[COLLECTOR]) == (False, 1)


def test_state_absent(run, mac) -> None:
    run()
    result = run(state="absent")
    assert (result["changed"], mac.kernel[LIMIT], PLIST in mac.files) == (True, 0, False)
    assert run(state="absent")["changed"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit_mib": "464 GiB"}, "limit_mib: '464 GiB' is neither auto nor a whole number of MiB;"),
        ({"limit_mib": 520000}, "limit_mib: 520000 leaves macOS 4288 of 524288 MiB,"),
        ({"state": "gone"}, "value of state must be one of: present, absent, got: gone"),
        ({"restart": "now"}, "Unsupported parameters for "),
    ],
)
def test_bad_input_is_a_failure_with_its_reason(run, mac, options: dict[str, t.Any], message: str) -> None:
    assert run(**options)["msg"].startswith(message)
    assert (mac.kernel[LIMIT], PLIST in mac.files) == (0, False)


def test_a_sysctl_that_reports_success_and_does_nothing(run, mac) -> None:
    mac.stuck = True
    assert run()["msg"] == "everything was changed as wanted, and still iogpu.wired_limit_mb is 0 and not 475136"


@pytest.mark.parametrize("uid", [0, 501])
def test_what_is_not_permitted(run, monkeypatch, uid: int) -> None:
    mac = Mac(uid)
    mac.commands["/usr/sbin/sysctl", f"{LIMIT}={AUTO}"] = CommandResult(1, "", "Operation not permitted\n")
    monkeypatch.setattr(wired_limit, "Host", lambda: mac)
    message = run()["msg"]
    assert message.startswith("/usr/sbin/sysctl iogpu.wired_limit_mb=475136 failed: rc 1: Operation not permitted")
    assert message.endswith("; this needs root: say `become: true`") is bool(uid)


def test_linux_is_no_failure(run, monkeypatch) -> None:
    monkeypatch.setattr(wired_limit, "Host", lambda: MemoryHost(system="Linux", machine="x86_64"))
    result = run(limit_mib=475136, disable_wired_collector=True)
    assert (result["changed"], result["applies"]) == (False, False)
    assert result["reason"] == "only a Mac with an Apple chip has a wired limit"


def test_documentation_and_argument_spec_say_the_same(run, mac) -> None:
    documented = yaml.safe_load(wired_limit.DOCUMENTATION)["options"]
    assert {name: {key: value for key, value in option.items() if key != "description"} for name, option in documented.items()} == OPTIONS
    returned = run()
    assert set(returned) - {"changed", "diff", "warned"} == set(yaml.safe_load(wired_limit.RETURN))
