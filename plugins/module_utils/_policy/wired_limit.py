# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""How much memory a Mac's GPU may wire: the options, and what they mean for one machine."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import working_set
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import Hardware
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware_text import parse_sysctl, whole_number
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB, MIB

AUTO = "auto"

# The argument specification of the module wired_limit, and of the option wired_limit of the module node.
OPTIONS: t.Dict[str, t.Dict[str, t.Any]] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "limit_mib": {"type": "str", "default": AUTO},
    "disable_wired_collector": {"type": "bool"},
}

LIMIT_MIB_NAME = "iogpu.wired_limit_mb"
# macOS 13 and before, in bytes (ggml-org/llama.cpp discussion 2182).
LIMIT_BYTES_NAME = "debug.iogpu.wired_limit"
COLLECTOR_NAME = "iogpu.disable_wired_collector"
# The sysctls that are governed. 0 is what the kernel starts each of them with.
NAMES: t.Tuple[str, ...] = (LIMIT_MIB_NAME, LIMIT_BYTES_NAME, COLLECTOR_NAME)
_UNIT_BYTES_BY_NAME = {LIMIT_MIB_NAME: MIB, LIMIT_BYTES_NAME: 1}

# With less memory, macOS's own two thirds to three quarters is the better share: GPUStack's install.sh sets
# max(85 %, memory - 5120 MiB) (v0.7.1, check_and_reset_wired_limit_mb), which leaves 1.2 of 8 GiB to everything else.
LEAST_AUTO_MEMORY_BYTES = 32 * GIB
# auto leaves 3/32 of memory, 6 GiB at least: 475136 of 524288 MiB, as on the healthy M3 Ultra in the logs of gpustack#1907.
_AUTO_RESERVE_BYTES = 6 * GIB
_AUTO_RESERVE_32NDS = 3
# A given limit has to leave 1/32 of memory, 4 GiB at least.
_LEAST_RESERVE_BYTES = 4 * GIB
_LEAST_RESERVE_32NDS = 1

# From here on macOS unwires what was not used for a second (measured in llama.cpp PR#17766, on 15.5 and 26.1); the heartbeat
# against it that came with that change is in no llama-box.
FIRST_COLLECTING_MAJOR = 26

_GIVEN = "limit_mib was given"
_WHOLE_NUMBER = re.compile(r"[0-9]{1,12}")


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for. limit_mib: None for auto. disable_collector: None where that is not governed."""

    present: bool = True
    limit_mib: t.Optional[int] = None
    disable_collector: t.Optional[bool] = None


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What one machine is to have. values: by name of the sysctl, none where nothing is governed."""

    applies: bool
    reason: str
    values: t.Mapping[str, int] = dataclasses.field(default_factory=dict)
    warnings: t.Tuple[str, ...] = ()

    def settings_at_boot(self) -> t.Dict[str, int]:
        """What has to be set again at each boot."""
        return {name: value for name, value in self.values.items() if value}


def read_request(options: t.Mapping[str, t.Any]) -> Request:
    """The options of OPTIONS, understood. Raises BadInputError."""
    given = str(options["limit_mib"]).strip()
    if given != AUTO and not _WHOLE_NUMBER.fullmatch(given):
        raise BadInputError(
            f"limit_mib: {given!r} is neither auto nor a whole number of MiB; write it like 475136, or 0 for macOS's own default"
        )
    return Request(
        present=options["state"] == "present",
        limit_mib=None if given == AUTO else int(given),
        disable_collector=options["disable_wired_collector"],
    )


def parse_live(sysctl_stdout: str) -> t.Dict[str, int]:
    """The values of NAMES in the output of sysctl; one that the machine does not know is not in it."""
    values = parse_sysctl(sysctl_stdout)
    found = {name: whole_number(values.get(name)) for name in NAMES}
    return {name: value for name, value in found.items() if value is not None}


def limit_mib(values: t.Mapping[str, int]) -> t.Optional[int]:
    """The limit among values of sysctls, in MiB; None where there is none."""
    name = _limit_name(values)
    return None if name is None else values[name] * _UNIT_BYTES_BY_NAME[name] // MIB


def decide(request: Request, hardware: Hardware, live: t.Mapping[str, int]) -> Wanted:
    """What this machine is to have. Raises BadInputError for a limit that it cannot bear."""
    name = _limit_name(live)
    if hardware.is_apple_silicon is False:
        return Wanted(False, "only a Mac with an Apple chip has a wired limit")
    if hardware.is_virtual:
        return Wanted(False, "a virtual Mac's GPU has the memory that its host gives it")
    if name is None:
        return Wanted(False, f"sysctl knows neither {LIMIT_MIB_NAME} nor {LIMIT_BYTES_NAME}")
    if not request.present:
        return Wanted(True, "state is absent, so only what this module set is given up")
    size_mib, reason, warnings = _limit(request.limit_mib, hardware)
    values = {name: size_mib * MIB // _UNIT_BYTES_BY_NAME[name]}
    if request.disable_collector is not None:
        if _is_older(hardware.macos_version):
            reason += f"; the wired collector is left alone, as macOS {hardware.macos_version} keeps wired what is in use"
        elif COLLECTOR_NAME in live:
            values[COLLECTOR_NAME] = int(request.disable_collector)
        elif request.disable_collector:
            warnings += (f"disable_wired_collector: sysctl does not know {COLLECTOR_NAME}, so nothing is set",)
    return Wanted(True, reason, values, warnings)


def _limit_name(values: t.Mapping[str, int]) -> t.Optional[str]:
    return next((name for name in _UNIT_BYTES_BY_NAME if name in values), None)


def _limit(given_mib: t.Optional[int], hardware: Hardware) -> t.Tuple[int, str, t.Tuple[str, ...]]:
    """The limit in MiB, its reason, and what is odd about it."""
    memory_bytes = hardware.memory_bytes
    if given_mib == 0:
        return 0, "limit_mib is 0, macOS's own default", ()
    if memory_bytes is None:
        if given_mib is None:
            raise BadInputError(
                "limit_mib: auto needs the size of the memory, and neither hw.memsize nor physical_memory could be read;"
                " give a number of MiB, or 0 for macOS's own default"
            )
        return given_mib, _GIVEN, (f"limit_mib: {given_mib} cannot be checked, since the size of the memory is unknown",)
    memory_mib = memory_bytes // MIB
    if given_mib is None:
        if memory_bytes < LEAST_AUTO_MEMORY_BYTES:
            least_mib = LEAST_AUTO_MEMORY_BYTES // MIB
            return 0, f"auto leaves a Mac with less than {least_mib} MiB of memory ({memory_mib}) to macOS's own default", ()
        reserve_bytes = max(_AUTO_RESERVE_BYTES, memory_bytes * _AUTO_RESERVE_32NDS // 32)
        auto_mib = (memory_bytes - reserve_bytes) // MIB
        return auto_mib, f"auto leaves macOS {memory_mib - auto_mib} of {memory_mib} MiB", ()
    default_mib = working_set.estimate_bytes(memory_bytes, hardware.macos_version) // MIB
    reserve_mib = max(_LEAST_RESERVE_BYTES, memory_bytes * _LEAST_RESERVE_32NDS // 32) // MIB
    most_mib = max(memory_mib - reserve_mib, default_mib)
    advice = f"give at most {most_mib}, or auto"
    if given_mib > memory_mib:
        raise BadInputError(f"limit_mib: {given_mib} is more than the {memory_mib} MiB of memory that this Mac has; {advice}")
    if given_mib > most_mib:
        raise BadInputError(
            f"limit_mib: {given_mib} leaves macOS {memory_mib - given_mib} of {memory_mib} MiB, less than the {reserve_mib} that keep"
            f" a Mac alive; {advice}"
        )
    if given_mib < default_mib:
        return given_mib, _GIVEN, (f"limit_mib: {given_mib} is less than macOS gives by itself, about {default_mib} MiB",)
    return given_mib, _GIVEN, ()


def _is_older(macos_version: t.Optional[str]) -> bool:
    """Whether this macOS is known to be one that does not unwire what was not used for a while."""
    return macos_version is not None and int(macos_version.split(".")[0]) < FIRST_COLLECTING_MAJOR
