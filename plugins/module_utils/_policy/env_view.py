# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""An environment file as it may be shown in a diff: only what the module was given in the open has its value shown."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import env_readers
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_file import is_marker, spelled_name


def shown(text: t.Optional[str], open_lines: t.Collection[str], secret_lines: t.Collection[str]) -> str:
    """The text with every value hidden but those of open_lines.

    open_lines and secret_lines are the lines that we write. A secret that stays as it is looks the same before and
    after; one that changes does not.
    """
    text = text or ""
    named = _lines_with_names(text)
    lines = text.split("\n")[: _count(text)]
    return "".join(_shown_line(line, number in named, open_lines, secret_lines) + "\n" for number, line in enumerate(lines, start=1))


def _lines_with_names(text: str) -> set[int]:
    """The 1-based lines where every systemd sees a variable begin; others may be a part of a value, whatever they look like."""
    readings = (env_readers.read_systemd(text), env_readers.read_systemd(text, comment_continues=True))
    newer, older = ({entry.line for entry in reading.entries if entry.value is not None} for reading in readings)
    return newer & older


def _count(text: str) -> int:
    """The number of lines; what follows the last line end is one only where there is something."""
    return len(text.split("\n")) - (1 if not text or text.endswith("\n") else 0)


def _shown_line(line: str, has_name: bool, open_lines: t.Collection[str], secret_lines: t.Collection[str]) -> str:
    if line in open_lines or is_marker(line) or not line.strip():
        return line
    if line.lstrip().startswith(("#", ";")):
        return "# (a comment)"
    name = spelled_name(line.partition("=")[0])
    if not has_name or not env_readers.is_valid_name(name):
        # A line inside a value of several lines, or one that means nothing: it may be a part of a secret.
        return "(a line that is not ours)"
    return f"{name}=(secret)" if line in secret_lines else f"{name}=(not shown)"
