# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.secret_forms import forms


@pytest.mark.parametrize(
    ("secret", "found"),
    [
        ("", set()),
        ("plain", {"plain"}),
        ("a b/ü", {"a b/ü", "a b/\\u00fc", "a+b%2F%C3%BC", "a%20b%2F%C3%BC", "a%20b/%C3%BC"}),
        ("\\\"'", {"\\\"'", "\\\\\\\"'", "\\\\\"\\'", "%5C%22%27"}),
        ("\udcff", {"\udcff", "\\udcff", "%ED%B3%BF"}),
    ],
)
def test_how_a_secret_may_be_written(secret: str, found: set[str]) -> None:
    assert set(forms(secret)) == found
