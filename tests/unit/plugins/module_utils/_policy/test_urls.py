# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import urls
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError


@pytest.mark.parametrize("url", ["https://github.com/a.zip", "http://10.0.0.1:8080", "https://[::1]/x", "https://h/x?a=b#c"])
def test_accepts_what_can_be_downloaded_from(url):
    assert urls.problem_of(url) == ""


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (None, "is not text"),
        (7, "is not text"),
        ("https://host/a b", "holds a character that no URL may have"),
        ("https://host/\x1fa", "holds a character that no URL may have"),
        ("https://host/a\n", "holds a character that no URL may have"),
        ("https://host/\x7f", "holds a character that no URL may have"),
        ("https://hóst/", "holds a character that no URL may have"),
        ("https://[::1/", "is not a URL"),
        ("https://host:port/", "is not a URL"),
        ("https://host:70000/", "is not a URL"),
        ("ftp://host/", "does not begin with https:// or http://"),
        ("file:///etc/passwd", "does not begin with https:// or http://"),
        ("host/path", "does not begin with https:// or http://"),
        ("", "does not begin with https:// or http://"),
        ("https:///path", "names no host"),
        ("https://user@host/", "holds a user or a password, which have options of their own"),
        ("https://user:secret@host/", "holds a user or a password, which have options of their own"),
    ],
)
def test_says_why_nothing_can_be_downloaded_from_it(url, problem):
    assert urls.problem_of(url) == problem


@pytest.mark.parametrize("character", ["!", "~"])
def test_takes_the_first_and_the_last_character_that_prints(character):
    assert urls.problem_of(f"https://host/{character}") == ""


@pytest.mark.parametrize("text", ["https://mirror.example/X", "https://mirror.example/X/", "https://mirror.example/X//"])
def test_takes_a_base_url_with_or_without_slashes(text):
    assert urls.base_url(text, "base_url") == "https://mirror.example/X"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://m.example/?a=secret", "holds a query or a fragment, after which no path can follow"),
        ("https://m.example/#secret", "holds a query or a fragment, after which no path can follow"),
        ("https://u:secret@m.example/", "holds a user or a password, which have options of their own"),
    ],
)
def test_refuses_a_base_url_below_which_nothing_can_be(text, message):
    with pytest.raises(BadInputError) as caught:
        urls.base_url(text, "base_url")
    assert str(caught.value) == f"base_url: https://m.example/ {message}; write it like https://mirror.example.com/github"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://host/a/b.zip", "https://host/a/b.zip"),
        ("https://host:8443/a?X-Amz-Signature=secret#secret", "https://host:8443/a"),
        ("https://user:secret@host/a", "https://host/a"),
        ("https://user:p@ss@host:1/a", "https://host:1/a"),
        ("http://[::1/secret", "a malformed URL"),
        # What comes after the slash of a password would be taken for the path.
        ("https://user:sec/ret@host/a", "a malformed URL"),
        ("https://user:12#ret@host/a", "a malformed URL"),
        ("https://host/@scope/a.zip", "https://host/@scope/a.zip"),
        ("https://[::1]/@scope/a.zip", "https://[::1]/@scope/a.zip"),
        ("https://user:secret@host/@scope", "https://host/@scope"),
    ],
)
def test_shows_no_secret(url, text):
    assert urls.shown(url) == text


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Host/a", ("https", "host", 443)),
        ("https://host:443/b", ("https", "host", 443)),
        ("http://host/", ("http", "host", 80)),
        ("http://host:8080/", ("http", "host", 8080)),
        ("file:///x", ("file", "", None)),
    ],
)
def test_tells_servers_apart(url, origin):
    assert urls.origin(url) == origin


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("", ()),
        ("plain text with an a@b and a question?", ()),
        ("https://host/a", ()),
        ("https://user:secret@host/a", ("user:secret@",)),
        ("https://token@host:1/a?sig=x&y#z", ("token@", "sig=x&y#z")),
        ("https://user:p@s/s\n@host/", ("user:p@s/s\n@",)),
    ],
)
def test_what_of_a_url_is_secret(text, secrets):
    assert urls.secrets_in(text) == secrets
