# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the module node, and where it lacks archives of llama-box that the controller has, bring them and run it once more."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.push import run_with_archives


class ActionModule(ActionBase):  # type: ignore[misc,unused-ignore]
    """The action metalfleet.gpustack.node. async is refused: between the two runs the controller has to act."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)

        def run_module(options: dict[str, t.Any]) -> dict[str, t.Any]:
            result: dict[str, t.Any] = self._execute_module("metalfleet.gpustack.node", options, task_vars=task_vars)
            return result

        return run_with_archives(self, run_module, self._task.args, below="llama_box", task_vars=task_vars)
