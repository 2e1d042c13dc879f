# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the module models, and show what it waits for."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_wanted import check_names
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.watch import run_and_show


class ActionModule(ActionBase):  # type: ignore[misc,unused-ignore]
    """The action metalfleet.gpustack.models. async is refused: Ansible would not wait for the module, nor this."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        try:
            check_names(self._task.args.get("models"))
        except BadInputError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        return run_and_show(self, "metalfleet.gpustack.models", task_vars or {})
