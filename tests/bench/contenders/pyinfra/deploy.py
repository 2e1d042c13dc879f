# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The policy of the bench in pyinfra: facts first, one remote command each, then only the operations that are needed.

--data hash=yes compares llama-box by digest. Otherwise its size decides, which is what a user of pyinfra would do who wants it fast.
"""

from __future__ import annotations

import typing as t

from pyinfra import host
from pyinfra.api.facts import FactBase
from pyinfra.facts.files import File, Sha256File
from pyinfra.operations import files, server, systemd
from pyinfra.operations.util import any_changed

ENVIRONMENT_FILE = "/etc/default/gpustack"
VARIABLE = "GGML_METAL_NO_RESIDENCY"
SERVICE = "gpustack"
CACHE = "/var/cache/llama-box"
ANSWERS = "curl -fs http://127.0.0.1/healthz && curl -fs http://127.0.0.1:10150/healthz"
WAIT = f"for n in $(seq 480); do {ANSWERS} && exit 0; sleep 0.25; done; exit 1"


class Residency(FactBase[t.Set[str]]):  # type: ignore[misc,unused-ignore]
    """Whether the service manager and the running service have the variable, by one remote command for both."""

    def command(self) -> str:
        """Prints a word for each that has it."""
        pid = f"$(systemctl show --property MainPID --value {SERVICE})"
        in_manager = f"systemctl show-environment | grep -q '^{VARIABLE}=' && echo manager"
        in_process = f"grep -qz '^{VARIABLE}=' /proc/{pid}/environ && echo process"
        return f"{in_manager}; {in_process}; true"

    def process(self, output: t.Iterable[str]) -> t.Set[str]:
        """The words."""
        return set(output)


def is_right() -> bool:
    """Whether llama-box is the one that is wanted."""
    if host.data.get("hash"):
        return bool(host.get_fact(Sha256File, path=host.data.program) == host.data.program_sha256)
    found = host.get_fact(File, path=host.data.program)
    return bool(found) and found["size"] == host.data.program_size_bytes


residency = host.get_fact(Residency) or set()
# Of what is needed only now and then, the operation is there only then.
changing = [
    files.line(
        name="Take the variable out of the environment file",
        path=ENVIRONMENT_FILE,
        line=rf"^[[:space:]]*(export[[:space:]]+)?{VARIABLE}=.*$",
        present=False,
        extended_regex=True,
    )
]
for key, value in host.data.environment.items():
    changing.append(
        files.line(
            name=f"Have {key} in the environment file",
            path=ENVIRONMENT_FILE,
            line=f"^{key}=.*$",
            replace=f"{key}={value}",
            ensure_newline=True,
        )
    )
if "manager" in residency:
    unset = f"systemctl unset-environment {VARIABLE}"
    changing.append(server.shell(name="Take it out of the environment of the service manager", commands=[unset]))
if "process" in residency:
    changing.append(server.shell(name="Restart for a process that has it", commands=["true"]))
if not is_right():
    files.directory(name="Make a folder for llama-box", path=CACHE)
    files.download(
        name="Download the archive", src=host.data.archive_url, dest=f"{CACHE}/llama-box.zip", sha256sum=host.data.archive_sha256
    )
    changing.append(
        server.shell(
            name="Put llama-box in its place",
            commands=[
                f"unzip -oq {CACHE}/llama-box.zip -d {CACHE}",
                f"install -m 755 {CACHE}/llama-box {host.data.program}.new",
                f"mv -f {host.data.program}.new {host.data.program}",
                f"rm -rf {CACHE}",
            ],
        )
    )
systemd.service(name="Have the service run, now and at boot", service=SERVICE, running=True, enabled=True)
systemd.service(name="Restart it if anything has changed", service=SERVICE, restarted=True, _if=any_changed(*changing))
server.shell(name="Wait until it answers", commands=[WAIT], _if=any_changed(*changing))
