# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_request import OPTIONS, Request, parse_request
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import parse_lock

SHA = "0" * 64
LOCK: dict[str, t.Any] = {
    "format": 1,
    "releases": {
        "v0.0.139": {
            "darwin-arm64-metal": {"url": "https://a.invalid/x.zip", "sha256": SHA, "size_bytes": 1, "files": {"llama-box": SHA}},
        }
    },
}
DEFAULTS = {name: option.get("default") for name, option in OPTIONS.items()}


def parse(**options: t.Any) -> Request:
    return parse_request({**DEFAULTS, "version": "v0.0.139", "lock": LOCK, **options})


def test_what_is_secret_is_marked_so_that_ansible_hides_it() -> None:
    assert {name for name, option in OPTIONS.items() if option.get("no_log")} == {"url_password", "url_token"}


def test_what_belongs_to_the_controller_is_not_expanded_on_the_node() -> None:
    assert OPTIONS["archives_folder"]["type"] == "str"
    assert OPTIONS["folder"]["type"] == OPTIONS["ca_path"]["type"] == "path"


def test_defaults() -> None:
    assert parse() == Request(True, "v0.0.139", parse_lock(LOCK))
    assert parse() == Request(
        present=True,
        version="v0.0.139",
        lock=parse_lock(LOCK),
        slots=frozenset({"builtin", "pinned"}),
        toolkit="auto",
        source="download",
        base_url=None,
        use_proxy=True,
        timeout_seconds=30,
        deadline_seconds=1800,
        retries=4,
        folder="",
        archives={},
        keep=2,
        sealed=False,
    )


def test_every_option_arrives() -> None:
    given = parse(
        slots=["pinned"],
        toolkit="avx2",
        source="folder",
        base_url="https://mirror.invalid/github/",
        url_username="me",
        url_password="synthetic-password",
        ca_path="/etc/ca.pem",
        use_proxy=False,
        timeout_seconds=1,
        deadline_seconds=2,
        retries=0,
        folder="/srv/archives",
        archives={SHA: "/tmp/a.zip"},
        keep=0,
        sealed=True,
    )
    assert given == Request(
        present=True,
        version="v0.0.139",
        lock=parse_lock(LOCK),
        slots=frozenset({"pinned"}),
        toolkit="avx2",
        source="folder",
        base_url="https://mirror.invalid/github",
        username="me",
        password="synthetic-password",
        token=None,
        ca_path="/etc/ca.pem",
        use_proxy=False,
        timeout_seconds=1,
        deadline_seconds=2,
        retries=0,
        folder="/srv/archives",
        archives={SHA: "/tmp/a.zip"},
        keep=0,
        sealed=True,
    )
    assert parse(url_token="synthetic-token").token == "synthetic-token"
    assert parse(source="push", archives_folder="archives").source == "push"


def test_secrets_are_not_shown() -> None:
    assert "synthetic" not in repr(parse(url_username="me", url_password="synthetic-password"))
    assert "synthetic" not in repr(parse(url_token="synthetic-token"))


def test_giving_up_needs_nothing() -> None:
    assert parse(state="absent", version=None, lock=None, keep=-1, source="push") == Request(False)
    assert parse(state="absent", sealed=True) == Request(False, sealed=True)


_MISSING: list[tuple[str, t.Any]] = [("version", None), ("version", ""), ("lock", None), ("lock", {}), ("slots", [])]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[
            ({name: value}, f"{name} is missing: say which llama-box is wanted, or say state: absent to give up an earlier one")
            for name, value in _MISSING
        ],
        ({"version": "0.0.139"}, "version: '0.0.139' is not a version of llama-box; write it like v0.0.171"),
        ({"version": "v0.0.139/.."}, "version: 'v0.0.139/..' is not a version of llama-box; write it like v0.0.171"),
        ({"timeout_seconds": 0}, "timeout_seconds is 0, and it must be 1 or more"),
        ({"deadline_seconds": 0}, "deadline_seconds is 0, and it must be 1 or more"),
        ({"retries": -1}, "retries is -1, and it must be 0 or more"),
        ({"keep": -1}, "keep is -1, and it must be 0 or more"),
        ({"url_password": "synthetic-secret"}, "url_password is given without url_username; say both, or neither"),
        (
            {"url_token": "synthetic-secret", "url_username": "me"},
            "url_token and url_username are two ways to log in; say one of them",
        ),
        *[
            (
                {"source": "folder", "folder": folder},
                "folder has to be the absolute path of a folder with archives on the node, as source is folder",
            )
            for folder in (None, "", "archives")
        ],
        *[
            (
                {"source": "push", "archives_folder": folder},
                "archives_folder has to be a folder with archives on the controller, as source is push",
            )
            for folder in (None, "")
        ],
        *[
            ({"archives": archives}, "archives is filled in by the collection itself; leave it out")
            for archives in ({SHA: "relative.zip"}, {SHA: 1}, {"short": "/a.zip"}, {f"{SHA}\n": "/a.zip"}, {1: "/a.zip"})
        ],
    ],
)
def test_mistakes(options: dict[str, t.Any], message: str) -> None:
    with pytest.raises(BadInputError, match=f"^{re.escape(message)}$"):
        parse(**options)


def test_mistakes_in_what_has_rules_of_its_own() -> None:
    with pytest.raises(BadInputError, match=r"^lock: "):
        parse(lock={"format": 2, "releases": {}})
    with pytest.raises(BadInputError, match=r"^base_url: "):
        parse(base_url="ftp://mirror.invalid")
