# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the module's options to the block that is wanted."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_request import (
    desired_absent,
    desired_present,
    parse_mode,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_state import Desired
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE, ResidencyDecision

REMOVE = ResidencyDecision(True, "it is bad")
LEAVE = ResidencyDecision(False, "it is needed")


@pytest.mark.parametrize(("mode", "bits"), [(None, None), ("0600", 0o600), ("600", 0o600), ("0644", 0o644), ("755", 0o755), ("0000", 0)])
def test_modes(mode: t.Optional[str], bits: t.Optional[int]) -> None:
    assert parse_mode(mode) == bits


@pytest.mark.parametrize("mode", ["", "60", "0o600", "u=rw", "0800", "600\n", "06000", "1600", " 600", "-600", "٠٦٠٠"])
def test_modes_that_are_none(mode: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_mode(mode)
    assert str(caught.value) == f"mode: {mode!r} is not three octal digits; put it in quotes, such as '0600'"


@pytest.mark.parametrize("mode", ["0666", "0660", "602", "777", "0620"])
def test_modes_that_let_others_write(mode: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_mode(mode)
    assert str(caught.value) == f"mode: {mode!r} lets others than the owner write the file; put it in quotes, such as '0600'"


def test_the_block_is_content_then_variables_then_secrets() -> None:
    desired = desired_present("# c\nZ=1\n\n\n", {"B": "x ", "A": 7}, {"S": "s", "R": "r="}, REMOVE, True, 0o600)
    assert desired == Desired(
        variables={"Z": "1", "A": "7", "B": "x ", "R": "r=", "S": "s"},
        lines=("# c", "Z=1", "A=7", 'B="x "', 'R="r="', "S=s"),
        secrets=frozenset({"R", "S"}),
        remove_residency=True,
        keep_unmanaged=True,
        mode=0o600,
    )
    assert desired.secret_lines() == {'R="r="', "S=s"}
    assert desired.open_lines() == {"# c", "Z=1", "A=7", 'B="x "'}


@pytest.mark.parametrize(("content", "lines"), [("", ()), ("\n\n", ()), ("A=1", ("A=1",)), ("\n#\n\nA=1\n", ("", "#", "", "A=1"))])
def test_content_keeps_its_lines_but_for_empty_ones_at_its_end(content: str, lines: t.Tuple[str, ...]) -> None:
    desired = desired_present(content, {}, {}, LEAVE, False, None)
    assert desired.lines == lines
    assert (desired.remove_residency, desired.keep_unmanaged, desired.mode) == (False, False, None)


@pytest.mark.parametrize(
    ("content", "variables", "secrets", "message"),
    [
        ("A=1", {"A": "1"}, {}, "variables.A is given twice; keep it in one of content, variables and secrets"),
        ("A=1", {}, {"A": "1"}, "secrets.A is given twice; keep it in one of content, variables and secrets"),
        ("", {"A": "1"}, {"A": "1"}, "secrets.A is given twice; keep it in one of content, variables and secrets"),
        ("", {"A": True}, {}, "variables.A is a boolean: put the text that GPUStack is to see in quotes"),
        ("", {}, {"A": None}, "secrets.A is null: put the text that GPUStack is to see in quotes"),
        (
            "",
            {},
            {"A": "s3cr3t\n"},
            "secrets.A cannot be written so that all readers of the file read it alike: it holds a line break, at which install.sh ends it",
        ),
        ("A=1 ", {}, {}, None),
        (
            "A=1\n# BEGIN managed by metalfleet.gpustack",
            {},
            {},
            "content: line 2 is a marker that the module itself writes; leave it out",
        ),
        ("# END managed by metalfleet.gpustack", {}, {}, "content: line 1 is a marker that the module itself writes; leave it out"),
    ],
)
def test_what_is_refused(content: str, variables: t.Dict[str, t.Any], secrets: t.Dict[str, t.Any], message: t.Optional[str]) -> None:
    with pytest.raises(BadInputError) as caught:
        desired_present(content, variables, secrets, REMOVE, True, None)
    assert message is None or str(caught.value) == message
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "variables", "secrets"),
    [(f"{RESIDENCY_VARIABLE}=1", {}, {}), ("", {RESIDENCY_VARIABLE: "0"}, {}), ("", {}, {RESIDENCY_VARIABLE: ""})],
)
def test_the_residency_variable_is_refused_where_it_is_to_go(content: str, variables: t.Dict[str, str], secrets: t.Dict[str, str]) -> None:
    with pytest.raises(BadInputError) as caught:
        desired_present(content, variables, secrets, REMOVE, True, None)
    assert str(caught.value) == (
        f"{RESIDENCY_VARIABLE} is among the variables, and it is bad whatever its value; take it out, or say residency_variable: unmanaged"
    )
    assert RESIDENCY_VARIABLE in desired_present(content, variables, secrets, LEAVE, True, None).variables


def test_absent_gives_up_our_lines_only() -> None:
    assert desired_absent() == Desired({}, (), frozenset(), remove_residency=False, keep_unmanaged=True, mode=None)
