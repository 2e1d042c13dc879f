# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware_text import (
    ProfilerFacts,
    clean_text,
    parse_boot_seconds,
    parse_macos_version,
    parse_memory_bytes,
    parse_model_identifier,
    parse_profiler,
    parse_sysctl,
    whole_number,
)
from hypothesis import given
from hypothesis import strategies as st

GIB = 1024**3
NO_JSON = ("system_profiler printed no valid JSON, so only what is whole in it is used",)
NOISE = "2026-04-28 08:52:35.280 system_profiler[29046:41174793] hw.cpufamily: 0x17d5b93a"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Apple M1", "Apple M1"),
        ("  Apple \t M1\n", "Apple M1"),
        ("Apple\x00M1\udcff", "Apple M1"),
        ("x" * 300, "x" * 200),
        ("x" * 199 + " y", "x" * 199),
        ("", None),
        (" \t", None),
        (None, None),
        (8, None),
        (["Apple M1"], None),
    ],
)
def test_clean_text(value, expected):
    assert clean_text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        ("80", 80),
        (" 80 ", 80),
        (80, 80),
        ("0      # AUTO (not admin-overridden)", 0),
        ("9" * 19, 9999999999999999999),
        ("9" * 20, None),
        (10**19, None),
        ("-1", None),
        (-1, None),
        ("0x10", None),
        ("0 -> 14000", None),
        ("8 cores", None),
        ("8#", None),
        ("2.4", None),
        (8.0, None),
        (True, None),
        ("\u0661", None),
        ("", None),
        (None, None),
        ([8], None),
    ],
)
def test_whole_number(value, expected):
    assert whole_number(value) == expected


def test_sysctl_lines():
    text = f"{NOISE}\nhw.memsize: 17179869184\n\nhw.model = Mac14,2\n  hw.perflevel0.name:Performance\r\niogpu.wired_limit_mb  = 0\n"
    assert parse_sysctl(text) == {
        "hw.memsize": "17179869184",
        "hw.model": "Mac14,2",
        "hw.perflevel0.name": "Performance",
        "iogpu.wired_limit_mb": "0",
    }


def test_the_last_of_several_sysctl_lines_with_a_value_counts():
    assert parse_sysctl("hw.model: Mac14,2\nhw.model: Mac14,3\nhw.model: \n") == {"hw.model": "Mac14,3"}


@pytest.mark.parametrize(
    "line",
    [
        "sysctl: unknown oid 'sysctl.proc_translated'",
        NOISE,
        "memsize: 5",
        "hw.ncpu / physicalcpu / logicalcpu: 28 / 28 / 28",
        "hw.perflevel0 (P): 20 cpus",
        "# hw.memsize: 5",
        "hw.memsize 5",
        "hw.memsize:",
        "",
    ],
)
def test_other_lines_of_sysctl_are_passed_over(line):
    assert parse_sysctl(line) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{ sec = 1750000000, usec = 123456 } Sun Jun 15 15:06:40 2025", 1750000000),
        ("{ usec = 123456 }", None),
        ("{ sec = 123456789012, usec = 0 }", None),
        ("", None),
        (None, None),
    ],
)
def test_boot_seconds(value, expected):
    assert parse_boot_seconds(value) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15.5\n", "15.5"),
        ("26.3.2", "26.3.2"),
        ("27", "27"),
        ("14.1.2.1", "14.1.2.1"),
        ("ProductName:\t\tmacOS\nProductVersion:\t\t26.1\nBuildVersion:\t\t25B78\n", "26.1"),
        (f"{NOISE}\n 15.5 \r\n", "15.5"),
        ("15.5\n26.1\n", "15.5"),
        ("15.5 beta", None),
        ("15.", None),
        ("1234.5", None),
        ("1.2.3.4.5", None),
        ("", None),
        (None, None),
    ],
)
def test_macos_version(text, expected):
    assert parse_macos_version(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Mac15,14", "Mac15,14"),
        (" MacBookAir10,1\n", "MacBookAir10,1"),
        ("VirtualMac2,1", "VirtualMac2,1"),
        ("Mac15", None),
        ("15,14", None),
        ("Mac15,14 evil", None),
        ("", None),
        (15, None),
    ],
)
def test_model_identifier(value, expected):
    assert parse_model_identifier(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("16 GB", 16 * GIB),
        ("16GB", 16 * GIB),
        ("512 MB", GIB // 2),
        ("1 TB", 1024 * GIB),
        ("1,5 GB", 3 * GIB // 2),
        ("1.5 GB", 3 * GIB // 2),
        ("1.25 GB", 5 * GIB // 4),
        # Three digits after a comma are thousands in one language and fractions in another.
        ("1,024 GB", None),
        ("0 GB", None),
        ("16 gb", None),
        ("16 GiB", None),
        ("GB", None),
        ("1234567 GB", None),
        (17179869184, None),
        (None, None),
    ],
)
def test_memory(value, expected):
    assert parse_memory_bytes(value) == expected
    assert not isinstance(parse_memory_bytes(value), float)


def profiler_json(hardware=None, display=None):
    return json.dumps({"SPHardwareDataType": [hardware or {}], "SPDisplaysDataType": [display or {}]}, indent=2)


FULL = profiler_json(
    {"chip_type": "Apple M3 Ultra", "machine_model": "Mac15,14", "physical_memory": "512 GB", "number_processors": "proc 32:24:8"},
    {"sppci_model": "Apple M3 Ultra", "sppci_cores": "80", "spdisplays_mtlgpufamilysupport": "spdisplays_metal4"},
)
FULL_FACTS = ProfilerFacts("Apple M3 Ultra", "Mac15,14", 512 * GIB, "Apple M3 Ultra", 80, "metal4")


def test_profiler():
    assert parse_profiler(FULL) == FULL_FACTS


@pytest.mark.parametrize(
    "text",
    [
        f"{NOISE}\n{NOISE}\n{FULL}",
        f"some words [first] of a wrapper\n{FULL}\nand last ones\n",
        FULL.replace("\n", f"\n{NOISE}\n", 3),
        f"x{FULL}x",
    ],
)
def test_noise_around_and_between_is_passed_over(text):
    assert parse_profiler(text) == FULL_FACTS


@pytest.mark.parametrize("number", [8, "proc 8:4:4", "proc 18:6:0:12", "proc 12:0:8:4", None, [], {"a": 1}])
def test_number_processors_is_never_used(number):
    assert parse_profiler(profiler_json({"number_processors": number})) == ProfilerFacts()


@pytest.mark.parametrize(("cores", "expected"), [("14", 14), (14, 14), ("0", None), ("", None), (True, None), ("ten", None), ([], None)])
def test_gpu_cores(cores, expected):
    assert parse_profiler(profiler_json(display={"sppci_cores": cores})) == ProfilerFacts(gpu_cores=expected)


@pytest.mark.parametrize(
    ("display", "expected"),
    [
        ({"spdisplays_mtlgpufamilysupport": "spdisplays_metal3", "spdisplays_metal": "spdisplays_supported"}, "metal3"),
        ({"spdisplays_metal": "spdisplays_supported"}, "supported"),
        ({"spdisplays_mtlgpufamilysupport": "Metal 5"}, "Metal 5"),
        ({"spdisplays_mtlgpufamilysupport": "spdisplays_"}, None),
        ({"spdisplays_mtlgpufamilysupport": 4}, None),
    ],
)
def test_metal(display, expected):
    assert parse_profiler(profiler_json(display=display)) == ProfilerFacts(metal=expected)


def test_the_first_entry_that_tells_counts():
    data = {"SPDisplaysDataType": ["x", {"sppci_cores": None}, {"sppci_cores": "10"}, {"sppci_cores": "20"}]}
    assert parse_profiler(json.dumps(data)) == ProfilerFacts(gpu_cores=10)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"SPHardwareDataType": None, "SPDisplaysDataType": 7},
        {"SPHardwareDataType": {"chip_type": "Apple M1"}, "SPDisplaysDataType": "Apple M1"},
        {"SPHardwareDataType": [[{"chip_type": "Apple M1"}], None, 5]},
        {"SPHardwareDataType": [{"chip_type": ["Apple M1"], "machine_model": {}, "physical_memory": 16}]},
    ],
)
def test_wrong_shapes_tell_nothing(data):
    assert parse_profiler(json.dumps(data)) == ProfilerFacts()


def test_of_broken_json_whole_pairs_are_used():
    text = FULL[: FULL.index('"spdisplays_mtl') + 40]
    assert parse_profiler(text) == ProfilerFacts("Apple M3 Ultra", "Mac15,14", 512 * GIB, "Apple M3 Ultra", 80, None, NO_JSON)


def test_of_broken_json_the_first_of_two_equal_keys_is_used():
    assert parse_profiler('{"chip_type": "Apple M1", "chip_type": "Apple M2",}').chip_type == "Apple M1"


@pytest.mark.parametrize("text", ["", "{", "}{", "[]", "null", "Hardware:\n", "{" + '"a":[' * 100000 + "}"])
def test_what_is_no_json_tells_nothing(text):
    assert parse_profiler(text) == ProfilerFacts(problems=NO_JSON)


def test_a_number_too_long_for_python_is_no_failure():
    assert parse_profiler(profiler_json(display={"sppci_cores": 0}).replace(": 0", ": " + "9" * 5000)).gpu_cores is None


KEYS = ["SPHardwareDataType", "SPDisplaysDataType", "chip_type", "machine_model", "physical_memory", "sppci_cores", "sppci_model"]


def dicts(inner):
    return st.dictionaries(st.sampled_from(KEYS) | st.text(), inner)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | dicts(inner))


@given(st.one_of(JSON, dicts(st.lists(dicts(JSON)))))
def test_no_json_is_a_failure(data):
    facts = parse_profiler(json.dumps(data))
    assert facts.gpu_cores is None or facts.gpu_cores > 0


@given(st.text())
def test_no_text_is_a_failure(text):
    assert parse_profiler(text).problems in ((), NO_JSON)
    assert all(parse_sysctl(text).values())
    number, size = whole_number(text), parse_memory_bytes(text)
    assert number is None or number >= 0
    assert size is None or size > 0
    parse_boot_seconds(text)
    parse_macos_version(text)
    parse_model_identifier(text)
