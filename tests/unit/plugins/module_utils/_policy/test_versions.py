# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import versions
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError

IN_ORDER = [
    "0.5.1",
    "0.6.0.dev0",
    "v0.6.0a1",
    "0.6.0-beta.2",
    "0.6.0rc1",
    "v0.6.0-rc.2",
    "0.6.0rc10",
    "v0.6.0",
    "v0.6.0-3-gabc1234-dirty",
    "0.6.0-12-gabc1234",
    "0.6.2",
    "0.6.10",
    "0.7.0",
    "0.7.1",
    "2.0.0b1",
    "2.0.0",
    "10.0",
]


def test_versions_are_ordered_as_numbers() -> None:
    for position, left in enumerate(IN_ORDER):
        for other, right in enumerate(IN_ORDER):
            assert versions.compare(left, right) == (position > other) - (position < other), (left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("v0.0.136", "0.0.136"),
        ("0.6", "0.6.0"),
        (" 0.6.0\n", "V0.6.0"),
        ("0.6.0+local.1", "0.6.0"),
        ("0.7.0c1", "0.7.0rc1"),
        ("0.6.0.post2", "0.6.0-2-gabc1234"),
    ],
)
def test_spellings_of_one_version_are_equal(left: str, right: str) -> None:
    assert versions.compare(left, right) == 0


def test_llama_box_versions_are_not_compared_as_strings() -> None:
    assert versions.compare("v0.0.99", "v0.0.157") == -1


@pytest.mark.parametrize("text", ["", None, "unknown", "v", "abc1234", "0.6.x", "v0.0.136garbage", "1..2"])
def test_what_is_no_version_is_none(text: str | None) -> None:
    assert versions.parse(text) is None


def test_comparing_what_is_no_version_says_so() -> None:
    with pytest.raises(BadInputError, match=r"'latest' is not a version; write it like v0\.0\.171"):
        versions.compare("0.6.0", "latest")


def test_a_dirty_build_is_known_as_one() -> None:
    parsed = versions.parse("v0.0.136-3-gabc1234-dirty")
    assert parsed == versions.Version((0, 0, 136), 1, 3, dirty=True)
    assert versions.parse("v0.0.136-dirty") == versions.Version((0, 0, 136), dirty=True)


@pytest.mark.parametrize(("text", "stage"), [("0.6.0rc", -1), ("0.6.0.post", 1)])
def test_a_stage_without_a_number_is_its_number_zero(text: str, stage: int) -> None:
    assert versions.parse(text) == versions.Version((0, 6, 0), stage, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.7.1", (0, 7)), ("v0.7.0rc1", (0, 7)), ("v0.0.0", None), ("0.0.0-dirty", None), ("7", None), (None, None)],
)
def test_series(text: str | None, expected: tuple[int, int] | None) -> None:
    assert versions.series(text) == expected


@pytest.mark.parametrize("text", ["0.6.0", "v0.6.2", "0.7.0", "0.7.1", "0.7.9"])
def test_supported_releases_pass_without_a_word(text: str) -> None:
    assert versions.support(text) == versions.Support(True, "")


@pytest.mark.parametrize("text", ["0.7.0rc1", "0.6.0rc3", "v0.7.1-2-gabc1234", "0.7.1-dirty"])
def test_other_builds_of_supported_releases_pass_with_a_remark(text: str) -> None:
    assert versions.support(text).supported is True
    assert "not a plain release" in versions.support(text).reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2.0.0", r"GPUStack 2\.0\.0 is not supported: since GPUStack 2 there is no llama-box and no worker on macOS; keep .* 0\.7\.1"),
        ("V2.0.0", r"GPUStack 2\.0\.0 is not supported: since GPUStack 2"),
        ("v2.0.0rc1", r"GPUStack 2\.0\.0rc1 is not supported: since GPUStack 2"),
        ("0.5.1", r"the oldest is 0\.6\.0; upgrade GPUStack to 0\.7\.1, or at least to 0\.6\.1"),
        ("0.8.0", r"GPUStack 0\.8\.0 is not supported: the newest that this collection knows is 0\.7\.1"),
        ("0.8.0rc1", r"the newest that this collection knows"),
        ("1.0", r"knows is 0\.7\.1; look for a newer release of this collection, or install that GPUStack\Z"),
    ],
)
def test_unsupported_versions_are_refused_with_what_to_do(text: str, message: str) -> None:
    assert versions.support(text).supported is False
    assert re.search(message, versions.support(text).reason)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "GPUStack's version is not known; this"),
        ("", "GPUStack's version is not known; this"),
        ("v0.0.0", "GPUStack's version 'v0.0.0' says nothing; this"),
        ("main", "GPUStack's version 'main' says nothing; this"),
    ],
)
def test_an_unknown_version_is_a_warning_and_no_failure(text: str | None, message: str) -> None:
    assert versions.support(text).supported is None
    assert versions.support(text).reason.startswith(message)
