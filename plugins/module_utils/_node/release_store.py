# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The releases of llama-box that a node keeps, each verified before it is one of them.

Below one folder: <version>/<build> with the files of a release; what adopt() keeps, under its name with <name>.json beside
it; and for a download that did not end, .<sha256>.part.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.archive import open_archive, verify_archive, verify_file
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.disk_space import check_room
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.download import DownloadOptions, download
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.exposure import refuse_exposed
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import read_own
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.temporary import belongs_to
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.trial import try_program
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import archive_listing, builds, urls
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, GpustackError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Release, places_in_folder, with_base_url

DOWNLOAD = "download"
FOLDER = "folder"
PUSHED = "pushed"

_PART = re.compile(r"\.[0-9a-f]{64}\.part\Z")
_UNFINISHED = ".unpacking"


@dataclasses.dataclass(frozen=True)
class Source:
    """Where archives come from.

    kind: "download", from the URL in the lock or from the same path below base_url; "folder", a folder on the node;
    "pushed", archives that were copied to the node: sha256 -> path.
    """

    kind: str = DOWNLOAD
    base_url: t.Optional[str] = None
    download: DownloadOptions = dataclasses.field(default_factory=DownloadOptions)
    folder: str = ""
    pushed: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Adopted:
    """A copy of what was in a slot. files: name -> sha256. links: name -> target."""

    folder: str
    files: t.Mapping[str, str]
    links: t.Mapping[str, str]


class ReleaseStore:
    """The releases in one folder of a host."""

    def __init__(self, host: Host, folder: str, source: Source) -> None:
        self._host = host
        self._folder = folder
        self._source = source

    def folder_of(self, release: Release) -> str:
        """Where the files of a release are, once it was obtained."""
        return f"{self._folder}/{release.version}/{release.build}"

    def has(self, release: Release) -> bool:
        """Whether all files of a release are there with the digests of the lock, and nothing else is."""
        return self._is_intact(self.folder_of(release), release.files, {})

    def missing(self, releases: t.Iterable[Release]) -> t.List[Release]:
        """Those that obtain() would need an archive for."""
        return [release for release in releases if not self.has(release)]

    def obtain(self, release: Release) -> t.Tuple[str, ...]:
        """See to it that the store has a release; returns warnings. Raises GpustackError, and then the store is as before."""
        if self.has(release):
            # A run that died when it had put the release into its place has left the rest, and this one may be undone, and prune nothing.
            self._discard_unfinished()
            self._host.remove(self._part_of(release))
            return ()
        # What is unpacked is run, and others must not exchange it before that.
        refuse_exposed(self._host, f"{self._folder}/{_UNFINISHED}")
        self._host.make_folder(self._folder, 0o755)
        self._discard_unfinished()
        path = self._archive(release)
        new = f"{self._folder}/{_UNFINISHED}/{release.build}"
        try:
            try:
                self._unpack(release, path, new)
            except BadInputError:
                if self._source.kind == DOWNLOAD:
                    # All of it is what the lock names, so no other run can make it right.
                    self._host.remove(path)
                raise
            warnings = try_program(self._host, release, new)
            folder = self.folder_of(release)
            self._host.make_folder(f"{self._folder}/{release.version}", 0o755)
            # Only what is damaged can be there.
            self._host.remove(folder)
            self._host.rename(new, folder)
        finally:
            self._discard_unfinished()
        if self._source.kind == DOWNLOAD:
            self._host.remove(path)
        return warnings

    def prune(self, keep_folders: t.Iterable[str]) -> t.Tuple[str, ...]:
        """Remove every release but those in these folders, and what downloads left; returns warnings. Adopted ones stay."""
        kept = set(keep_folders)
        warnings: t.List[str] = []
        for name in self._names(self._folder, warnings):
            path = f"{self._folder}/{name}"
            if builds.is_version(name):
                found = [f"{path}/{build}" for build in self._names(path, warnings)]
                others = [folder for folder in found if folder not in kept]
                doomed = others if len(others) < len(found) else [path]
            else:
                doomed = [path] if _PART.match(name) or name == _UNFINISHED or belongs_to(name) else []
            for one in doomed:
                try:
                    self._host.remove(one)
                except HostError as exc:
                    warnings.append(str(exc))
        return tuple(warnings)

    def adopt(self, name: str, path: str) -> Adopted:
        """Keep a copy of what is at the path, a program or a folder with one, under this name; one that is kept intact stays.

        A copy of its own: GPUStack 0.6 writes its builtin program in place, through every hard link.
        """
        if not builds.is_file_name(name) or builds.is_version(name):
            raise BadInputError(f"{name!r} is no name under which a copy of {path} could be kept in {self._folder}")
        known = self.adopted(name)
        if known is not None:
            return known
        refuse_exposed(self._host, f"{self._folder}/{name}")
        path = self._host.resolve(path)
        status = self._host.status(path)
        source, _slash, program = path.rpartition("/")
        names = [program]
        if status is not None and status.is_directory:
            source, names = path, self._host.names(path)
        files, links = self._describe(source, names)
        if not files:
            raise HostError(f"there is no file at {path} of which a copy could be kept; let GPUStack start once, so that it makes one")
        adopted = Adopted(f"{self._folder}/{name}", files, links)
        self._host.make_folder(self._folder, 0o755)
        self._host.place_folder(source, adopted.folder, files, links)
        manifest = json.dumps({"files": files, "links": links}, indent=2, sort_keys=True)
        self._host.write(f"{adopted.folder}.json", f"{manifest}\n".encode(), 0o644)
        return adopted

    def adopted(self, name: str) -> t.Optional[Adopted]:
        """What adopt() keeps under this name; None where there is nothing, or where it is damaged."""
        folder = f"{self._folder}/{name}"
        try:
            content = json.loads((read_own(self._host, f"{folder}.json") or b"").decode())
            files, links = dict(content["files"]), dict(content["links"])
        except (HostError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return Adopted(folder, files, links) if self._is_intact(folder, files, links) else None

    def _archive(self, release: Release) -> str:
        """The path of the release's archive on this host, which has the size and digest of the lock."""
        source = self._source
        if source.kind == DOWNLOAD:
            return self._downloaded(release if source.base_url is None else with_base_url(release, source.base_url))
        if source.kind == FOLDER:
            places = places_in_folder(source.folder, release.version, release.build)
            advice = f"put {release.archive_name} there"
        else:
            places = tuple(path for digest, path in source.pushed.items() if digest == release.sha256)
            advice = "run again, so that the controller copies it"
        for path in places:
            if self._host.status(path) is not None:
                verify_archive(self._host, release, path)
                return path
        raise HostError(f"the archive of {release.title} is not on this host, at {' or '.join(places) or 'any path'}; {advice}")

    def _downloaded(self, release: Release) -> str:
        # Named by its digest: a part can only be continued with what it is a part of.
        path = self._part_of(release)
        while True:
            resumed = download(self._host, release.url, path, release.size_bytes, self._source.download)
            try:
                verify_archive(self._host, release, path)
                return path
            except BadInputError as exc:
                self._host.remove(path)
                # What was there before this run may be the fault; then all of it is fetched once more.
                if not resumed:
                    raise BadInputError(f"{urls.shown(release.url)}: {exc}") from exc

    def _unpack(self, release: Release, path: str, new: str) -> None:
        with open_archive(self._host, path) as archive:
            entries = archive.entries()
            names = archive_listing.check(entries, path, release.files)
            check_room(self._host, self._folder, sum(entry.size_bytes for entry in entries), release.title)
            self._host.make_folder(f"{self._folder}/{_UNFINISHED}", 0o700)
            self._host.make_folder(new, 0o755)
            for name in names:
                self._host.create(f"{new}/{name}", archive.pieces(name), 0o755)
        for name in release.files:
            verify_file(release, name, path, self._host.sha256(f"{new}/{name}"))

    def _part_of(self, release: Release) -> str:
        """Where a download goes."""
        return f"{self._folder}/.{release.sha256}.part"

    def _discard_unfinished(self) -> None:
        self._host.remove(f"{self._folder}/{_UNFINISHED}")

    def _describe(self, folder: str, names: t.Iterable[str]) -> t.Tuple[t.Dict[str, str], t.Dict[str, str]]:
        """The files and the links to them in a folder. Folders in it are leftovers of GPUStack's downloads."""
        files: t.Dict[str, str] = {}
        links: t.Dict[str, str] = {}
        for name in names:
            path = f"{folder}/{name}"
            status = self._host.status(path)
            digest = self._host.sha256(path) if status is not None and status.is_file else None
            if digest is not None:
                files[name] = digest
            elif status is not None and status.is_symlink:
                links[name] = self._target(path)
        return files, links

    def _target(self, path: str) -> str:
        """What a link leads to, relative where that is in the same folder."""
        folder, _slash, target = self._host.resolve(path).rpartition("/")
        return target if folder == path.rpartition("/")[0] else f"{folder}/{target}"

    def _is_intact(self, folder: str, files: t.Mapping[str, str], links: t.Mapping[str, str]) -> bool:
        try:
            return bool(files) and self._describe(folder, self._host.names(folder)) == (dict(files), dict(links))
        except GpustackError:
            return False

    def _names(self, folder: str, warnings: t.List[str]) -> t.List[str]:
        try:
            return self._host.names(folder)
        except HostError as exc:
            warnings.append(str(exc))
            return []
