# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import (
    LogText,
    WorkingSet,
    estimate_bytes,
    parse_log,
    resolve,
)
from hypothesis import given
from hypothesis import strategies as st

GIB = 1024**3
BOOT_SECONDS = 1_750_000_000


@pytest.mark.parametrize(
    ("memory_gib", "macos_version", "expected"),
    [
        # Each of these was printed by a Mac: the recordings below have the lines.
        (7, "15.5", 5010800640),
        (8, "26.3.2", 5726633984),
        (16, "15.5", 11453251584),
        (16, "26.1", 12713115648),
        (32, "14.4", 22906503168),
        (64, "14.0", 51539607552),
        (64, "26.0", 55662788608),
        (128, "26.1", 115448725504),
        # The rule's own corners.
        (8, "11.0.1", 5726633984),
        (36, "15.5", 24 * GIB),
        (37, "15.5", 29796335616),
        (512, "15.4", 384 * GIB),
        (512, "10.16", 384 * GIB),
        (512, None, 384 * GIB),
        (16, None, 11453251584),
        (4, "26.0", 2863316992),
        (48, "26.0", 40200896512),
        (12, "26.0", 9062383616),
        (24, "26.0", 18 * GIB),
        (32, "26.0", 26113409024),
        (56, "26.0", 47802990592),
        (96, "26.0", 85040365568),
        # Above the last point its share holds: 84 %.
        (256, "26.0", 230897451008),
        (512, "27.0", 461794885632),
        # What a program built for older systems is told of macOS 26.
        (16, "16.0", 12713115648),
    ],
)
def test_estimates(memory_gib, macos_version, expected):
    assert estimate_bytes(memory_gib * GIB, macos_version) == expected


def test_the_step_of_macos_15_lies_above_36_gib():
    assert estimate_bytes(36 * GIB, "15.5") == 24 * GIB
    assert estimate_bytes(36 * GIB + 16384, "15.5") == 27 * GIB + 16384


def test_an_estimate_never_exceeds_the_memory():
    assert estimate_bytes(1, "15.5") == 1
    assert estimate_bytes(1, "26.0") == 1


@given(st.integers(1, 2**44), st.integers(0, 2**42), st.sampled_from(["15.5", "26.1", None]))
def test_more_memory_is_never_a_smaller_estimate(memory_bytes, more_bytes, macos_version):
    smaller, larger = estimate_bytes(memory_bytes, macos_version), estimate_bytes(memory_bytes + more_bytes, macos_version)
    assert 0 < smaller <= larger <= memory_bytes + more_bytes


@given(st.integers(1, 2**44))
def test_without_a_version_the_estimate_is_the_careful_one(memory_bytes):
    assert estimate_bytes(memory_bytes, None) <= min(estimate_bytes(memory_bytes, "15.5"), estimate_bytes(memory_bytes, "26.0"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ggml_metal_init: recommendedMaxWorkingSetSize  =  5010.80 MB\n", 5010800640),
        ("recommendedMaxWorkingSetSize  = 498216.21 MB", 475136 * 1024**2),
        ("[2025-07-08 17:11:37.897478] I recommendedMaxWorkingSetSize=498216.21 MB\r\n", 475136 * 1024**2),
        # The last of several: a process that started later.
        ("recommendedMaxWorkingSetSize  = 5726.63 MB\nrecommendedMaxWorkingSetSize  = 498216.21 MB\n", 475136 * 1024**2),
        ("recommendedMaxWorkingSetSize  = 0.00 MB", 0),
        ("recommendedMaxWorkingSetSize  = 1 MB", 999424),
        ("recommendedMaxWorkingSetSize  = 1.99 MiB", None),
        ("recommendedMaxWorkingSetSize  = 5726633984   (5461.3 MiB, 66.7% of RAM)", None),
        ("recommendedMaxWorkingSetSize  = nan MB", None),
        ("recommendedMaxWorkingSetSize  = 5726.63 MBit", None),
        ("recommendedMaxWorkingSetSize  = 1234567890123 MB", None),
        ("recommendedMaxWorkingSetSize  = -1.00 MB", None),
        ("recommendedMaxWorkingSetSize  = \u0661.00 MB", None),
        ("", None),
    ],
)
def test_parse_log(text, expected):
    assert parse_log(text) == expected


@given(st.integers(0, 2**28))
def test_rounding_to_pages_gives_back_what_metal_reported(pages):
    size_bytes = pages * 16384
    assert parse_log(f"recommendedMaxWorkingSetSize  = {size_bytes / 1e6:8.2f} MB") == size_bytes


@pytest.mark.parametrize(
    ("recording", "expected"),
    [
        ("ggml_metal_16gb_two_thirds.log", 11453251584),
        ("ggml_metal_gha_paravirtual.log", 5010800640),
        ("ggml_metal_m1_8gb.log", 5726633984),
        ("ggml_metal_m1max_32gb.log", 22906503168),
        ("ggml_metal_m1ultra_64gb.log", 48 * GIB),
        ("ggml_metal_m3max_64gb_macos26.log", 55662788608),
        ("ggml_metal_m3ultra_512gb_wired464gib.log", 464 * GIB),
        ("ggml_metal_m3ultra_rpc_pair_15055.log", None),
        ("ggml_metal_m4_16gb_macos26.log", 12713115648),
        ("ggml_metal_m4max_128gb_macos26.log", 115448725504),
        ("gpustack_issue_1907_excerpt.txt", None),
        ("llamabox_v0.0.117_m3ultra_rpc_boot.log", None),
        ("llamabox_v0.0.161_m2_static_rpc_boot.log", None),
        ("llamacpp_issue_27667_excerpt.txt", None),
        ("metal_mlx_device_info_gha_paravirtual.txt", None),
        ("metal_probe_m1_8gb_macos26_3_2.txt", None),
    ],
)
def test_recorded_logs(captures_dir, recording, expected):
    assert parse_log((captures_dir / "logs" / recording).read_text("utf-8")) == expected


def test_every_recorded_log_is_listed_above(captures_dir):
    listed = {argument[0] for argument in test_recorded_logs.pytestmark[0].args[1]}
    assert listed == {path.name for path in (captures_dir / "logs").iterdir()}


@pytest.mark.parametrize(
    ("recording", "memory_gib", "macos_version"),
    [
        ("ggml_metal_16gb_two_thirds.log", 16, "15.5"),
        ("ggml_metal_gha_paravirtual.log", 7, "15.5"),
        ("ggml_metal_m1_8gb.log", 8, "14.0"),
        ("ggml_metal_m1max_32gb.log", 32, "14.0"),
        ("ggml_metal_m1ultra_64gb.log", 64, "14.0"),
        ("ggml_metal_m3max_64gb_macos26.log", 64, "26.0"),
        ("ggml_metal_m4_16gb_macos26.log", 16, "26.0"),
        ("ggml_metal_m4max_128gb_macos26.log", 128, "26.0"),
    ],
)
def test_every_recorded_default_is_estimated_to_the_byte(captures_dir, recording, memory_gib, macos_version):
    recorded = parse_log((captures_dir / "logs" / recording).read_text("utf-8"))
    assert estimate_bytes(memory_gib * GIB, macos_version) == recorded


def log_of(size_bytes, modified_seconds=BOOT_SECONDS + 1.0):
    return LogText("/log/gpu-0.log", modified_seconds, f"recommendedMaxWorkingSetSize  = {size_bytes / 1e6:8.2f} MB")


ESTIMATE_OF_16_GIB = 11453251584


def test_a_wired_limit_is_the_working_set_whatever_else_is_known():
    log = log_of(12 * GIB)
    assert resolve(16 * GIB, "15.5", 14 * GIB, log, BOOT_SECONDS) == WorkingSet(14 * GIB, "wired_limit")
    assert resolve(16 * GIB, "15.5", GIB, None, None) == WorkingSet(GIB, "wired_limit")
    assert resolve(None, None, 1, None, None) == WorkingSet(1, "wired_limit")


@pytest.mark.parametrize("wired_limit_bytes", [0, None])
def test_a_fresh_log_is_believed(wired_limit_bytes):
    assert resolve(16 * GIB, "15.5", wired_limit_bytes, log_of(12 * GIB), BOOT_SECONDS) == WorkingSet(12 * GIB, "measured")


@pytest.mark.parametrize("wired_limit_bytes", [0, None])
def test_without_a_log_it_is_estimated(wired_limit_bytes):
    expected = WorkingSet(ESTIMATE_OF_16_GIB, "estimated")
    assert resolve(16 * GIB, "15.5", wired_limit_bytes, None, BOOT_SECONDS) == expected
    assert resolve(16 * GIB, "15.5", wired_limit_bytes, LogText("/log", BOOT_SECONDS + 1.0, "no such line"), BOOT_SECONDS) == expected


def test_the_version_decides_the_estimate():
    assert resolve(16 * GIB, "26.1", 0, None, None) == WorkingSet(12713115648, "estimated")


@pytest.mark.parametrize(
    ("log", "boot_seconds", "why"),
    [
        (log_of(12 * GIB), None, "kern.boottime is unknown, so the log may be older than this boot"),
        (log_of(12 * GIB, BOOT_SECONDS), BOOT_SECONDS, "the log is older than this boot"),
        (log_of(12 * GIB, BOOT_SECONDS - 1.0), BOOT_SECONDS, "the log is older than this boot"),
        (log_of(0), BOOT_SECONDS, "0 bytes is no default of a machine with 17179869184 bytes of memory"),
        (log_of(15 * GIB), BOOT_SECONDS, "16106127360 bytes is no default of a machine with 17179869184 bytes of memory"),
    ],
)
def test_why_a_log_is_not_believed(log, boot_seconds, why):
    expected = WorkingSet(ESTIMATE_OF_16_GIB, "estimated", (f"the working set in /log/gpu-0.log is not used: {why}",))
    assert resolve(16 * GIB, "15.5", 0, log, boot_seconds) == expected


def test_the_version_decides_the_estimate_that_replaces_a_log():
    size = resolve(16 * GIB, "26.1", 0, log_of(12 * GIB), None)
    assert (size.size_bytes, size.source) == (12713115648, "estimated")


@pytest.mark.parametrize(("percent", "believed"), [(59, False), (60, True), (90, True), (91, False)])
def test_the_bounds_of_what_is_plausible(percent, believed):
    memory_bytes = 100 * 16384 * 1000
    size = resolve(memory_bytes, "15.5", 0, log_of(memory_bytes * percent // 100), BOOT_SECONDS)
    assert (size.source == "measured") is believed


def test_without_a_memory_size_there_is_nothing_to_check_a_log_against():
    assert resolve(None, "15.5", 0, log_of(12 * GIB), BOOT_SECONDS) == WorkingSet(None, None)
