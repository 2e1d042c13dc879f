# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print what a run could have changed on this host: files with digest, mode, owner and time, and the service's starts."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import stat

FOLDERS = ("/etc", "/Library", "/Applications", "/Users", "/var/lib", "/var/db")
# Written by the system itself while nothing of ours runs.
IGNORED = ("/var/lib/systemd", "/var/lib/dbus", "/etc/.updated")
STARTS = "/var/log/gpustack-starts.log"


def describe(path: str) -> list[object]:
    """What there is to know of one path."""
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return ["link", os.readlink(path)]
    digest = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else "-"
    return [oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns if digest != "-" else 0, digest]


def main() -> None:
    """Print one object, path -> description."""
    found = {}
    for folder in (*FOLDERS, STARTS):
        if os.path.isfile(folder):
            found[folder] = describe(folder)
        for parent, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if not os.path.join(parent, name).startswith(IGNORED)]
            for name in folders + files:
                path = os.path.join(parent, name)
                if not path.startswith(IGNORED):
                    found[path] = describe(path)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
