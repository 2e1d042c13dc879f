# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import (
    SYSCTL_NAMES,
    VIRTUAL_NAMES,
    CoreLevel,
    Hardware,
    RawProbe,
    parse_hardware,
    parse_is_virtual,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import LogText
from hypothesis import given
from hypothesis import strategies as st

GIB = 1024**3
NO_JSON = "system_profiler printed no valid JSON, so only what is whole in it is used"
NO_LIMIT = "wired_limit_mib is unknown: neither iogpu.wired_limit_mb nor debug.iogpu.wired_limit could be read"
NO_KINDS = "is unknown: the kinds of cores could not be told from hw.nperflevels and hw.perflevelN.name"
NO_GPU_CORES = "gpu_cores is unknown: sppci_cores could not be read"


@pytest.mark.parametrize("system", ["Linux", "FreeBSD"])
def test_nothing_is_looked_for_outside_macos(system):
    raw = RawProbe(system, "arm64", "hw.memsize: 17179869184\nmachdep.cpu.brand_string: Apple M1", "{", "15.5", problems=("a problem",))
    warning = f"this host runs {system}; Apple hardware is looked for on macOS only"
    assert parse_hardware(raw) == Hardware(is_apple_silicon=False, warnings=(warning,))


def test_sysctl_is_asked_for_all_that_is_read():
    assert (
        tuple(
            "sysctl.proc_translated hw.optional.arm64 machdep.cpu.brand_string hw.model hw.memsize kern.hv_vmm_present kern.boottime"
            " kern.osproductversion hw.nperflevels hw.perflevel0.name hw.perflevel0.physicalcpu hw.perflevel1.name"
            " hw.perflevel1.physicalcpu hw.perflevel2.name hw.perflevel2.physicalcpu hw.perflevel3.name hw.perflevel3.physicalcpu"
            " iogpu.wired_limit_mb debug.iogpu.wired_limit".split(" ")
        )
        == SYSCTL_NAMES
    )


def mac(sysctl="", profiler=None, version=None, uname_machine="arm64", **more):
    profiler_text = None if profiler is None else json.dumps(profiler)
    return parse_hardware(RawProbe("Darwin", uname_machine, sysctl, profiler_text, version, **more))


WHY_NOTHING = (
    "chip is unknown: neither machdep.cpu.brand_string, chip_type nor hw.model names it",
    "generation is unknown: the chip is not a known one of the M series",
    "model_identifier is unknown: neither hw.model nor machine_model could be read",
    "core_levels is unknown: hw.perflevelN.physicalcpu could not be read",
    f"performance_cores {NO_KINDS}",
    f"efficiency_cores {NO_KINDS}",
    NO_GPU_CORES,
    "memory_bytes is unknown: neither hw.memsize nor physical_memory could be read",
    "working_set_bytes is unknown: neither a wired limit nor the memory is known",
    NO_LIMIT,
    "metal is unknown: system_profiler does not tell the Metal support",
    "macos_version is unknown: neither sw_vers nor kern.osproductversion could be read",
    "is_virtual is unknown: neither kern.hv_vmm_present nor the model could be read",
)


def test_where_no_tool_answers_every_gap_has_its_reason():
    raw = RawProbe("Darwin", "arm64", problems=("/usr/sbin/sysctl does not exist on this host",))
    assert parse_hardware(raw) == Hardware(
        is_apple_silicon=True,
        family="unknown",
        tier="unknown",
        is_translated=False,
        warnings=("/usr/sbin/sysctl does not exist on this host", *WHY_NOTHING),
    )


def test_problems_come_in_the_order_in_which_they_arose():
    hardware = mac("iogpu.wired_limit_mb: 32", profiler=None, problems=("first",))
    assert hardware.warnings[0] == "first"
    broken = parse_hardware(RawProbe("Darwin", "arm64", "", "{", problems=("first",)))
    assert broken.warnings == ("first", NO_JSON, *WHY_NOTHING)


class TestIsAppleSilicon:
    @pytest.mark.parametrize(
        "sysctl",
        [
            "hw.optional.arm64: 1",
            "sysctl.proc_translated: 1",
            "machdep.cpu.brand_string: Apple M1",
            "machdep.cpu.brand_string: Apple X1 Quantum",
            "hw.model: Mac15,14",
        ],
    )
    def test_an_x86_64_process_is_told_by_any_of_these(self, sysctl):
        hardware = mac(sysctl, uname_machine="x86_64")
        assert (hardware.is_apple_silicon, hardware.is_translated) == (True, True)

    @pytest.mark.parametrize("sysctl", ["hw.optional.arm64: 0", "hw.memsize: 17179869184", "sysctl.proc_translated: 0"])
    def test_any_other_answer_is_intel(self, sysctl):
        hardware = mac(sysctl, uname_machine="x86_64")
        assert (hardware.is_apple_silicon, hardware.is_translated) == (False, False)

    def test_an_x86_64_process_that_was_told_nothing_does_not_know(self):
        hardware = mac("", version="14.7", uname_machine="x86_64")
        assert hardware == Hardware(
            macos_version="14.7",
            warnings=("is_apple_silicon is unknown: an x86_64 process was told neither hw.optional.arm64 nor the chip",),
        )

    def test_a_native_process_needs_no_answer(self):
        assert mac("hw.optional.arm64: 0").is_apple_silicon is True

    def test_the_chip_told_by_system_profiler_suffices(self):
        hardware = mac("", {"SPHardwareDataType": [{"chip_type": "Apple M2"}]}, uname_machine="x86_64")
        assert (hardware.is_apple_silicon, hardware.chip) == (True, "Apple M2")


class TestIsTranslated:
    @pytest.mark.parametrize(
        ("uname_machine", "translated", "expected"),
        [
            ("x86_64", "1", True),
            ("x86_64", "0", False),
            ("x86_64", None, True),
            ("arm64", "1", True),
            ("arm64", "0", False),
            ("arm64", None, False),
        ],
    )
    def test_sysctl_beats_uname(self, uname_machine, translated, expected):
        lines = ["hw.optional.arm64: 1"] + ([] if translated is None else [f"sysctl.proc_translated: {translated}"])
        assert mac("\n".join(lines), uname_machine=uname_machine).is_translated is expected


class TestIsVirtual:
    @pytest.mark.parametrize(
        "sysctl",
        [
            "kern.hv_vmm_present: 1",
            "kern.hv_vmm_present: 0\nhw.model: VirtualMac2,1",
            "kern.hv_vmm_present: 0\nmachdep.cpu.brand_string: Apple M1 (Virtual)",
        ],
    )
    def test_one_sign_is_enough(self, sysctl):
        assert mac(sysctl).is_virtual is True

    def test_the_paravirtual_gpu_is_a_sign_and_no_chip(self):
        hardware = mac("", {"SPDisplaysDataType": [{"sppci_model": "Apple Paravirtual device"}]})
        assert (hardware.is_virtual, hardware.chip) == (True, None)

    @pytest.mark.parametrize(
        ("sysctl", "expected"),
        [
            ("kern.hv_vmm_present: 0", False),
            ("hw.model: Mac15,14", False),
            ("hw.model: Mac88,1\nmachdep.cpu.brand_string: Apple M9", False),
            ("machdep.cpu.brand_string: Apple M1", None),
            ("hw.model: Mac88,1", None),
            ("", None),
        ],
    )
    def test_without_a_sign(self, sysctl, expected):
        assert mac(sysctl).is_virtual is expected

    @pytest.mark.parametrize(
        ("sysctl", "expected"),
        [
            ("kern.hv_vmm_present: 1\n", True),
            ("kern.hv_vmm_present: 2\n", True),
            ("kern.hv_vmm_present: 0\n", False),
            ("kern.hv_vmm_present: x\n", None),
            ("kern.hv_support: 1\n", None),
            ("kern.hv_vmm_present: 0\nhw.model: VirtualMac2,1\n", True),
            ("kern.hv_vmm_present: 0\nmachdep.cpu.brand_string: Apple M1 (Virtual)\n", True),
            ("hw.model: Mac15,14\n", False),
            ("hw.model: Mac88,1\n", None),
            ("", None),
        ],
    )
    def test_of_sysctl_alone_by_the_same_rule(self, sysctl, expected):
        assert parse_is_virtual(sysctl) is expected
        assert mac(sysctl).is_virtual is expected

    def test_the_rule_needs_no_other_names(self):
        assert set(VIRTUAL_NAMES) == {"kern.hv_vmm_present", "hw.model", "machdep.cpu.brand_string"}
        assert set(VIRTUAL_NAMES) <= set(SYSCTL_NAMES)


class TestSourcesInOrder:
    def test_sysctl_names_chip_model_and_memory_before_system_profiler(self):
        profiler = {"SPHardwareDataType": [{"chip_type": "Apple M2", "machine_model": "Mac14,2", "physical_memory": "8 GB"}]}
        sysctl = "machdep.cpu.brand_string: Apple M3 Max\nhw.model: Mac15,8\nhw.memsize: 38654705664"
        both, one = mac(sysctl, profiler), mac("", profiler)
        assert (both.chip, both.model_identifier, both.memory_bytes) == ("Apple M3 Max", "Mac15,8", 36 * GIB)
        assert (one.chip, one.model_identifier, one.memory_bytes) == ("Apple M2", "Mac14,2", 8 * GIB)

    def test_nonsense_of_sysctl_does_not_hide_system_profiler(self):
        profiler = {"SPHardwareDataType": [{"chip_type": "Apple M2", "machine_model": "Mac14,2", "physical_memory": "8 GB"}]}
        hardware = mac("machdep.cpu.brand_string: Apple processor\nhw.model: J313\nhw.memsize: 0", profiler)
        assert (hardware.chip, hardware.model_identifier, hardware.memory_bytes) == ("Apple M2", "Mac14,2", 8 * GIB)

    @pytest.mark.parametrize("brand", ["Apple processor", "VirtualApple @ 2.50GHz processor"])
    def test_what_is_no_name_is_not_told_as_one(self, brand):
        assert mac(f"machdep.cpu.brand_string: {brand}").chip is None

    def test_the_gpu_bears_the_name_of_the_chip(self):
        profiler = {"SPHardwareDataType": [{"chip_type": "Apple M2"}], "SPDisplaysDataType": [{"sppci_model": "Apple M3"}]}
        assert mac("", profiler).chip == "Apple M2"
        assert mac("", {"SPDisplaysDataType": [{"sppci_model": "Apple M3"}]}).chip == "Apple M3"

    def test_sw_vers_before_sysctl(self):
        assert mac("kern.osproductversion: 14.1", version="15.5").macos_version == "15.5"
        assert mac("kern.osproductversion: 14.1", version="?").macos_version == "14.1"
        assert mac("kern.osproductversion: 14.1").macos_version == "14.1"


def levels(*pairs, count=None):
    lines = [] if count is None else [f"hw.nperflevels: {count}"]
    for level, (name, cores) in enumerate(pairs):
        lines += [f"hw.perflevel{level}.physicalcpu: {cores}"] + ([] if name is None else [f"hw.perflevel{level}.name: {name}"])
    hardware = mac("\n".join(lines))
    return hardware.core_levels, hardware.performance_cores, hardware.efficiency_cores


class TestCores:
    @pytest.mark.parametrize(
        ("pairs", "performance_cores", "efficiency_cores"),
        [
            ([("Performance", 12), ("Efficiency", 4)], 12, 4),
            ([("Super", 4), ("Efficiency", 6)], 4, 6),
            ([("Super", 6), ("Performance", 12)], 18, 0),
            ([("Super", 1), ("Performance", 2), ("Efficiency", 3), ("Efficiency", 4)], 3, 7),
            ([("Efficiency", 4)], 0, 4),
            ([(None, 6), (None, 2)], 6, 2),
            ([(None, 6)], None, None),
            ([(None, 6), ("Efficiency", 2)], None, None),
            ([(None, 1), (None, 2), (None, 3)], None, None),
            ([("Standard", 3)], None, None),
            ([("Performance", 3), ("Standard", 3)], None, None),
            ([("efficiency", 3)], None, None),
        ],
    )
    @pytest.mark.parametrize("with_count", [True, False])
    def test_kinds(self, pairs, performance_cores, efficiency_cores, with_count):
        expected = tuple(CoreLevel(name, cores) for name, cores in pairs)
        count = len(pairs) if with_count else None
        assert levels(*pairs, count=count) == (expected, performance_cores, efficiency_cores)

    @pytest.mark.parametrize("count", [1, 3])
    def test_a_level_that_could_not_be_read_makes_the_kinds_unknown(self, count):
        expected = (CoreLevel("Performance", 8), CoreLevel("Efficiency", 2))
        assert levels(("Performance", 8), ("Efficiency", 2), count=count) == (expected, None, None)

    def test_a_level_without_cores_is_none(self):
        assert levels(("Performance", 8), ("Efficiency", 0)) == ((CoreLevel("Performance", 8),), 8, 0)

    def test_the_fifth_level_is_not_asked_for(self):
        assert len(levels(*[("Performance", 1)] * 5)[0]) == 4


class TestWiredLimit:
    def test_mebibytes_beat_bytes(self):
        hardware = mac("iogpu.wired_limit_mb: 14000\ndebug.iogpu.wired_limit: 5")
        assert (hardware.wired_limit_mib, hardware.working_set_bytes) == (14000, 14680064000)

    def test_zero_is_the_default_and_beats_bytes_too(self):
        hardware = mac("iogpu.wired_limit_mb: 0\ndebug.iogpu.wired_limit: 5\nhw.memsize: 17179869184")
        assert (hardware.wired_limit_mib, hardware.working_set_source) == (0, "estimated")

    def test_bytes_of_macos_13_count_exactly(self):
        hardware = mac("debug.iogpu.wired_limit: 14680064001")
        assert (hardware.wired_limit_mib, hardware.working_set_bytes) == (14000, 14680064001)

    @pytest.mark.parametrize(("limit_bytes", "is_odd"), [(0, False), (1, True), (1048575, True), (1048576, False)])
    def test_mebibytes_written_where_bytes_belong(self, limit_bytes, is_odd):
        warnings = mac(f"debug.iogpu.wired_limit: {limit_bytes}").warnings
        warning = f"debug.iogpu.wired_limit is {limit_bytes}, which is less than one MiB: it counts bytes"
        assert (warning in warnings) is is_odd
        assert any("wired limit" in text and "more than" in text for text in warnings) is False

    @pytest.mark.parametrize(("limit_mib", "is_odd"), [(16384, False), (16385, True)])
    def test_a_limit_above_the_memory_is_told_as_it_is_with_a_warning(self, limit_mib, is_odd):
        hardware = mac(f"iogpu.wired_limit_mb: {limit_mib}\nhw.memsize: 17179869184")
        warning = f"the wired limit of {limit_mib * 1024**2} bytes is more than the memory of 17179869184 bytes"
        assert hardware.working_set_bytes == limit_mib * 1024**2
        assert (warning in hardware.warnings) is is_odd

    @pytest.mark.parametrize("value", ["-1", "x", "0 -> 14000"])
    def test_what_is_no_limit_is_unknown(self, value):
        hardware = mac(f"iogpu.wired_limit_mb: {value}\nhw.memsize: 17179869184")
        assert (hardware.wired_limit_mib, hardware.working_set_source) == (None, "estimated")
        assert NO_LIMIT in hardware.warnings


class TestWorkingSet:
    LOG = LogText("/log/gpu-0.log", 1_750_000_001.0, "recommendedMaxWorkingSetSize  = 12713.12 MB")
    SYSCTL = "hw.memsize: 17179869184\nkern.boottime: { sec = 1750000000, usec = 0 } Sun Jun 15 15:06:40 2025\n"

    def test_measured(self):
        hardware = mac(self.SYSCTL, log=self.LOG)
        assert (hardware.working_set_bytes, hardware.working_set_source) == (12713115648, "measured")

    def test_a_limit_beats_the_log(self):
        hardware = mac(self.SYSCTL + "iogpu.wired_limit_mb: 14000", log=self.LOG)
        assert (hardware.working_set_bytes, hardware.working_set_source) == (14680064000, "wired_limit")

    def test_a_log_that_is_not_believed_is_told(self):
        hardware = mac("hw.memsize: 17179869184", log=self.LOG)
        assert (hardware.working_set_bytes, hardware.working_set_source) == (11453251584, "estimated")
        why = "kern.boottime is unknown, so the log may be older than this boot"
        assert f"the working set in /log/gpu-0.log is not used: {why}" in hardware.warnings

    def test_the_version_decides_the_estimate(self):
        assert mac(self.SYSCTL, version="26.1").working_set_bytes == 12713115648


LINES = st.lists(st.tuples(st.sampled_from(SYSCTL_NAMES), st.one_of(st.integers().map(str), st.text()))).map(
    lambda pairs: "\n".join(f"{name}: {value}" for name, value in pairs)
)
PROFILER = st.one_of(
    st.text(),
    st.dictionaries(
        st.sampled_from(["SPHardwareDataType", "SPDisplaysDataType"]),
        st.lists(
            st.dictionaries(
                st.sampled_from(["chip_type", "machine_model", "physical_memory", "sppci_cores", "sppci_model", "spdisplays_metal"]),
                st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())),
            )
        ),
    ).map(json.dumps),
)
LOGS = st.none() | st.builds(LogText, st.text(), st.floats(), st.text().map(lambda text: f"recommendedMaxWorkingSetSize  = {text} MB"))


@given(
    st.sampled_from(["Darwin", "Linux"]),
    st.one_of(st.sampled_from(["arm64", "x86_64"]), st.text()),
    st.none() | LINES | st.text(),
    st.none() | PROFILER,
    st.none() | st.text(),
    LOGS,
)
def test_no_output_of_any_tool_is_a_failure(system, uname_machine, sysctl, profiler, version, log):
    hardware = parse_hardware(RawProbe(system, uname_machine, sysctl, profiler, version, log))
    facts = hardware.as_dict()
    json.dumps(facts)
    assert (facts["working_set_bytes"] is None) == (facts["working_set_source"] is None)
    counts = ("performance_cores", "efficiency_cores", "gpu_cores", "memory_bytes", "working_set_bytes", "wired_limit_mib")
    assert all(facts[field] is None or facts[field] >= 0 for field in counts)
    if facts["is_apple_silicon"]:
        unexplained = [
            field
            for field, value in facts.items()
            if value is None and field != "working_set_source" and not any(text.startswith(field + " ") for text in facts["warnings"])
        ]
        assert unexplained == []
    elif not facts["is_apple_silicon"]:
        assert facts["warnings"]
