# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a host drift: drift.py set-plist NAME VALUE | unset-plist NAME | restart. Runs on the host."""

from __future__ import annotations

import os
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


if __name__ == "__main__":
    actions: dict[str, t.Callable[..., None]] = {"set-plist": set_plist, "unset-plist": unset_plist, "restart": restart}
    actions[sys.argv[1]](*sys.argv[2:])
