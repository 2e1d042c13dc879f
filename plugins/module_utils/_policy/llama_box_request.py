# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The options about llama-box, which two modules have, and what is wrong with them in one sentence."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import urls
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.builds import is_version
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_layout import BUILTIN, PINNED
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Lock, parse_lock

DOWNLOAD = "download"
PUSH = "push"
FOLDER = "folder"
AUTO = "auto"

OPTIONS: t.Dict[str, t.Dict[str, t.Any]] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "version": {"type": "str"},
    "lock": {"type": "dict"},
    "slots": {"type": "list", "elements": "str", "choices": [BUILTIN, PINNED], "default": [BUILTIN, PINNED]},
    "toolkit": {"type": "str", "default": AUTO},
    "source": {"type": "str", "choices": [DOWNLOAD, PUSH, FOLDER], "default": DOWNLOAD},
    "base_url": {"type": "str"},
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
    "url_token": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "use_proxy": {"type": "bool", "default": True},
    "timeout_seconds": {"type": "int", "default": 30},
    "deadline_seconds": {"type": "int", "default": 1800},
    "retries": {"type": "int", "default": 4},
    "folder": {"type": "path"},
    # Of the controller: the type path would expand it on the node.
    "archives_folder": {"type": "str"},
    "archives": {"type": "dict"},
    "keep": {"type": "int", "default": 2},
    "sealed": {"type": "bool", "default": False},
}

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclasses.dataclass(frozen=True)
class Request:
    """What is wanted. version: "" where state is absent. archives: sha256 -> path on the node, of those that were pushed there."""

    present: bool
    version: str = ""
    lock: Lock = dataclasses.field(default_factory=Lock)
    slots: t.FrozenSet[str] = frozenset((BUILTIN, PINNED))
    toolkit: str = AUTO
    source: str = DOWNLOAD
    base_url: t.Optional[str] = None
    username: t.Optional[str] = None
    password: t.Optional[str] = dataclasses.field(default=None, repr=False)
    token: t.Optional[str] = dataclasses.field(default=None, repr=False)
    ca_path: t.Optional[str] = None
    use_proxy: bool = True
    timeout_seconds: int = 30
    deadline_seconds: int = 1800
    retries: int = 4
    folder: str = ""
    archives: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    keep: int = 2
    sealed: bool = False


def parse_request(options: t.Mapping[str, t.Any]) -> Request:
    """The request in the options, which have been through the argument spec. Raises BadInputError."""
    if options["state"] == "absent":
        # What it takes to get a release is not needed to give it up, so nothing of it is looked at.
        return Request(False, sealed=options["sealed"])
    for name in ("version", "lock", "slots"):
        if not options[name]:
            raise BadInputError(f"{name} is missing: say which llama-box is wanted, or say state: absent to give up an earlier one")
    version = options["version"]
    if not is_version(version):
        raise BadInputError(f"version: {version!r} is not a version of llama-box; write it like v0.0.171")
    _check(options)
    return Request(
        present=True,
        version=version,
        lock=parse_lock(options["lock"]),
        slots=frozenset(options["slots"]),
        toolkit=options["toolkit"],
        source=options["source"],
        base_url=urls.base_url(options["base_url"], "base_url") if options["base_url"] else None,
        username=options["url_username"],
        password=options["url_password"],
        token=options["url_token"],
        ca_path=options["ca_path"],
        use_proxy=options["use_proxy"],
        timeout_seconds=options["timeout_seconds"],
        deadline_seconds=options["deadline_seconds"],
        retries=options["retries"],
        folder=options["folder"] or "",
        archives=_archives(options["archives"] or {}),
        keep=options["keep"],
        sealed=options["sealed"],
    )


def _check(options: t.Mapping[str, t.Any]) -> None:
    for name in ("timeout_seconds", "deadline_seconds"):
        if options[name] < 1:
            raise BadInputError(f"{name} is {options[name]}, and it must be 1 or more")
    if options["retries"] < 0:
        raise BadInputError(f"retries is {options['retries']}, and it must be 0 or more")
    if options["url_password"] and not options["url_username"]:
        raise BadInputError("url_password is given without url_username; say both, or neither")
    if options["url_token"] and options["url_username"]:
        raise BadInputError("url_token and url_username are two ways to log in; say one of them")
    if options["keep"] < 0:
        raise BadInputError(f"keep is {options['keep']}, and it must be 0 or more")
    source = options["source"]
    if source == FOLDER and not str(options["folder"]).startswith("/"):
        raise BadInputError("folder has to be the absolute path of a folder with archives on the node, as source is folder")
    if source == PUSH and not options["archives_folder"]:
        raise BadInputError("archives_folder has to be a folder with archives on the controller, as source is push")


def _archives(given: t.Mapping[str, t.Any]) -> t.Dict[str, str]:
    """The archives that the action plugin has pushed."""
    for sha256, path in given.items():
        if not isinstance(path, str) or not path.startswith("/") or not isinstance(sha256, str) or not _SHA256.match(sha256):
            raise BadInputError("archives is filled in by the collection itself; leave it out")
    return dict(given)
