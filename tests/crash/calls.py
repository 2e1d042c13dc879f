# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which system calls and which commands change a host. For the program on the host and for that which reads its traces."""

from __future__ import annotations

import os
import typing as t

# Opening a file for writing is none: whoever dies at the write that follows has left an empty file, and whoever dies at the call
# before has left none.
CALLS = (
    "write",
    "pwrite64",
    "ftruncate",
    "truncate",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "lchown",
    "fchown",
    "fchownat",
    "setxattr",
    "fsetxattr",
    "removexattr",
    "fremovexattr",
    "utimensat",
)

# A path that is nowhere; to ask for it puts a command's words into the trace.
MARK = "/@command/"
BEFORE = "before"
DURING = "during"

_LOOKS = ("print", "print-disabled", "getenv", "show", "show-environment", "list", "is-active")


def command_of(argv: t.Sequence[t.Union[str, bytes, os.PathLike[str]]]) -> str:
    """A command's words in one line, without what says nothing."""
    words = [os.fsdecode(word) for word in argv]
    return " ".join([words[0].rsplit("/", 1)[-1] if words[0].startswith(("/usr/", "/bin/", "/sbin/")) else words[0], *words[1:]]).replace(
        " --no-pager", ""
    )


def changes_something(command: str) -> bool:
    """Whether the command does more than look. A program that is tried is started for its version, and could do anything."""
    program, _space, rest = command.partition(" ")
    if program in ("launchctl", "systemctl"):
        return rest.split(" ")[0] not in _LOOKS
    return (program == "sysctl" and "=" in rest) or program.endswith("/llama-box")
