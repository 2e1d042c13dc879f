# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Releases of llama-box, and the lock file that says which ones a fleet may use."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import builds, urls, versions
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError

GITHUB = "https://github.com"
# Far above the largest build there is (CUDA, about 1 GiB); the bound of what is downloaded to make a lock.
LARGEST_ARCHIVE_BYTES = 4 * 1024**3
# Of an archive that is not what the lock says; the end of a sentence, or of its first half.
TAMPERED = "somebody has tampered with it, or it was damaged; find out which before anything else"

_FORMAT = 1
_HOW = "write the lock with the playbook metalfleet.gpustack.lock"
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class _MistakeError(Exception):
    """What is wrong in a lock, without its name and what to do."""


@dataclasses.dataclass(frozen=True)
class Release:
    """One llama-box version for one platform.

    build: such as "darwin-arm64-metal" (static) or "dl-darwin-arm64-metal" (with its libraries beside it). sha256,
    size_bytes: of the archive. files: name in the archive -> sha256; "llama-box" is always one of them.
    """

    version: str
    build: str
    url: str
    sha256: str
    size_bytes: int
    files: t.Mapping[str, str]

    @property
    def archive_name(self) -> str:
        """The archive's name at GitHub."""
        return builds.archive_name(self.build)

    @property
    def title(self) -> str:
        """The release in messages."""
        return f"llama-box {self.version} ({self.build})"

    @property
    def repair(self) -> str:
        """What to do where the lock is wrong about this release."""
        return _repair(_take_out(f"{self.version}/{self.build}"))


@dataclasses.dataclass(frozen=True)
class Lock:
    """The releases a fleet may use, in the order of versions and builds."""

    releases: t.Tuple[Release, ...] = ()

    def find(self, version: str, build: str) -> Release:
        """The release of this version and build. Raises BadInputError that names what there is instead."""
        of_version = [release for release in self.releases if release.version == version]
        for release in of_version:
            if release.build == build:
                return release
        if of_version:
            there = _listed(release.build for release in of_version)
            toolkit = builds.unknown_toolkit(build)
            if toolkit:
                raise BadInputError(
                    f"toolkit: {toolkit} is none that GPUStack knows on this system ({builds.TOOLKITS}), and the lock has only {there} "
                    f"of {version}; correct the toolkit, or leave it auto"
                )
            raise BadInputError(
                f"lock: {version} has no build {build}, only {there}; add its platform to llama_box_platforms and {_HOW}, "
                "or use a version that has one"
            )
        there = _listed(dict.fromkeys(release.version for release in self.releases))
        instead = f"only {there}; use one of those, or {_HOW} for {version} too" if there else f"and no other is; {_HOW}"
        raise BadInputError(f"lock: the version {version} is not in it, {instead}")

    def identify(self, sha256: t.Optional[str]) -> t.Optional[Release]:
        """The release whose program llama-box has this digest; None where there is none."""
        for release in self.releases:
            if release.files[builds.PROGRAM] == sha256:
                return release
        return None

    def with_releases(self, releases: t.Iterable[Release]) -> Lock:
        """This lock with these releases added, or in the place of those of the same version and build."""
        merged = {(release.version, release.build): release for release in (*self.releases, *releases)}
        by_build = sorted(merged.values(), key=lambda release: release.build)
        return Lock(tuple(sorted(by_build, key=functools.cmp_to_key(_compare_versions))))

    def as_data(self) -> t.Dict[str, t.Any]:
        """The content of the lock file, as parse_lock() takes it."""
        found: t.Dict[str, t.Dict[str, t.Any]] = {}
        for release in self.releases:
            found.setdefault(release.version, {})[release.build] = {
                "url": release.url,
                "sha256": release.sha256,
                "size_bytes": release.size_bytes,
                "files": dict(sorted(release.files.items())),
            }
        return {"format": _FORMAT, "releases": found}


def parse_lock(data: t.Any, name: str = "lock") -> Lock:
    """The lock in the content of a lock file, whose name is for messages.

    Raises BadInputError that names the place of the mistake, and what to do about it.
    """
    found: t.List[Release] = []
    cure = "remove it"
    try:
        content = _mapping(data, keys=("format", "releases"))
        if content["format"] != _FORMAT or isinstance(content["format"], bool):
            raise _mistake("format", f"is {content['format']!r}, and this release of the collection knows {_FORMAT} only")
        for version, of_version in _mapping(content["releases"], "releases").items():
            cure, where = _take_out(str(version)), f"releases.{version}"
            if not builds.is_version(version):
                raise _mistake(where, "is not a version such as v0.0.139")
            for build, fields in _mapping(of_version, where).items():
                cure = _take_out(f"{version}/{build}")
                if not builds.is_build(build):
                    raise _mistake(f"{where}.{build}", "is not a build such as darwin-arm64-metal")
                found.append(_parse_release(version, build, fields, f"{where}.{build}"))
    except _MistakeError as exc:
        raise BadInputError(f"{name}: {exc}; {_repair(cure)}") from None
    return Lock().with_releases(found)


def release_path(version: str, build: str) -> str:
    """Where an archive is below the base URL: GitHub's layout, which GPUStack's --tools-download-base-url keeps too."""
    return f"gpustack/llama-box/releases/download/{version}/{builds.archive_name(build)}"


def release_url(base_url: str, version: str, build: str) -> str:
    """Where an archive is downloaded from."""
    return f"{base_url.rstrip('/')}/{release_path(version, build)}"


def with_base_url(release: Release, base_url: str) -> Release:
    """The same release, from a mirror."""
    return dataclasses.replace(release, url=release_url(base_url, release.version, release.build))


def places_in_folder(folder: str, version: str, build: str) -> t.Tuple[str, ...]:
    """Where an archive may lie in a folder of archives: in a folder for its version, or as at GitHub."""
    return f"{folder}/{version}/{builds.archive_name(build)}", f"{folder}/{release_path(version, build)}"


def _parse_release(version: str, build: str, data: t.Any, where: str) -> Release:
    fields = _mapping(data, where, ("url", "sha256", "size_bytes", "files"))
    problem = urls.problem_of(fields["url"])
    if problem:
        # Not its text: a password may be in it.
        raise _mistake(f"{where}.url", problem)
    size_bytes = fields["size_bytes"]
    if not isinstance(size_bytes, int) or isinstance(size_bytes, bool) or not 0 < size_bytes <= LARGEST_ARCHIVE_BYTES:
        raise _mistake(f"{where}.size_bytes", f"is {size_bytes!r}, and not a number of bytes from 1 to {LARGEST_ARCHIVE_BYTES}")
    files = _mapping(fields["files"], f"{where}.files")
    if builds.PROGRAM not in files:
        raise _mistake(f"{where}.files", f"has no {builds.PROGRAM}")
    for name, digest in files.items():
        if not builds.is_file_name(name):
            raise _mistake(f"{where}.files", f"has {name!r}, which is not the plain name of a file")
        _check_digest(digest, f"{where}.files.{name}")
    _check_digest(fields["sha256"], f"{where}.sha256")
    return Release(version, build, fields["url"], fields["sha256"], size_bytes, dict(files))


def _mapping(data: t.Any, where: str = "", keys: t.Sequence[str] = ()) -> t.Mapping[t.Any, t.Any]:
    """The data if it is a mapping, with exactly these keys where some are given."""
    if not isinstance(data, t.Mapping):
        raise _mistake(where, "is not a mapping")
    inside = f"{where}." if where else ""
    for key in keys:
        if key not in data:
            raise _mistake(f"{inside}{key}", "is missing")
    for key in data:
        if keys and key not in keys:
            raise _mistake(f"{inside}{key}", f"is not known; there are {', '.join(keys)}")
    return data


def _check_digest(value: t.Any, where: str) -> None:
    if not isinstance(value, str) or not _SHA256.match(value):
        raise _mistake(where, f"is {value!r}, and not 64 digits of 0-9 and a-f")


def _mistake(where: str, problem: str) -> _MistakeError:
    return _MistakeError(f"{where or 'its content'} {problem}")


def _take_out(entry: str) -> str:
    return f"take out the entry {entry}"


def _repair(cure: str) -> str:
    """That playbook keeps the entries that are there, so what is wrong has to go first."""
    return f"restore the lock from version control, or {cure} and run the playbook metalfleet.gpustack.lock again"


def _listed(words: t.Iterable[str]) -> str:
    return ", ".join(words)


def _compare_versions(left: Release, right: Release) -> int:
    return versions.compare(left.version, right.version)
