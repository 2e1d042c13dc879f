# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.metalfleet.gpustack.plugins.filter.environment_line import FilterModule

environment_line = FilterModule().filters()["environment_line"]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("https://hub.example.com", "NAME=https://hub.example.com"),
        (8, "NAME=8"),
        ("two words", "NAME=two words"),
        (" indented", 'NAME=" indented"'),
        ("ends in =", 'NAME="ends in ="'),
        ('"', "NAME='\"'"),
        ("", "NAME="),
    ],
)
def test_a_value_is_quoted_only_where_that_is_needed(value: t.Any, line: str) -> None:
    assert environment_line("NAME", value) == line


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("NAME", True, "variables.NAME is a boolean: put the text that GPUStack is to see in quotes"),
        ("NAME", 0.5, "variables.NAME is a floating point number"),
        ("NAME", None, "variables.NAME is null"),
        ("NAME", ["synthetic-secret"], "variables.NAME is of type list"),
        ("NAME", "synthetic-secret&", "variables.NAME cannot be written so that all readers of the file read it alike: "),
        ("NAME", "synthetic-secret\n", "it holds a line break, at which install.sh ends it"),
        ("1 NAME", "synthetic-secret", "variables: '1 NAME' is not a name that a variable can have"),
        (7, "synthetic-secret", "variables: '7' is not a name that a variable can have"),
    ],
)
def test_what_cannot_be_written_is_refused_without_its_value(name: t.Any, value: t.Any, reason: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        environment_line(name, value)
    assert reason in str(caught.value)
    assert "synthetic-secret" not in str(caught.value)
    assert "True" not in str(caught.value)
