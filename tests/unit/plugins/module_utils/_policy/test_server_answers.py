# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_answers import (
    HIDDEN,
    Redactor,
    Refusal,
    parse_refusal,
    secrets_in,
)


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"code": 404, "reason": "NotFound", "message": "Model not found"}, Refusal("NotFound", "Model not found")),
        ({"error": {"message": "Model not found", "code": 404, "type": "NotFound"}}, Refusal("NotFound", "Model not found")),
        ({"error": {"message": "m", "reason": "x"}}, Refusal("", "m")),
        ({"detail": "Not Found"}, Refusal("", "Not Found")),
        ({"detail": [{"loc": ["body"]}]}, Refusal("", '[{"loc": ["body"]}]')),
        ({"message": "no Route matched"}, Refusal("", "no Route matched")),
        ({"message": "m", "reason": 5}, Refusal("", "m")),
        ({"message": "two\n  lines", "reason": " a\nb "}, Refusal("a b", "two lines")),
        ({"error": "text", "message": "m", "reason": "R"}, Refusal("R", "m")),
        ({"message": ""}, Refusal("", "")),
    ],
)
def test_all_shapes_of_a_refusal(body, refusal):
    assert parse_refusal(json.dumps(body)) == refusal


@pytest.mark.parametrize(
    "text", ["", "<html>", '{"message": "cut', "[1]", "null", '"text"', "5", "{}", '{"error": {}}', '{"message": 5}', "[" * 100000]
)
def test_what_is_no_refusal(text):
    assert parse_refusal(text) is None


def test_a_long_message_is_cut():
    for length, text in ((500, "x" * 500), (501, "x" * 499 + "…")):
        assert parse_refusal(json.dumps({"detail": "x" * length})) == Refusal("", text)


def test_validation_says_what_is_wrong_without_what_was_sent():
    # As 0.6.2 answers a PUT without source and name.
    message = (
        "2 validation errors:\n"
        "  {'type': 'missing', 'loc': ('body', 'source'), 'msg': 'Field required', 'input': {'env': {'A': 'geheim'}}}\n"
        "  {'type': 'value_error', 'loc': ('body',), 'msg': \"Value error, it's \\\"so\\\"\", 'input': {}}\n"
        "  {'type': 'x', 'loc': ('body', 'gpu_IDs', 0, 'X'), 'msg': 'Input \\'x\\'', 'input': 5}\n"
    )
    expected = "body.source: Field required; body: Value error, it's \\\"so\\\"; body.gpu_IDs.0.X: Input \\'x\\'"
    assert parse_refusal(json.dumps({"reason": "Invalid", "message": message})) == Refusal("Invalid", expected)


@pytest.mark.parametrize(
    "text",
    [
        "is {} here",
        json.dumps({"password": "{}"}),
        "https://h/?p={}&q",
    ],
)
@pytest.mark.parametrize("secret", ["Secret#12345", 'a"b\\c', "ü/ß é", "it's", "tab\there", 'ü"x'])
def test_a_secret_is_hidden_however_it_is_written(text, secret):
    redactor = Redactor([secret])
    for form in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]):
        assert redactor.clean(text.replace("{}", form)) == text.replace("{}", HIDDEN)


@pytest.mark.parametrize(("form", "hidden"), [("a%2Fb%20c", HIDDEN), ("a/b%20c", HIDDEN), ("a%2Fb+c", HIDDEN), ("a/b+c", "a/b+c")])
def test_a_secret_is_hidden_in_a_url(form, hidden):
    assert Redactor(["a/b c"]).clean(f"x={form}&") == f"x={hidden}&"


def test_the_longer_of_two_secrets_is_hidden_whole():
    for secrets in (["abc", "abcdef"], ["abcdef", "abc"]):
        assert Redactor(secrets).clean("abcdef abc") == f"{HIDDEN} {HIDDEN}"


def test_no_secret_hides_nothing():
    assert Redactor(["", "x1"]).clean("plain") == "plain"
    assert Redactor().clean("plain") == "plain"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("key gpustack_cb9a02ca_fabb7dd3.", f"key {HIDDEN}."),
        ("gpustack_worker_1 gpustack_cb9a02ca_short", "gpustack_worker_1 gpustack_cb9a02ca_short"),
        ("gpustack_session=eyJhbGci.eyJzdWIi.WdYb5yQ-_;", f"gpustack_session={HIDDEN};"),
        ("heyJa.eyJb.c eyJonly.one", "heyJa.eyJb.c eyJonly.one"),
        ("Authorization: Basic YWRtaW46eA== end", f"Authorization: Basic {HIDDEN} end"),
        ("Basic a", "Basic a"),
        ("Authorization: Bearer some-token.1 end", f"Authorization: Bearer {HIDDEN} end"),
        ("Bearer short", "Bearer short"),
        ('{"env": {"A": "x}y", "B": "q\\"}z"}, "b": 1}', '{"env":********}, "b": 1}'),
        ('{"env":{},"b":1}', '{"env":********},"b":1}'),
        ("{'env': {'A': 'x}y', 'B': \"it's\"}, 'b': 1}", "{'env':********}, 'b': 1}"),
        ('{"env": {"A": "cut', '{"env":********'),
        ('{"env": {"A": "cut\\', '{"env":********'),
        ("{'env': {'A': 'cut\\", "{'env':********"),
        ('{"env": null, "b": "x"}', '{"env": null, "b": "x"}'),
        ('{"env":\n {"A":\n"x\\\ny"}}', '{"env":********}}'),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text, clean):
    assert Redactor().clean(text) == clean


@pytest.mark.parametrize(
    ("body", "secrets"),
    [
        ({"env": {"A": "12345678", "B": "1234567", "C": 123456789, "D": None}}, ("12345678", "123456789")),
        ({"env": None}, ()),
        ({"env": ["12345678"]}, ()),
        ({}, ()),
        (None, ()),
        (["env"], ()),
    ],
)
def test_secrets_in_the_body_of_a_request(body, secrets):
    assert secrets_in(body) == secrets
