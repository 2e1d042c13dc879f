# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-playbook, with what the processes of its tasks spend CPU on written to a folder: profiled.py FOLDER PLAYBOOK ...

One JSON file for each process, named after its task's action: part -> seconds of CPU, a part that is called by another one not counted
there. Functions are those of ansible-core 2.21.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import resource
import sys
import time
import typing as t

from ansible.cli.playbook import main
from ansible.executor.task_executor import TaskExecutor
from ansible.playbook.task import Task
from ansible.plugins.connection.ssh import Connection

ROLE_VARIABLES = "ansible_collections.metalfleet.gpustack.plugins.plugin_utils.role_variables"
TEMPLATES, PLUGINS, SSH, TASK = "templates", "plugins", "ssh", "task"


class Clock:
    """CPU of this process by part."""

    def __init__(self) -> None:
        self.seconds: t.Dict[str, float] = {}
        self._within: t.List[str] = []
        self._since = 0.0

    def _book(self) -> None:
        now = time.process_time()
        if self._within:
            self.seconds[self._within[-1]] = self.seconds.get(self._within[-1], 0.0) + now - self._since
        self._since = now

    def watch(self, owner: t.Any, name: str, part: str) -> None:
        """Count what a method of a class spends as a part."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def watched(*arguments: t.Any, **named: t.Any) -> t.Any:
            self._book()
            self._within.append(part)
            try:
                return original(*arguments, **named)
            finally:
                self._book()
                self._within.pop()

        setattr(owner, name, watched)


def start() -> None:
    """Watch, and run the playbook."""
    folder = pathlib.Path(sys.argv.pop(1))
    clock = Clock()
    clock.watch(Task, "post_validate", TEMPLATES)
    clock.watch(TaskExecutor, "_get_connection", PLUGINS)
    clock.watch(TaskExecutor, "_set_connection_options", PLUGINS)
    clock.watch(Connection, "exec_command", SSH)
    clock.watch(TaskExecutor, "run", TASK)
    run = TaskExecutor.run

    def run_and_write(self: TaskExecutor, *arguments: t.Any, **named: t.Any) -> t.Any:
        # Ansible has loaded it with the action plugin, before this process was forked.
        if ROLE_VARIABLES in sys.modules:
            clock.watch(sys.modules[ROLE_VARIABLES].RoleVariables, "options", TEMPLATES)
        try:
            return run(self, *arguments, **named)
        finally:
            # The ssh that this process has started and waited for.
            children = resource.getrusage(resource.RUSAGE_CHILDREN)
            found = {**clock.seconds, "ssh_client": children.ru_utime + children.ru_stime}
            (folder / f"{self._task.action.rpartition('.')[2]}-{os.getpid()}.json").write_text(json.dumps(found))

    TaskExecutor.run = run_and_write
    sys.argv[0] = "ansible-playbook"
    sys.exit(main())


if __name__ == "__main__":
    start()
