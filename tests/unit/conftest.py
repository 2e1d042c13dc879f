# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures shared by all unit tests."""

from __future__ import annotations

import os
import pathlib

import pytest
from hypothesis import HealthCheck, settings

# A slow or busy machine is no failure of a property.
settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
settings.load_profile("any_machine")

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def captures_dir() -> pathlib.Path:
    """Recordings of real machines. They are other people's words and not part of this project."""
    folder = pathlib.Path(os.environ.get("CAPTURES_DIR", REPOSITORY.parent / "shared" / "captures"))
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder} (set CAPTURES_DIR to run over them)")
    return folder


@pytest.fixture(scope="session")
def fixtures_dir() -> pathlib.Path:
    """Fixtures of our own, built from documented facts; none was recorded from a machine."""
    return pathlib.Path(__file__).parent / "fixtures"
