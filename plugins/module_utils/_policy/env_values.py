# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Write a variable so that every reader of /etc/default/gpustack reads the same value, or say why that cannot be."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import env_readers
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError

# execve(2) of Linux refuses a longer "NAME=value" (MAX_ARG_STRLEN).
LONGEST_ASSIGNMENT_BYTES = 128 * 1024 - 1


def text_of(name: str, value: t.Any, option: str) -> str:
    """The text of a value from YAML; raises BadInputError for one whose text would be a guess."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    kind = {bool: "a boolean", float: "a floating point number", type(None): "null"}.get(type(value), f"of type {type(value).__name__}")
    raise BadInputError(f"{option}.{name} is {kind}: put the text that GPUStack is to see in quotes")


def assignment_line(name: str, value: str, option: str = "variables") -> str:
    """The line `NAME=value`, quoted only where that is needed, without a line end.

    Raises BadInputError with the reason where systemd and install.sh cannot be made to read the same. The value itself
    is never part of the message.
    """
    if not env_readers.is_valid_name(name):
        raise BadInputError(f"{option}: {name!r} is not a name that a variable can have; use letters, digits and underscores")
    if not env_readers.is_valid_utf8(value):
        raise BadInputError(f"{option}.{name} is not valid UTF-8")
    if len(f"{name}={value}".encode()) > LONGEST_ASSIGNMENT_BYTES:
        raise BadInputError(f"{option}.{name} is longer than the {LONGEST_ASSIGNMENT_BYTES} bytes that a program can be given")
    for quote in ("", '"', "'"):
        line = f"{name}={quote}{value}{quote}"
        if not _why_misread(line, {name: value}):
            return line
    raise BadInputError(f"{option}.{name} cannot be written so that all readers of the file read it alike: {_reason(name, value)}")


def _why_misread(line: str, wanted: t.Mapping[str, str]) -> str:
    """Why the lines are not read as wanted by both readers; empty where they are."""
    for reader in (env_readers.SYSTEMD, env_readers.INSTALL_SH):
        reading = env_readers.read(line + "\n", reader)
        problems = [reading.refused] + [entry.problem for entry in reading.entries]
        for problem in problems:
            if problem:
                return problem
        if reading.variables() != wanted:
            return "the two readers treat its quotes and spaces differently"
    return ""


def _reason(name: str, value: str) -> str:
    if "\n" in value or "\r" in value:
        return "it holds a line break, at which install.sh ends it"
    # A quoted line shows the reason that quoting does not cure.
    return _why_misread(f'{name}="{value}"', {name: value})


def read_managed_lines(content: str) -> t.Dict[str, str]:
    """The variables that rendered lines set; raises BadInputError where the readers would disagree about a line."""
    for number, line in enumerate(content.split("\n"), start=1):
        if "\0" in line or not env_readers.is_valid_utf8(line):
            # Even in a comment: systemd refuses a whole file for a NUL byte, and text that is no UTF-8 cannot be written.
            raise BadInputError(f"content: line {number} holds a NUL byte or is not valid UTF-8")
        if not line.strip():
            if line:
                raise BadInputError(f"content: line {number} holds only spaces, which install.sh takes for a variable; make it empty")
            continue
        if line.startswith("#"):
            if line.endswith("\\"):
                raise BadInputError(f"content: line {number} is a comment that ends with a backslash; systemd before 254 continues it")
            if "\r" in line:
                raise BadInputError(f"content: line {number} holds a carriage return; use plain line ends")
            continue
        values = env_readers.read_systemd(line + "\n").variables()
        why = _why_misread(line, values)
        if why:
            raise BadInputError(f"content: line {number} is not read alike by systemd and install.sh: {why}")
    variables: t.Dict[str, str] = {}
    for entry in env_readers.read_systemd(content + "\n").entries:
        if entry.key in variables:
            raise BadInputError(f"content: line {entry.line} sets {entry.key} a second time; keep one of the two")
        variables[entry.key] = entry.value or ""
    return variables
