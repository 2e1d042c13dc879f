# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the CPU of a run goes, as a table, from what `make bench-parts` has measured."""

from __future__ import annotations

import typing as t

from rows import NOT_MEASURED, number

# What `make bench-parts` knows of, in the order of a run.
PARTS = {
    "start": "start of Ansible, the inventory, the playbook",
    "main": "main process: variables of a host, fork and end of its task's process, what is displayed",
    "task": "process of the task: its own preparation, our action plugin, the result",
    "templates": "process of the task: values of its options, with what templates they have",
    "plugins": "process of the task: connection and become plugins with their options",
    "ssh": "process of the task: Ansible's end of the connection",
    "ssh_client": "program `ssh`",
    "target_connection": "node: sshd and a shell",
    "target_sudo": "node: sudo",
    "target_python": "node: a bare Python",
    "target_program": "node: the program, and the commands that it asks",
}
# What the role has beside the start and the node's part, which are the same.
ROLE_PARTS = {
    "role_main": "main process",
    "role_checks": "process of `validate_argument_spec`, which Ansible puts before a role that has argument specs",
    "role_templates": "process of the task: values of its options, from the variables of the role",
    "role_task": "process of the task: all else, with the connection and `ssh`",
}
FIRST_PARTS = {
    "first_module": "one module of Ansible (`ping`), become and connection included",
    "first_archive": "to download the archive, hash it once and unpack it once",
    "first_restart": "one restart, and the first seconds of the service",
    "first_look": "our module where it finds nothing to do, become and connection included",
}


def table(measured: t.Mapping[str, t.Any]) -> str:
    """Where the CPU of the fast path goes."""
    if not measured:
        return f"({NOT_MEASURED})"
    nodes, found = measured["nodes"], measured["parts"]
    per_node = {part: value / nodes if part == "start" else value for part, value in found.items()}
    lines = [f"| CPU of a run on {nodes} nodes, median of {measured['runs']} | ms per node |", "|---|---|"]
    for end, of_target in (("controller", False), ("node", True)):
        own = [part for part in PARTS if part.startswith("target_") is of_target]
        lines += [f"| {PARTS[part]} | {number(per_node[part])} |" for part in own]
        lines.append(f"| **{end}, sum** | **{number(sum(per_node[part] for part in own))}** |")
    lines += ["", f"| CPU of the role on the controller, median of {measured['runs']} | ms per node |", "|---|---|"]
    lines += [f"| {PARTS['start']} | {number(per_node['start'])} |"]
    lines += [f"| {title} | {number(found[part])} |" for part, title in ROLE_PARTS.items()]
    lines.append(f"| **controller, sum** | **{number(per_node['start'] + sum(found[part] for part in ROLE_PARTS))}** |")
    lines += ["", f"| CPU of what a first run does on a node, median of {measured['runs']} | ms |", "|---|---|"]
    lines += [f"| {title} | {number(found[part])} |" for part, title in FIRST_PARTS.items()]
    return "\n".join(lines)
