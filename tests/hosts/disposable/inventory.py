# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""The session's hosts as Ansible and as ssh see them."""

from __future__ import annotations

import json
import typing as t

from .state import SessionState

GROUPS = {"mac": "macs", "linux": "linux"}


def ssh_options(state: SessionState) -> t.List[str]:
    """One key, one host key per session, one shared connection per host; nothing reaches the user's known_hosts."""
    options = {
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "GlobalKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "IdentitiesOnly": "yes",
        "ControlMaster": "auto",
        "ControlPersist": "60s",
        "ControlPath": f"{state.control}/%r@%h",
        "ConnectTimeout": "10",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
    }
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def ssh_command(state: SessionState, host: str, command: t.Sequence[str], user: str = "root") -> t.List[str]:
    return ["ssh", "-F", "none", "-i", str(state.key), *ssh_options(state), f"{user}@{state.spec(host).address}", *command]


def ansible(state: SessionState) -> t.Dict[str, t.Any]:
    children: t.Dict[str, t.Any] = {group: {"hosts": {}} for group in GROUPS.values()}
    for spec in state.specs():
        variables: t.Dict[str, str] = {"ansible_host": spec.address}
        if spec.kind == "mac":
            variables["hosts_profile"] = spec.profile
        children[GROUPS[spec.kind]]["hosts"][spec.name] = variables
    shared = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(state.key),
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": "-F none",
        "ansible_ssh_args": " ".join(ssh_options(state)),
        # Ansible adds a ControlPath of its own unless it is told the one that ssh_args name
        "ansible_control_path": f"{state.control}/%%r@%%h",
    }
    return {"all": {"vars": shared, "children": children}}


def text(state: SessionState) -> str:
    """JSON is YAML; ansible's yaml inventory plugin reads it, and the tool needs no YAML library."""
    return json.dumps(ansible(state), indent=2) + "\n"
