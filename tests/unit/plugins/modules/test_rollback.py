# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module as Ansible starts it, on nodes in memory that another module has changed before."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import receipt_path
from ansible_collections.metalfleet.gpustack.plugins.modules import rollback
from ansible_collections.metalfleet.gpustack.tests.unit import fake_kernel, whole_nodes
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import PLIST, UNIT, UNIT_FILE
from ansible_collections.metalfleet.gpustack.tests.unit.llama_box_nodes import BIN_DIR
from ansible_collections.metalfleet.gpustack.tests.unit.whole_nodes import (
    FILE,
    KINDS,
    RESIDENCY,
    VERSION,
    Node,
    NodeLinux,
    NodeMac,
    bring,
    everything,
    is_at_rest,
    run_main,
    state_of,
    undocumented,
)

DOCUMENTED = yaml.safe_load(rollback.DOCUMENTATION)["options"]
RETURNED = yaml.safe_load(rollback.RETURN)
ALL_KINDS = pytest.mark.parametrize("kind", list(KINDS))
PINNED = f"{BIN_DIR}/llama-box_{VERSION}"
NOTHING = "no earlier state is kept: nothing was changed here since, or it was rolled back already"
# When nodes in memory are changed.
WHEN = "2027-01-15 09:00:00 UTC"

Run = t.Callable[..., t.Dict[str, t.Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return lambda host, check_mode=False, **options: run_main(rollback, host, monkeypatch, check_mode, **{"settle_seconds": 0.0, **options})


def upgraded(kind: str = "mac", **options: t.Any) -> tuple[Node, dict[str, t.Any]]:
    """A node that was changed, and its state before."""
    host = KINDS[kind]()
    whole_nodes.write(host, FILE, f"KEPT=1\n{RESIDENCY}=1\n".encode())
    before = state_of(host)
    bring(host, **everything(host, **options))
    host.stops, host.points = 0, []
    return host, before


def test_the_documentation_says_what_the_argument_spec_does() -> None:
    assert set(DOCUMENTED) == set(rollback.ARGUMENT_SPEC)
    for name, option in rollback.ARGUMENT_SPEC.items():
        assert {key: value for key, value in DOCUMENTED[name].items() if key != "description"} == option, name


def test_the_examples_are_taken() -> None:
    for task in yaml.safe_load(rollback.EXAMPLES):
        found = ArgumentSpecValidator(rollback.ARGUMENT_SPEC).validate(task["metalfleet.gpustack.rollback"] or {})
        assert found.error_messages == []


@ALL_KINDS
@pytest.mark.parametrize("check_mode", [True, False])
def test_every_result_is_documented(run: Run, kind: str, check_mode: bool) -> None:
    host, _before = upgraded(kind)
    result = run(host, check_mode)
    assert (result["changed"], result["health"] is None) == (True, check_mode)
    found = {key: value for key, value in result.items() if key not in ("changed", "diff", "warnings")}
    assert (undocumented(found, RETURNED), found.keys()) == ([], RETURNED.keys())
    assert {change["resource"] for change in result["changes"]} == {"previous"}
    assert {change["action"] for change in result["changes"]} == ({"restored"} if kind == "linux" else {"restored", "undone"})
    # Nothing to go back to.
    found = run(KINDS[kind](), check_mode)
    assert undocumented({key: value for key, value in found.items() if key not in ("changed", "diff", "warnings")}, RETURNED) == []


@ALL_KINDS
def test_there_and_back_again(run: Run, kind: str) -> None:
    host, before = upgraded(kind)
    environment = {**KINDS[kind]().environment(), "KEPT": "1", RESIDENCY: "1"} if kind == "linux" else {}
    assert host.status(receipt_path(host)) is not None  # type: ignore[arg-type]
    result = run(host)
    assert (result["changed"], result["applied"], result["restarted"], result["restart_pending"], host.stops) == (
        True,
        True,
        True,
        False,
        1,
    )
    assert (result["rolled_back_to"], result["reason"], result["warnings"]) == (WHEN, "", [])
    assert result["restart_reasons"] == [f"the node goes back to its state before {WHEN}"]
    assert result["health"]["sick"] == []
    assert (state_of(host), is_at_rest(host), host.is_up()) == (before, True, True)
    assert {**host.environment(), "INVOCATION_ID": ""} == {**environment, "INVOCATION_ID": ""} or kind != "linux"
    assert host.status(receipt_path(host)) is None  # type: ignore[arg-type]
    # There is one state to go back to.
    host.points = []
    again = run(host)
    assert (again["changed"], again["changes"], again["restarted"], again["diff"]) == (False, [], False, [])
    assert (again["rolled_back_to"], again["reason"], host.points, host.stops) == (None, NOTHING, [], 1)


@ALL_KINDS
def test_check_mode_announces_what_the_run_does_and_does_nothing(run: Run, kind: str) -> None:
    host, _before = upgraded(kind)
    after = state_of(host)
    announced = run(host, check_mode=True)
    assert (state_of(host), host.points, host.stops) == (after, [], 0)
    assert host.status(receipt_path(host)) is not None  # type: ignore[arg-type]
    done = run(host)
    assert (announced.pop("applied"), done.pop("applied")) == (False, True)
    assert (announced.pop("health"), done.pop("health") is None) == (None, False)
    assert announced == done
    # Each change has its part of the diff, and the restart.
    assert [part["after_header"] for part in done["diff"]] == [*(change["where"] for change in done["changes"]), "the service"]


def test_what_was_done_to_what_is_no_file_is_undone(run: Run) -> None:
    host = NodeMac()
    host.domain[RESIDENCY] = "1"
    host.kernel[fake_kernel.LIMIT] = 1000
    bring(host, **everything(host))
    assert (host.domain, host.kernel[fake_kernel.LIMIT]) == ({}, whole_nodes.AUTO_MIB)
    undone = [(change["where"], change["name"]) for change in run(host)["changes"] if change["action"] == "undone"]
    assert (host.domain, host.kernel[fake_kernel.LIMIT], host.kernel[fake_kernel.COLLECTOR]) == ({RESIDENCY: "1"}, 1000, 0)
    assert ("/usr/sbin/sysctl", fake_kernel.LIMIT) in undone


@ALL_KINDS
def test_the_value_of_a_variable_of_the_service_manager_is_not_shown(run: Run, kind: str) -> None:
    host = KINDS[kind]()
    variables = host.manager if isinstance(host, NodeLinux) else host.domain
    variables[RESIDENCY] = "s3cret"
    bring(host, environment={})
    assert RESIDENCY not in variables
    result = run(host)
    assert variables[RESIDENCY] == "s3cret"
    assert RESIDENCY in [change["name"] for change in result["changes"]]
    assert "s3cret" not in str(result)


def test_a_run_that_needed_no_restart_is_taken_back_without_one(run: Run) -> None:
    host = NodeMac()
    bring(host, wired_limit={})
    result = run(host)
    assert (result["changed"], result["restarted"], result["restart_pending"], result["health"]) == (True, False, False, None)
    assert (host.kernel[fake_kernel.LIMIT], fake_kernel.PLIST in host.files, host.stops) == (0, False, 0)


def test_what_is_odd_about_the_installation_is_told(run: Run) -> None:
    host = NodeLinux()
    whole_nodes.write(host, UNIT_FILE, host.files[UNIT_FILE].content.replace(FILE.encode(), b"/etc/other"))
    assert run(host)["warnings"] == [f"{UNIT} does not read {FILE}: it has no EnvironmentFile= line for it"]


def test_only_the_last_run_is_taken_back(run: Run) -> None:
    host, _before = upgraded()
    between = state_of(host)
    bring(host, environment={"variables": {"LATER": "1"}}, settle_seconds=0.0)
    run(host)
    assert state_of(host) == between


def test_force(run: Run) -> None:
    host, before = upgraded()
    whole_nodes.write(host, FILE, b"EDITED=1\n")
    edited = state_of(host)
    for given in ({}, {"force": False}):
        result = run(host, **given)
        assert result["msg"].startswith(f"{FILE} changed since the run that is to be rolled back; ")
        assert (state_of(host), host.stops) == (edited, 0)
    assert run(host, force=True)["changed"] is True
    assert state_of(host) == before


def test_restart_never(run: Run) -> None:
    host, before = upgraded()
    result = run(host, restart="never")
    assert (result["changed"], result["restarted"], result["restart_pending"], host.stops) == (True, False, True, 0)
    assert any(warning.startswith("a restart is pending (") for warning in result["warnings"])
    assert (state_of(host), host.status(receipt_path(host))) == (before, None)  # type: ignore[arg-type]
    # It is not forgotten.
    result = run(host, restart="never")
    assert (result["changed"], result["restart_pending"]) == (False, True)
    result = run(host)
    assert (result["restarted"], host.stops, is_at_rest(host)) == (True, 1, True)


def test_restart_when_idle(run: Run) -> None:
    host, _before = upgraded()
    host.children = ["/opt/llama-box --port 40001 --model /x.gguf"]
    assert (run(host, restart="when_idle")["restart_pending"], host.stops) == (True, 0)
    host.children = []
    assert (run(host, restart="when_idle")["restarted"], host.stops) == (True, 1)


def test_restart_now_is_the_default_and_there_are_no_others(run: Run) -> None:
    host, _before = upgraded()
    assert "value of restart must be one of: now, when_idle, never" in run(host, restart="soon")["msg"]
    assert run(host)["restarted"] is True


def test_settle_seconds(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    host, _before = upgraded()
    before = host.clock
    run(host, settle_seconds=40.0)
    assert 40.0 <= host.clock - before < 90.0
    host, _before = upgraded()
    host.clock += 3600.0
    before = host.clock
    run_main(rollback, host, monkeypatch)
    assert 10.0 <= host.clock - before < 20.0


@pytest.mark.parametrize(("timeout_seconds", "works"), [(30.0, False), (None, True), (300.0, True)])
def test_health_timeout_seconds(run: Run, timeout_seconds: float | None, works: bool) -> None:
    """GPUStack answers 100 seconds after it was started."""
    host, _before = upgraded()
    host.http[(80, "/healthz")] = lambda: 200 if host.stops == 0 or host.clock >= host._runs_at + 100.0 else None  # type: ignore[operator]
    options = {} if timeout_seconds is None else {"health_timeout_seconds": timeout_seconds}
    result = run(host, **options)
    assert result.get("failed", False) is not works
    if not works:
        assert "the server does not answer /healthz" in result["msg"]


def test_service_name(run: Run) -> None:
    host, before = upgraded()
    after = state_of(host)
    result = run(host, service_name="com.example.gpustack")
    assert result["msg"].startswith("service_name: there is no service com.example.gpustack on this host")
    assert (state_of(host), host.stops) == (after, 0)
    assert run(host, service_name="ai.gpustack")["restarted"] is True
    assert state_of(host) == before


@ALL_KINDS
def test_a_rollback_that_makes_the_node_worse_is_undone(run: Run, kind: str) -> None:
    host, _before = upgraded(kind)
    after = state_of(host)
    host.kills = lambda environment: "HF_ENDPOINT" not in environment
    result = run(host)
    assert result["msg"].endswith("; everything that was changed was put back, and the node works as before")
    assert (state_of(host), host.is_up()) == (after, True)
    # What to go back to is still there.
    host.kills = lambda environment: False
    assert run(host)["changed"] is True


def test_who_is_not_root_is_told_so(run: Run) -> None:
    host, _before = upgraded()
    host.unreadable.add("/var/db/metalfleet/journal.json")
    denied = "/var/db/metalfleet/journal.json cannot be read: Permission denied"
    assert run(host, check_mode=True)["msg"] == denied
    host._uid = 501
    assert run(host, check_mode=True)["msg"] == f"{denied}; this needs root: say `become: true`"


def test_a_named_file_is_gone_and_comes_back(run: Run) -> None:
    """Somebody removes what the last run left: an edit like any other."""
    host, before = upgraded()
    host.remove(PINNED)
    # It was not there before either.
    assert run(host)["changed"] is True
    assert state_of(host) == before
    host, before = upgraded()
    host.remove(FILE)
    assert FILE in run(host)["msg"]
    assert run(host, force=True)["changed"] is True
    assert (state_of(host), PLIST in host.files) == (before, True)
