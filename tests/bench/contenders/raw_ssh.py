# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""ssh to many hosts at once, and nothing around it: raw_ssh.py REACH USER FORKS COMMAND..."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import shlex
import subprocess
import sys


def main(reach_file: str, user: str, forks: str, *command: str) -> int:
    """As Ansible's own connection would call it, with the same connections."""
    reach = json.loads(pathlib.Path(reach_file).read_text())["all"]
    shared = reach["vars"]
    options = ["-F", "none", *shlex.split(shared["ansible_ssh_args"]), "-i", shared["ansible_ssh_private_key_file"]]
    addresses = [own["ansible_host"] for group in reach["children"].values() for own in group["hosts"].values()]

    def run(address: str) -> int:
        return subprocess.run(["ssh", *options, f"{user}@{address}", *command], check=False, stdin=subprocess.DEVNULL).returncode

    with concurrent.futures.ThreadPoolExecutor(int(forks)) as pool:
        return max(pool.map(run, addresses))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
