# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/mmap.md says what the table says."""

from __future__ import annotations

import pathlib
import re

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap, mmap_parameters
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_rows import ROWS

DOCUMENT = (pathlib.Path(__file__).resolve().parents[5] / "docs" / "mmap.md").read_text("utf-8")


def test_the_table_of_the_document_is_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", DOCUMENT, re.MULTILINE)
    expected = [
        (
            str(row.number),
            " | ".join([row.name, row.condition, f"`{row.flag}`" if row.flag else "the default", row.confidence, ", ".join(row.evidence)]),
        )
        for row in ROWS
    ]
    assert rows == expected


def test_so_is_what_else_it_says() -> None:
    text = DOCUMENT.split("What else the rows say:", 1)[1].split("\n\n")[1]
    said = [" ".join(entry.split()) for entry in re.split(r"^\* ", text, flags=re.MULTILINE) if entry]
    expected = []
    for row in ROWS:
        expected += [f"{row.name}: {advice}." for advice in row.advice]
        expected += [f"{row.name}: the model is not to be put on this worker."] if row.refuses else []
        expected += [f"{row.name}: with {' '.join(row.extra)}; {row.risk}."] if row.extra else []
    assert said == expected


REFUSED = re.findall(r"^\| (`.*)\|", DOCUMENT.split("| parameter |", 1)[1], re.MULTILINE)


@pytest.mark.parametrize("row", REFUSED)
def test_the_parameters_that_are_said_to_be_refused_are(row: str) -> None:
    parameters = re.findall(r"`([^`]+)`", row.split("|", maxsplit=1)[0])
    assert parameters
    for parameter in parameters:
        assert mmap_parameters.estimator_rejects(parameter.split(" "), "0.6.2"), parameter


def test_such_rows_are_found_at_all() -> None:
    assert len(REFUSED) == 6


def test_its_modes_are_those_of_overrides() -> None:
    assert "mmap: mmap            # or no-mmap, or default" in DOCUMENT
    assert set(mmap.MODES) == {"mmap", "no-mmap", "default"}
