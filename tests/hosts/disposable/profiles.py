# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""Hardware of simulated Macs, as declared in ../profiles/*.json."""

from __future__ import annotations

import json
import pathlib
import typing as t

from . import places
from .places import HostsError

FOLDER = places.TOOL / "profiles"
DEFAULT = "m3_ultra_512"


def names() -> t.List[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> t.Dict[str, t.Any]:
    """A profile by name, or by the path of a JSON file of the same shape."""
    path = pathlib.Path(name) if name.endswith(".json") else FOLDER / f"{name or DEFAULT}.json"
    try:
        profile: t.Dict[str, t.Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HostsError(f"no profile {name!r}; there are: {', '.join(names())}") from error
    return profile
