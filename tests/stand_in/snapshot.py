# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print what a run could have changed on this host: files with digest, mode, owner and time, and the service's starts.

--without-state: not what the collection keeps for itself, and not the starts. --without-times: not when files were written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import stat

FOLDERS = ("/etc", "/Library", "/Applications", "/Users", "/root", "/var/lib", "/var/db")
# Written by the system itself while nothing of ours runs.
IGNORED = ("/var/lib/systemd", "/var/lib/dbus", "/etc/.updated")
STARTS = "/var/log/gpustack-starts.log"
STATE = ("/var/lib/metalfleet", "/var/db/metalfleet")


def describe(path: str, times: bool) -> list[object]:
    """What there is to know of one path."""
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return ["link", os.readlink(path)]
    digest = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else "-"
    return [oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns if times and digest != "-" else 0, digest]


def main() -> None:
    """Print one object, path -> description."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without-state", action="store_true")
    parser.add_argument("--without-times", action="store_true")
    arguments = parser.parse_args()
    ignored = (*IGNORED, *STATE) if arguments.without_state else IGNORED
    times = not arguments.without_times
    found = {}
    if not arguments.without_state and os.path.isfile(STARTS):
        found[STARTS] = describe(STARTS, times)
    for folder in FOLDERS:
        for parent, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if not os.path.join(parent, name).startswith(ignored)]
            for name in folders + files:
                path = os.path.join(parent, name)
                if not path.startswith(ignored):
                    found[path] = describe(path, times)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
