# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ansible shows and logs of a module that was called in wrong and in unusual ways."""

from __future__ import annotations

import contextlib
import io
import json
import typing as t

import pytest
from ansible.module_utils import basic
from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module

CANARY = "canary-\\-'\"-ü"
FORMS = {CANARY, *(encode(CANARY)[1:-1] for encode in (repr, json.dumps))}
SPEC: dict[str, t.Any] = {
    "environment": {"type": "dict", "options": {"secrets": {"type": "dict", "no_log": True}, "state": {"choices": ["on"], "type": "str"}}},
    "models": {"type": "list", "elements": "dict", "options": {"secret_env": {"type": "dict", "no_log": True}}},
    "base_url": {"type": "str"},
    "restart": {"type": "str", "choices": ["now"]},
}


class Called(t.NamedTuple):
    """What a module printed, and what it wrote to the node's log."""

    printed: str
    logged: list[str]


def call(monkeypatch: pytest.MonkeyPatch, options: dict[str, t.Any], said: dict[str, t.Any] | None = None) -> Called:
    private = {
        "_ansible_remote_tmp": "/tmp",
        "_ansible_keep_remote_files": False,
        "_ansible_verbosity": 4,
        "_ansible_inject_invocation": True,
    }
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": {**private, **options}}).encode())
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    logged: list[str] = []
    monkeypatch.setattr(basic, "has_journal", False)
    monkeypatch.setattr(basic.AnsibleModule, "_log_to_syslog", lambda _self, text: logged.append(text))
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit):
        Module(argument_spec=SPEC, supports_check_mode=True).exit_json(changed=False, **(said or {}))
    return Called(output.getvalue(), logged)


def require_silence(called: Called) -> None:
    for text in (json.dumps(json.loads(called.printed), ensure_ascii=False), called.printed, *called.logged):
        assert not [form for form in FORMS if form in text], text
        assert "canary" not in text, text


@pytest.mark.parametrize(
    "options",
    [
        {"environment": {"secrets": {"TOKEN": CANARY}}},
        # ansible-core knows the whole text as a secret, and shows the dictionary that it makes of it.
        {"environment": {"secrets": json.dumps({"TOKEN": CANARY})}},
        {"environment": json.dumps({"secrets": {"TOKEN": CANARY}})},
        {"models": [{"secret_env": {"TOKEN": CANARY}}]},
        # Wrong: a misspelled key, a wrong type, another option that is wrong, and an error that shows the value.
        {"environment": {"secret": {"TOKEN": CANARY}}},
        {"secrets": {"TOKEN": CANARY}},
        {"environment": [{"secrets": {"TOKEN": CANARY}}, "x"]},
        {"environment": f"secrets: {{TOKEN: {CANARY}}}"},
        {"environment": {"secrets": CANARY}},
        {"models": ["chat", {"secret_env": {"TOKEN": CANARY}}]},
        {"environment": {"secrets": json.dumps({"TOKEN": CANARY})}, "restart": "later"},
        {"environment": {"secrets": {"TOKEN": CANARY}, "state": CANARY}},
        {"base_url": "https://canary:canary@mirror.example/x"},
        {"base_url": "https://user:/canary@mirror.example/x"},
        {"base_url": "https://mirror.example/x?signature=canary"},
    ],
)
def test_no_secret_is_shown_or_logged(monkeypatch: pytest.MonkeyPatch, options: dict[str, t.Any]) -> None:
    require_silence(call(monkeypatch, options))


def test_a_secret_in_a_message_is_hidden_in_every_form(monkeypatch: pytest.MonkeyPatch) -> None:
    called = call(monkeypatch, {"environment": {"secrets": {"TOKEN": CANARY}}}, {"msg": f"{CANARY!r} {json.dumps(CANARY)} {CANARY}"})
    require_silence(called)
    assert json.loads(called.printed)["msg"] == "'********' \"********\" ********"


def test_what_is_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    called = call(monkeypatch, {"environment": {"secrets": {"TOKEN": CANARY}, "state": "on"}, "base_url": "https://mirror.example/x"})
    arguments = json.loads(called.printed)["invocation"]["module_args"]
    assert (arguments["environment"]["state"], arguments["base_url"]) == ("on", "https://mirror.example/x")


def test_the_log_of_the_node_says_that_it_was_called_and_not_how(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, {"base_url": "https://mirror.example/x"}).logged == ["Invoked; its options are not logged"]
