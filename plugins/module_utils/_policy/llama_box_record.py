# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What the collection remembers about the llama-box programs that it put on a node.

GPUStack's versions.json has to go on naming GPUStack's own version (llama_box_layout), so the truth is kept here.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import builds
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Release


@dataclasses.dataclass(frozen=True)
class Placed:
    """A program that we put into a slot.

    slot: builtin or pinned. sha256: of the program; another one there now is not ours any more. in_folder: whether the
    folder around it is ours too. kept: the name under which the store keeps GPUStack's own builtin, "" where it keeps none.
    """

    slot: str
    version: str
    sha256: str
    in_folder: bool
    kept: str = ""


@dataclasses.dataclass(frozen=True)
class Record:
    """placed: by the path of the program. used: names of releases (release_name), the most recently used first."""

    placed: t.Mapping[str, Placed] = dataclasses.field(default_factory=dict)
    used: t.Tuple[str, ...] = ()

    def as_bytes(self) -> bytes:
        """The content of the file."""
        placed = {path: dataclasses.asdict(one) for path, one in sorted(self.placed.items())}
        return (json.dumps({"placed": placed, "used": list(self.used)}, indent=1) + "\n").encode()

    def ours(self, path: str, sha256: t.Optional[str]) -> t.Optional[Placed]:
        """What we put at the path, if that is what is there."""
        placed = self.placed.get(path)
        return placed if placed is not None and placed.sha256 == sha256 else None


def parse_record(data: t.Optional[bytes]) -> Record:
    """The record; an empty one where there is none, or none that can be understood: then nothing is ours."""
    if data is None:
        return Record()
    try:
        content = json.loads(data.decode())
        placed = {
            str(path): Placed(
                str(one["slot"]),
                str(one["version"]),
                str(one["sha256"]),
                one["in_folder"] is True,
                one["kept"] if builds.is_file_name(one["kept"]) else "",
            )
            for path, one in content["placed"].items()
        }
        return Record(placed, tuple(filter(_is_release_name, content["used"])))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Record()


def release_name(release: Release) -> str:
    """The release in the record: the folder that it has in the store."""
    return f"{release.version}/{release.build}"


def used_after(used: t.Sequence[str], in_slots: t.Iterable[str], keep: int) -> t.Tuple[str, ...]:
    """The releases to keep, the most recently used first: those in slots, and `keep` others."""
    now = tuple(dict.fromkeys(in_slots))
    return (*now, *[name for name in used if name not in now][:keep])


def _is_release_name(text: t.Any) -> bool:
    """Nothing that is read may lead out of the store."""
    parts = str(text).split("/")
    return len(parts) == 2 and builds.is_version(parts[0]) and builds.is_build(parts[1])
