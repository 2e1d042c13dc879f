# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""On a simulated Mac, GPUStack's own code sees Darwin on arm64: it decides by that what to download and what folders are called.

Loaded by a .pth file at each start of the Python of GPUStack's virtual environment. All other packages go on seeing Linux: they
are builds for Linux, and truststore, for one, would look for Apple's Security library.
"""

from __future__ import annotations

import platform
import sys
import typing as t


def _for_gpustack(name: str, seen: t.Callable[[t.Any], t.Any]) -> None:
    real = getattr(platform, name)

    def answer() -> t.Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        return seen(real()) if caller.startswith("gpustack.") else real()

    setattr(platform, name, answer)


_for_gpustack("system", lambda _real: "Darwin")
_for_gpustack("machine", lambda _real: "arm64")
_for_gpustack("uname", lambda real: platform.uname_result("Darwin", real.node, "24.5.0", "Darwin Kernel Version 24.5.0", "arm64"))
