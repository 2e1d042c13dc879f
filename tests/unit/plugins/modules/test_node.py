# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module as Ansible starts it, on nodes in memory: its documentation, its options, its results and failures."""

from __future__ import annotations

import plistlib
import re
import typing as t

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import state_folder
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import environment_request, llama_box_request
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import wired_limit as wired_limit_request
from ansible_collections.metalfleet.gpustack.plugins.modules import environment, llama_box, node, wired_limit
from ansible_collections.metalfleet.gpustack.tests.unit import fake_kernel, whole_nodes
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import LABEL, PLIST
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile
from ansible_collections.metalfleet.gpustack.tests.unit.llama_box_nodes import BIN_DIR, BUILTIN_0_6, SITE, STORE
from ansible_collections.metalfleet.gpustack.tests.unit.whole_nodes import (
    AUTO_MIB,
    FILE,
    KINDS,
    RESIDENCY,
    VERSION,
    Node,
    NodeLinux,
    NodeMac,
    everything,
    run_main,
    undocumented,
)

DOCUMENTED = yaml.safe_load(node.DOCUMENTATION)["options"]
RETURNED = yaml.safe_load(node.RETURN)
RESOURCES = {
    "llama_box": (llama_box, llama_box_request.OPTIONS),
    "wired_limit": (wired_limit, wired_limit_request.OPTIONS),
    "environment": (environment, environment_request.OPTIONS),
}
EACH = pytest.mark.parametrize("name", list(RESOURCES))
# What the three modules share with each other and with this one: it has these itself.
SHARED_OPTIONS = {"restart", "settle_seconds", "service_name"}
SHARED_RESULTS = {"changes", "applied", "restarted", "restart_pending", "restart_reasons", "health", "archives_needed"}

Run = t.Callable[..., t.Dict[str, t.Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return lambda host, check_mode=False, **options: run_main(node, host, monkeypatch, check_mode, **options)


def words(text: t.Any, name: str) -> t.Any:
    """A description without its line ends; references to its own options as in the module that does one thing."""
    if isinstance(text, str):
        return re.sub(rf"\b(O|RV)\({name}\.", r"\1(", " ".join(text.split()))
    if isinstance(text, list):
        return [words(one, name) for one in text]
    return {key: words(value, name) for key, value in text.items()} if isinstance(text, dict) else text


def plain(option: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What an argument spec and a documentation have in common."""
    return {key: value for key, value in option.items() if key not in ("description", "suboptions", "options", "no_log")}


def test_the_documentation_says_what_the_argument_spec_does() -> None:
    assert set(DOCUMENTED) == set(node.ARGUMENT_SPEC)
    for name, option in node.ARGUMENT_SPEC.items():
        assert plain(DOCUMENTED[name]) == plain(option), name
        suboptions = DOCUMENTED[name].get("suboptions", {})
        assert set(suboptions) == set(option.get("options", {}))
        for subname, suboption in option.get("options", {}).items():
            assert plain(suboptions[subname]) == plain(suboption), (name, subname)


@EACH
def test_each_resource_has_the_options_of_its_own_module(name: str) -> None:
    module, spec = RESOURCES[name]
    assert node.ARGUMENT_SPEC[name]["options"] is spec
    own = {key: value for key, value in yaml.safe_load(module.DOCUMENTATION)["options"].items() if key not in SHARED_OPTIONS}
    assert words(DOCUMENTED[name]["suboptions"], name) == words(own, name)


@EACH
def test_each_resource_returns_what_its_own_module_does(name: str) -> None:
    module, _spec = RESOURCES[name]
    own = {key: value for key, value in yaml.safe_load(module.RETURN).items() if key not in SHARED_RESULTS}
    for value in own.values():
        del value["returned"]
    assert words(RETURNED[name]["contains"], name) == words(own, name)
    assert RETURNED[name]["returned"] == f"when O({name}) is given"


def test_what_is_shared_is_said_alike() -> None:
    for option in ("restart", "settle_seconds"):
        assert plain(DOCUMENTED[option]) == plain(yaml.safe_load(environment.DOCUMENTATION)["options"][option])
    assert SHARED_RESULTS - {"archives_needed"} == set(RETURNED) - set(RESOURCES) - {"receipt", "ansible_facts"}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("check_mode", [True, False])
def test_every_result_is_documented(run: Run, kind: str, check_mode: bool) -> None:
    result = run(KINDS[kind](), check_mode, **everything(NodeMac() if kind != "linux" else NodeLinux()))
    assert (result["changed"], result["health"] is None) == (True, check_mode)
    # What Ansible knows of any module; and keys of changes are those of the resource's own module.
    found = {key: value for key, value in result.items() if key not in ("changed", "diff", "warnings")}
    found["changes"] = [{key: change[key] for key in ("resource", "where", "action")} for change in found["changes"]]
    assert undocumented(found, RETURNED) == []
    assert found.keys() == RETURNED.keys()
    named = {part["after_header"] for part in result["diff"]}
    assert {FILE, "the service"} <= named


def test_the_examples_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for task in yaml.safe_load(node.EXAMPLES):
        given = task["metalfleet.gpustack.node"]
        given["llama_box"]["lock"] = {}
        found = ArgumentSpecValidator(node.ARGUMENT_SPEC).validate(given)
        assert found.error_messages == []


def test_secrets_are_marked_so_that_ansible_hides_them() -> None:
    hidden = [(name, key) for name in RESOURCES for key, spec in node.ARGUMENT_SPEC[name]["options"].items() if spec.get("no_log")]
    assert hidden == [("llama_box", "url_password"), ("llama_box", "url_token"), ("environment", "secrets")]


# The options.


def test_changed_and_then_not(run: Run) -> None:
    host = NodeMac(environment={RESIDENCY: "1"})
    result = run(host, **everything(host))
    assert (result["changed"], result["applied"], result["restarted"], result["restart_pending"]) == (True, True, True, False)
    assert (result["health"]["after"]["answering"], result["health"]["sick"]) == (["server", "worker"], [])
    assert (result["wired_limit"]["limit_mib"], result["environment"]["path"]) == (AUTO_MIB, FILE)
    assert [slot["version"] for slot in result["llama_box"]["slots"]] == [VERSION, VERSION]
    again = run(host, **everything(host))
    assert (again["changed"], again["changes"], again["restarted"], again["diff"], host.stops) == (False, [], False, [], 1)


def test_restart_now_is_the_default(run: Run) -> None:
    host = NodeMac()
    assert (run(host, **everything(host))["restarted"], host.stops) == (True, 1)


def test_restart_never(run: Run) -> None:
    host = NodeMac()
    for changed in (True, False):
        result = run(host, **everything(host, restart="never"))
        assert (result["changed"], result["restarted"], result["restart_pending"], host.stops) == (changed, False, True, 0)
        assert any(warning.startswith("a restart is pending (") for warning in result["warnings"])
    assert host.kernel[fake_kernel.LIMIT] == AUTO_MIB


def test_restart_when_idle(run: Run) -> None:
    host = NodeMac()
    host.children = ["/opt/llama-box --port 40001 --model /x.gguf"]
    options = everything(host, restart="when_idle")
    result = run(host, **options)
    assert (result["restarted"], result["restart_pending"], host.stops) == (False, True, 0)
    assert any("not now, as 1 model instance runs on this node" in warning for warning in result["warnings"])
    host.children = []
    result = run(host, **options)
    assert (result["changed"], result["restarted"], result["restart_pending"], host.stops) == (True, True, False, 1)


def test_restart_has_no_other_values(run: Run) -> None:
    assert "value of restart must be one of: now, when_idle, never" in run(NodeMac(), environment={}, restart="soon")["msg"]


def test_settle_seconds(run: Run) -> None:
    took = {}
    for seconds in (0.0, 40.0, None):
        host = NodeMac()
        options = everything(host, settle_seconds=seconds)
        before = host.clock
        run(host, **{key: value for key, value in options.items() if value is not None})
        took[seconds] = host.clock - before
    assert (took[0.0] < 10.0, 40.0 <= took[40.0] < 50.0, 10.0 <= took[None] < 20.0) == (True, True, True)


@pytest.mark.parametrize(("timeout_seconds", "works"), [(30.0, False), (None, True), (300.0, True)])
def test_health_timeout_seconds(run: Run, timeout_seconds: float | None, works: bool) -> None:
    """GPUStack answers 100 seconds after it was started."""
    host = NodeMac()
    host.http[(80, "/healthz")] = lambda: 200 if host.stops == 0 or host.clock >= host._runs_at + 100.0 else None  # type: ignore[operator]
    options = {} if timeout_seconds is None else {"health_timeout_seconds": timeout_seconds}
    result = run(host, **everything(host, **options))
    assert result.get("failed", False) is not works
    if not works:
        assert "the server does not answer /healthz" in result["msg"]


@pytest.mark.parametrize(("given", "seconds"), [({"lock_wait_seconds": 7.0}, 7.0), ({}, 60.0)])
def test_lock_wait_seconds(run: Run, given: dict[str, float], seconds: float) -> None:
    host = NodeMac()
    host.make_folder(state_folder(host), 0o700)  # type: ignore[arg-type]
    host.locked[f"{state_folder(host)}/lock"] = "process 1 since 2026"  # type: ignore[arg-type]
    before, files = host.clock, set(host.files)
    result = run(host, **everything(host, **given))
    assert result["msg"] == "another run works on this node: process 1 since 2026; wait until it has ended, and run again"
    assert (host.clock - before, set(host.files)) == (seconds, files)
    # Check mode does not wait.
    assert run(host, True, **everything(host, **given))["changed"] is True


def test_service_name(run: Run) -> None:
    host = NodeMac()
    result = run(host, service_name="com.example.gpustack", environment={})
    assert result["msg"].startswith("service_name: there is no service com.example.gpustack on this host")
    result = run(host, **everything(host, service_name=LABEL))
    assert (result["changed"], result["restarted"]) == (True, True)
    # Another one's property list.
    other = "/Library/LaunchDaemons/com.example.gpustack.plist"
    host.commands[("launchctl", "print", "system/com.example.gpustack")] = CommandResult(113, "", "")
    host.files[other] = MemoryFile(host.files[PLIST].content.replace(LABEL.encode(), b"com.example.gpustack"))
    result = run(host, check_mode=True, service_name="com.example.gpustack", environment={"variables": {"A": "1"}})
    assert other in [change["where"] for change in result["changes"]]


def test_nothing_given(run: Run) -> None:
    result = run(NodeMac(), restart="now")
    assert result["msg"] == "nothing is wanted of this node: say one or more of llama_box, wired_limit and environment"


# Every suboption reaches its resource; what it does there is tested with the module of its own.


def test_suboptions_of_llama_box(run: Run) -> None:
    host = NodeMac()
    given = everything(host)["llama_box"]

    def changed(**options: t.Any) -> list[tuple[str, str, str]]:
        result = run(host, True, llama_box={**given, **options})
        return [(change["name"], change["action"], change["to"]) for change in result["changes"]]

    assert changed() == [("pinned", "installed", VERSION), ("builtin", "downgraded", VERSION)]
    assert changed(version="v0.0.168")[1] == ("builtin", "upgraded", "v0.0.168")
    assert changed(slots=["pinned"]) == [("pinned", "installed", VERSION)]
    assert "no-such-toolkit" in run(host, True, llama_box={**given, "toolkit": "no-such-toolkit"})["msg"]
    assert run(host, True, llama_box={**given, "lock": None})["msg"].startswith("lock is missing")
    run(host, settle_seconds=0.0, llama_box={**given, "version": "v0.0.144"})
    run(host, settle_seconds=0.0, llama_box=given)
    assert host.names(STORE) == ["builtin-0.6.2", "builtin-0.6.2.json", "v0.0.139", "v0.0.144"]
    run(host, settle_seconds=0.0, llama_box={**given, "version": "v0.0.168", "keep": 0})
    assert host.names(STORE) == ["builtin-0.6.2", "builtin-0.6.2.json", "v0.0.168"]
    assert run(host, settle_seconds=0.0, llama_box={"state": "absent"})["restarted"] is True
    assert host.names(STORE) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folder": "/nowhere"}, "/nowhere/"),
        ({"folder": None}, "folder"),
        ({"source": "push"}, "archives_folder"),
        ({"source": "push", "archives_folder": "x", "archives": {"0" * 64: "/x.zip"}}, "archives_needed"),
        ({"source": "download", "base_url": "http://127.0.0.1:1", "retries": 0, "timeout_seconds": 1}, "http://127.0.0.1:1/"),
        ({"source": "download", "ca_path": "/nowhere.pem", "retries": 0, "timeout_seconds": 1}, "/nowhere.pem"),
        ({"source": "download", "url_password": "x"}, "url_username"),
        ({"source": "download", "url_username": "me", "url_token": "x"}, "url_token"),
        ({"source": "download", "retries": -1}, "retries"),
        ({"source": "download", "timeout_seconds": 0}, "timeout_seconds"),
        ({"keep": -1}, "keep"),
    ],
)
def test_where_archives_come_from(run: Run, options: dict[str, t.Any], message: str) -> None:
    host = NodeMac()
    before = {path: file.content for path, file in host.files.items()}
    result = run(host, llama_box={**everything(host)["llama_box"], **options})
    assert message in str(result)
    assert ("changes" in result, host.stops) == (False, 0)
    assert {path: host.files[path].content for path in before} == before


def test_use_proxy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:2")
    monkeypatch.delenv("no_proxy", raising=False)
    host = NodeMac()
    there = {"source": "download", "base_url": "http://mirror.invalid", "retries": 0, "timeout_seconds": 1}
    for use_proxy in (True, False):
        result = run(host, llama_box={**everything(host)["llama_box"], **there, "use_proxy": use_proxy})
        assert ("refused" in result["msg"]) is use_proxy


def test_sealed(run: Run) -> None:
    assert node.ARGUMENT_SPEC["llama_box"]["options"]["sealed"]["default"] is False
    host = desktop()
    given = everything(host)["llama_box"]
    assert "sealed" in run(host, True, llama_box=given)["msg"]
    assert run(host, True, llama_box={**given, "sealed": True})["changed"] is True


def desktop() -> Node:
    """A Mac whose GPUStack lies in a signed application."""
    host = NodeMac("0.7.1")
    contents = "/Applications/GPUStack.app/Contents"
    host.make_folder(contents, 0o755)
    host.rename(SITE, f"{contents}/Frameworks")
    host.put(f"{contents}/MacOS/gpustack", b"\xcf\xfa\xed\xfe")
    plist = {"Label": LABEL, "ProgramArguments": [f"{contents}/MacOS/gpustack", "start", "--data-dir", "/var/lib/gpustack"]}
    whole_nodes.write(host, PLIST, plistlib.dumps(plist))
    return host


def test_suboptions_of_wired_limit(run: Run) -> None:
    host = NodeMac()

    def limits(**options: t.Any) -> tuple[t.Any, t.Any, bool]:
        run(host, wired_limit=options)
        return host.kernel[fake_kernel.LIMIT], host.kernel[fake_kernel.COLLECTOR], fake_kernel.PLIST in host.files

    assert limits() == (AUTO_MIB, 0, True)
    assert limits(limit_mib="400000") == (400000, 0, True)
    assert limits(disable_wired_collector=True) == (AUTO_MIB, 1, True)
    assert limits(state="absent") == (0, 0, False)


def test_suboptions_of_environment(run: Run) -> None:
    host = NodeMac()

    def lines(**options: t.Any) -> list[str]:
        result = run(host, environment=options, settle_seconds=0.0)
        if "msg" in result:
            return [result["msg"]]
        content = host.files[result["environment"]["path"]].content.decode()
        return [line for line in content.splitlines() if not line.startswith("# ")]

    whole_nodes.write(host, FILE, f"KEPT=1\n{RESIDENCY}=1\n".encode())
    assert lines(residency_variable="unmanaged") == ["KEPT=1", f"{RESIDENCY}=1"]
    assert lines(residency_variable="absent") == ["KEPT=1"]
    assert lines(variables={"A": "1"}, secrets={"B": "2"}, content="C=3\n") == ["KEPT=1", "C=3", "A=1", "B=2"]
    assert lines(state="absent") == ["KEPT=1"]
    assert lines(variables={"A": "1"}, unmanaged="remove") == ["A=1"]
    assert (lines(variables={"A": "1"}, mode="0600"), host.files[FILE].mode) == (["A=1"], 0o600)
    assert lines(variables={"A": "1"}, path="/etc/other") == ["A=1"]
    host.link("/etc/link", "/etc/other")
    assert lines(path="/etc/link")[0].startswith("/etc/link is a symbolic link to /etc/other: say follow: true")
    assert lines(path="/etc/link", follow=True, variables={"D": "4"}) == ["D=4"]


# Failures.


def test_who_is_not_root_is_told_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    host = NodeMac()
    host.unreadable.add(FILE)
    whole_nodes.write(host, FILE, b"")
    assert run(host, environment={})["msg"] == f"{FILE} cannot be read: Permission denied"
    host._uid = 501
    assert run(host, environment={})["msg"] == f"{FILE} cannot be read: Permission denied; this needs root: say `become: true`"
    # What root would be told as well is no matter of rights.
    assert "become" not in run(host)["msg"]


def test_what_cannot_be_found_out_without_rights_is_no_reason_to_install_gpustack(run: Run) -> None:
    """The property list is not for everybody where it holds secrets."""
    host = NodeMac()
    host.unreadable.add(PLIST)
    host._uid = 501
    assert run(host, True, **everything(host))["msg"].endswith("; this needs root: say `become: true`")


def test_a_node_that_gets_worse(run: Run) -> None:
    host = NodeMac()
    host.kills = lambda environment: "HF_ENDPOINT" in environment
    result = run(host, **everything(host))
    assert result["failed"] is True
    assert result["msg"].endswith("; everything that was changed was put back, and the node works as before")
    assert (host.is_up(), host.content(BUILTIN_0_6) is not None, f"{BIN_DIR}/llama-box_{VERSION}" in host.files) == (True, True, False)


def test_the_archives_that_the_controller_has_to_bring(run: Run) -> None:
    host = NodeMac()
    options = everything(host)
    options["llama_box"].update(source="push", archives_folder="archives")
    result = run(host, **options)
    assert result["changed"] is False
    assert [(one["version"], one["build"]) for one in result["archives_needed"]] == [(VERSION, "darwin-arm64-metal")]
    assert host.stops == 0


def test_gpustack_2_is_refused(run: Run) -> None:
    host = NodeMac()
    name = next(path for path in host.files if path.endswith("METADATA"))
    host.files[name].content = host.files[name].content.replace(b"0.6.2", b"2.0.1")
    result = run(host, **everything(host))
    assert (result["failed"], "2.0.1" in result["msg"], host.points) == (True, True, [])
