# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare a node with its receipt, and run the module node where that does not settle it.

Where the module lacks archives of llama-box that the controller has, they are brought and it is run once more.
"""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wanted_digest import digest_of
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.fast_path import ask
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.lock_file import read_lock_file
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.preload import preload
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.push import run_with_archives
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.role_variables import OF_ROLE, RoleVariables

# When this module is imported, which is the only time that it runs in the process from which the others are forked.
preload()


class ActionModule(ActionBase):  # type: ignore[misc,unused-ignore]
    """The action metalfleet.gpustack.node. async is refused: between two runs of the module the controller has to act."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)

        options = self._options(task_vars or {})

        def run_module(given: dict[str, t.Any]) -> dict[str, t.Any]:
            result: dict[str, t.Any] = self._execute_module("metalfleet.gpustack.node", given, task_vars=task_vars)
            return result

        name = self._task.delegate_to or (task_vars or {}).get("inventory_hostname")
        wanted = digest_of(options)
        answer = ask(self, options, task_vars or {}, wanted)
        if answer.result is not None:
            warnings = wrap_var([f"{name}: {warning}" for warning in answer.result.get("warnings", [])])
            return {**answer.result, "warnings": warnings, "applied": not self._task.check_mode, "receipt": answer.as_result()}
        more = {"receipt_for": wanted, "node_name": name}
        result = run_with_archives(self, run_module, {**options, **more}, below="llama_box", task_vars=task_vars)
        # One that fails for what it found at last has looked at all of the node.
        return {**result, "receipt": answer.as_result()} if "receipt" in result else result

    def _options(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """The module's options. The task's own, which callbacks are given, stay as they are: the role's secrets are not among them."""
        given = dict(self._task.args)
        by_role = given.pop("role_variables", False)
        try:
            if not boolean(by_role):
                return given
        except TypeError as exc:
            raise AnsibleActionFail(f"role_variables is neither true nor false: {by_role!r}") from exc
        of_role = RoleVariables(task_vars, self._templar.template, lambda path: read_lock_file(self._loader, path, task_vars))
        return {**{name: value for name, value in given.items() if name not in OF_ROLE}, **of_role.options()}
