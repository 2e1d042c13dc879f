# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked for, and what it means for a Mac of each size and each macOS."""

from __future__ import annotations

import pathlib
import re
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import working_set
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import Hardware
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit import (
    COLLECTOR_NAME,
    LIMIT_BYTES_NAME,
    LIMIT_MIB_NAME,
    NAMES,
    OPTIONS,
    Request,
    Wanted,
    decide,
    limit_mib,
    parse_live,
    read_request,
)
from hypothesis import given, settings
from hypothesis import strategies as st

GIB = 1024**3
LIVE = {LIMIT_MIB_NAME: 0, COLLECTOR_NAME: 0}
DEFAULTS = {name: option.get("default") for name, option in OPTIONS.items()}
VERSIONS = ("13.6.1", "14.7", "15.5", "26.1", None)

# GiB of memory -> the MiB that auto gives.
AUTO = {
    8: 0,
    16: 0,
    18: 0,
    24: 0,
    32: 26624,
    36: 30720,
    48: 43008,
    64: 59392,
    96: 89088,
    128: 118784,
    192: 178176,
    256: 237568,
    512: 475136,
}
# GiB of memory -> the most MiB that may be given. 8: the default, since 4 GiB less would be below it.
MOST = {
    8: 5461,
    16: 12288,
    18: 14336,
    24: 20480,
    32: 28672,
    36: 32768,
    48: 45056,
    64: 61440,
    96: 94208,
    128: 126976,
    192: 190464,
    256: 253952,
    512: 507904,
}


def mac(memory_gib: t.Union[int, float, None] = 512, macos_version: t.Optional[str] = "15.5", **facts: t.Any) -> Hardware:
    memory_bytes = None if memory_gib is None else int(memory_gib * GIB)
    return Hardware(
        **{"is_apple_silicon": True, "is_virtual": False, "memory_bytes": memory_bytes, "macos_version": macos_version, **facts}
    )


def decided(given_mib: t.Optional[int], *machine: t.Any, **facts: t.Any) -> Wanted:
    return decide(Request(limit_mib=given_mib), mac(*machine, **facts), LIVE)


# What is asked for.


def test_the_options() -> None:
    assert OPTIONS == {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "limit_mib": {"type": "str", "default": "auto"},
        "disable_wired_collector": {"type": "bool"},
    }
    assert read_request(DEFAULTS) == Request(present=True, limit_mib=None, disable_collector=None)
    assert read_request({**DEFAULTS, "state": "absent", "disable_wired_collector": False}) == Request(False, None, False)


@pytest.mark.parametrize(
    ("limit", "expected"), [("auto", None), ("0", 0), (475136, 475136), (" 475136 ", 475136), ("999999999999", 999999999999)]
)
def test_limits_that_are_understood(limit: t.Any, expected: t.Optional[int]) -> None:
    assert read_request({**DEFAULTS, "limit_mib": limit}).limit_mib == expected


@pytest.mark.parametrize("limit", ["", "-1", "Auto", "464 GiB", "1e5", "1024.0", "True", "None", "1000000000000", "٣", "1\n2"])
def test_limits_that_are_not_understood(limit: str) -> None:
    message = f"limit_mib: {limit.strip()!r} is neither auto nor a whole number of MiB; write it like 475136, or 0 for macOS's own default"
    with pytest.raises(BadInputError, match=f"^{re.escape(message)}$"):
        read_request({**DEFAULTS, "limit_mib": limit})


# What sysctl says.


def test_live_values() -> None:
    assert NAMES == ("iogpu.wired_limit_mb", "debug.iogpu.wired_limit", "iogpu.disable_wired_collector")
    assert parse_live("iogpu.wired_limit_mb: 475136\niogpu.disable_wired_collector: 1\n") == {LIMIT_MIB_NAME: 475136, COLLECTOR_NAME: 1}
    assert parse_live("debug.iogpu.wired_limit: 60129542144\nhw.memsize: 1\n") == {LIMIT_BYTES_NAME: 60129542144}
    assert parse_live("iogpu.wired_limit_mb: \niogpu.disable_wired_collector: many\n\x00") == {}


def test_the_limit_in_mib() -> None:
    assert limit_mib({}) is None
    assert limit_mib({COLLECTOR_NAME: 1}) is None
    assert limit_mib({LIMIT_MIB_NAME: 475136}) == 475136
    assert limit_mib({LIMIT_BYTES_NAME: 3 * 1024 * 1024 - 1}) == 2
    assert limit_mib({LIMIT_BYTES_NAME: 5, LIMIT_MIB_NAME: 7}) == 7


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sysctl_iogpu_fixture_48gb.txt", 36864), ("sysctl_iogpu_m1_8gb_macos26_3_2.txt", 0), ("sysctl_unknown_oid_stderr.txt", None)],
)
def test_recordings(captures_dir: pathlib.Path, name: str, expected: t.Optional[int]) -> None:
    assert limit_mib(parse_live((captures_dir / "apple" / name).read_text(encoding="utf-8"))) == expected


# To whom it applies.


@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize(
    ("facts", "live", "reason"),
    [
        ({"is_apple_silicon": False, "is_virtual": True}, LIVE, "only a Mac with an Apple chip has a wired limit"),
        ({"is_virtual": True}, LIVE, "a virtual Mac's GPU has the memory that its host gives it"),
        ({}, {}, "sysctl knows neither iogpu.wired_limit_mb nor debug.iogpu.wired_limit"),
        ({"is_apple_silicon": None}, {COLLECTOR_NAME: 0}, "sysctl knows neither iogpu.wired_limit_mb nor debug.iogpu.wired_limit"),
    ],
)
def test_what_it_does_not_apply_to(facts: dict[str, t.Any], live: dict[str, int], reason: str, present: bool) -> None:
    assert decide(Request(present, 10**9, True), mac(None, **facts), live) == Wanted(False, reason)


@pytest.mark.parametrize("facts", [{"is_virtual": None}, {"is_apple_silicon": None}])
def test_what_is_unknown_is_no_hindrance(facts: dict[str, t.Any]) -> None:
    assert decided(None, **facts).values == {LIMIT_MIB_NAME: 475136}


def test_absent_governs_nothing() -> None:
    wanted = decide(Request(False, 10**9, True), mac(), LIVE)
    assert wanted == Wanted(True, "state is absent, so only what this module set is given up")


# auto.


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("memory_gib", AUTO)
def test_auto(memory_gib: int, version: t.Optional[str]) -> None:
    wanted = decided(None, memory_gib, version)
    assert (wanted.applies, wanted.values, wanted.warnings) == (True, {LIMIT_MIB_NAME: AUTO[memory_gib]}, ())
    assert wanted.settings_at_boot() == ({LIMIT_MIB_NAME: AUTO[memory_gib]} if memory_gib >= 32 else {})


def test_the_reasons_of_auto() -> None:
    assert decided(None, 512).reason == "auto leaves macOS 49152 of 524288 MiB"
    assert decided(None, 64).reason == "auto leaves macOS 6144 of 65536 MiB"
    assert decided(None, 24).reason == "auto leaves a Mac with less than 32768 MiB of memory (24576) to macOS's own default"


def test_auto_begins_at_32_gib_to_the_byte() -> None:
    assert decide(Request(), mac(memory_bytes=32 * GIB), LIVE).values == {LIMIT_MIB_NAME: 26624}
    assert decide(Request(), mac(memory_bytes=32 * GIB - 1), LIVE).values == {LIMIT_MIB_NAME: 0}


def test_auto_is_whole_mib() -> None:
    wanted = decide(Request(), mac(memory_bytes=33 * GIB + 3 * 2**19), LIVE)
    assert wanted.values == {LIMIT_MIB_NAME: 27 * 1024 + 1}
    assert wanted.reason == "auto leaves macOS 6144 of 33793 MiB"


@settings(deadline=None)
@given(memory_bytes=st.integers(32 * GIB, 4096 * GIB), version=st.sampled_from(VERSIONS))
def test_auto_is_never_below_the_default_and_always_allowed(memory_bytes: int, version: t.Optional[str]) -> None:
    hardware = mac(memory_bytes=memory_bytes, macos_version=version)
    auto_mib = decide(Request(), hardware, LIVE).values[LIMIT_MIB_NAME]
    assert auto_mib * 1024**2 >= working_set.estimate_bytes(memory_bytes, version)
    assert memory_bytes - auto_mib * 1024**2 >= max(6 * GIB, memory_bytes * 3 // 32)
    assert decide(Request(limit_mib=auto_mib), hardware, LIVE).warnings == ()


def test_auto_needs_the_memory() -> None:
    with pytest.raises(BadInputError) as caught:
        decided(None, None)
    assert str(caught.value) == (
        "limit_mib: auto needs the size of the memory, and neither hw.memsize nor physical_memory could be read;"
        " give a number of MiB, or 0 for macOS's own default"
    )


# Given values.


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("memory_gib", MOST)
def test_the_most_that_may_be_given(memory_gib: int, version: t.Optional[str]) -> None:
    most = MOST[memory_gib]
    assert decided(most, memory_gib, version) == Wanted(True, "limit_mib was given", {LIMIT_MIB_NAME: most})
    with pytest.raises(BadInputError, match=rf"^limit_mib: {most + 1} leaves macOS .*; give at most {most}, or auto$"):
        decided(most + 1, memory_gib, version)


def test_refusals_say_why() -> None:
    with pytest.raises(BadInputError) as caught:
        decided(524288, 512)
    assert str(caught.value) == (
        "limit_mib: 524288 leaves macOS 0 of 524288 MiB, less than the 16384 that keep a Mac alive; give at most 507904, or auto"
    )
    with pytest.raises(BadInputError) as caught:
        decided(524289, 512)
    assert str(caught.value) == "limit_mib: 524289 is more than the 524288 MiB of memory that this Mac has; give at most 507904, or auto"
    with pytest.raises(BadInputError) as caught:
        decided(6000, 8)
    assert str(caught.value) == (
        "limit_mib: 6000 leaves macOS 2192 of 8192 MiB, less than the 4096 that keep a Mac alive; give at most 5461, or auto"
    )


def test_install_sh_gives_a_small_mac_more_than_we_allow() -> None:
    with pytest.raises(BadInputError):
        decided(8192 * 85 // 100, 8)


@pytest.mark.parametrize(("version", "default_mib"), [("15.5", 393216), ("26.1", 440401), (None, 393216)])
def test_less_than_the_default_is_pointed_out(version: t.Optional[str], default_mib: int) -> None:
    assert decided(default_mib, 512, version).warnings == ()
    wanted = decided(default_mib - 1, 512, version)
    assert wanted == Wanted(
        True,
        "limit_mib was given",
        {LIMIT_MIB_NAME: default_mib - 1},
        (f"limit_mib: {default_mib - 1} is less than macOS gives by itself, about {default_mib} MiB",),
    )


@pytest.mark.parametrize("memory_gib", [8, 512, None])
def test_zero_is_the_default(memory_gib: t.Optional[int]) -> None:
    wanted = decided(0, memory_gib)
    assert wanted == Wanted(True, "limit_mib is 0, macOS's own default", {LIMIT_MIB_NAME: 0})
    assert wanted.settings_at_boot() == {}


def test_a_given_value_that_cannot_be_checked() -> None:
    assert decided(475136, None) == Wanted(
        True,
        "limit_mib was given",
        {LIMIT_MIB_NAME: 475136},
        ("limit_mib: 475136 cannot be checked, since the size of the memory is unknown",),
    )


def test_macos_13_counts_bytes() -> None:
    wanted = decide(Request(), mac(64, "13.6.1"), {LIMIT_BYTES_NAME: 0})
    assert wanted.values == {LIMIT_BYTES_NAME: 62277025792}
    # What sysctl is told: a float would say .0 behind it.
    assert str(wanted.values[LIMIT_BYTES_NAME]) == "62277025792"
    both = decide(Request(), mac(64, "14.7"), {LIMIT_BYTES_NAME: 0, LIMIT_MIB_NAME: 0})
    assert both.values == {LIMIT_MIB_NAME: 59392}


# The wired collector.


@pytest.mark.parametrize("version", ["26.0", "26", "27.1", None])
@pytest.mark.parametrize("disable", [True, False])
def test_the_collector_from_macos_26_on(version: t.Optional[str], disable: bool) -> None:
    wanted = decide(Request(disable_collector=disable), mac(512, version), LIVE)
    assert wanted == Wanted(True, "auto leaves macOS 49152 of 524288 MiB", {LIMIT_MIB_NAME: 475136, COLLECTOR_NAME: int(disable)})
    assert wanted.settings_at_boot() == ({**wanted.values} if disable else {LIMIT_MIB_NAME: 475136})


@pytest.mark.parametrize("version", ["13.6.1", "14.7", "15.5", "25.9"])
@pytest.mark.parametrize("disable", [True, False])
def test_the_collector_before_macos_26(version: str, disable: bool) -> None:
    wanted = decide(Request(disable_collector=disable), mac(512, version), LIVE)
    assert (wanted.values, wanted.warnings) == ({LIMIT_MIB_NAME: 475136}, ())
    assert wanted.reason == (
        f"auto leaves macOS 49152 of 524288 MiB; the wired collector is left alone, as macOS {version} keeps wired what is in use"
    )


def test_a_collector_that_sysctl_does_not_know() -> None:
    wanted = decide(Request(limit_mib=1, disable_collector=True), mac(512, "26.1"), {LIMIT_MIB_NAME: 0})
    assert wanted.values == {LIMIT_MIB_NAME: 1}
    assert wanted.warnings == (
        "limit_mib: 1 is less than macOS gives by itself, about 440401 MiB",
        "disable_wired_collector: sysctl does not know iogpu.disable_wired_collector, so nothing is set",
    )
    assert decide(Request(disable_collector=False), mac(512, "26.1"), {LIMIT_MIB_NAME: 0}).warnings == ()
