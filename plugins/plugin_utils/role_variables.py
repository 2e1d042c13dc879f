# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The options of the module `node` from the variables of the role gpustack_node.

The role could name them in templates, and did. Ansible compiles each template anew for each node and task, which is a part of what a
node costs on which nothing has changed (docs/performance.md). What is resolved here are the users' own values, and only those which are
templates are compiled, and a template of their own for the environment.
"""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.trust import trust_as_template

Resolve = t.Callable[[t.Any], t.Any]

# Options, and the variables that they come from. Those that are not defined are left out.
NODE = {
    "restart": "gpustack_node_restart",
    "settle_seconds": "gpustack_node_settle_seconds",
    "health_timeout_seconds": "gpustack_node_health_timeout_seconds",
    "service_name": "gpustack_node_service_name",
    "verify": "gpustack_node_verify",
    "receipt_max_age_hours": "gpustack_node_receipt_max_age_hours",
    "models_follow": "gpustack_node_models_follow",
}
ENVIRONMENT = {
    "state": "gpustack_node_environment_state",
    "secrets": "gpustack_node_secrets",
    "mode": "gpustack_node_environment_mode",
    "follow": "gpustack_node_follow",
    "unmanaged": "gpustack_node_unmanaged",
    "residency_variable": "gpustack_node_residency_variable",
}
_TEMPLATE = {"template": "gpustack_node_environment_template"}
_VARIABLES = {"variables": "gpustack_node_environment"}
LLAMA_BOX = {
    "state": "gpustack_node_llama_box_state",
    "version": "gpustack_node_llama_box_version",
    "slots": "gpustack_node_llama_box_slots",
    "toolkit": "gpustack_node_llama_box_toolkit",
    "source": "gpustack_node_llama_box_source",
    "base_url": "gpustack_node_llama_box_base_url",
    "url_username": "gpustack_node_llama_box_url_username",
    "url_password": "gpustack_node_llama_box_url_password",
    "url_token": "gpustack_node_llama_box_url_token",
    "ca_path": "gpustack_node_llama_box_ca_path",
    "use_proxy": "gpustack_node_llama_box_use_proxy",
    "timeout_seconds": "gpustack_node_llama_box_timeout_seconds",
    "deadline_seconds": "gpustack_node_llama_box_deadline_seconds",
    "retries": "gpustack_node_llama_box_retries",
    "folder": "gpustack_node_llama_box_folder",
    "archives_folder": "gpustack_node_llama_box_archives_folder",
    "keep": "gpustack_node_llama_box_keep",
    "sealed": "gpustack_node_llama_box_sealed",
}
_LOCK = {"lock": "gpustack_node_llama_box_lock"}
WIRED_LIMIT = {
    "state": "gpustack_node_wired_limit_state",
    "limit_mib": "gpustack_node_wired_limit_mib",
    "disable_wired_collector": "gpustack_node_disable_wired_collector",
}
# What else is given for these does not count, also where the role leaves them out.
OF_ROLE = frozenset({*NODE, "environment", "llama_box", "wired_limit"})
_STATES = ("gpustack_node_environment_state", "gpustack_node_llama_box_state", "gpustack_node_wired_limit_state")
_COMMENT = "# Set gpustack_node_environment in the inventory instead of editing these lines.\n"
RENDER = trust_as_template("{{ lookup('ansible.builtin.template', gpustack_node_environment_template) }}")


class RoleVariables:
    """variables: those of the task. resolve: gives a value without its templates. read_lock: gives the content of a lock file."""

    def __init__(self, variables: t.Mapping[str, t.Any], resolve: Resolve, read_lock: t.Callable[[str], t.Any]) -> None:
        self._variables = variables
        self._resolve = resolve
        self._read_lock = read_lock

    def options(self) -> dict[str, t.Any]:
        """All options of the module that the role has variables for. Raises AnsibleError, also for what a template names in vain."""
        missing = [name for name in _STATES if name not in self._variables]
        if missing:
            raise AnsibleActionFail(
                "role_variables is for the role metalfleet.gpustack.gpustack_node, and not all its variables are here:"
                f" there is no {missing[0]}"
            )
        parts = {"environment": self._environment(), "llama_box": self._llama_box(), "wired_limit": self._wired_limit()}
        return {**self._values(NODE), **{name: options for name, options in parts.items() if options is not None}}

    def _environment(self) -> dict[str, t.Any]:
        options = self._values(ENVIRONMENT)
        if not self._values(_TEMPLATE).get("template"):
            variables = self._values(_VARIABLES)
            return {**options, **variables, "content": _COMMENT if variables.get("variables") else ""}
        # Who gives up the lines does not need a template that may be gone.
        return {**options, "content": "" if options.get("state") == "absent" else self._rendered()}

    def _rendered(self) -> t.Any:
        try:
            return self._resolve(RENDER)
        except AnsibleError as exc:
            # What is in a file is resolved here first, and not by the check of the role's arguments.
            raise AnsibleError(f"{_TEMPLATE['template']}: {exc}") from exc

    def _llama_box(self) -> dict[str, t.Any] | None:
        chosen = self._values({name: LLAMA_BOX[name] for name in ("state", "version")})
        if chosen.get("state") == "absent":
            # The lock may be gone as well.
            return self._values(LLAMA_BOX)
        if "version" not in chosen:
            return None
        lock = {name: self._read_lock(str(path)) for name, path in self._values(_LOCK).items()}
        return {**self._values(LLAMA_BOX), **lock}

    def _wired_limit(self) -> dict[str, t.Any] | None:
        options = self._values(WIRED_LIMIT)
        return None if options.get("state", "unmanaged") == "unmanaged" else options

    def _values(self, names: t.Mapping[str, str]) -> dict[str, t.Any]:
        given = self._resolve({option: self._variables[name] for option, name in names.items() if name in self._variables})
        values: dict[str, t.Any] = _without(self._variables.get("omit"), given)
        return values


def _without(mark: t.Any, value: t.Any) -> t.Any:
    """ansible-core 2.18 has text in the place of what is omitted, and takes it out of a task's options only; later ones have no mark."""
    if not isinstance(mark, str):
        return value
    if isinstance(value, dict):
        return {name: _without(mark, inner) for name, inner in value.items() if inner != mark}
    if isinstance(value, list):
        return [_without(mark, inner) for inner in value if inner != mark]
    return value
