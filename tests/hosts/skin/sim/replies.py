# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""What launchctl says and returns; texts as people reported them (DeterminateSystems/nix-installer#530 #1148 #1187)."""

from __future__ import annotations

import os
import typing as t

from .common import SIM, read_json

MEANING = {
    1: "Operation not permitted",
    3: "No such process",
    5: "Input/output error",
    17: "File exists",
    36: "Operation now in progress",
    37: "Operation already in progress",
    112: "Could not find specified domain",
    113: "Could not find specified service",
    119: "Service is disabled",
    125: "Domain does not support specified action",
}
FAILED = {"bootstrap": "Bootstrap failed", "bootout": "Boot-out failed", "load": "Load failed", "unload": "Unload failed"}


class Reply(t.NamedTuple):
    rc: int
    out: str = ""
    err: str = ""


OK = Reply(0)


def failed(command: str, code: int, label: str = "") -> Reply:
    """The standard text of a code, as the given subcommand words it."""
    meaning = MEANING.get(code, "Unknown error: " + str(code))
    if command in FAILED:
        return Reply(code, err=f"{FAILED[command]}: {code}: {meaning}\n")
    if code == 113:
        first = "Bad request.\n" if command == "print" else ""
        return Reply(code, err=f'{first}Could not find service "{label}" in domain for system\n')
    return Reply(code, err=f'Could not {command} service "{label}": {code}: {meaning}\n')


def richer_as_root(reply: Reply, uid: int) -> Reply:
    return reply if uid == 0 else reply._replace(err=reply.err + "Try re-running the command as root for richer errors.\n")


def legacy(reply: Reply, modern: str) -> Reply:
    """load and unload tell the failure and return 0 all the same."""
    return Reply(0, err=f"{reply.err}Try running `launchctl {modern}` as root for richer errors.\n")


class ForcedCodes:
    """/.sim/launchd.json {"return_codes": {"bootstrap": [5, 0]}}: each use of the command takes the next code; 0 is the real thing."""

    def __init__(self) -> None:
        self._signature: t.Optional[t.Tuple[int, int]] = None
        self._used: t.Dict[str, int] = {}

    def next(self, command: str) -> int:
        try:
            status = os.stat(f"{SIM}/launchd.json")
        except FileNotFoundError:
            return 0
        signature = (status.st_ino, status.st_mtime_ns)
        if signature != self._signature:
            self._signature, self._used = signature, {}
        codes = read_json("launchd.json").get("return_codes", {}).get(command, [])
        used = self._used.get(command, 0)
        self._used[command] = used + 1
        return int(codes[used]) if used < len(codes) else 0
