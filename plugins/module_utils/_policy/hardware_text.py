# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Readers for the raw output of sysctl, system_profiler and sw_vers. None of them raises on garbage."""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import MIB

# "hw.memsize: 17179869184"; sysctl -e and some people's notes use "=".
_SYSCTL_LINE = re.compile(r"\s*([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)+)\s*[:=]\s*(.*)")
# A number, alone or before a remark. 19 digits hold any sysctl; longer ones are garbage that int() may refuse.
_WHOLE_NUMBER = re.compile(r"([0-9]{1,19})(?:\s+#.*)?")
_BOOT_SECONDS = re.compile(r"\bsec = ([0-9]{1,11})\b")
_MACOS_VERSION = re.compile(r"\s*(?:ProductVersion:\s*)?([0-9]{1,3}(?:\.[0-9]{1,4}){0,3})\s*")
_MODEL_IDENTIFIER = re.compile(r"[A-Za-z]{1,32}[0-9]{1,4},[0-9]{1,4}")
# "16 GB"; a comma is a decimal point in some languages. Three digits after it would be thousands: not understood.
_MEMORY = re.compile(r"([0-9]{1,6})(?:[.,]([0-9]{1,2}))? ?(MB|GB|TB)")
_MIB_PER_UNIT = {"MB": 1, "GB": 1024, "TB": 1024 * 1024}
# "2026-04-28 08:52:35.280 system_profiler[29046:41174793] hw.cpufamily: 0x17d5b93a" (XcodeBenchmark#664)
_NOISE_LINE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+ system_profiler\[")
_WHOLE_PAIR = re.compile(r'"([A-Za-z_]{1,64})"\s*:\s*"([^"\\\n]{0,200})"')
_DISPLAY_PREFIX = "spdisplays_"
_LONGEST_TEXT = 200


@dataclasses.dataclass(frozen=True)
class ProfilerFacts:
    """What system_profiler says. number_processors is not among it: its fields differ by chip and macOS version."""

    chip_type: t.Optional[str] = None
    machine_model: t.Optional[str] = None
    memory_bytes: t.Optional[int] = None
    gpu_name: t.Optional[str] = None
    gpu_cores: t.Optional[int] = None
    metal: t.Optional[str] = None
    problems: t.Tuple[str, ...] = ()


def clean_text(value: t.Any) -> t.Optional[str]:
    """A printable line with single spaces, or None where the value is no text or nothing is left of it."""
    if not isinstance(value, str):
        return None
    printable = "".join(character if character.isprintable() else " " for character in value)
    return " ".join(printable.split())[:_LONGEST_TEXT].strip() or None


def whole_number(value: t.Any) -> t.Optional[int]:
    """A number of zero or more, from a number or a text; None for anything else."""
    if not isinstance(value, (int, str)):
        return None
    # A bool is an int to Python, but reads "True".
    match = _WHOLE_NUMBER.fullmatch(value.strip() if isinstance(value, str) else repr(value))
    return int(match.group(1)) if match else None


def parse_sysctl(text: str) -> t.Dict[str, str]:
    """Name to value, for lines of the form "name: value". Of several lines for one name the last with a value counts."""
    values: t.Dict[str, str] = {}
    for line in text.split("\n"):
        match = _SYSCTL_LINE.fullmatch(line)
        if match is None:
            continue
        value = clean_text(match.group(2))
        if value is not None:
            values[match.group(1)] = value
    return values


def parse_boot_seconds(value: t.Optional[str]) -> t.Optional[int]:
    """Seconds since the epoch in kern.boottime, "{ sec = 1763800000, usec = 0 } Sat Nov 22 08:26:40 2025"."""
    match = None if value is None else _BOOT_SECONDS.search(value)
    return int(match.group(1)) if match else None


def parse_macos_version(text: t.Optional[str]) -> t.Optional[str]:
    """The version in the output of sw_vers, with or without -productVersion; other lines are passed over."""
    for line in [] if text is None else text.split("\n"):
        match = _MACOS_VERSION.fullmatch(line)
        if match is not None:
            return match.group(1)
    return None


def parse_model_identifier(value: t.Any) -> t.Optional[str]:
    """A model identifier such as "Mac15,14", or None."""
    text = clean_text(value)
    return text if text is not None and _MODEL_IDENTIFIER.fullmatch(text) else None


def parse_memory_bytes(value: t.Any) -> t.Optional[int]:
    """physical_memory in bytes. Its GB are binary: a Mac of 17179869184 bytes says "16 GB"."""
    text = clean_text(value)
    match = None if text is None else _MEMORY.fullmatch(text)
    if match is None:
        return None
    whole, hundredths, unit = match.groups()
    count = int(whole) * 100 + int((hundredths or "0").ljust(2, "0"))
    return count * _MIB_PER_UNIT[unit] * MIB // 100 or None


def parse_profiler(text: str) -> ProfilerFacts:
    """Read `system_profiler -json SPHardwareDataType SPDisplaysDataType`.

    Of text that is not JSON (cut short, edited), whole pairs of a key and a text are still used.
    """
    # Its log lines belong to standard error, but whoever runs it through a terminal or a wrapper gets them in between.
    body = "\n".join(line for line in text.split("\n") if not _NOISE_LINE.match(line))
    problems: t.Tuple[str, ...] = ()
    try:
        # From brace to brace, so whatever it is, it is an object.
        data: t.Dict[str, t.Any] = json.loads(body[body.find("{") : body.rfind("}") + 1])
    except (ValueError, RecursionError):
        problems = ("system_profiler printed no valid JSON, so only what is whole in it is used",)
        pairs = dict(reversed(_WHOLE_PAIR.findall(body)))
        data = {"SPHardwareDataType": [pairs], "SPDisplaysDataType": [pairs]}
    hardware = _entries(data, "SPHardwareDataType")
    displays = _entries(data, "SPDisplaysDataType")
    return ProfilerFacts(
        chip_type=_first(hardware, "chip_type", clean_text),
        machine_model=_first(hardware, "machine_model", parse_model_identifier),
        memory_bytes=_first(hardware, "physical_memory", parse_memory_bytes),
        gpu_name=_first(displays, "sppci_model", clean_text),
        gpu_cores=_first(displays, "sppci_cores", whole_number) or None,
        # "spdisplays_mtlgpufamilysupport" came with macOS 12, "spdisplays_metal" is what came before.
        metal=_first(displays, "spdisplays_mtlgpufamilysupport", _metal) or _first(displays, "spdisplays_metal", _metal),
        problems=problems,
    )


_Value = t.TypeVar("_Value")


def _entries(data: t.Dict[str, t.Any], key: str) -> t.List[t.Dict[str, t.Any]]:
    entries = data.get(key)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _first(entries: t.Iterable[t.Dict[str, t.Any]], key: str, read: t.Callable[[t.Any], t.Optional[_Value]]) -> t.Optional[_Value]:
    return next((value for value in (read(entry.get(key)) for entry in entries) if value is not None), None)


def _metal(value: t.Any) -> t.Optional[str]:
    text = clean_text(value)
    if text is not None and text.startswith(_DISPLAY_PREFIX):
        text = text[len(_DISPLAY_PREFIX) :]
    return text or None
