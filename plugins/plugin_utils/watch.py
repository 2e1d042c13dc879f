# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Showing what a module that runs on the controller is waiting for, while it runs: it writes lines to a file, and they are read here.

A module on another host is run as usual. Its output reaches Ansible when it has ended, and to look at its file meanwhile would take
a second use of the connection, for which connection plugins are not made. Its lines are in its result in either case.
"""

from __future__ import annotations

import os
import threading
import typing as t

from ansible.utils.display import Display
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_options import PROGRESS_FILE

if t.TYPE_CHECKING:
    from ansible.plugins.action import ActionBase

_POLL_SECONDS = 0.5


def run_and_show(action: ActionBase, module: str, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
    """Run the module of a task, and show its lines where that can be done."""
    connection = action._connection
    if connection.transport != "local" or action._play_context.become:
        result: dict[str, t.Any] = action._execute_module(module, task_vars=task_vars)
        return result
    if connection._shell.tmpdir is None:
        # The module gets it as its own temporary folder. Ansible removes it when the task has ended.
        action._make_tmp_path()
    path = os.path.join(connection._shell.tmpdir, PROGRESS_FILE)
    ended = threading.Event()
    reader = threading.Thread(target=show_lines, args=(path, ended, Display().display), daemon=True)
    reader.start()
    try:
        result = action._execute_module(module, task_vars=task_vars)
    finally:
        ended.set()
        reader.join()
    return result


def show_lines(path: str, ended: threading.Event, show: t.Callable[[str], None]) -> None:
    """Show each whole line of a file that somebody writes, until they have ended."""
    shown = 0
    while True:
        last = ended.wait(_POLL_SECONDS)
        try:
            with open(path, "rb") as file:
                file.seek(shown)
                new = file.read()
        except OSError:
            new = b""
        whole = new[: new.rfind(b"\n") + 1]
        shown += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            show(line)
        if last:
            return
