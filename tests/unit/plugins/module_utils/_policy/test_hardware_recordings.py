# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import RawProbe, parse_hardware

GIB = 1024**3
NO_JSON = "system_profiler printed no valid JSON, so only what is whole in it is used"

# What each recording tells: all facts but those that every native Mac has, and the warnings that are not mere gaps.
SYSCTL_RECORDINGS = {
    "sysctl_cpu_m1pro_8core.txt": {
        "chip": "Apple M1 Pro",
        "family": "M1",
        "generation": 1,
        "tier": "pro",
        "core_levels": [{"name": None, "cores": 6}, {"name": None, "cores": 2}],
        "performance_cores": 6,
        "efficiency_cores": 2,
    },
    "sysctl_hw_m1_j313_16gb.txt": {
        "core_levels": [{"name": None, "cores": 4}, {"name": None, "cores": 4}],
        "performance_cores": 4,
        "efficiency_cores": 4,
        "memory_bytes": 16 * GIB,
        "working_set_bytes": 11453251584,
        "working_set_source": "estimated",
    },
    "sysctl_hw_m2_j413_24gb.txt": {
        "core_levels": [{"name": None, "cores": 4}, {"name": None, "cores": 4}],
        "performance_cores": 4,
        "efficiency_cores": 4,
        "memory_bytes": 24 * GIB,
        "working_set_bytes": 16 * GIB,
        "working_set_source": "estimated",
    },
    "sysctl_iogpu_fixture_48gb.txt": {
        "working_set_bytes": 36 * GIB,
        "working_set_source": "wired_limit",
        "wired_limit_mib": 36864,
    },
    "sysctl_iogpu_m1_8gb_macos26_3_2.txt": {
        "chip": "Apple M1",
        "family": "M1",
        "generation": 1,
        "tier": "base",
        "model_identifier": "Macmini9,1",
        "memory_bytes": 8 * GIB,
        "working_set_bytes": 5726633984,
        "working_set_source": "estimated",
        "wired_limit_mib": 0,
        "is_virtual": False,
    },
    "sysctl_m3ultra_96gb_notes.txt": {
        "chip": "Apple M3 Ultra",
        "family": "M3",
        "generation": 3,
        "tier": "ultra",
        "memory_bytes": 96 * GIB,
        "working_set_bytes": 72 * GIB,
        "working_set_source": "estimated",
    },
    "sysctl_mac14_7_m2_native.txt": {
        "chip": "Apple M2",
        "family": "M2",
        "generation": 2,
        "tier": "base",
        "model_identifier": "Mac14,7",
        "is_virtual": False,
    },
    "sysctl_machdep_m1_bigsur_brand_apple_processor.txt": {},
    "sysctl_unknown_oid_stderr.txt": {},
    "sysctl_vm_guest_hv.txt": {"is_virtual": True},
    # What sysctl prints when it writes is no reading of it.
    "sysctl_w_wired_limit_output.txt": {},
}

PROFILER_RECORDINGS = {
    "spdisplays_m2max_30core_macos15.json": {
        "chip": "Apple M2 Max",
        "family": "M2",
        "generation": 2,
        "tier": "max",
        "gpu_cores": 30,
        "metal": "metal4",
    },
    "spdisplays_m3pro_14core_trimmed.json": {
        "chip": "Apple M3 Pro",
        "family": "M3",
        "generation": 3,
        "tier": "pro",
        "gpu_cores": 14,
        "metal": "metal3",
    },
    "spdisplays_m4_10core_trimmed_macos26.json": {
        "chip": "Apple M4",
        "family": "M4",
        "generation": 4,
        "tier": "base",
        "gpu_cores": 10,
        "metal": "metal4",
    },
    **{
        recording: {
            "chip": chip,
            "family": chip[6:8],
            "generation": int(chip[7]),
            "tier": tier,
            "model_identifier": model,
            "memory_bytes": memory_gib * GIB,
            "working_set_bytes": working_set_bytes,
            "working_set_source": "estimated",
            "is_virtual": "(Virtual)" in chip,
            **more,
        }
        for recording, chip, tier, model, memory_gib, working_set_bytes, more in [
            ("sphardware_m1_macbookair10_1_macos12.json", "Apple M1", "base", "MacBookAir10,1", 16, 11453251584, {}),
            ("sphardware_m1_macbookair10_1_under_rosetta.json", "Apple M1", "base", "MacBookAir10,1", 16, 11453251584, {}),
            ("sphardware_m1_virtual_gha_macos26.json", "Apple M1 (Virtual)", "base", "VirtualMac2,1", 7, 5010800640, {}),
            ("sphardware_m2_mac14_2_24gb_macos15.json", "Apple M2", "base", "Mac14,2", 24, 16 * GIB, {}),
            ("sphardware_m2_mac14_7_macos14.json", "Apple M2", "base", "Mac14,7", 16, 11453251584, {}),
            ("sphardware_m2pro_mac14_10_macos27_excerpt.txt", "Apple M2 Pro", "pro", "Mac14,10", 16, 11453251584, {"gpu_cores": 19}),
            ("sphardware_m4_mac16_12_16gb_excerpt.txt", "Apple M4", "base", "Mac16,12", 16, 11453251584, {}),
            ("sphardware_m4max_mac16_5_48gb_macos15.json", "Apple M4 Max", "max", "Mac16,5", 48, 36 * GIB, {}),
            ("sphardware_m4max_virtual_virtualmac2_1_4gb.json", "Apple M4 Max (Virtual)", "max", "VirtualMac2,1", 4, 2863316992, {}),
        ]
    },
    # Text, not JSON: the module never asks for it.
    "sphardware_text_m1pro_macbookpro18_3.txt": {},
    "sphardware_text_m3ultra_512gb_excerpt.txt": {},
    "system_profiler_stderr_noise_m4max_mac16_9_macos26_4.txt": {},
}
NOT_JSON = {recording for recording in PROFILER_RECORDINGS if recording.endswith(".txt")}
UNUSED_RECORDINGS = {"ioreg_agx_m3pro_trimmed.txt", "ioreg_agx_m4_trimmed.txt", "ioreg_agx_m5max_trimmed.txt"}


def told(hardware):
    facts = hardware.as_dict()
    assert facts.pop("is_apple_silicon") is True
    assert facts.pop("is_translated") is False
    if facts["family"] == facts["tier"] == "unknown":
        assert facts["chip"] is None
        del facts["family"], facts["tier"]
    warnings = [warning for warning in facts.pop("warnings") if " is unknown: " not in warning]
    return {field: value for field, value in facts.items() if value is not None}, warnings


@pytest.mark.parametrize("recording", sorted(SYSCTL_RECORDINGS))
def test_recordings_of_sysctl(captures_dir, recording):
    text = (captures_dir / "apple" / recording).read_text("utf-8")
    assert told(parse_hardware(RawProbe("Darwin", "arm64", text))) == (SYSCTL_RECORDINGS[recording], [])


@pytest.mark.parametrize("recording", sorted(PROFILER_RECORDINGS))
def test_recordings_of_system_profiler(captures_dir, recording):
    text = (captures_dir / "apple" / recording).read_text("utf-8")
    warnings = [NO_JSON] if recording in NOT_JSON else []
    assert told(parse_hardware(RawProbe("Darwin", "arm64", "", text))) == (PROFILER_RECORDINGS[recording], warnings)


def test_every_recording_is_listed_above(captures_dir):
    listed = {*SYSCTL_RECORDINGS, *PROFILER_RECORDINGS, *UNUSED_RECORDINGS}
    assert listed == {path.name for path in (captures_dir / "apple").iterdir()}


def test_the_recorded_mac_under_rosetta(captures_dir):
    text = (captures_dir / "apple" / "sphardware_m1_macbookair10_1_under_rosetta.json").read_text("utf-8")
    hardware = parse_hardware(RawProbe("Darwin", "x86_64", "hw.optional.arm64: 1\nsysctl.proc_translated: 1\n", text))
    assert (hardware.is_apple_silicon, hardware.is_translated, hardware.chip) == (True, True, "Apple M1")


def test_big_sur_as_recorded_with_its_model(captures_dir):
    text = (captures_dir / "apple" / "sysctl_machdep_m1_bigsur_brand_apple_processor.txt").read_text("utf-8")
    assert parse_hardware(RawProbe("Darwin", "arm64", text + "hw.model: iMac21,1\n")).chip == "Apple M1"
