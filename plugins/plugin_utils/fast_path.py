# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Ask a node whether everything that its receipt names is still as it was, in one round trip and without a module.

Of Ansible's internals this uses `_low_level_execute_command` with `in_data`, which is what runs a module through a pipe, too: only so
do become, ssh, local and every other connection that has it work as the user has set them up. `_is_pipelining_enabled` is how
ansible-core 2.18 to 2.21 alike tell whether they would do so. Everything that is not certain, here or on the node, ends in the
module being run.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import secrets
import typing as t

from ansible import constants as C
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt_program import program_source
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.receipt_questions import seconds_of_trust
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.release import VERSION

if t.TYPE_CHECKING:
    from ansible.plugins.action import ActionBase

DEFAULT_MAX_AGE_HOURS = 24.0
# It becomes a word of a shell command. Anything else, such as "/usr/bin/env python3", is the module's business.
_INTERPRETER = re.compile(r"/[A-Za-z0-9_./+-]+")
_LONGEST_REASON = 400
# What a receipt's result has (_node/node.py). Ansible takes others, such as add_host, for orders, which it takes out of what a module
# returns, and not out of what an action does: a node could make hosts of the inventory, on the controller as well.
_RESULT_KEYS = frozenset(
    "ansible_facts applied changed changes diff environment health llama_box receipt restart_pending restart_reasons restarted warnings"
    " wired_limit".split()
)
_FACTS = frozenset({"apple_silicon"})
# Where none is configured, the one that the receipt names, if nobody but root can have written it: to discover one as Ansible does
# would take a round trip of its own, and it does not matter which one runs the program.
_NOTHING_REMEMBERED = 3
_REMEMBERED = (
    "for d in /var/db/metalfleet /var/lib/metalfleet; do"
    ' if [ -f $d/receipt ]; then set -- $(ls -ldn $d); case "$1 $3" in "drwx------"*" 0")'
    ' read -r a b c p < $d/receipt; [ -x "$p" ] && exec "$p" -I -S -;; esac; fi; done; exit 3'
)


class _NotAsked(Exception):
    """Why a node was not asked, or what it said instead of yes."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """result: what the module would return, None where it has to run. age_seconds: of the receipt. reason: why the module has to run."""

    result: dict[str, t.Any] | None = None
    age_seconds: int | None = None
    reason: str = ""

    def as_result(self) -> dict[str, t.Any]:
        """The return value `receipt`."""
        return {"used": self.result is not None, "age_seconds": self.age_seconds, "reason": self.reason}


def ask(action: ActionBase, options: t.Mapping[str, t.Any], task_vars: t.Mapping[str, t.Any], wanted: str | None) -> Answer:
    """Whether a node is as its receipt says, and that receipt is about what is wanted. A connection that fails raises, as for a module."""
    try:
        if wanted is None:
            raise _NotAsked("the options are of a kind that has no digest")
        max_age_hours = _max_age_hours(options)
        command = _command(action, task_vars)
        _need_pipe(action)
        mark = secrets.token_hex(8)
        trust_seconds = seconds_of_trust(max_age_hours, str(task_vars.get("inventory_hostname", "")))
        by_content = options.get("verify") == "content"
        # Ended there and then: all is written, and to take its interpreter apart would only cost the node time.
        call = f"\n\nmain({mark!r}, {wanted!r}, {VERSION!r}, {trust_seconds!r}, {by_content})\nposix._exit(0)\n"
        told = action._low_level_execute_command(command, in_data=(program_source() + call).encode())
        return _read(told, mark)
    except _NotAsked as exc:
        return Answer(reason=str(exc))


def _max_age_hours(options: t.Mapping[str, t.Any]) -> float:
    verify = options.get("verify", "auto")
    if verify not in ("auto", "content"):
        raise _NotAsked(f"verify is {verify}")
    try:
        hours = float(options.get("receipt_max_age_hours", DEFAULT_MAX_AGE_HOURS))
    except (TypeError, ValueError):
        hours = math.nan
    if not 0 < hours < math.inf:
        raise _NotAsked("receipt_max_age_hours is no number above 0")
    return hours


def _command(action: ActionBase, task_vars: t.Mapping[str, t.Any]) -> str:
    """What runs the program: the interpreter that is configured for the node, or was discovered earlier, or that its receipt names."""
    host = action._task.delegate_to
    seen = task_vars.get("ansible_delegated_vars", {}).get(host, {}) if host else task_vars
    # As ansible.executor.module_common finds it for modules, so that both run the same one.
    configured = str(action._templar.template(C.config.get_config_value("INTERPRETER_PYTHON", variables=seen)) or "auto").strip()
    if configured.startswith("auto"):
        configured = str(seen.get("ansible_facts", {}).get("discovered_interpreter_python") or "")
        if not configured:
            return _REMEMBERED
    if not _INTERPRETER.fullmatch(configured):
        raise _NotAsked("ansible_python_interpreter is not the path of an interpreter")
    return f"{configured} -I -S -"


def _need_pipe(action: ActionBase) -> None:
    connection = action._connection
    become = connection.become
    if getattr(connection._shell, "SHELL_FAMILY", "sh") != "sh" or not connection.has_pipelining:
        raise _NotAsked("the connection cannot feed a program to Python")
    if become is None:
        return
    # ansible-core 2.18 knows by its name that su cannot.
    if not getattr(become, "pipelining", become.name.rpartition(".")[2] != "su") or getattr(become, "require_tty", False):
        raise _NotAsked(f"{become.name} cannot feed a program to Python")
    # A password may be asked for on a terminal where pipelining is off, and a program that comes after it would get lost there.
    if _has_password(become) and not action._is_pipelining_enabled("new"):
        raise _NotAsked(f"{become.name} is given a password; that goes together with pipelining only")


def _has_password(become: t.Any) -> bool:
    try:
        return bool(become.get_option("become_pass"))
    except KeyError:
        return False


def _read(told: t.Mapping[str, t.Any], mark: str) -> Answer:
    for line in told["stdout"].splitlines():
        marked, _blank, rest = line.partition(" ")
        if marked != mark:
            continue
        word, _blank, rest = rest.partition(" ")
        if word != "ok":
            raise _NotAsked(rest[:_LONGEST_REASON])
        age, _blank, text = rest.partition(" ")
        try:
            # As ActionBase._execute_module has it: nothing that a node says is ever a template on the controller.
            content = dict(json.loads(text))
            if not (content.keys() <= _RESULT_KEYS and content.get("ansible_facts", {}).keys() <= _FACTS):
                raise _NotAsked("the receipt has a result with more in it than the module returns")
            return Answer(wrap_var(content), int(age))
        except (AttributeError, TypeError, ValueError, RecursionError):
            raise _NotAsked("the receipt has a result that cannot be read") from None
    if told["rc"] == _NOTHING_REMEMBERED:
        raise _NotAsked("no interpreter is configured, and there is no receipt that names one")
    raise _NotAsked(f"the program that compares the receipt ended with {told['rc']} and did not answer")
