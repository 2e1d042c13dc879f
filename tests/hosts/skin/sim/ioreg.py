# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""ioreg(8): the GPU's entry, for `-c` or `-r -c` with its class; other classes are found nowhere."""

from __future__ import annotations

import typing as t

from .common import profile

CLASSES = ("IOAccelerator", "AGXAccelerator")


def main(arguments: t.List[str]) -> int:
    gpu = profile()["gpu"]
    wanted = [following for word, following in zip(arguments, arguments[1:]) if word.startswith("-") and word.endswith("c")]
    if not gpu["cores"] or (wanted and wanted[-1] not in CLASSES):
        return 0
    print("+-o AGXAcceleratorG00X  <class AGXAcceleratorG00X>")
    print(f'    {{\n      "model" = "{gpu["model"]}"\n      "gpu-core-count" = {gpu["cores"]}\n    }}\n')
    return 0
