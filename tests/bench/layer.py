# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A layer for disposable hosts with what an ordinary Debian has and they have not: curl and unzip, which the other tools need."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

from disposable import image
from fleet import ROOT

_PACKAGES = "curl,unzip"


def make() -> pathlib.Path:
    """The folder of the layer, made at the first call; only files that the image lacks."""
    layer = ROOT / ".cache" / "bench" / "layer"
    if layer.is_dir():
        return layer
    base = image.base()
    packages, unfinished = layer.with_name("packages"), layer.with_name("unfinished")
    for folder in (packages, unfinished):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    command = ["mmdebstrap", "--variant=extract", "--format=directory", f"--include={_PACKAGES}", image.SUITE, str(packages)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    # The hosts' /lib is a link to /usr/lib.
    for source, target in (("usr/bin", "usr/bin"), ("usr/lib", "usr/lib"), ("lib", "usr/lib")):
        for path in (packages / source).rglob("*"):
            name = f"{target}/{path.relative_to(packages / source)}"
            if (path.is_file() or path.is_symlink()) and not (base / name).exists():
                (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, unfinished / name, follow_symlinks=False)
    shutil.rmtree(packages)
    unfinished.rename(layer)
    return layer
