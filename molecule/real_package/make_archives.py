# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives of the llama-box that tells its version to who connects (tests/gpustack): make_archives.py TOOLS-LAYER FOLDER"""

from __future__ import annotations

import pathlib
import sys

import archives

BUILDS = {
    "v0.0.139": ("darwin-arm64-metal", "linux-amd64-avx2"),
    "v0.0.168": ("darwin-arm64-metal", "linux-amd64-avx2", "dl-darwin-arm64-metal", "dl-linux-amd64-cpu"),
}


def main() -> None:
    """Put them in GitHub's layout."""
    layer, folder = map(pathlib.Path, sys.argv[1:])
    for version, builds in BUILDS.items():
        program = (layer / "opt/gpustack-tools" / f"llama-box-{version}").read_bytes()
        for build in builds:
            path = archives.place(folder, version, build)
            path.write_bytes(archives.pack({**archives.contents(version, build), archives.PROGRAM: program}))


if __name__ == "__main__":
    main()
