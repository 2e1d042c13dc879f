# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""A profile's facts in the shapes of sysctl and system_profiler."""

from __future__ import annotations

import time
import typing as t

GIB = 1 << 30
ARM64_TYPE, X86_64_TYPE = 16777228, 16777223


def major(profile: t.Dict[str, t.Any]) -> int:
    return int(profile["macos"]["version"].split(".")[0])


def cpu_count(profile: t.Dict[str, t.Any]) -> int:
    return sum(count for _name, count in profile["perf_levels"]) or int(profile["cpu_count"])


def sysctl_values(profile: t.Dict[str, t.Any], boot_time: float) -> t.Dict[str, str]:
    """An OID that a machine does not have is absent: iogpu and perflevels on Intel, proc_translated there too."""
    count = cpu_count(profile)
    arm = profile["arm64"]
    values: t.Dict[str, t.Any] = {
        "kern.ostype": "Darwin",
        "kern.osrelease": profile["darwin"]["release"],
        "kern.osrevision": 199506,
        "kern.version": profile["darwin"]["version"],
        "kern.osversion": profile["macos"]["build"],
        "kern.osproductversion": profile["macos"]["version"],
        "kern.hv_support": 0 if profile["virtual"] else 1,
        "kern.hv_vmm_present": 1 if profile["virtual"] else 0,
        "kern.boottime": f"{{ sec = {int(boot_time)}, usec = {int(boot_time % 1 * 1e6)} }} {time.ctime(boot_time)}",
        "hw.ncpu": count,
        "hw.byteorder": 1234,
        "hw.memsize": profile["memory_bytes"],
        "hw.activecpu": count,
        "hw.physicalcpu": profile.get("physical_cpu_count", count),
        "hw.physicalcpu_max": profile.get("physical_cpu_count", count),
        "hw.logicalcpu": count,
        "hw.logicalcpu_max": count,
        "hw.cputype": ARM64_TYPE if arm and not profile["translated"] else X86_64_TYPE,
        "hw.cpufamily": profile["cpufamily"],
        "hw.pagesize": 16384 if arm and not profile["translated"] else 4096,
        "hw.packages": 1,
        "hw.model": profile["hw_model"],
        "machdep.cpu.brand_string": profile["brand"],
        "machdep.cpu.core_count": profile.get("physical_cpu_count", count),
        "machdep.cpu.thread_count": count,
    }
    if arm:
        values["hw.optional.arm64"] = 1
        values["sysctl.proc_translated"] = profile["translated"]
        values["hw.nperflevels"] = len(profile["perf_levels"])
        for level, (name, cores) in enumerate(profile["perf_levels"]):
            for suffix in ("physicalcpu", "physicalcpu_max", "logicalcpu", "logicalcpu_max"):
                values[f"hw.perflevel{level}.{suffix}"] = cores
            values[f"hw.perflevel{level}.name"] = name
        values.update(
            {
                "iogpu.wired_lwm_mb": 0,
                "iogpu.dynamic_lwm": 1,
                "iogpu.wired_limit_mb": 0,
                "iogpu.debug_flags": 0,
                "iogpu.disable_wired_collector": 0,
            }
        )
    return {name: str(value) for name, value in values.items()}


def memory_text(profile: t.Dict[str, t.Any]) -> str:
    return f"{profile['memory_bytes'] // GIB} GB"


def hardware_json(profile: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    """Keys in Apple's order. Under Rosetta there is no chip_type; on Intel there never was one."""
    item: t.Dict[str, t.Any] = {"_name": "hardware_overview"}
    if profile["arm64"]:
        item["activation_lock_status"] = "activation_lock_disabled"
    if profile["chip"]:
        item.update(boot_rom_version=profile["firmware"], chip_type=profile["chip"])
    else:
        item["cpu_type"] = profile["cpu_type"]
        item["current_processor_speed"] = "2,4 GHz"
        item["packages"] = 1
    item.update(machine_model=profile["hw_model"], machine_name=profile["machine_name"])
    if profile["chip"]:
        item["model_number"] = profile["model_number"]
    item["number_processors"] = profile["number_processors"]
    if profile["chip"]:
        item["os_loader_version"] = profile["firmware"]
    item.update(
        physical_memory=memory_text(profile),
        platform_UUID="00000000-0000-0000-0000-000000000000",
        provisioning_UDID="00000000-0000000000000000",
        serial_number="SYNTHETIC0",
    )
    return item


def displays_json(profile: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    gpu = profile["gpu"]
    item = {"_name": gpu["model"]}
    if gpu["metal"]:
        item["spdisplays_mtlgpufamilysupport"] = gpu["metal"]
    item.update(spdisplays_vendor=gpu["vendor"], sppci_bus="spdisplays_builtin")
    if gpu["cores"]:
        item["sppci_cores"] = str(gpu["cores"])  # a string on every Mac seen
    item.update(sppci_device_type="spdisplays_gpu", sppci_model=gpu["model"])
    return item


def hardware_text(profile: t.Dict[str, t.Any]) -> str:
    rows = [("Model Name", profile["machine_name"]), ("Model Identifier", profile["hw_model"])]
    if profile["chip"]:
        rows += [("Model Number", profile["model_number"]), ("Chip", profile["chip"]), ("Total Number of Cores", _cores_text(profile))]
    else:
        rows += [("Processor Name", profile["cpu_type"]), ("Total Number of Cores", str(cpu_count(profile)))]
    rows += [("Memory", memory_text(profile)), ("Serial Number (system)", "SYNTHETIC0"),
             ("Hardware UUID", "00000000-0000-0000-0000-000000000000")]  # fmt: skip
    return "Hardware:\n\n    Hardware Overview:\n\n" + "".join(f"      {name}: {value}\n" for name, value in rows) + "\n"


def _cores_text(profile: t.Dict[str, t.Any]) -> str:
    """ "32 (24 performance and 8 efficiency)"; capital letters since macOS 26; a VM shows the number alone."""
    levels = profile["perf_levels"]
    if len(levels) < 2:
        return str(cpu_count(profile))
    words = [f"{count} {name if major(profile) >= 26 else name.lower()}" for name, count in levels]
    return f"{cpu_count(profile)} ({', '.join(words[:-1])} and {words[-1]})"


def displays_text(profile: t.Dict[str, t.Any]) -> str:
    gpu = profile["gpu"]
    rows = [("Chipset Model", gpu["model"]), ("Type", "GPU"), ("Bus", "Built-In")]
    if gpu["cores"]:
        rows.append(("Total Number of Cores", str(gpu["cores"])))
    rows.append(("Vendor", "Apple (0x106b)" if "Apple" in gpu["vendor"] else "Intel"))
    if gpu["metal"]:
        rows.append(("Metal Support", "Metal " + gpu["metal"][-1]))
    return f"Graphics/Displays:\n\n    {gpu['model']}:\n\n" + "".join(f"      {name}: {value}\n" for name, value in rows) + "\n"
