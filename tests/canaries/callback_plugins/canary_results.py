# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes every result as Ansible hands it to callbacks, one JSON object a line, and what it is of."""

from __future__ import annotations

DOCUMENTATION = """
name: canary_results
type: aggregate
short_description: Results as JSON lines
description: For tests/canaries.
options:
  path:
    description: The file that lines are added to.
    required: true
    env:
      - name: CANARY_RESULTS
"""

import json
import typing as t

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """A line for each result."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "canary_results"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result: t.Any) -> None:
        self._write("ok", result)

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        self._write("failed", result)

    def v2_runner_on_unreachable(self, result: t.Any) -> None:
        self._write("unreachable", result)

    def _write(self, status: str, result: t.Any) -> None:
        task = result._task
        role = task._role.get_name() if task._role else ""
        said = {"status": status, "action": task.action, "role": role, "check": bool(task.check_mode), "host": result._host.get_name()}
        with open(self.get_option("path"), "a", encoding="utf-8") as file:
            file.write(json.dumps({**said, "task": task.get_name(), "result": result._result}, default=str) + "\n")
