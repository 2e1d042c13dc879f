# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""shutdown(8): `shutdown -r now|+MINUTES`; a simulated Mac can start again, but only its session can switch it off."""

from __future__ import annotations

import os
import time
import typing as t

from .common import complain
from .launchctl import ask_launchd


def main(arguments: t.List[str]) -> int:
    if os.geteuid() != 0:
        complain("shutdown: NOT super-user")
        return 1
    words = [word for word in arguments if not word.startswith("-")]
    if "-r" not in arguments or not words:
        complain("usage: shutdown [-] [-h [-u] [-n] | -r [-n] | -s | -k] time [warning-message ...]")
        return 1
    if words[0] != "now":
        time.sleep(float(words[0].lstrip("+")) * 60)
    ask_launchd("reboot", [])
    return 0
