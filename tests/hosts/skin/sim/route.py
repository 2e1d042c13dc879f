# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""route(8): `route -n get default`, which is what Ansible's facts ask."""

from __future__ import annotations

import typing as t

from . import network
from .common import complain


def main(arguments: t.List[str]) -> int:
    words = [word for word in arguments if not word.startswith("-")]
    if words != ["get", "default"]:
        complain("usage: route [-dnqtv] command [[modifiers] args]")
        return 64
    found = network.default_route()
    if found is None:
        complain("route: writing to routing socket: not in table")
        return 1
    gateway, link = found
    print(
        f"   route to: default\ndestination: default\n       mask: default\n    gateway: {gateway}\n  interface: {link}\n"
        "      flags: <UP,GATEWAY,DONE,STATIC,PRCLONING,GLOBAL>"
    )
    return 0
