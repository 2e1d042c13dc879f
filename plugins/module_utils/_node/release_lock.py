# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Making a lock: finding each wanted archive, describing the new ones, and comparing the others with the lock there is."""

from __future__ import annotations

import dataclasses
import posixpath
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.archive import describe_archive, verify_archive, verify_files
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.download import DownloadOptions, NotThereError, download
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import builds
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.release_lock_request import Wanted, consequence
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Lock, Release, places_in_folder, release_url


@dataclasses.dataclass(frozen=True)
class Archives:
    """Where archives come from, and where they stay.

    base_url: what the URLs in the lock begin with. folder: archives are taken from there, and nothing is downloaded.
    kept_folder: where they stay, None for nowhere. work_folder: for those that do not. dry_run: kept_folder is only read.
    verify: also what is in the lock already is looked at.
    """

    base_url: str
    work_folder: str
    folder: t.Optional[str] = None
    kept_folder: t.Optional[str] = None
    options: DownloadOptions = dataclasses.field(default_factory=DownloadOptions)
    dry_run: bool = False
    verify: bool = False


@dataclasses.dataclass(frozen=True)
class Made:
    """The whole lock; what is new in it; the archives that were added to the kept ones; warnings."""

    lock: Lock
    added: t.Tuple[Release, ...]
    kept: t.Tuple[str, ...]
    warnings: t.Tuple[str, ...]


def make_lock(host: Host, known: Lock, wanted: t.Sequence[Wanted], archives: Archives) -> Made:
    """The lock with what is wanted in it. Raises GpustackError."""
    return _Maker(host, known, archives).make(wanted)


class _Maker:
    def __init__(self, host: Host, known: Lock, archives: Archives) -> None:
        self._host = host
        self._known = known
        self._archives = archives
        self._added: t.List[Release] = []
        self._kept: t.List[str] = []
        self._warnings: t.List[str] = []

    def make(self, wanted: t.Sequence[Wanted]) -> Made:
        for item in wanted:
            absent: t.List[NotThereError] = []
            for build in item.builds:
                try:
                    self._have(item.version, build)
                except NotThereError as exc:
                    absent.append(exc)
                    self._warnings.append(f"{exc.what}; {consequence(build)} cannot be given {item.version} for {item.name}")
            if len(absent) == len(item.builds):
                what = ", and ".join(exc.what for exc in absent)
                raise BadInputError(f"there is no llama-box {item.version} for {item.name}: {what}; {absent[0].advice}")
        lock = self._known.with_releases(self._added)
        return Made(lock, tuple(self._added), tuple(self._kept), tuple(dict.fromkeys(self._warnings)))

    def _have(self, version: str, build: str) -> None:
        """See to one build. Raises NotThereError where there is none."""
        archives = self._archives
        release = next((one for one in (*self._known.releases, *self._added) if (one.version, one.build) == (version, build)), None)
        name = f"{version}/{builds.archive_name(build)}"
        kept = None if archives.kept_folder is None else f"{archives.kept_folder}/{name}"
        if release is not None and kept is None and archives.folder is None and not archives.verify:
            return
        path = self._find(version, build, kept)
        fetched = None if path is not None else self._fetch(version, build, release)
        try:
            archive = path or fetched or ""
            if release is not None:
                verify_archive(self._host, release, archive)
                verify_files(self._host, release, archive)
            else:
                release = describe_archive(self._host, archive, version, build, release_url(archives.base_url, version, build))
                self._added.append(release)
            if kept is not None and kept != path:
                self._keep(archive, kept, release.sha256)
        finally:
            if fetched is not None:
                self._host.remove(fetched)

    def _find(self, version: str, build: str, kept: t.Optional[str]) -> t.Optional[str]:
        """An archive that is on this host; None where it has to be downloaded."""
        folder = self._archives.folder
        places = () if folder is None else places_in_folder(folder, version, build)
        for path in (*([kept] if kept else []), *places):
            if self._host.status(path) is not None:
                return path
        if folder is not None:
            what = f"{folder} has neither {' nor '.join(path[len(folder) + 1 :] for path in places)}"
            raise NotThereError(what, "put it there, or correct the version or the platform")
        return None

    def _fetch(self, version: str, build: str, release: t.Optional[Release]) -> str:
        path = f"{self._archives.work_folder}/{version}-{builds.archive_name(build)}"
        url = release_url(self._archives.base_url, version, build)
        download(self._host, url, path, None if release is None else release.size_bytes, self._archives.options)
        return path

    def _keep(self, archive: str, kept: str, sha256: str) -> None:
        self._kept.append(kept)
        if not self._archives.dry_run:
            self._host.make_folder(posixpath.dirname(kept), 0o755)
            self._host.place_file(archive, kept, 0o644, sha256)
