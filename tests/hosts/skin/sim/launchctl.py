# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""launchctl(1): carries its arguments to launchd and prints what it is told."""

from __future__ import annotations

import json
import os
import socket
import sys
import typing as t

from .common import complain, recorded
from .launchd import SOCKET

# these name files, relative to where launchctl was called
WITH_PATHS = ("bootstrap", "bootout", "load", "unload")


def ask_launchd(command: str, arguments: t.List[str]) -> t.Dict[str, t.Any]:
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(SOCKET)
        link.sendall(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
        reply: t.Dict[str, t.Any] = json.loads(link.makefile("rb").readline())
    return reply


def _launchctl(arguments: t.List[str]) -> int:
    if not arguments or arguments[0] in ("help", "-h", "--help"):
        complain("Usage: launchctl <subcommand> ... | help [subcommand]")
        return 0 if arguments else 1
    command, *rest = arguments
    if command in WITH_PATHS:
        # `bootout system/LABEL` is no path; `bootout system PLIST` is
        first = 1 if command in ("bootstrap", "bootout") else 0
        rest = rest[:first] + [word if word.startswith("-") else os.path.abspath(word) for word in rest[first:]]
    reply = ask_launchd(command, rest)
    sys.stdout.write(reply["out"])
    sys.stdout.flush()
    sys.stderr.write(reply["err"])
    return int(reply["rc"])


main = recorded("launchctl", _launchctl)
