# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""stat(1) of BSD: `stat [-L] [-n] -f FORMAT FILE...`; GNU's -c is refused, as a Mac refuses it."""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat as modes
import sys
import typing as t

from .common import complain

FIELDS: t.Dict[str, t.Callable[[os.stat_result], str]] = {
    "d": lambda status: str(status.st_dev),
    "i": lambda status: str(status.st_ino),
    "p": lambda status: f"{status.st_mode:o}",
    "Lp": lambda status: f"{modes.S_IMODE(status.st_mode) & 0o777:o}",
    "OLp": lambda status: f"{modes.S_IMODE(status.st_mode) & 0o777:o}",
    "Mp": lambda status: f"{status.st_mode >> 9 & 7:o}",
    "Sp": lambda status: modes.filemode(status.st_mode),
    "l": lambda status: str(status.st_nlink),
    "u": lambda status: str(status.st_uid),
    "g": lambda status: str(status.st_gid),
    "Su": lambda status: pwd.getpwuid(status.st_uid).pw_name,
    "Sg": lambda status: grp.getgrgid(status.st_gid).gr_name,
    "z": lambda status: str(status.st_size),
    "m": lambda status: str(int(status.st_mtime)),
    "c": lambda status: str(int(status.st_ctime)),
    "a": lambda status: str(int(status.st_atime)),
    "HT": lambda status: {modes.S_IFDIR: "Directory", modes.S_IFLNK: "Symbolic Link"}.get(modes.S_IFMT(status.st_mode), "Regular File"),
}
USAGE = "usage: stat [-FLnq] [-f format | -l | -r | -s | -x] [-t timefmt] [file|handle ...]"
FIELD = re.compile(r"%(%|N|n|t|[A-Z]{0,2}[a-zT])")


def _formatted(form: str, path: str, status: os.stat_result) -> str:
    def one(match: t.Match[str]) -> str:
        key = match.group(1)
        fixed = {"%": "%", "N": path, "n": "\n", "t": "\t"}
        return fixed[key] if key in fixed else FIELDS[key](status)

    return FIELD.sub(one, form)


def main(arguments: t.List[str]) -> int:
    form, follow, end, words = "%d %i %Sp %l %Su %Sg %z %m %N", False, "\n", list(arguments)
    while words and words[0].startswith("-"):
        letters = words.pop(0)[1:]
        for position, letter in enumerate(letters):
            if letter == "L":
                follow = True
            elif letter == "n":
                end = ""
            elif letter == "f":
                form = letters[position + 1 :] or words.pop(0)
                break
            else:
                complain(f"stat: illegal option -- {letter}\n{USAGE}")
                return 1
    code = 0
    for path in words:
        try:
            sys.stdout.write(_formatted(form, path, os.stat(path, follow_symlinks=follow)) + end)
        except OSError as error:
            complain(f"stat: {path}: stat: {error.strerror}")
            code = 1
        except KeyError as error:
            complain(f"stat: {error}: bad format")
            return 1
    return code
