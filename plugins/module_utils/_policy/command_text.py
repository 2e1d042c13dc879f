# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Commands as they may be shown: without the value that they give to a variable."""

from __future__ import annotations

import typing as t

_NOT_SHOWN = "(not shown)"
_LAUNCHD = "setenv"
_SYSTEMD = "set-environment"


def shown(argv: t.Sequence[str]) -> str:
    """The command in one line."""
    words = list(argv)
    if _LAUNCHD in words:
        words[words.index(_LAUNCHD) + 2 :] = [_NOT_SHOWN]
    elif _SYSTEMD in words:
        words[-1] = f"{subject(words)}={_NOT_SHOWN}"
    return " ".join(words)


def value(argv: t.Sequence[str]) -> str:
    """What it gives to the variable; empty where it gives none."""
    return argv[-1] if _LAUNCHD in argv else argv[-1].partition("=")[2] if _SYSTEMD in argv else ""


def subject(argv: t.Sequence[str]) -> str:
    """The variable or sysctl that it is about."""
    return argv[argv.index(_LAUNCHD) + 1] if _LAUNCHD in argv else argv[-1].partition("=")[0]
