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

import plays
from canary import Aviary, Found
from complete import find_missing
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


@pytest.fixture
def collection(tmp_path: pathlib.Path) -> pathlib.Path:
    """One with a module, a role and a playbook."""
    for path in ("plugins/modules/node.py", "roles/nodes/tasks.yml", "playbooks/site.yml"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    return tmp_path


def ran(action: str, role: str = "") -> list[dict[str, t.Any]]:
    """In every way."""
    ways = [(status, check) for status in ("ok", "failed") for check in (False, True)]
    return [{"action": f"metalfleet.gpustack.{action}", "role": role, "status": status, "check": check} for status, check in ways]


def test_what_nobody_has_added_to_the_runs_is_missed(collection: pathlib.Path) -> None:
    results = ran("node", "metalfleet.gpustack.nodes")
    assert find_missing(collection, results, ["site"], some=False) == []
    (collection / "plugins/modules/new.py").touch()
    (collection / "roles/new").mkdir()
    (collection / "playbooks/new.yml").touch()
    assert find_missing(collection, results, ["site"], some=False) == [
        "the module new was not run in every way: only (status, check mode) []",
        "the role new was not run",
        "the playbook new was not run",
    ]


@pytest.mark.parametrize("left_out", range(4))
def test_a_module_that_was_not_run_in_every_way_is_missed(collection: pathlib.Path, left_out: int) -> None:
    results = ran("node", "nodes")
    way = results.pop(left_out)
    found = find_missing(collection, results, ["site"], some=False)
    assert len(found) == 1
    # The runs of `make test` are none in check mode.
    assert (find_missing(collection, results, ["site"], some=True) == []) is way["check"]


def test_every_module_has_its_tasks() -> None:
    """What a whole run finds after an hour."""
    root = pathlib.Path(__file__).resolve().parents[2]
    modules = {path.stem for path in (root / "plugins/modules").glob("*.py")}
    tasks = [*plays.node_tasks(), *plays.server_tasks()]
    assert {name.rpartition(".")[2] for task in tasks for name in task} == modules
