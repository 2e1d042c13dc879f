# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""Where things are: the cache, the images, the sessions."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re

TOOL = pathlib.Path(__file__).resolve().parent.parent
CHECKOUT = TOOL.parent.parent
NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")


class HostsError(Exception):
    """Something a person can act on; the command line prints it and ends with 1."""


def cache() -> pathlib.Path:
    return pathlib.Path(os.environ.get("HOSTS_CACHE") or CHECKOUT / ".cache" / "hosts").absolute()


def images() -> pathlib.Path:
    return cache() / "image"


def sessions() -> pathlib.Path:
    return cache() / "sessions"


def cache_tag() -> str:
    """Two checkouts on one machine must not touch each other's cgroups and sockets."""
    return hashlib.sha256(os.fsencode(str(cache()))).hexdigest()[:8]


def checked_name(name: str) -> str:
    """A session's or a host's name: it becomes a folder, a cgroup and a host name."""
    if not NAME.match(name):
        raise HostsError(f"{name!r} is no usable name: small letters, digits and '-', at most 32 characters")
    return name
