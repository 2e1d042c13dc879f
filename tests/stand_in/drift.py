# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a host drift: drift.py set-plist NAME VALUE | unset-plist NAME | restart | replace FILE OLD NEW. Runs on the host."""

from __future__ import annotations

import os
import pathlib
import plistlib
import subprocess
import sys
import time
import typing as t

from install import PLIST, wait_up


def set_plist(name: str, value: str) -> None:
    """Change the environment in the property list, and nothing in the loaded job."""
    content = plistlib.loads(PLIST.read_bytes())
    content.setdefault("EnvironmentVariables", {})[name] = value
    PLIST.write_bytes(plistlib.dumps(content))


def unset_plist(name: str) -> None:
    """The reverse."""
    content = plistlib.loads(PLIST.read_bytes())
    del content["EnvironmentVariables"][name]
    PLIST.write_bytes(plistlib.dumps(content))


def restart() -> None:
    """Restart the service as an administrator would, so that it reads its files anew."""
    if os.uname().sysname == "Darwin":
        subprocess.run(["launchctl", "bootout", "system/ai.gpustack"], check=False, timeout=60)
        end = time.monotonic() + 60
        while subprocess.run(["launchctl", "bootstrap", "system", str(PLIST)], check=False, timeout=60).returncode:
            if time.monotonic() > end:
                sys.exit("launchd does not load the job again")
            time.sleep(0.2)
    else:
        subprocess.run(["systemctl", "restart", "gpustack"], check=True, timeout=60)
    wait_up()


def replace(path: str, old: str, new: str) -> None:
    """Put other bytes into a file, in place, with its size and times put back."""
    before = os.stat(path)
    content = pathlib.Path(path).read_bytes()
    changed = content.replace(old.encode(), new.encode())
    assert changed != content
    assert len(changed) == len(content)
    pathlib.Path(path).write_bytes(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


if __name__ == "__main__":
    actions: dict[str, t.Callable[..., None]] = {"set-plist": set_plist, "unset-plist": unset_plist, "restart": restart, "replace": replace}
    actions[sys.argv[1]](*sys.argv[2:])
