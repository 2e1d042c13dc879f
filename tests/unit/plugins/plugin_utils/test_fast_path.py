# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import types
import typing as t

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.node import _result
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.outcome import Outcome
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.restart import Decision
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import Hardware
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.receipt_questions import seconds_of_trust
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.release import VERSION
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils import fast_path
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.fast_path import Answer, ask

FOUND = "/usr/bin/python3.9"
PYTHON = "/opt/homebrew/bin/python3.12"
VARS = {"inventory_hostname": "mac-1", "ansible_python_interpreter": PYTHON}
OPTIONS = {"environment": {"secrets": {"HF_TOKEN": "canary"}}}
# After the call.
END = "\nposix._exit(0)\n"


class Become:
    """A become plugin. password: None where it has no such option. requires: attributes that only some have."""

    def __init__(self, pipelining: bool | None = True, password: str | None = "", name: str = "sudo", **requires: t.Any) -> None:
        self.name = name
        if pipelining is not None:
            self.pipelining = pipelining
        self.options = {} if password is None else {"become_pass": password}
        for attribute, value in requires.items():
            setattr(self, attribute, value)

    def get_option(self, name: str) -> str:
        return self.options[name]


class Action:
    """What an action plugin offers; said: what the node answers to a program, {} being the mark."""

    def __init__(
        self,
        said: str = 'greeting\n{} ok 60 {{"changed": false}}\n',
        become: Become | None = None,
        pipes: bool = True,
        enabled: bool = False,
    ) -> None:
        self.rc = 1
        self.sent: list[tuple[str, str]] = []
        self.said = said
        shell = types.SimpleNamespace(SHELL_FAMILY="sh")
        self._connection = types.SimpleNamespace(_shell=shell, become=become, has_pipelining=pipes)
        self._is_pipelining_enabled = lambda _style: enabled
        self._task = types.SimpleNamespace(delegate_to=None)
        self._templar = types.SimpleNamespace(template=lambda value: str(value).replace("{{ python }}", PYTHON))

    def _low_level_execute_command(self, command: str, in_data: bytes) -> dict[str, t.Any]:
        self.sent.append((command, in_data.decode()))
        mark = in_data.decode().split("main('")[-1].split("'")[0]
        return {"rc": self.rc, "stdout": self.said.format(mark), "stderr": ""}


def verdict(action: Action, options: t.Mapping[str, t.Any] | None = None, **variables: t.Any) -> Answer:
    task_vars = {name: value for name, value in {**VARS, **variables}.items() if value is not None}
    return ask(action, OPTIONS if options is None else options, task_vars, "digest")  # type: ignore[arg-type]


def test_a_node_that_says_yes() -> None:
    action = Action()
    found = verdict(action)
    assert found == Answer({"changed": False}, 60)
    assert found.as_result() == {"used": True, "age_seconds": 60, "reason": ""}
    command, program = action.sent[0]
    assert (command, len(action.sent)) == (f"{PYTHON} -I -S -", 1)
    compile(program, "program", "exec")
    assert program.endswith(f", 'digest', {VERSION!r}, {seconds_of_trust(24.0, 'mac-1')!r}, False)" + END)
    # Another program has another mark.
    verdict(action)
    assert action.sent[1][1] != program


def test_nothing_that_a_node_says_is_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_path, "wrap_var", lambda value: {"wrapped": value})
    assert verdict(Action()).result == {"wrapped": {"changed": False}}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("{} no /etc/x is not as it was\n", "/etc/x is not as it was"),
        ("{} no " + "x" * 1000 + "\n", "x" * 400),
        ("", "the program that compares the receipt ended with 1 and did not answer"),
        ('other ok 60 {{"changed": false}}\n', "the program that compares the receipt ended with 1 and did not answer"),
        ("{} ok 60 {{\n", "the receipt has a result that cannot be read"),
        ("{} ok x {{}}\n", "the receipt has a result that cannot be read"),
        ("{} ok 60 7\n", "the receipt has a result that cannot be read"),
        ('{} ok 60 {{"ansible_facts": 7}}\n', "the receipt has a result that cannot be read"),
        # From a node that means no good.
        ("{} ok 60 " + "[" * 100_000 + "\n", "the receipt has a result that cannot be read"),
        ("{} ok 60 [" + "1" * 5000 + "]\n", "the receipt has a result that cannot be read"),
        ("{} ok " + "1" * 5000 + " {{}}\n", "the receipt has a result that cannot be read"),
        ("{}\n", ""),
    ],
)
def test_anything_else_is_a_no(said: str, reason: str) -> None:
    found = verdict(Action(said))
    assert (found.result, found.reason) == (None, reason)
    assert found.as_result() == {"used": False, "age_seconds": None, "reason": reason}


# What Ansible takes for orders in a result, and what it only keeps of facts.
@pytest.mark.parametrize(
    "order",
    [
        '"add_host": {{"host_name": "evil", "groups": ["gpustack"], "host_vars": {{"ansible_connection": "local"}}}}',
        '"add_group": "evil"',
        '"ansible_notify": ["a handler"]',
        '"ansible_stats": {{"data": {{}}}}',
        '"_ansible_delegated_vars": {{"ansible_host": "evil"}}',
        '"_ansible_no_log": false',
        '"failed": true',
        '"ansible_facts": {{"ansible_python_interpreter": "/tmp/evil"}}',
        '"ansible_facts": {{"apple_silicon": {{}}, "ansible_connection": "local"}}',
    ],
)
def test_a_node_gives_no_orders(order: str) -> None:
    found = verdict(Action('{} ok 60 {{"changed": false, ' + order + "}}\n"))
    assert (found.result, found.reason) == (None, "the receipt has a result with more in it than the module returns")


def test_all_that_a_receipt_holds_is_understood() -> None:
    planned = {name: Planned(result={"x": 1}) for name in ("environment", "llama_box", "wired_limit")}
    outcome = Outcome(planned, Decision(), applied=True)
    result = {**_result(outcome, Hardware()), "applied": True, "warnings": []}
    said = json.dumps(result).replace("{", "{{").replace("}", "}}")
    assert verdict(Action("{} ok 60 " + said + "\n")).result == result


def test_a_connection_that_fails_is_not_taken_for_a_no() -> None:
    action = Action()

    def fail(_command: str, in_data: bytes) -> t.NoReturn:
        raise AnsibleConnectionFailure("no route")

    action._low_level_execute_command = fail  # type: ignore[assignment, method-assign]
    with pytest.raises(AnsibleConnectionFailure):
        verdict(action)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"verify": "nonsense"}, "verify is nonsense"),
        ({"verify": "auto", "receipt_max_age_hours": 0}, "receipt_max_age_hours is no number above 0"),
        ({"receipt_max_age_hours": -1}, "receipt_max_age_hours is no number above 0"),
        ({"receipt_max_age_hours": "x"}, "receipt_max_age_hours is no number above 0"),
        ({"receipt_max_age_hours": [1]}, "receipt_max_age_hours is no number above 0"),
        ({"receipt_max_age_hours": "inf"}, "receipt_max_age_hours is no number above 0"),
    ],
)
def test_options_with_which_nothing_is_asked(options: dict[str, t.Any], reason: str) -> None:
    action = Action()
    assert (verdict(action, {**OPTIONS, **options}).reason, action.sent) == (reason, [])


def test_the_age() -> None:
    action = Action()
    verdict(action, {**OPTIONS, "receipt_max_age_hours": "2"}, inventory_hostname="other")
    assert action.sent[0][1].endswith(f"{seconds_of_trust(2.0, 'other')!r}, False)" + END)


@pytest.mark.parametrize(("options", "by_content"), [({}, False), ({"verify": "auto"}, False), ({"verify": "content"}, True)])
def test_whether_files_are_read(options: dict[str, t.Any], by_content: bool) -> None:
    action = Action()
    assert verdict(action, {**OPTIONS, **options}).result == {"changed": False}
    assert action.sent[0][1].endswith(f", {by_content})" + END)


NO_INTERPRETER = "ansible_python_interpreter is not the path of an interpreter"
REMEMBERED = fast_path._REMEMBERED


@pytest.mark.parametrize(
    ("variables", "python"),
    [
        ({"ansible_python_interpreter": "{{ python }}"}, PYTHON),
        ({"ansible_python_interpreter": "auto"}, REMEMBERED),
        ({"ansible_python_interpreter": "auto_silent"}, REMEMBERED),
        ({"ansible_python_interpreter": None}, REMEMBERED),
        ({"ansible_python_interpreter": "/usr/bin/env python3"}, None),
        ({"ansible_python_interpreter": "python3"}, None),
        ({"ansible_python_interpreter": "/bin/x;true"}, None),
        (
            {"ansible_python_interpreter": "auto", "ansible_facts": {"discovered_interpreter_python": FOUND}},
            FOUND,
        ),
        (
            {"ansible_python_interpreter": None, "ansible_facts": {"discovered_interpreter_python": FOUND}},
            FOUND,
        ),
        ({"ansible_facts": {"discovered_interpreter_python": FOUND}}, PYTHON),
    ],
)
def test_the_interpreter(variables: dict[str, t.Any], python: str | None) -> None:
    action = Action()
    found = verdict(action, **variables)
    commands = [python if python == REMEMBERED else f"{python} -I -S -"] if python else []
    assert [command for command, _program in action.sent] == commands
    assert found.reason == ("" if python else NO_INTERPRETER)


def test_the_interpreter_of_a_delegate() -> None:
    action = Action()
    action._task.delegate_to = "other"
    assert verdict(action, ansible_delegated_vars={"other": {"ansible_python_interpreter": "/usr/bin/python3"}}).result is not None
    assert action.sent[0][0] == "/usr/bin/python3 -I -S -"
    # It is not that of the host.
    verdict(action)
    assert action.sent[1][0] == REMEMBERED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of root's")
@pytest.mark.parametrize(
    ("mode", "uid", "first", "rc"),
    [
        (0o700, 0, "metalfleet receipt 3 {python}", 0),
        (0o750, 0, "metalfleet receipt 3 {python}", 3),
        (0o755, 0, "metalfleet receipt 3 {python}", 3),
        (0o700, 10, "metalfleet receipt 3 {python}", 3),
        (0o700, 0, "metalfleet receipt 3 /no/such python", 3),
        (0o700, 0, "metalfleet receipt 3", 3),
        (0o700, 0, None, 3),
    ],
)
@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_the_interpreter_that_a_receipt_names(tmp_path: pathlib.Path, shell: str, mode: int, uid: int, first: str | None, rc: int) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"this machine has no {shell}")
    python = tmp_path / "a python"
    python.symlink_to(sys.executable)
    folder = tmp_path / "metalfleet"
    folder.mkdir()
    if first is not None:
        (folder / "receipt").write_text(first.format(python=python) + "\nmore\n")
    folder.chmod(mode)
    os.chown(folder, uid, -1)
    command = REMEMBERED.replace("/var/db/metalfleet", "/no/such/folder").replace("/var/lib/metalfleet", str(folder))
    done = subprocess.run([shell, "-c", command], input=b"print('it ran')", check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (rc, b"it ran\n" if rc == 0 else b"", b"")


def test_a_node_that_names_no_interpreter() -> None:
    action = Action(said="")
    action.rc = 3
    assert verdict(action).reason == "no interpreter is configured, and there is no receipt that names one"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"become": Become()}, ""),
        ({"pipes": False}, "the connection cannot feed a program to Python"),
        ({"become": Become(pipelining=False)}, "sudo cannot feed a program to Python"),
        ({"become": Become(require_tty=True)}, "sudo cannot feed a program to Python"),
        ({"become": Become(require_tty=False)}, ""),
        # ansible-core 2.18.
        ({"become": Become(pipelining=None)}, ""),
        ({"become": Become(pipelining=None, name="su")}, "su cannot feed a program to Python"),
        ({"become": Become(pipelining=None, name="ansible.builtin.su")}, "ansible.builtin.su cannot feed a program to Python"),
        ({"become": Become(password="x")}, "sudo is given a password; that goes together with pipelining only"),
        ({"become": Become(password=None)}, ""),
        ({"become": Become(password="x"), "enabled": True}, ""),
        ({"become": Become(pipelining=False), "enabled": True}, "sudo cannot feed a program to Python"),
    ],
)
def test_what_can_feed_a_program(options: dict[str, t.Any], reason: str) -> None:
    action = Action(**options)
    assert (verdict(action).reason, len(action.sent)) == (reason, int(not reason))


def test_another_shell() -> None:
    action = Action()
    action._connection._shell.SHELL_FAMILY = "powershell"
    assert verdict(action).reason == "the connection cannot feed a program to Python"


def test_options_without_a_digest() -> None:
    action = Action()
    found = ask(action, OPTIONS, VARS, None)  # type: ignore[arg-type]
    assert (found.reason, action.sent) == ("the options are of a kind that has no digest", [])
