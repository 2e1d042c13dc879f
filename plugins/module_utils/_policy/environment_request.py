# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""From the options of the module `environment` to the block of lines that is wanted, or one sentence on what is wrong."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_values import assignment_line, read_managed_lines, text_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_file import is_marker
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_state import Desired
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE, ResidencyDecision

# The argument specification of the module environment, and of the option environment of the module node.
OPTIONS: dict[str, dict[str, t.Any]] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "variables": {"type": "dict", "default": {}},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "content": {"type": "str", "default": ""},
    "path": {"type": "path", "default": "/etc/default/gpustack"},
    "follow": {"type": "bool", "default": False},
    "unmanaged": {"type": "str", "choices": ["keep", "remove"], "default": "keep"},
    "mode": {"type": "str"},
    "residency_variable": {"type": "str", "choices": ["auto", "absent", "unmanaged"], "default": "auto"},
}


def parse_mode(mode: str | None) -> int | None:
    """Permission bits from octal text such as "0600"; None stays None."""
    if mode is None:
        return None
    if not re.match(r"0?[0-7]{3}\Z", mode):
        raise BadInputError(f"mode: {mode!r} is not three octal digits; put it in quotes, such as '0600'")
    bits = int(mode, 8)
    if bits & 0o022:
        # launchd refuses such a property list (bootstrap error 5), and what root's service reads is root's to write.
        raise BadInputError(f"mode: {mode!r} lets others than the owner write the file; put it in quotes, such as '0600'")
    return bits


def desired_present(
    content: str,
    variables: t.Mapping[str, t.Any],
    secrets: t.Mapping[str, t.Any],
    residency: ResidencyDecision,
    keep_unmanaged: bool,
    mode: int | None,
) -> Desired:
    """The wanted state. Each variable may come from one of the three only."""
    values = read_managed_lines(content)
    lines = content.split("\n")
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if is_marker(line):
            raise BadInputError(f"content: line {number} is a marker that the module itself writes; leave it out")
    for option, given in (("variables", variables), ("secrets", secrets)):
        for name in sorted(given):
            if name in values:
                raise BadInputError(f"{option}.{name} is given twice; keep it in one of content, variables and secrets")
            values[name] = text_of(name, given[name], option)
            lines.append(assignment_line(name, values[name], option))
    if residency.remove and RESIDENCY_VARIABLE in values:
        raise BadInputError(
            f"{RESIDENCY_VARIABLE} is among the variables, and {residency.reason} whatever its value;"
            " take it out, or say residency_variable: unmanaged"
        )
    return Desired(values, tuple(lines), frozenset(secrets), residency.remove, keep_unmanaged, mode)


def desired_absent() -> Desired:
    """Our lines given up, and nothing else touched."""
    return Desired(remove_residency=False)
