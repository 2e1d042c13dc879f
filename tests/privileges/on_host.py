# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a disposable host as root, by `python3 - ACTION [HASH]`.

users    Users besides `fleet`: `asker` with sudo by password, `plain` without sudo, `other` whom one may become.
close    Close what a careful person closes: files that hold secrets.
picture  Print a digest, mode and owner of every file that a run could have changed, and how often the service was started.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import stat
import sys
import typing as t

USERS = {"asker": 601, "plain": 602, "other": 603}
CLOSED = ("/etc/default/gpustack", "/Library/LaunchDaemons/ai.gpustack.plist", "/etc/systemd/system/gpustack.service.d/ours.conf")
TOPS = ("/etc", "/Library", "/var/db/metalfleet", "/var/lib/metalfleet", "/root/.local", "/Users/admin", "/opt")


def users(password_hash: str) -> None:
    """Written by hand, as a Mac has no useradd."""
    keys = next(path for path in (pathlib.Path("/home/fleet"), pathlib.Path("/Users/fleet")) if path.is_dir())
    for name, uid in USERS.items():
        home = keys.parent / name
        with open("/etc/passwd", "a") as file:
            file.write(f"{name}:x:{uid}:20:{name}:{home}:/bin/bash\n")
        with open("/etc/shadow", "a") as file:
            file.write(f"{name}:{password_hash if name == 'asker' else '*'}:19000:0:99999:7:::\n")
        shutil.copytree(keys / ".ssh", home / ".ssh")
        for path in (home, home / ".ssh", home / ".ssh/authorized_keys"):
            os.chown(path, uid, 20)
    pathlib.Path("/etc/sudoers.d/asker").write_text("asker ALL=(ALL) ALL\n")


def close() -> None:
    """0600."""
    for path in CLOSED:
        if os.path.exists(path):
            os.chmod(path, 0o600)


def picture() -> None:
    """One entry a file; our lock has no content that counts."""
    starts = pathlib.Path("/var/log/gpustack-starts.log")
    found: dict[str, list[object]] = {str(starts): [starts.read_text()]}
    for top in TOPS:
        for above, _folders, names in os.walk(top):
            for name in names:
                path = pathlib.Path(above, name)
                status = path.lstat()
                content = path.read_bytes() if stat.S_ISREG(status.st_mode) and path.name != "lock" else b""
                found[str(path)] = [hashlib.sha256(content).hexdigest(), stat.S_IMODE(status.st_mode), status.st_uid]
    print(json.dumps(found, sort_keys=True))


if __name__ == "__main__":
    actions: dict[str, t.Callable[..., None]] = {"users": users, "close": close, "picture": picture}
    actions[sys.argv[1]](*sys.argv[2:])
