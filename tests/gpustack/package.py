# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a layer for disposable hosts that holds the real GPUStack from PyPI, and print its folder: package.py VERSION

The layer has what `pipx install gpustack` leaves in the home of the user admin of a Mac. Its packages are those for the
Python 3.11 of the hosts' Debian, whatever Python runs this program.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys

CACHE = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "gpustack"
VENV = pathlib.PurePosixPath("/Users/admin/.local/pipx/venvs/gpustack")
# The guard matters: GPUStack starts its parts with multiprocessing's spawn, which runs this file again.
PROGRAM = f"""#!{VENV}/bin/python
import sys
from gpustack.main import main
if __name__ == "__main__":
    sys.exit(main())
"""
CONFIGURATION = "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n"


def build(version: str, layer: pathlib.Path) -> None:
    """Install into a folder beside the layer, then rename: a build that was cut short is never taken for one."""
    unfinished = layer.with_name(f"{layer.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    venv = unfinished / VENV.relative_to("/")
    site_packages = venv / "lib/python3.11/site-packages"
    site_packages.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--target", str(site_packages), "--python-version", "3.11", "--implementation", "cp", "--only-binary=:all:"]
    # GPUStack imports cachetools without declaring it.
    subprocess.run([*command, f"gpustack=={version}", "cachetools"], check=True, stdout=sys.stderr)
    shutil.rmtree(site_packages / "bin", ignore_errors=True)
    (venv / "bin").mkdir()
    (venv / "bin/python").symlink_to("/usr/bin/python3")
    (venv / "pyvenv.cfg").write_text(CONFIGURATION)
    (venv / "bin/gpustack").write_text(PROGRAM)
    (venv / "bin/gpustack").chmod(0o755)
    unfinished.rename(layer)


def main() -> None:
    """Build the layer if it is not there."""
    version = sys.argv[1]
    layer = CACHE / version
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not layer.is_dir():
            print(f"installing gpustack {version} from PyPI, about a minute", file=sys.stderr)
            build(version, layer)
    os.write(1, f"{layer}\n".encode())


if __name__ == "__main__":
    main()
