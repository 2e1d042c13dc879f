# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What a lock is asked to hold: every build that a node may need of the versions and platforms that a person names."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import builds
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A version for what was named, a platform or a build. One of the builds has to exist."""

    version: str
    name: str
    builds: t.Tuple[str, ...]


def wanted(versions: t.Sequence[str], platforms: t.Sequence[str], exact_builds: t.Sequence[str]) -> t.Tuple[Wanted, ...]:
    """What to put into the lock. Raises BadInputError."""
    if not versions:
        raise BadInputError("versions: none is named; name at least one, such as v0.0.139")
    if not platforms and not exact_builds:
        raise BadInputError("platforms: none is named; name at least one, such as darwin-arm64-metal")
    for version in versions:
        if not builds.is_version(version):
            raise BadInputError(f"versions: {version!r} is not a version; write it like v0.0.139")
    for build in exact_builds:
        if not builds.is_build(build):
            raise BadInputError(f"builds: {build!r} is not a build; write it like dl-darwin-arm64-metal")
    found: t.List[Wanted] = []
    for version in versions:
        for platform in platforms:
            found.append(Wanted(version, platform, builds.builds_of_platform(version, platform)))
        for build in exact_builds:
            found.append(Wanted(version, build, (build,)))
    return tuple(dict.fromkeys(found))


def consequence(build: str) -> str:
    """Who cannot be given a version of which this build does not exist."""
    return "GPUStack 0.7" if builds.is_dynamic(build) else "GPUStack 0.6, and 0.7 with GPUSTACK_DISABLE_DYNAMIC_LINK_LLAMA_BOX,"
