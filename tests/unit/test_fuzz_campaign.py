# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a fuzzing campaign."""

from __future__ import annotations

import importlib.metadata
import pathlib
import sys

import pytest

# A program that is imported by its folder, as `make fuzz` has it.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "fuzz"))

import campaign


@pytest.fixture(autouse=True)
def _an_atheris(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in an environment of its own."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "3.1.0")


def test_a_campaign_that_goes_on_adds_up() -> None:
    first = [campaign.Outcome("urls", 100, 60.0, 7, 20, 3, ["b"]), campaign.Outcome("lock", 5, 60.0, 1, 1, 1, [])]
    report = campaign.campaign(first)
    later = [campaign.Outcome("urls", 50, 30.5, 6, 22, 4, ["a"]), campaign.Outcome("new", 1, 30.0, 1, 1, 1, [])]
    assert campaign.continued(report, later) == [
        campaign.Outcome("urls", 150, 90.5, 7, 22, 4, ["a", "b"]),
        campaign.Outcome("lock", 5, 60.0, 1, 1, 1, []),
        campaign.Outcome("new", 1, 30.0, 1, 1, 1, []),
    ]
    assert campaign.campaign(campaign.continued(report, later))["executions"] == 156


@pytest.mark.parametrize("name", ["python", "atheris", "input_seconds", "memory_mib"])
def test_sittings_with_different_tools_are_not_one_campaign(name: str) -> None:
    report = {**campaign.campaign([campaign.Outcome("urls", 100, 60.0, 7, 20, 3, [])]), name: "another"}
    with pytest.raises(SystemExit, match=f"docs/fuzzing.json is of a campaign with {name} another, and this is .*: begin a new one"):
        campaign.continued(report, [])
