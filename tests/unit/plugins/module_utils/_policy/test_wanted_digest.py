# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The digest of what is wanted of a node."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import wanted_digest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wanted_digest import digest_of

OPTIONS = {"environment": {"secrets": {"HF_TOKEN": "canary"}}}


class Vaulted:
    """As ansible-core 2.18 has it: no text, and text for who asks."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ({"environment": {"secrets": {"HF_TOKEN": "canary"}}}, True),
        ({"environment": {"secrets": {"HF_TOKEN": Vaulted("canary")}}}, True),
        ({"environment": {"secrets": {"HF_TOKEN": Vaulted("else")}}}, False),
        ({"environment": {"secrets": {"HF_TOKEN": "else"}}}, False),
        ({**OPTIONS, "restart": "never"}, False),
        ({**OPTIONS, "settle_seconds": "soon"}, False),
        ({**OPTIONS, "verify": "content"}, True),
        ({**OPTIONS, "receipt_max_age_hours": 7}, True),
        ({**OPTIONS, "receipt_for": "x"}, True),
        ({**OPTIONS, "node_name": "mac-1"}, True),
        ({**OPTIONS, "models_follow": True}, True),
        ({**OPTIONS, "misspelt": True}, False),
        ({**OPTIONS, "service_name": None}, False),
    ],
)
def test_the_digest_is_of_everything_that_is_given(other: dict[str, t.Any], is_same: bool) -> None:
    assert (digest_of(other) == digest_of(OPTIONS)) is is_same


def test_the_digest_knows_orders_and_types() -> None:
    different = [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": "1", "b": 2}, {"a": True, "b": 2}, {"a": [1], "b": 2}, {"a": None, "b": 2}]
    assert len({digest_of({"environment": {"variables": one}}) for one in different}) == len(different)
    assert digest_of({"a": datetime.date(2026, 1, 2)}) == digest_of({"a": "2026-01-02"})


def test_what_has_no_digest() -> None:
    circle: dict[str, t.Any] = {}
    circle["circle"] = circle
    assert digest_of(circle) is None
    assert digest_of({"a": {("x", "y"): 1}}) is None


def test_the_digest_is_of_this_release(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest_of(OPTIONS)
    monkeypatch.setattr(wanted_digest, "VERSION", "99.0.0")
    assert digest_of(OPTIONS) != before
    assert "canary" not in str(before)
