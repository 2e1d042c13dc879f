# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent on one disposable host, as this machine talks to it."""

from __future__ import annotations

import json
import subprocess
import typing as t

from fleet import HOSTS, Fleet

PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
PYTHON = "/usr/bin/python3"


class TargetError(Exception):
    """The host did not do what was asked of it."""


class Target:
    """A host (name) of a kind, with an agent on it until close(). pid: of the host's first process, as its session has it."""

    def __init__(self, fleet: Fleet, name: str, kind: str, pid: int) -> None:
        self.name = name
        self.kind = kind
        enter = ["nsenter", "--target", str(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
        environment = ["env", "-i", f"PATH={PATH}", "HOME=/root", "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"]
        self._agent = subprocess.Popen(
            [HOSTS, "run", fleet.session, "--", *enter, *environment, PYTHON, "/opt/crash/agent.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, action: str, **request: t.Any) -> t.Dict[str, t.Any]:
        """One request, one answer. Raises TargetError."""
        assert self._agent.stdin is not None
        assert self._agent.stdout is not None
        self._agent.stdin.write(json.dumps({"action": action, **request}) + "\n")
        self._agent.stdin.flush()
        line = self._agent.stdout.readline()
        if not line:
            raise TargetError(f"the agent on {self.name} has ended")
        answer: t.Dict[str, t.Any] = json.loads(line)
        if "error" in answer:
            raise TargetError(f"{self.name}: {action}: {answer['error']}")
        return answer

    def run(self, module: str, arguments: t.Mapping[str, t.Any], **options: t.Any) -> t.Dict[str, t.Any]:
        """A run of a module."""
        return self.ask("run", module=module, arguments=dict(arguments), **options)

    def close(self) -> None:
        """End the agent."""
        assert self._agent.stdin is not None
        self._agent.stdin.close()
        self._agent.wait(30)
