# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import CoreLevel, Hardware, RawProbe, parse_hardware

GIB = 1024**3
NO_LIMIT = "wired_limit_mib is unknown: neither iogpu.wired_limit_mb nor debug.iogpu.wired_limit could be read"
NO_KINDS = "is unknown: the kinds of cores could not be told from hw.nperflevels and hw.perflevelN.name"
NO_GPU_CORES = "gpu_cores is unknown: sppci_cores could not be read"


def machine(fixtures_dir, name):
    folder = fixtures_dir / "hardware" / name
    system, uname_machine = (folder / "uname.txt").read_text("utf-8").split()
    return RawProbe(
        system=system,
        machine=uname_machine,
        sysctl_stdout=(folder / "sysctl.txt").read_text("utf-8"),
        profiler_stdout=(folder / "system_profiler.json").read_text("utf-8"),
        sw_vers_stdout=(folder / "sw_vers.txt").read_text("utf-8"),
    )


MACHINES = {
    "synthetic_m3_ultra_512gb_wired": Hardware(
        is_apple_silicon=True,
        chip="Apple M3 Ultra",
        family="M3",
        generation=3,
        tier="ultra",
        model_identifier="Mac15,14",
        core_levels=(CoreLevel("Performance", 24), CoreLevel("Efficiency", 8)),
        performance_cores=24,
        efficiency_cores=8,
        gpu_cores=80,
        memory_bytes=512 * GIB,
        working_set_bytes=498216206336,
        working_set_source="wired_limit",
        wired_limit_mib=475136,
        metal="metal3",
        macos_version="15.4",
        is_virtual=False,
        is_translated=False,
    ),
    "synthetic_m5_32gb": Hardware(
        is_apple_silicon=True,
        chip="Apple M5",
        family="M5",
        generation=5,
        tier="base",
        model_identifier="Mac17,2",
        core_levels=(CoreLevel("Super", 4), CoreLevel("Efficiency", 6)),
        performance_cores=4,
        efficiency_cores=6,
        gpu_cores=10,
        memory_bytes=32 * GIB,
        working_set_bytes=26113409024,
        working_set_source="estimated",
        wired_limit_mib=0,
        metal="metal4",
        macos_version="26.5.2",
        is_virtual=False,
        is_translated=False,
    ),
    "synthetic_m5_max_128gb": Hardware(
        is_apple_silicon=True,
        chip="Apple M5 Max",
        family="M5",
        generation=5,
        tier="max",
        model_identifier="Mac17,7",
        core_levels=(CoreLevel("Super", 6), CoreLevel("Performance", 12)),
        performance_cores=18,
        efficiency_cores=0,
        gpu_cores=40,
        memory_bytes=128 * GIB,
        working_set_bytes=115448725504,
        working_set_source="estimated",
        wired_limit_mib=0,
        metal="metal4",
        macos_version="26.4",
        is_virtual=False,
        is_translated=False,
    ),
    "synthetic_three_levels_m5_ultra": Hardware(
        is_apple_silicon=True,
        chip="Apple M5 Ultra",
        family="M5",
        generation=5,
        tier="ultra",
        model_identifier="Mac99,9",
        core_levels=(CoreLevel("Super", 8), CoreLevel("Performance", 16), CoreLevel("Efficiency", 12)),
        performance_cores=24,
        efficiency_cores=12,
        gpu_cores=80,
        memory_bytes=256 * GIB,
        working_set_bytes=230897451008,
        working_set_source="estimated",
        wired_limit_mib=0,
        metal="metal4",
        macos_version="26.4",
        is_virtual=False,
        is_translated=False,
    ),
    "synthetic_macbook_neo_8gb": Hardware(
        is_apple_silicon=True,
        chip="Apple A18 Pro",
        family="A18",
        generation=None,
        tier="pro",
        model_identifier="Mac17,5",
        core_levels=(CoreLevel("Performance", 2), CoreLevel("Efficiency", 4)),
        performance_cores=2,
        efficiency_cores=4,
        gpu_cores=5,
        memory_bytes=8 * GIB,
        working_set_bytes=5726633984,
        working_set_source="estimated",
        wired_limit_mib=0,
        metal="metal4",
        macos_version="26.3",
        is_virtual=False,
        is_translated=False,
        warnings=("generation is unknown: the chip is not a known one of the M series",),
    ),
    "synthetic_m1_virtual_7gb": Hardware(
        is_apple_silicon=True,
        chip="Apple M1 (Virtual)",
        family="M1",
        generation=1,
        tier="base",
        model_identifier="VirtualMac2,1",
        core_levels=(CoreLevel("Standard", 3),),
        memory_bytes=7 * GIB,
        working_set_bytes=5010800640,
        working_set_source="estimated",
        wired_limit_mib=0,
        metal="metal3",
        macos_version="26.0",
        is_virtual=True,
        is_translated=False,
        warnings=(f"performance_cores {NO_KINDS}", f"efficiency_cores {NO_KINDS}", NO_GPU_CORES),
    ),
    "synthetic_m1_rosetta_16gb": Hardware(
        is_apple_silicon=True,
        chip="Apple M1",
        family="M1",
        generation=1,
        tier="base",
        model_identifier="MacBookAir10,1",
        core_levels=(CoreLevel("Performance", 4), CoreLevel("Efficiency", 4)),
        performance_cores=4,
        efficiency_cores=4,
        gpu_cores=8,
        memory_bytes=16 * GIB,
        working_set_bytes=11453251584,
        working_set_source="estimated",
        wired_limit_mib=0,
        metal="metal3",
        macos_version="14.5",
        is_virtual=False,
        is_translated=True,
    ),
    "synthetic_m1_bigsur_8gb": Hardware(
        is_apple_silicon=True,
        chip="Apple M1",
        family="M1",
        generation=1,
        tier="base",
        model_identifier="Macmini9,1",
        gpu_cores=8,
        memory_bytes=8 * GIB,
        working_set_bytes=5726633984,
        working_set_source="estimated",
        metal="supported",
        macos_version="11.0.1",
        is_virtual=False,
        is_translated=False,
        warnings=(
            "core_levels is unknown: hw.perflevelN.physicalcpu could not be read",
            f"performance_cores {NO_KINDS}",
            f"efficiency_cores {NO_KINDS}",
            NO_LIMIT,
        ),
    ),
    "synthetic_m1_max_macos13_bytes": Hardware(
        is_apple_silicon=True,
        chip="Apple M1 Max",
        family="M1",
        generation=1,
        tier="max",
        model_identifier="Mac13,1",
        core_levels=(CoreLevel("Performance", 8), CoreLevel("Efficiency", 2)),
        performance_cores=8,
        efficiency_cores=2,
        gpu_cores=32,
        memory_bytes=64 * GIB,
        working_set_bytes=56 * GIB,
        working_set_source="wired_limit",
        wired_limit_mib=57344,
        metal="metal3",
        macos_version="13.6.1",
        is_virtual=False,
        is_translated=False,
    ),
    "synthetic_unknown_apple_chip": Hardware(
        is_apple_silicon=True,
        chip="Apple X1 Quantum",
        family="unknown",
        generation=None,
        tier="unknown",
        model_identifier="Mac88,1",
        core_levels=(CoreLevel("Stellar", 8), CoreLevel("Efficiency", 8)),
        gpu_cores=128,
        memory_bytes=1024 * GIB,
        working_set_bytes=923589771264,
        working_set_source="estimated",
        wired_limit_mib=0,
        metal="metal9",
        macos_version="30.1",
        is_virtual=False,
        is_translated=False,
        warnings=(
            "generation is unknown: the chip is not a known one of the M series",
            f"performance_cores {NO_KINDS}",
            f"efficiency_cores {NO_KINDS}",
        ),
    ),
    "synthetic_intel_imac_32gb": Hardware(
        is_apple_silicon=False,
        chip="Intel(R) Core(TM) i9-9900K CPU @ 3.60GHz",
        model_identifier="iMac19,1",
        memory_bytes=32 * GIB,
        metal="metal3",
        macos_version="14.7",
        is_virtual=False,
        is_translated=False,
        warnings=("this is an Intel Mac, so what Apple Silicon alone has is not told",),
    ),
}


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_whole_machines(fixtures_dir, name):
    assert parse_hardware(machine(fixtures_dir, name)) == MACHINES[name]


def test_every_synthetic_machine_is_listed_above(fixtures_dir):
    assert {path.name for path in (fixtures_dir / "hardware").iterdir()} == set(MACHINES)


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_facts_are_plain_and_complete(name):
    facts = MACHINES[name].as_dict()
    assert json.loads(json.dumps(facts)) == facts
    assert list(facts) == (
        "is_apple_silicon chip family generation tier model_identifier core_levels performance_cores efficiency_cores gpu_cores"
        " memory_bytes working_set_bytes working_set_source wired_limit_mib metal macos_version is_virtual is_translated warnings"
    ).split(" ")


def test_core_levels_as_facts():
    assert MACHINES["synthetic_m1_virtual_7gb"].as_dict()["core_levels"] == [{"name": "Standard", "cores": 3}]
    assert Hardware().as_dict()["core_levels"] is None
