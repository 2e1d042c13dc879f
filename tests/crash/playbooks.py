# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs by real Ansible over ssh, watched from this machine: what their transaction has written down, and who serves them."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import time
import typing as t

from disposable import cgroups
from fleet import HOSTS, ROOT, Fleet

LIMIT_SECONDS = 180.0


def until(question: t.Callable[[], t.Any], what: str, limit_seconds: float = LIMIT_SECONDS) -> t.Any:
    """The first true answer. Raises TimeoutError."""
    end = time.monotonic() + limit_seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit_seconds:g} seconds: {what}")
        time.sleep(0.001)


def tasks(module: str, arguments: t.Mapping[str, t.Any], result: str) -> t.List[t.Dict[str, t.Any]]:
    """Run a module, and keep what it says in a file where Ansible runs."""
    keep = {"content": "{{ done | to_json }}", "dest": result, "mode": "0600"}
    here = {
        "delegate_to": "localhost",
        "vars": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"},
    }
    return [
        {"name": "Run it", f"metalfleet.gpustack.{module}": dict(arguments), "register": "done", "ignore_errors": True},
        {"name": "Keep what it said", "ansible.builtin.copy": keep, **here},
    ]


class Playbook:
    """A play with one task: a module with arguments on one host. Each has a controller of its own: no connection is shared."""

    def __init__(self, fleet: Fleet, host: str, module: str, arguments: t.Mapping[str, t.Any], name: str) -> None:
        self._fleet, self._host, self._name = fleet, host, name
        folder = fleet.folder / name
        folder.mkdir(exist_ok=True)
        self._result = folder / "result.json"
        self._playbook = folder / "playbook.yml"
        play = {"name": "Crash", "hosts": host, "gather_facts": False, "tasks": tasks(module, arguments, str(self._result))}
        self._playbook.write_text(json.dumps([play]))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, pipelining: bool = False) -> None:
        """In the background. pipelining: no terminal on the host, whose end would end the module."""
        self._result.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache/collections"),
            "ANSIBLE_HOME": str(self._playbook.parent / "home"),
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=no",
            "ANSIBLE_PIPELINING": str(pipelining),
        }
        command = self._fleet.playbook_command(str(self._playbook), "-e", json.dumps({"ansible_ssh_args": _SSH}))
        log = (self._playbook.parent / "log").open("wb")
        self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def wait(self) -> t.Dict[str, t.Any]:
        """What the module said; {"unreachable": True} where the connection was lost."""
        assert self._process is not None
        self._process.wait(LIMIT_SECONDS)
        if not self._result.exists():
            return {"unreachable": True, "log": (self._playbook.parent / "log").read_text()}
        found: t.Dict[str, t.Any] = json.loads(self._result.read_text())
        return found

    def run(self) -> t.Dict[str, t.Any]:
        """Start and wait."""
        self.start()
        return self.wait()


_SSH = (
    "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o GlobalKnownHostsFile=/dev/null -o LogLevel=ERROR"
    " -o IdentitiesOnly=yes -o ControlMaster=no -o ControlPath=none -o ConnectTimeout=10"
)


class Machine:
    """A host as this machine sees it from outside: its processes and its disk."""

    def __init__(self, fleet: Fleet, name: str, state: str) -> None:
        self._fleet, self.name, self._state = fleet, name, state
        self._group = cgroups.session_group(fleet.session) / name

    def pids(self) -> t.List[int]:
        """Of all processes, in this machine's numbers."""
        found = []
        for path in self._group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found += [int(pid) for pid in path.read_text().split()]
        return found

    def journal(self, seen_by: int = 0) -> t.Optional[t.Dict[str, t.Any]]:
        """The journal of the transaction that has not ended. seen_by: a process of the host, if one is known, which is quicker."""
        try:
            found: t.Dict[str, t.Any] = json.loads(pathlib.Path(self._path("journal.json", seen_by)).read_bytes())
        except (OSError, ValueError):
            return None
        return found

    def has(self, name: str) -> bool:
        """Whether the collection's folder has a file of this name."""
        return os.path.lexists(self._path(name))

    def at_lock(self) -> t.List[int]:
        """Processes that have the lock or wait for it, those of the agent included, which are in no group of the host."""
        try:
            lock = os.stat(self._path("lock"))
        except OSError:
            return []
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*/fd"):
            with contextlib.suppress(OSError):
                if any(os.path.samestat(lock, door.stat()) for door in folder.iterdir() if "metalfleet" in os.readlink(door)):
                    found.append(int(folder.parent.name))
        return found

    def named_holder(self) -> int:
        """Who has the lock, by what the lock says: a number of the host's own; 0 where it names nobody."""
        try:
            said = re.match(rb"process (\d+) ", pathlib.Path(self._path("lock")).read_bytes())
        except OSError:
            return 0
        return int(said.group(1)) if said else 0

    def holder(self) -> t.List[int]:
        """The process of that number, if it has the lock's file open."""
        number = self.named_holder()
        found = []
        for pid in self.at_lock():
            # One that was about to start a command has ended since.
            with contextlib.suppress(OSError):
                if re.search(rf"NSpid:.*\t{number}\n", pathlib.Path(f"/proc/{pid}/status").read_text()):
                    found.append(pid)
        return found

    def kill_sessions(self) -> None:
        """SIGKILL for each sshd that serves a session; the one that listens stays."""
        for pid in self.pids():
            if self._command(pid).startswith("sshd: ") and "listener" not in self._command(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def cut_power(self) -> None:
        """Every process at once, the first one included."""
        (self._group / "cgroup.kill").write_text("1")

    def boot(self) -> None:
        """Again, with its disk."""
        for verb in ("crash", "boot"):
            subprocess.run([HOSTS, verb, self._fleet.session, self.name], check=True)

    def _command(self, pid: int) -> str:
        try:
            return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""

    def _path(self, name: str, seen_by: int = 0) -> str:
        pids = [seen_by] if seen_by else self.pids()
        return f"/proc/{pids[0]}/root{self._state}/{name}" if pids else "/nowhere"
