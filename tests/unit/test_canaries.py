# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The search for canaries: what it does not find would pass for silence."""

from __future__ import annotations

import base64
import hashlib
import json
import pathlib
import plistlib
import shlex
import sys
import typing as t
import urllib.parse

import pytest

# Programs that import one another by their folder, as `make canaries` has them.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "canaries"))

from canary import Aviary, Found
from places import ALLOWED

REST = "\\\"' &<>%\nü"


def base64_after(count: int) -> t.Callable[[str], bytes]:
    return lambda value: base64.b64encode(b"u" * count + value.encode())


FORMS: dict[str, tuple[str, t.Callable[[str], bytes]]] = {
    "as it is": ("plain", str.encode),
    "in lower case, as a host": ("plain", lambda value: value.lower().encode()),
    "in JSON": ("plain", lambda value: json.dumps(value).encode()),
    "in JSON in JSON": ("plain", lambda value: json.dumps(json.dumps(value)).encode()),
    "in Python": ("plain", lambda value: repr(value).encode()),
    "in a URL": ("plain", lambda value: urllib.parse.quote(value).encode()),
    "in a shell": ("plain", lambda value: shlex.quote(value).encode()),
    "in a property list": ("plain", lambda value: plistlib.dumps({"A": value})),
    "in hex": ("hex", lambda value: value.encode().hex().encode()),
    "in base64": ("base64", base64_after(0)),
    "in base64 after one": ("base64", base64_after(1)),
    "in base64 after two": ("base64", base64_after(2)),
    "in base64 after many": ("base64", base64_after(38)),
    "in base64 for URLs": ("base64", lambda value: base64.urlsafe_b64encode(b"\xff\xfe" + value.encode())),
    "as a digest": ("sha256", lambda value: hashlib.sha256(value.encode()).hexdigest().encode()),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_canary_is_found_in_every_form_and_told_from_others(name: str) -> None:
    aviary = Aviary()
    canaries = [aviary.add(f"place {number}", REST) for number in range(12)]
    form, write = FORMS[name]
    for canary in (canaries[0], canaries[11]):
        assert aviary.find(b"before " + write(canary.value) + b" after") == {Found(canary.name, form)}


def test_nothing_is_found_where_there_is_none() -> None:
    aviary = Aviary()
    aviary.add("somewhere", REST)
    assert aviary.find(b"zCanary of the fleet " + base64.b64encode(b"zCanaryOfThe") + bytes(range(256))) == set()


def test_places_allow_no_more_than_they_say() -> None:
    for place in ALLOWED:
        assert place.reason
        for where in ("controller:file:out/site.stdout", "controller:file:out/ansible.log", "linux:journal", "mac:file:/tmp/x"):
            assert not place.allows(where, "secret"), place


def test_a_file_that_must_be_closed_is_no_place_if_it_is_open() -> None:
    closed = [place for place in ALLOWED if place.closed]
    journal = "linux:file:/var/lib/metalfleet/journal.json"
    assert [place.allows(journal, "residency", open_to_others) for place in closed for open_to_others in (False, True)].count(True) == 1
