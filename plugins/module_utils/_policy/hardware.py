# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The hardware of a node, parsed from the raw output of its tools."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import working_set
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.chips import UNKNOWN, Chip, identify_chip
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware_text import (
    ProfilerFacts,
    clean_text,
    parse_boot_seconds,
    parse_macos_version,
    parse_model_identifier,
    parse_profiler,
    parse_sysctl,
    whole_number,
)

DARWIN = "Darwin"
_VIRTUAL_MACHINE = "kern.hv_vmm_present"
_MODEL = "hw.model"
_BRAND = "machdep.cpu.brand_string"

# What tells a virtual Mac without system_profiler, which takes seconds.
VIRTUAL_NAMES: t.Tuple[str, ...] = (_VIRTUAL_MACHINE, _MODEL, _BRAND)

# M5 Pro and Max have two levels; one more than any chip so far, and one to notice that there are more.
_LEVELS = range(4)

# What one call of sysctl is asked for. A name it does not know costs rc 1 and a line on standard error, nothing more.
SYSCTL_NAMES: t.Tuple[str, ...] = (
    "sysctl.proc_translated",
    "hw.optional.arm64",
    _BRAND,
    _MODEL,
    "hw.memsize",
    _VIRTUAL_MACHINE,
    "kern.boottime",
    "kern.osproductversion",
    "hw.nperflevels",
    *(f"hw.perflevel{level}.{leaf}" for level in _LEVELS for leaf in ("name", "physicalcpu")),
    "iogpu.wired_limit_mb",
    # macOS 13 and before, in bytes.
    "debug.iogpu.wired_limit",
)

_PARAVIRTUAL_GPU = "Apple Paravirtual device"

_EFFICIENCY = "Efficiency"
_PERFORMANCE = ("Super", "Performance")

# Why a fact of an Apple Silicon Mac is None, for `warnings`.
_WHY_NONE: t.Tuple[t.Tuple[str, str], ...] = (
    ("chip", "neither machdep.cpu.brand_string, chip_type nor hw.model names it"),
    ("generation", "the chip is not a known one of the M series"),
    ("model_identifier", "neither hw.model nor machine_model could be read"),
    ("core_levels", "hw.perflevelN.physicalcpu could not be read"),
    ("performance_cores", "the kinds of cores could not be told from hw.nperflevels and hw.perflevelN.name"),
    ("efficiency_cores", "the kinds of cores could not be told from hw.nperflevels and hw.perflevelN.name"),
    ("gpu_cores", "sppci_cores could not be read"),
    ("memory_bytes", "neither hw.memsize nor physical_memory could be read"),
    ("working_set_bytes", "neither a wired limit nor the memory is known"),
    ("wired_limit_mib", "neither iogpu.wired_limit_mb nor debug.iogpu.wired_limit could be read"),
    ("metal", "system_profiler does not tell the Metal support"),
    ("macos_version", "neither sw_vers nor kern.osproductversion could be read"),
    ("is_virtual", "neither kern.hv_vmm_present nor the model could be read"),
)


@dataclasses.dataclass(frozen=True)
class RawProbe:
    """What the tools of a host printed, unread. A text of None was not to be had; `problems` says why.

    system and machine are what uname says: machine is "x86_64" for a process under Rosetta. log: the newest log of llama-box
    with a working set in it, of which there may be none.
    """

    system: str
    machine: str
    sysctl_stdout: t.Optional[str] = None
    profiler_stdout: t.Optional[str] = None
    sw_vers_stdout: t.Optional[str] = None
    log: t.Optional[working_set.LogText] = None
    problems: t.Tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class CoreLevel:
    """One performance level of the CPU: its name as macOS calls it (None before macOS 13) and its physical cores."""

    name: t.Optional[str]
    cores: int


@dataclasses.dataclass(frozen=True)
class Hardware:
    """The hardware of a node. Every field may be None; `warnings` says why.

    On anything but macOS only is_apple_silicon is told, and it is False. On an Intel Mac what is Apple Silicon's alone
    (family, generation, tier, cores, working set, wired limit) is None.

    chip: its name. family: "M3", "A18" or "unknown". generation: the n of an Mn chip. tier: "base", "pro", "max",
    "ultra" or "unknown".
    core_levels: the CPU's levels, fastest first.
    performance_cores: the cores of all levels called Super or Performance. An M5 Max (6 Super, 12 Performance) has 18.
    efficiency_cores: the cores of all levels called Efficiency; 0 where there is no such level. Together the two are all
    cores. Both are None where a level has another name, such as the one level "Standard" of a virtual Mac.
    working_set_bytes: recommendedMaxWorkingSetSize of the GPU. working_set_source: "wired_limit" (exactly the limit),
    "measured" (a log of llama-box says so) or "estimated".
    wired_limit_mib: iogpu.wired_limit_mb; 0 is macOS's default.
    metal: the Metal support as system_profiler names it, such as "metal4".
    is_translated: the probing process runs under Rosetta.
    """

    is_apple_silicon: t.Optional[bool] = None
    chip: t.Optional[str] = None
    family: t.Optional[str] = None
    generation: t.Optional[int] = None
    tier: t.Optional[str] = None
    model_identifier: t.Optional[str] = None
    core_levels: t.Optional[t.Tuple[CoreLevel, ...]] = None
    performance_cores: t.Optional[int] = None
    efficiency_cores: t.Optional[int] = None
    gpu_cores: t.Optional[int] = None
    memory_bytes: t.Optional[int] = None
    working_set_bytes: t.Optional[int] = None
    working_set_source: t.Optional[str] = None
    wired_limit_mib: t.Optional[int] = None
    metal: t.Optional[str] = None
    macos_version: t.Optional[str] = None
    is_virtual: t.Optional[bool] = None
    is_translated: t.Optional[bool] = None
    warnings: t.Tuple[str, ...] = ()

    def as_dict(self) -> t.Dict[str, t.Any]:
        """The hardware as facts, in plain types."""
        facts = dataclasses.asdict(self)
        facts["core_levels"] = None if self.core_levels is None else list(facts["core_levels"])
        facts["warnings"] = list(self.warnings)
        return facts


def parse_hardware(raw: RawProbe) -> Hardware:
    """Read a probe. Never raises: what cannot be understood becomes None and a warning."""
    if raw.system != DARWIN:
        return Hardware(is_apple_silicon=False, warnings=(f"this host runs {raw.system}; Apple hardware is looked for on macOS only",))
    values = {} if raw.sysctl_stdout is None else parse_sysctl(raw.sysctl_stdout)
    profiler = ProfilerFacts() if raw.profiler_stdout is None else parse_profiler(raw.profiler_stdout)
    brand = clean_text(values.get(_BRAND))
    model = parse_model_identifier(values.get(_MODEL)) or profiler.machine_model
    # On a Mac the GPU bears the name of its chip.
    gpu_name = None if profiler.gpu_name == _PARAVIRTUAL_GPU else profiler.gpu_name
    chip = identify_chip((brand, profiler.chip_type, gpu_name), model)
    hardware = Hardware(
        is_apple_silicon=_is_apple_silicon(raw.machine, values, chip),
        chip=chip.chip or brand,
        model_identifier=model,
        gpu_cores=profiler.gpu_cores,
        memory_bytes=whole_number(values.get("hw.memsize")) or profiler.memory_bytes,
        metal=profiler.metal,
        macos_version=parse_macos_version(raw.sw_vers_stdout) or parse_macos_version(values.get("kern.osproductversion")),
        is_virtual=_is_virtual(values, model, chip, profiler.gpu_name),
        warnings=raw.problems + profiler.problems,
    )
    if hardware.is_apple_silicon is None:
        return _warned(hardware, "is_apple_silicon is unknown: an x86_64 process was told neither hw.optional.arm64 nor the chip")
    if not hardware.is_apple_silicon:
        hardware = dataclasses.replace(hardware, is_translated=False)
        return _warned(hardware, "this is an Intel Mac, so what Apple Silicon alone has is not told")
    return _apple_silicon(raw, values, chip, hardware)


def parse_is_virtual(sysctl_stdout: str) -> t.Optional[bool]:
    """Whether a Mac is virtual, by the output of sysctl for VIRTUAL_NAMES; None where that cannot be told."""
    values = parse_sysctl(sysctl_stdout)
    model = parse_model_identifier(values.get(_MODEL))
    return _is_virtual(values, model, identify_chip((clean_text(values.get(_BRAND)),), model), None)


def _apple_silicon(raw: RawProbe, values: t.Mapping[str, str], chip: Chip, hardware: Hardware) -> Hardware:
    """Add what Apple Silicon alone has."""
    levels = _core_levels(values)
    performance_cores, efficiency_cores = _kinds_of_cores(levels, whole_number(values.get("hw.nperflevels")))
    limit_bytes, limit_problems = _wired_limit(values, hardware.memory_bytes)
    size = working_set.resolve(
        hardware.memory_bytes,
        hardware.macos_version,
        limit_bytes,
        raw.log,
        parse_boot_seconds(values.get("kern.boottime")),
    )
    hardware = dataclasses.replace(
        hardware,
        chip=chip.chip,
        family=chip.family,
        generation=chip.generation,
        tier=chip.tier,
        core_levels=levels or None,
        performance_cores=performance_cores,
        efficiency_cores=efficiency_cores,
        working_set_bytes=size.size_bytes,
        working_set_source=size.source,
        wired_limit_mib=None if limit_bytes is None else limit_bytes // working_set.MIB,
        is_translated=_is_translated(raw.machine, values),
    )
    missing = [f"{field} is unknown: {why}" for field, why in _WHY_NONE if getattr(hardware, field) is None]
    return _warned(hardware, *limit_problems, *size.problems, *missing)


def _warned(hardware: Hardware, *warnings: str) -> Hardware:
    return dataclasses.replace(hardware, warnings=hardware.warnings + warnings)


def _is_apple_silicon(machine: str, values: t.Mapping[str, str], chip: Chip) -> t.Optional[bool]:
    """uname says x86_64 under Rosetta as well, so it only ever proves the one side."""
    if machine == "arm64" or chip.chip is not None:
        return True
    if whole_number(values.get("hw.optional.arm64")) == 1 or whole_number(values.get("sysctl.proc_translated")) == 1:
        return True
    # Intel Macs may not know hw.optional.arm64 at all: any other answer of sysctl settles it.
    return False if values else None


def _is_translated(machine: str, values: t.Mapping[str, str]) -> bool:
    translated = whole_number(values.get("sysctl.proc_translated"))
    return machine != "arm64" if translated is None else translated != 0


def _is_virtual(values: t.Mapping[str, str], model: t.Optional[str], chip: Chip, gpu_name: t.Optional[str]) -> t.Optional[bool]:
    present = whole_number(values.get(_VIRTUAL_MACHINE))
    if present or chip.is_virtual or gpu_name == _PARAVIRTUAL_GPU or (model is not None and model.startswith("VirtualMac")):
        return True
    # A virtual machine on Apple Silicon always says VirtualMac; the hypervisors of Intel Macs may borrow a real model.
    return False if present == 0 or (model is not None and chip.family != UNKNOWN) else None


def _core_levels(values: t.Mapping[str, str]) -> t.Tuple[CoreLevel, ...]:
    levels = []
    for level in _LEVELS:
        cores = whole_number(values.get(f"hw.perflevel{level}.physicalcpu"))
        if cores:
            levels.append(CoreLevel(values.get(f"hw.perflevel{level}.name"), cores))
    return tuple(levels)


def _kinds_of_cores(levels: t.Tuple[CoreLevel, ...], level_count: t.Optional[int]) -> t.Tuple[t.Optional[int], t.Optional[int]]:
    """Performance and efficiency cores. number_processors is not asked: its fields mean other things on each chip."""
    if level_count is not None and level_count != len(levels):
        return None, None
    names = [level.name for level in levels]
    if names == [None, None]:
        # macOS 12 gives no names. Level 0 is the fastest, and the chips of its time have these two kinds.
        names = [_PERFORMANCE[1], _EFFICIENCY]
    if not names or any(name not in (*_PERFORMANCE, _EFFICIENCY) for name in names):
        return None, None
    efficiency = sum(level.cores for level, name in zip(levels, names) if name == _EFFICIENCY)
    return sum(level.cores for level in levels) - efficiency, efficiency


def _wired_limit(values: t.Mapping[str, str], memory_bytes: t.Optional[int]) -> t.Tuple[t.Optional[int], t.Tuple[str, ...]]:
    """The limit in bytes, 0 for the default, and what is odd about it."""
    limit_mib = whole_number(values.get("iogpu.wired_limit_mb"))
    limit_bytes = whole_number(values.get("debug.iogpu.wired_limit")) if limit_mib is None else limit_mib * working_set.MIB
    if limit_bytes and memory_bytes is not None and limit_bytes > memory_bytes:
        return limit_bytes, (f"the wired limit of {limit_bytes} bytes is more than the memory of {memory_bytes} bytes",)
    if limit_bytes and limit_bytes < working_set.MIB:
        return limit_bytes, (f"debug.iogpu.wired_limit is {limit_bytes}, which is less than one MiB: it counts bytes",)
    return limit_bytes, ()
