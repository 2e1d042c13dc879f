# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy what git knows of this checkout, or would add, to a folder: copy_collection.py DESTINATION.

Tools that look at a whole collection must not see .cache, and ansible-test wants a folder of its own to write to.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def files_of_checkout() -> list[str]:
    # safe.directory: with sudo the checkout belongs to someone else than the one who runs git.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return [name for name in listing.decode().split("\0") if name]


def main() -> None:
    destination = pathlib.Path(sys.argv[1])
    for name in files_of_checkout():
        source = ROOT / name
        # Listed but deleted, or (in a checkout where people work) deleted just now.
        if not source.exists() and not source.is_symlink():
            continue
        target = destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


if __name__ == "__main__":
    main()
