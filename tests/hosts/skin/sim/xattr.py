# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""xattr(1): names, -l, -p, -w, -d, -c; kept as Linux user attributes."""

from __future__ import annotations

import os
import typing as t

from .common import complain

USAGE = """usage: xattr [-l] file [file ...]
       xattr -p|-d attr_name file
       xattr -w attr_name attr_value file
       xattr -c file [file ...]"""


def _names(path: str) -> t.List[str]:
    return sorted(name[5:] for name in os.listxattr(path) if name.startswith("user."))


def _list(path: str, with_values: bool) -> None:
    for name in _names(path):
        print(f"{name}: {os.getxattr(path, 'user.' + name).decode(errors='replace')}" if with_values else name)


def _act(letter: str, words: t.List[str]) -> int:
    if letter in ("", "l"):
        for path in words:
            _list(path, letter == "l")
        return 0
    if letter == "c":
        for path in words:
            for name in _names(path):
                os.removexattr(path, "user." + name)
        return 0
    name, rest = "user." + words[0], words[1:]
    path = rest[-1]
    try:
        if letter == "p":
            print(os.getxattr(path, name).decode(errors="replace"))
        elif letter == "w":
            os.setxattr(path, name, rest[0].encode())
        else:
            os.removexattr(path, name)
    except OSError as error:
        if error.filename is not None and not os.path.lexists(path):
            raise
        complain(f"xattr: {path}: No such xattr: {words[0]}")
        return 1
    return 0


def main(arguments: t.List[str]) -> int:
    options = "".join(word[1:] for word in arguments if word.startswith("-"))
    words = [word for word in arguments if not word.startswith("-")]
    letter = options[:1]
    needed = {"p": 2, "w": 3, "d": 2}.get(letter, 1)
    if letter not in ("", "l", "p", "w", "d", "c") or len(words) < needed:
        complain(USAGE)
        return 64
    try:
        return _act(letter, words)
    except FileNotFoundError as error:
        complain(f"xattr: No such file: {error.filename}")
        return 1
