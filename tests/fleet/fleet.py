# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet of disposable hosts for programs that run playbooks on it: the demo, the benchmark, the test of Ansible's versions."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOSTS = str(ROOT / "tests/hosts/hosts")


def hosts(*arguments: str) -> str:
    """Call the tool of the disposable hosts."""
    return subprocess.run([HOSTS, *arguments], check=True, text=True, stdout=subprocess.PIPE).stdout


class Fleet:
    """A session of hosts that ends with the `with` block, or with this process. name: what the session's name starts with."""

    def __init__(self, name: str) -> None:
        self.session = f"{name}-{os.getpid()}"
        self.folder = ROOT / ".cache" / self.session

    def __enter__(self) -> Fleet:
        # What ends a program without a word, as make does when it is told to stop, must not end it without __exit__.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self.folder.mkdir(parents=True)
        hosts("start", self.session, "--owner-pid", str(os.getpid()))
        return self

    def __exit__(self, *_exception: object) -> None:
        hosts("stop", self.session)
        shutil.rmtree(self.folder)

    def boot(self, specifications: t.Mapping[str, str], inventory: str | None = None) -> None:
        """Boot hosts (name -> specification of tests/hosts), all in the group gpustack unless an inventory is given."""
        hosts("up", self.session, *(f"{name}={specification}" for name, specification in specifications.items()))
        (self.folder / "reach.yml").write_text(hosts("inventory", self.session))
        members: dict[str, dict[str, str]] = {name: {} for name in specifications}
        (self.folder / "inventory.yml").write_text(inventory or json.dumps({"gpustack": {"hosts": members}}))

    def halt(self, names: t.Sequence[str]) -> None:
        """End hosts; others may then be booted in their place."""
        hosts("down", self.session, *names)

    def ssh(self, name: str, command: str, stdin: bytes = b"") -> str:
        """Standard output of a shell command there."""
        argv = [HOSTS, "ssh", self.session, name, "--", command]
        return subprocess.run(argv, check=True, input=stdin, stdout=subprocess.PIPE).stdout.decode()

    def install_stand_in(self, name: str, *arguments: str) -> None:
        """Put the stand-in for GPUStack on a host; arguments are those of tests/stand_in/install.py."""
        files = ["tar", "-C", str(ROOT / "tests/stand_in"), "-c", "install.py", "service.py"]
        pack = subprocess.run(files, check=True, stdout=subprocess.PIPE).stdout
        self.ssh(name, f"tar -C /tmp -x && python3 /tmp/install.py {' '.join(arguments)}", pack)

    def playbook_command(self, playbook: str, *arguments: str, program: str = "ansible-playbook") -> list[str]:
        """The command that runs a playbook from inside the hosts' network."""
        inventories = ["-i", str(self.folder / "inventory.yml"), "-i", str(self.folder / "reach.yml")]
        return [HOSTS, "run", self.session, "--", program, playbook, *inventories, *arguments]
