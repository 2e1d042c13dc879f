# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""Every profile, as its Mac tells it."""

from __future__ import annotations

import json
import typing as t

import pytest
from conftest import PROFILES, TOOL, Host

NAMES = "sysctl.proc_translated hw.optional.arm64 machdep.cpu.brand_string hw.model hw.memsize kern.hv_vmm_present hw.nperflevels"
# uname -m, translated, arm64, virtual, names of performance levels, chip_type, GPU cores
EXPECTED: t.Dict[str, t.Tuple[str, t.Optional[str], bool, str, t.List[str], t.Optional[str], t.Optional[str]]] = {
    "m3_ultra_512": ("arm64", "0", True, "0", ["Performance", "Efficiency"], "Apple M3 Ultra", "80"),
    "m3_ultra_96": ("arm64", "0", True, "0", ["Performance", "Efficiency"], "Apple M3 Ultra", "60"),
    "m1_8": ("arm64", "0", True, "0", ["Performance", "Efficiency"], "Apple M1", "8"),
    "m1_max_macos13": ("arm64", "0", True, "0", ["Performance", "Efficiency"], "Apple M1 Max", "32"),
    "m2_ultra_192": ("arm64", "0", True, "0", ["Performance", "Efficiency"], "Apple M2 Ultra", "76"),
    "m4_max_128": ("arm64", "0", True, "0", ["Performance", "Efficiency"], "Apple M4 Max", "40"),
    "future": ("arm64", "0", True, "0", ["Super", "Performance", "Efficiency"], "Apple M7 Hyper", "96"),
    "virtual": ("arm64", "0", True, "1", ["Standard"], "Apple M1 (Virtual)", None),
    "rosetta": ("x86_64", "1", True, "0", ["Performance", "Efficiency"], None, "32"),
    "intel": ("x86_64", None, False, "0", [], None, None),
}


def test_each_profile_has_its_expectation() -> None:
    assert sorted(EXPECTED) == PROFILES


@pytest.mark.parametrize("name", PROFILES)
def test_profile(by_profile: t.Callable[[str], Host], name: str) -> None:
    machine, translated, arm, virtual, levels, chip, cores = EXPECTED[name]
    host = by_profile(name)
    declared = json.loads((TOOL.parent / "profiles" / f"{name}.json").read_text(encoding="utf-8"))
    assert declared["origin"].startswith("synthetic: ")
    assert host.out("uname -s; uname -m").split() == ["Darwin", machine]
    asked = host.sh(f"sysctl {NAMES}")
    values = dict(line.split(": ", 1) for line in asked.stdout.splitlines())
    assert asked.returncode == (0 if arm else 1)
    assert values.get("sysctl.proc_translated") == translated
    assert values.get("hw.optional.arm64") == ("1" if arm else None)
    assert values.get("hw.nperflevels") == (str(len(levels)) if arm else None)
    assert (values["kern.hv_vmm_present"], values["hw.model"]) == (virtual, declared["hw_model"])
    assert int(values["hw.memsize"]) == declared["memory_bytes"]
    names = [host.out(f"sysctl -n hw.perflevel{level}.name").strip() for level in range(len(levels))]
    assert names == levels
    assert host.sh("sysctl -n iogpu.wired_limit_mb").stdout == ("0\n" if arm and name != "m1_max_macos13" else "")
    profile = json.loads(host.out("system_profiler -json SPHardwareDataType SPDisplaysDataType"))
    hardware, display = profile["SPHardwareDataType"][0], profile["SPDisplaysDataType"][0]
    assert hardware.get("chip_type") == chip
    assert hardware["machine_model"] == declared["hw_model"]
    assert hardware["physical_memory"] == f"{declared['memory_bytes'] >> 30} GB"
    assert hardware["number_processors"] == declared["number_processors"]
    assert display.get("sppci_cores") == cores
    assert display["sppci_model"] == ("Apple Paravirtual device" if name == "virtual" else declared["gpu"]["model"])


def test_four_fields_and_integers_in_number_processors(by_profile: t.Callable[[str], Host]) -> None:
    found = {}
    for name in ("m3_ultra_512", "future", "virtual", "rosetta"):
        text = by_profile(name).out("system_profiler -json SPHardwareDataType")
        found[name] = json.loads(text)["SPHardwareDataType"][0]["number_processors"]
    assert found == {"m3_ultra_512": "proc 32:24:8", "future": "proc 28:8:16:4", "virtual": 3, "rosetta": 10}


def test_text_form(by_profile: t.Callable[[str], Host]) -> None:
    text = by_profile("m3_ultra_512").out("system_profiler SPHardwareDataType")
    assert "      Chip: Apple M3 Ultra\n      Total Number of Cores: 32 (24 performance and 8 efficiency)\n      Memory: 512 GB\n" in text
