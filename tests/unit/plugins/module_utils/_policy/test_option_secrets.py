# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.option_secrets import secrets_in

INNER: dict[str, t.Any] = {"secrets": {"type": "dict", "no_log": True}, "open": {"type": "str"}, "free": {"type": "dict"}}
SPEC: dict[str, t.Any] = {
    **INNER,
    "one": {"type": "dict", "options": INNER},
    "many": {"type": "list", "elements": "dict", "options": INNER},
    "not_marked": {"type": "str", "no_log": False},
}
SECRET = {"TOKEN": "s3cret"}


def as_mapping(text: str) -> t.Mapping[str, t.Any] | None:
    try:
        given = json.loads(text)
    except ValueError:
        return None
    return given if isinstance(given, dict) else None


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, set()),
        ({"secrets": None, "open": None, "one": {}, "many": []}, set()),
        ({"secrets": SECRET}, {"s3cret"}),
        ({"secrets": {"A": ["x", ("y", {"B": "z"})], "C": True, "D": None, "E": 17, "F": 1.5}}, {"x", "y", "z", "17", "1.5"}),
        ({"open": "shown", "not_marked": "shown", "free": {"url": "https://a:b@c"}}, set()),
        # As text, of which Ansible knows only the whole.
        (
            {"secrets": '{"TOKEN":"s3cret"}'},
            {'{"TOKEN":"s3cret"}', '{\\"TOKEN\\":\\"s3cret\\"}', "%7B%22TOKEN%22%3A%22s3cret%22%7D", "s3cret"},
        ),
        ({"one": {"secrets": SECRET, "open": "shown"}}, {"s3cret"}),
        ({"one": '{"secrets": {"TOKEN": "s3cret"}, "open": "shown"}'}, {"s3cret"}),
        ({"many": [{"secrets": SECRET}, {"open": "shown"}, '{"secrets": {"A": "b"}}']}, {"s3cret", "b"}),
        ({"many": ({"secrets": SECRET},)}, {"s3cret"}),
        # Wrong types, of which nobody can tell what was meant.
        ({"one": "unread", "many": ["chat", {"secrets": SECRET}, 7]}, {"unread", "chat", "s3cret", "7"}),
        ({"one": [{"secrets": SECRET}]}, {"s3cret"}),
        ({"many": {"secrets": SECRET}}, {"s3cret"}),
        # A misspelled name.
        ({"secret": SECRET, "one": {"secret": SECRET, "open": "shown"}}, {"s3cret"}),
        # A line feed that somebody left at the end.
        (
            {"secrets": {"A": "longenough\n", "B": "1 "}},
            {"longenough\n", "longenough\\n", "longenough%0A", "longenough", "1 ", "1%20", "1+"},
        ),
        ({"secrets": {"A": " 1234567"}}, {" 1234567", "%201234567", "+1234567"}),
        ({"secrets": {"A": " 12345678"}}, {" 12345678", "%2012345678", "+12345678", "12345678"}),
        ({"open": "https://user:p@ss@host/x?sig=abc", "one": {"open": "http://t@h"}}, {"user:p@ss@", "sig=abc", "t@"}),
    ],
)
def test_what_is_to_be_hidden(options: dict[str, t.Any], found: set[str]) -> None:
    assert secrets_in(SPEC, options, as_mapping) == found
