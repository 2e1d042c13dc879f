# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What `launchctl print system/LABEL` and `launchctl print-disabled system` say.

Apple documents neither as an interface; what is read here has kept its form from macOS 10.15 to 26. Top-level keys have
exactly one tab, and only they count: nested blocks repeat `state =`.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

# In the order in which launchd prints and applies them, the last one winning. "inherited" is that of the domain, where
# `launchctl setenv` puts its variables. "default environment" is left out: it holds launchd's own PATH and nothing else.
_ENVIRONMENT_BLOCKS = ("global environment", "inherited environment", "controller-supplied environment", "environment")

_BLOCK = re.compile(r"\t(?P<name>[^\t].*?) =>? \{\Z")
_FIELD = re.compile(r"\t(?P<name>[^\t=][^=]*?) = (?P<value>.*)\Z")
_VARIABLE = re.compile(r"\t\t(?P<name>[^\t=][^=]*?) =>(?: (?P<value>.*))?\Z")
_DISABLED = re.compile(r'\s*"(?P<label>[^"]+)" => (?P<value>\w+)\s*\Z')


@dataclasses.dataclass(frozen=True)
class Job:
    """A loaded job. state: launchd's word, such as "running", "not running" or "spawn scheduled".

    last_exit: launchd's words, such as "78: EX_CONFIG" or "(never exited)"; empty where it says nothing.
    exit_timeout_seconds: how long the job may take to end; 0 means for ever.
    environment: what launchd gives the job, None where no block of it was printed. environment_complete: False where the
    output ends within a block, so that variables may be missing.
    """

    state: t.Optional[str]
    pid: t.Optional[int]
    last_exit: str
    exit_timeout_seconds: t.Optional[int]
    path: t.Optional[str]
    environment: t.Optional[t.Mapping[str, str]]
    environment_complete: bool
    warnings: t.Tuple[str, ...]

    @property
    def is_running(self) -> bool:
        """Both, because launchd prints the pid of a job that is on its way out as well."""
        return self.state == "running" and self.pid is not None


def parse_job(text: str) -> Job:
    """Read the output of `launchctl print system/LABEL`; what cannot be understood is None, and warnings say so."""
    fields: t.Dict[str, str] = {}
    blocks: t.Dict[str, t.Dict[str, str]] = {}
    block: t.Optional[str] = None
    variable: t.Optional[str] = None
    warnings: t.List[str] = []
    # Not splitlines(): a value may hold a form feed or a Unicode line separator.
    for line in text.rstrip("\n").split("\n"):
        if block is not None:
            if line == "\t}":
                block = variable = None
            elif block in _ENVIRONMENT_BLOCKS:
                variable = _read_variable(line, blocks[block], variable)
            continue
        opened = _BLOCK.match(line)
        if opened is not None:
            block = opened.group("name")
            if block in _ENVIRONMENT_BLOCKS:
                blocks.setdefault(block, {})
            continue
        field = _FIELD.match(line)
        if field is not None:
            fields.setdefault(field.group("name"), field.group("value"))
    if "state" not in fields:
        warnings.append("launchctl print shows no state")
    complete = block not in _ENVIRONMENT_BLOCKS
    if not complete:
        warnings.append(f"launchctl print ends within its block `{block}`")
    environment = {name: value for known in _ENVIRONMENT_BLOCKS for name, value in blocks.get(known, {}).items()}
    return Job(
        state=fields.get("state"),
        pid=_number(fields, "pid", warnings),
        last_exit=fields.get("last exit code") or fields.get("last terminating signal") or fields.get("last exit reason") or "",
        exit_timeout_seconds=_number(fields, "exit timeout", warnings),
        path=fields.get("path"),
        # Every job has XPC_SERVICE_NAME in its own block, so an output without that block was cut short.
        environment=environment if blocks else None,
        environment_complete=complete and "environment" in blocks,
        warnings=tuple(warnings),
    )


def parse_disabled(text: str) -> t.Optional[t.Dict[str, bool]]:
    """Which labels have an override, and whether it disables them; None where the output is not what it should be.

    A label that is not listed has no override. macOS 13 and later write `disabled` and `enabled`, older ones `true` and
    `false`, where `true` means disabled.
    """
    if "disabled services = {" not in text:
        return None
    words = {"disabled": True, "true": True, "enabled": False, "false": False}
    found = (_DISABLED.match(line) for line in text.split("\n"))
    return {match.group("label"): words[match.group("value")] for match in found if match and match.group("value") in words}


def _read_variable(line: str, environment: t.Dict[str, str], last: t.Optional[str]) -> t.Optional[str]:
    """Put a line of an environment block where it belongs; the name of the variable that may go on in the next line."""
    found = _VARIABLE.match(line)
    if found is not None:
        environment[found.group("name")] = found.group("value") or ""
        return found.group("name")
    if last is not None:
        # launchd prints values as they are, so a value of several lines goes on without indentation.
        environment[last] += "\n" + line
    return last


def _number(fields: t.Mapping[str, str], name: str, warnings: t.List[str]) -> t.Optional[int]:
    value = fields.get(name)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", value):
        warnings.append(f"launchctl print shows `{name} = {value}`, which is no number")
        return None
    return int(value)
