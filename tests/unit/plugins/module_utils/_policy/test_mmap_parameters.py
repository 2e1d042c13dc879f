# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import argparse
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap_parameters
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.estimator import parser_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_parameters import MMAP, NO_MMAP, with_flag
from ansible_collections.metalfleet.gpustack.tests.unit.properties import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

OTHERS = ["--ctx-size=8192", "-ngl 3", "--temp", "0.6", "-fa"]
SPELLINGS = [
    "--mmap",
    "--no-mmap",
    "--mmap=true",
    "--mmap=false",
    "--no-mmap=1",
    "--mmap true",
    "--mmap\ttrue",
    "--mmap=",
    " --mmap ",
    "-mmap",
    "-no-mmap",
    "--mm",
    "--mma",
    "--no-m",
    "--no-mm",
    "--no-mma=1",
]
NO_SPELLINGS = [
    "--mmproj",
    "--mmproj=x.gguf",
    "-mm",
    "mmap",
    "no-mmap",
    "--mmap-size",
    "-Xmmap",
    "--mlock",
    "",
    "-",
    "--",
    "true",
    "--no-",
    "--no-warmup",
]


@pytest.mark.parametrize("parameter", SPELLINGS)
def test_spellings_of_the_flags_are_known(parameter: str) -> None:
    assert mmap_parameters.speaks_of_mmap(parameter)


@pytest.mark.parametrize("parameter", NO_SPELLINGS)
def test_other_parameters_are_no_spellings(parameter: str) -> None:
    assert not mmap_parameters.speaks_of_mmap(parameter)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("position", [0, 2, 5])
def test_each_spelling_is_replaced_and_the_others_keep_their_order(spelling: str, position: int) -> None:
    given_parameters = OTHERS[:position] + [spelling] + OTHERS[position:]
    expected = given_parameters if spelling == NO_MMAP else [NO_MMAP] + OTHERS
    assert with_flag(given_parameters, NO_MMAP) == expected


@pytest.mark.parametrize(
    ("parameters", "flag", "merged"),
    [
        (None, NO_MMAP, [NO_MMAP]),
        ([], MMAP, [MMAP]),
        (None, None, []),
        (["--mmap=true", "-fa"], None, ["--mmap=true", "-fa"]),
        (["-fa", MMAP], MMAP, ["-fa", MMAP]),
        (["-fa", MMAP], NO_MMAP, [NO_MMAP, "-fa"]),
        (["-fa", MMAP, MMAP], MMAP, [MMAP, "-fa"]),
        (["-fa", MMAP, NO_MMAP], MMAP, [MMAP, "-fa"]),
        (["-fa", MMAP, "true", "-c", "1"], NO_MMAP, [NO_MMAP, "-fa", "-c", "1"]),
        (["-fa", MMAP, " TRUE "], MMAP, [MMAP, "-fa"]),
        ([MMAP, "off", "on", "-fa", "on"], NO_MMAP, [NO_MMAP, "-fa", "on"]),
        (["true", "-fa"], NO_MMAP, [NO_MMAP, "-fa"]),
        (["true", NO_MMAP], NO_MMAP, ["true", NO_MMAP]),
        ([MMAP, NO_MMAP, "0"], NO_MMAP, [NO_MMAP]),
        ([NO_MMAP, "8192"], NO_MMAP, [NO_MMAP, "8192"]),
        ([MMAP, "8192"], NO_MMAP, [NO_MMAP, "8192"]),
        (["--temp", "1", "--verbose", "true"], NO_MMAP, [NO_MMAP, "--temp", "1", "--verbose", "true"]),
        (("-fa", NO_MMAP), NO_MMAP, ["-fa", NO_MMAP]),
    ],
)
def test_merging(parameters: t.Any, flag: str | None, merged: list[str]) -> None:
    assert with_flag(parameters, flag) == merged


@pytest.mark.parametrize("value", ["true", "false", "on", "off", "yes", "no", "1", "0"])
def test_the_value_that_a_flag_never_took_goes_with_it(value: str) -> None:
    assert with_flag([NO_MMAP, value, "-fa"], NO_MMAP) == [NO_MMAP, "-fa"]


def test_what_goes_with_the_flag_is_added_once() -> None:
    assert with_flag(["-fa"], MMAP, ("--mlock",)) == [MMAP, "-fa", "--mlock"]
    assert with_flag(["--mlock", MMAP], MMAP, ("--mlock",)) == ["--mlock", MMAP]
    assert with_flag(["-fa"], None, ("--mlock",)) == ["-fa", "--mlock"]


def test_the_given_list_is_not_touched() -> None:
    parameters = ["-fa"]
    for flag in (None, NO_MMAP):
        assert with_flag(parameters, flag, ("--mlock",)) is not parameters
    assert parameters == ["-fa"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("--mmap", "backend_parameters is of type str: write a list of texts, such as ['--ctx-size=8192']"),
        ({"a": 1}, "backend_parameters is of type dict: write a list of texts, such as ['--ctx-size=8192']"),
        (["-c", 8192], "backend_parameters: element 2 is of type int: put it in quotes"),
        ([None], "backend_parameters: element 1 is of type NoneType: put it in quotes"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(parameters: t.Any, message: str) -> None:
    with pytest.raises(BadInputError) as caught:
        with_flag(parameters, NO_MMAP)
    assert str(caught.value) == message


ANY = st.lists(st.one_of(st.sampled_from(SPELLINGS + NO_SPELLINGS + OTHERS + ["true", "no", "0"]), st.text(max_size=6)), max_size=8)


@PROPERTY
@given(ANY, st.sampled_from([MMAP, NO_MMAP]))
def test_exactly_one_flag_whatever_was_there(parameters: list[str], flag: str) -> None:
    merged = with_flag(parameters, flag)
    assert [parameter for parameter in merged if mmap_parameters.speaks_of_mmap(parameter)] == [flag]
    assert mmap_parameters.engine_uses_mmap(merged, "0.6.0") == mmap_parameters.engine_uses_mmap(merged, "0.7.1") == (flag == MMAP)


@PROPERTY
@given(ANY, st.sampled_from([MMAP, NO_MMAP, None]), st.sampled_from([(), ("--mlock",)]))
def test_merging_twice_is_merging_once(parameters: list[str], flag: str | None, extra: tuple[str, ...]) -> None:
    merged = with_flag(parameters, flag, extra)
    assert with_flag(merged, flag, extra) == merged


SETTLED = [parameter for parameter in NO_SPELLINGS + OTHERS if parameter != "true"]


@PROPERTY
@given(st.lists(st.sampled_from(SETTLED), max_size=8), st.sampled_from(SPELLINGS), st.integers(0, 8))
def test_all_others_stay_in_their_order(others: list[str], spelling: str, position: int) -> None:
    merged = with_flag(others[:position] + [spelling] + others[position:], MMAP)
    assert [parameter for parameter in merged if parameter != MMAP] == others


@pytest.mark.parametrize(
    ("version", "without"),
    [
        ("0.6.0", True),
        ("v0.6.0", True),
        ("0.6", True),
        ("0.6.0rc2", True),
        ("0.6.0.1", True),
        ("0.5.1", False),
        ("0.6.1", False),
        (None, False),
    ],
)
def test_only_060_lacks_the_flag(version: str | None, without: bool) -> None:
    assert mmap_parameters.is_without_no_mmap(version) is without
    assert mmap_parameters.engine_uses_mmap([], version) is without
    assert mmap_parameters.estimator_assumes_mmap([], version) is without


@pytest.mark.parametrize(
    ("parameters", "engine", "engine_060", "estimator_061", "estimator"),
    [
        (None, False, True, False, False),
        ([NO_MMAP], False, False, False, False),
        ([MMAP], True, True, True, True),
        ([MMAP, NO_MMAP], False, False, False, False),
        ([NO_MMAP, MMAP], True, True, True, True),
        (["--mmap=true"], True, True, False, False),
        (["--mmap=false"], True, True, False, False),
        (["--no-mmap=false"], False, False, False, False),
        (["--mmap true"], False, True, False, False),
        (["--mm"], False, True, True, False),
        ([MMAP, "true"], True, True, True, True),
        ([MMAP, "--ctx-size", "abc"], True, True, False, False),
        ([" --mmap"], False, True, False, False),
        (["-mmap"], False, True, False, False),
    ],
)
def test_how_engine_and_estimator_read(
    parameters: list[str] | None, engine: bool, engine_060: bool, estimator_061: bool, estimator: bool
) -> None:
    assert mmap_parameters.engine_uses_mmap(parameters, "0.6.2") is engine
    assert mmap_parameters.engine_uses_mmap(parameters, None) is engine
    assert mmap_parameters.engine_uses_mmap(parameters, "0.6.0") is engine_060
    assert mmap_parameters.estimator_assumes_mmap(parameters, "0.6.0") is True
    assert mmap_parameters.estimator_assumes_mmap(parameters, "0.6.1") is estimator_061
    assert mmap_parameters.estimator_assumes_mmap(parameters, "0.7.1") is estimator


def reason(problem: str) -> str:
    return f"GPUStack's estimator refuses it ({problem}) and then ignores all parameters of the model"


WHOLE = "argument --ctx-size/-c: invalid int value: "


@pytest.mark.parametrize(
    ("parameters", "rejected"),
    [
        (None, []),
        ([], []),
        (["--ctx-size=8192", "--mmap", "-ngl 3", "--no-such-flag=1", "x"], []),
        (["--mmap=true"], [("--mmap=true", reason("argument --mmap/--no-mmap: ignored explicit argument 'true'"))]),
        (["-fa", "--ctx-size", "abc", "tail"], [("--ctx-size abc", reason(f"{WHOLE}'abc'"))]),
        (["--ctx-size=8k", "tail", "more"], [("--ctx-size=8k", reason(f"{WHOLE}'8k'"))]),
        (["--ctx-size", "-1"], []),
        (["--ctx-size"], [("--ctx-size", reason("argument --ctx-size/-c: expected one argument"))]),
        (["--ctx-size", "-fa"], [("--ctx-size", reason("argument --ctx-size/-c: expected one argument"))]),
        (["-c 8k", "tail"], [("-c 8k", reason(f"{WHOLE}' 8k'"))]),
        (["-c 8192"], []),
        (["-cmoe"], [("-cmoe", reason(f"{WHOLE}'moe'"))]),
        (["--cache-type-k", "--alias x"], []),
        (
            ["--cache-type-k", "-ctk x"],
            [
                ("--cache-type-k", reason("argument --cache-type-k/-ctk: expected one argument")),
                ("-ctk x", reason(f"{WHOLE}'tk x'")),
            ],
        ),
        (
            ["-np", "x", "-c=1", "--swa-full=yes", "--", "-c", "abc"],
            [
                ("-np x", reason("argument --parallel-size/--parallel/-np: invalid int value: 'x'")),
                ("--swa-full=yes", reason("argument --swa-full: ignored explicit argument 'yes'")),
            ],
        ),
        (["--", "--ctx-size", "abc"], []),
        (["x", "--", "--mmap=true"], []),
    ],
)
def test_what_the_estimator_refuses_is_named_with_the_reason(parameters: list[str] | None, rejected: list[tuple[str, str]]) -> None:
    assert mmap_parameters.estimator_rejects(parameters, "0.6.2") == rejected


def test_what_it_refuses_depends_on_its_version() -> None:
    parameters = ["--rope-scale=x", "--swa-full=1", "--cache-type", "--mmap=1"]
    named = {version: [name for name, _reason in mmap_parameters.estimator_rejects(parameters, version)] for version in VERSIONS}
    assert named == {
        "0.6.0": [],
        "0.6.1": ["--cache-type", "--mmap=1"],
        "0.6.2": ["--swa-full=1", "--mmap=1"],
        "0.7.1": ["--rope-scale=x", "--swa-full=1", "--mmap=1"],
        None: ["--rope-scale=x", "--swa-full=1", "--mmap=1"],
    }


VERSIONS = ("0.6.0", "0.6.1", "0.6.2", "0.7.1", None)

PIECES = [
    *SPELLINGS,
    *OTHERS,
    "--",
    "-",
    "-h",
    "-n",
    "-c",
    "-c8",
    "abc",
    "-1",
    "--ctx=5 6",
    "--ctx",
    "-ctk",
    "--cache-type",
    "-ot",
    "-np",
    "x y",
]


@PROPERTY
@given(st.lists(st.sampled_from(PIECES), max_size=6), st.sampled_from(["0.6.1", "0.6.2", "0.7.1"]))
def test_something_is_named_if_and_only_if_argparse_refuses_the_whole(parameters: list[str], version: str) -> None:
    parser = parser_of(version)
    assert parser is not None
    try:
        parser.parse_known_args(parameters)
        problem = ""
    except argparse.ArgumentError as exc:
        problem = str(exc)
    rejected = mmap_parameters.estimator_rejects(parameters, version)
    assert bool(rejected) == bool(problem)
    # argparse sorts all parameters first, so that the first of its problems need not be the first parameter.
    assert not problem or reason(problem) in [why for _parameter, why in rejected]
