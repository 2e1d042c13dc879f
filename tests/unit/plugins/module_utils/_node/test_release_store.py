# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store on a real file system, filled from a real server with stand-ins that really run."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import release_store
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.download import DownloadOptions, NotThereError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.release_store import Adopted, ReleaseStore, Source
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, GpustackError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Release
from ansible_collections.metalfleet.gpustack.tests.mirror import archives
from ansible_collections.metalfleet.gpustack.tests.mirror.mirror import Fault, Mirror, running

VERSION = "v0.0.171"
STATIC = "linux-amd64-avx2"
DYNAMIC = "dl-linux-amd64-cpu"
QUICK = DownloadOptions(timeout_seconds=5.0, retries=0)


class StoreHost(Host):
    """This machine, told apart from it where a test has to: free space, pauses, and what fails."""

    def __init__(self) -> None:
        self.free: int | None = None
        self.failing = ""

    def system(self) -> str:
        return "Linux"

    def pause(self, seconds: float) -> None:
        raise AssertionError("nothing here has to wait")

    def free_bytes(self, folder: str) -> int:
        return super().free_bytes(folder) if self.free is None else self.free

    def rename(self, old: str, new: str) -> None:
        if self.failing == "rename":
            raise HostError(f"{old} cannot be renamed to {new}: Read-only file system")
        super().rename(old, new)

    def remove(self, path: str) -> None:
        if self.failing and path.endswith(self.failing):
            raise HostError(f"{path} cannot be removed: Operation not permitted")
        super().remove(path)

    def names(self, folder: str) -> list[str]:
        if self.failing and folder.endswith(f"{self.failing}/list"):
            raise HostError(f"{folder} cannot be listed: Permission denied")
        return super().names(folder)


@dataclasses.dataclass
class Place:
    """A mirror and a store beside each other."""

    mirror: Mirror
    host: StoreHost
    folder: pathlib.Path

    def release(self, version: str = VERSION, build: str = STATIC, content: bytes | None = None) -> Release:
        """A release that is on the mirror; content: what its archive is instead, in the lock too."""
        path = archives.place(self.mirror.folder, version, build)
        if content is not None:
            path.write_bytes(content)
        return Release(version, build, **archives.release_data(self.mirror.folder, self.mirror.base_url, version, build))

    def store(self, **source: t.Any) -> ReleaseStore:
        return ReleaseStore(self.host, str(self.folder), Source(**{"download": QUICK, **source}))

    def content(self) -> dict[str, bytes]:
        """Everything in the store."""
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    def refusal(self, release: Release, error: type[GpustackError] = BadInputError, **source: t.Any) -> str:
        """Why a release is refused. The store is as it was, but for an archive that came whole and need not come again."""
        before = self.content()
        with pytest.raises(error) as caught:
            self.store(**source).obtain(release)
        after = self.content()
        after.pop(f".{release.sha256}.part", None)
        assert after == before
        assert not (self.folder / ".unpacking").exists()
        return str(caught.value)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def place(tmp_path) -> t.Iterator[Place]:
    (tmp_path / "served").mkdir()
    with running(Mirror(tmp_path / "served")) as mirror:
        yield Place(mirror, StoreHost(), tmp_path / "state" / "releases")


@pytest.mark.parametrize("build", [STATIC, DYNAMIC])
def test_obtains_a_release_once(place, build):
    release, store = place.release(build=build), place.store()
    assert store.missing([release]) == [release]
    assert store.obtain(release) == ()
    folder = place.folder / VERSION / build
    assert store.folder_of(release) == str(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == archives.contents(VERSION, build)
    assert {path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())} == {0o755}
    assert os.listdir(place.folder) == [VERSION]
    assert store.has(release)
    assert store.missing([release]) == []
    assert store.obtain(release) == ()
    assert len(place.mirror.seen) == 1


def test_keeps_builds_and_versions_apart(place):
    wanted = [place.release(), place.release(build=DYNAMIC), place.release("v0.0.139")]
    store = place.store()
    for release in wanted:
        store.obtain(release)
    assert all(store.has(release) for release in wanted)


@pytest.mark.parametrize("damage", ["changed", "lost", "more", "link"])
def test_obtains_again_what_is_damaged(place, damage):
    release, store = place.release(build=DYNAMIC), place.store()
    store.obtain(release)
    file = place.folder / VERSION / DYNAMIC / "libggml.so"
    if damage == "changed":
        file.write_bytes(b"x")
    elif damage == "more":
        file.with_name("other").write_bytes(b"x")
    else:
        file.unlink()
        if damage == "link":
            file.symlink_to("libllama.so")
    assert store.missing([release]) == [release]
    store.obtain(release)
    assert store.has(release)
    assert not (file.with_name("other")).exists()


def test_downloads_from_a_mirror_instead_of_the_locks_url(place):
    release = dataclasses.replace(place.release(), url="http://127.0.0.1:1/x.zip")
    place.store(base_url=place.mirror.base_url).obtain(release)
    assert place.mirror.seen[0].path == f"/gpustack/llama-box/releases/download/{VERSION}/{release.archive_name}"


def test_hands_on_how_to_download(place):
    release = place.release()
    with pytest.raises(NotThereError):
        place.store(base_url=f"{place.mirror.base_url}/none", download=dataclasses.replace(QUICK, token="t0ken")).obtain(release)
    assert place.mirror.seen[0].headers["Authorization"] == "Bearer t0ken"


def test_goes_on_with_a_download_that_was_cut(place):
    release = place.release()
    path = f"/gpustack/llama-box/releases/download/{VERSION}/{release.archive_name}"
    place.mirror.faults[path] = [Fault(cut_after_bytes=500)]
    with pytest.raises(HostError, match="run again to go on from there"):
        place.store().obtain(release)
    part = place.folder / f".{release.sha256}.part"
    assert place.content().keys() == {part.name}
    assert part.stat().st_mode & 0o777 == 0o600
    place.store().obtain(release)
    assert place.mirror.seen[1].headers["Range"] == "bytes=500-"
    assert not part.exists()


def test_fetches_all_of_it_where_what_was_there_before_is_bad(place):
    release = place.release()
    place.folder.mkdir(parents=True)
    (place.folder / f".{release.sha256}.part").write_bytes(b"x" * 100)
    place.store().obtain(release)
    assert [request.headers.get("Range") for request in place.mirror.seen] == ["bytes=100-", None]
    assert place.store().has(release)


@pytest.mark.parametrize("part", [b"", b"x"])
def test_refuses_another_archive_than_that_of_the_lock(place, part):
    release = place.release()
    other = dataclasses.replace(release, sha256="0" * 64)
    store = place.folder
    store.mkdir(parents=True)
    if part:
        (store / f".{other.sha256}.part").write_bytes(part)
    with pytest.raises(BadInputError) as caught:
        place.store().obtain(other)
    message = str(caught.value)
    assert message.startswith(f"{release.url}: {store}/.{other.sha256}.part is not the archive of {release.title} that the lock names")
    assert place.content() == {}
    assert len(place.mirror.seen) == 1 + len(part)


def test_shows_no_secret_of_a_url(place):
    release = place.release()
    other = dataclasses.replace(release, sha256="0" * 64, url=f"{release.url}?signature=s3cret")
    assert "s3cret" not in place.refusal(other)


@pytest.mark.parametrize("at", ["v0.0.171", "gpustack/llama-box/releases/download/v0.0.171"])
def test_takes_archives_from_a_folder(place, tmp_path, at):
    release = place.release()
    archive = tmp_path / "archives" / at / release.archive_name
    archive.parent.mkdir(parents=True)
    archive.write_bytes(archives.pack(archives.contents(VERSION, STATIC)))
    place.store(kind="folder", folder=str(tmp_path / "archives")).obtain(release)
    assert place.store().has(release)
    assert archive.exists()
    assert place.mirror.seen == []


def test_says_where_in_a_folder_it_looked(place, tmp_path):
    release = place.release()
    name = release.archive_name
    assert place.refusal(release, HostError, kind="folder", folder="/srv/a") == (
        f"the archive of {release.title} is not on this host, at /srv/a/{VERSION}/{name} or "
        f"/srv/a/gpustack/llama-box/releases/download/{VERSION}/{name}; put {name} there"
    )


def test_takes_archives_that_were_pushed(place, tmp_path):
    release = place.release()
    archive = tmp_path / "pushed"
    archive.write_bytes(archives.pack(archives.contents(VERSION, STATIC)))
    pushed = {"0" * 64: "/nowhere", release.sha256: str(archive)}
    place.store(kind="pushed", pushed=pushed).obtain(release)
    assert place.store().has(release)
    assert archive.exists()
    assert place.mirror.seen == []


def test_says_that_nothing_was_pushed(place, tmp_path):
    release = place.release()
    assert place.refusal(release, HostError, kind="pushed") == (
        f"the archive of {release.title} is not on this host, at any path; run again, so that the controller copies it"
    )
    assert f"at {tmp_path}/x; run again" in place.refusal(release, HostError, kind="pushed", pushed={release.sha256: f"{tmp_path}/x"})


def test_opens_nothing_of_an_archive_that_is_not_the_locks(place, tmp_path, monkeypatch):
    archive = tmp_path / "pushed"
    archive.write_bytes(b"x")
    release = place.release()
    monkeypatch.setattr(release_store, "open_archive", None)
    message = place.refusal(release, kind="pushed", pushed={release.sha256: str(archive)})
    assert message.startswith(f"{archive} is not the archive of {release.title} that the lock names: it has 1 bytes")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"llama-box": b"x", "../../evil": b"x"}, "'../../evil' is a path, and not the name of a file"),
        ({"llama-box": b"x", "more": b"x"}, "by the lock it also holds more"),
    ],
)
def test_unpacks_nothing_that_is_not_in_the_lock(place, files, says):
    content = archives.pack(files)
    release = place.release(content=content)
    release = dataclasses.replace(release, files={"llama-box": release.files["llama-box"]})
    assert says in place.refusal(release)
    assert not (place.folder.parent / "evil").exists()
    assert place.content() == {}


def test_refuses_files_that_differ_from_the_lock(place):
    release = place.release()
    wrong = dataclasses.replace(release, files={"llama-box": "0" * 64})
    assert place.refusal(wrong) == (
        f"llama-box in {place.folder}/.{release.sha256}.part has the sha256 {release.files['llama-box']}, and not {'0' * 64} as the lock "
        f"says of {release.title}; {release.repair}"
    )
    assert place.content() == {}


def test_leaves_the_archives_that_are_not_its_own(place, tmp_path):
    archive = tmp_path / "pushed"
    archive.write_bytes(archives.pack({"llama-box": b"x"}))
    release = place.release(content=archive.read_bytes())
    wrong = dataclasses.replace(release, files={"llama-box": "0" * 64})
    place.refusal(wrong, kind="pushed", pushed={release.sha256: str(archive)})
    assert archive.exists()


def test_keeps_a_whole_archive_for_which_there_is_no_room(place, monkeypatch):
    def check_room(*arguments):
        raise HostError("no room")

    monkeypatch.setattr(release_store, "check_room", check_room)
    release = place.release()
    assert place.refusal(release, HostError) == "no room"
    assert place.content().keys() == {f".{release.sha256}.part"}


def test_wants_room_to_unpack(place, tmp_path):
    release = place.release()
    archive = tmp_path / "pushed"
    archive.write_bytes(archives.pack(archives.contents(VERSION, STATIC)))
    size_bytes = len(archives.contents(VERSION, STATIC)["llama-box"])
    source = {"kind": "pushed", "pushed": {release.sha256: str(archive)}}
    place.host.free = size_bytes + 64 * 1024 * 1024 - 1
    assert place.refusal(release, HostError, **source) == (
        f"{place.folder} has room for {place.host.free} bytes, and {release.title} needs {size_bytes} and 67108864 to spare; "
        "make room there"
    )
    place.host.free += 1
    place.store(**source).obtain(release)


def test_refuses_a_program_of_another_version(place):
    release = place.release(content=archives.pack({"llama-box": archives.program("v0.0.139", STATIC)}))
    message = place.refusal(release)
    assert place.content().keys() == {f".{release.sha256}.part"}
    assert message.startswith(f"{release.title} is not used on this host (Linux, ")
    assert message.endswith("): it says that it is v0.0.139; check the version, the platform and the toolkit")


def test_refuses_a_program_that_does_not_run(place):
    files = archives.contents(VERSION, DYNAMIC)
    del files["libggml.so"]
    message = place.refusal(place.release(build=DYNAMIC, content=archives.pack(files)))
    assert "version: `--version` gave none (exit status 134); check the version, the platform and the toolkit" in message


def test_leaves_the_store_as_it_was_if_the_last_step_fails(place):
    release = place.release()
    place.host.failing = "rename"
    with pytest.raises(HostError, match="Read-only file system"):
        place.store().obtain(release)
    assert place.content().keys() == {f".{release.sha256}.part"}
    assert not (place.folder / ".unpacking").exists()
    place.host.failing = ""
    place.store().obtain(release)
    assert [request.headers.get("Range") for request in place.mirror.seen] == [None]


def test_does_not_stumble_over_what_a_run_that_was_killed_left(place):
    left = place.folder / ".unpacking" / STATIC / "llama-box"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    release = place.release()
    place.store().obtain(release)
    assert place.store().has(release)
    assert os.listdir(place.folder) == [VERSION]


def test_clears_up_after_a_run_that_died_when_the_release_was_in_its_place(place):
    release = place.release()
    place.store().obtain(release)
    (place.folder / ".unpacking").mkdir(mode=0o700)
    (place.folder / f".{release.sha256}.part").write_bytes(b"all of it")
    assert place.store().obtain(release) == ()
    assert os.listdir(place.folder) == [VERSION]


def test_prunes_everything_but_what_is_to_stay(place):
    kept, other, old = place.release(), place.release(build=DYNAMIC), place.release("v0.0.139")
    store = place.store()
    for release in (kept, other, old):
        store.obtain(release)
    (place.folder / f".{'0' * 64}.part").write_bytes(b"x")
    (place.folder / ".unpacking").mkdir()
    # As runs leave them that died while they pruned.
    (place.folder / ".v0.0.1.99999999999.metalfleet/build").mkdir(parents=True)
    (place.folder / VERSION / ".build.99999999999.metalfleet").mkdir(parents=True)
    (place.folder / "notes").write_bytes(b"kept: not ours")
    (place.folder / "builtin").mkdir()
    assert store.prune([store.folder_of(kept)]) == ()
    assert sorted(os.listdir(place.folder)) == ["builtin", "notes", VERSION]
    assert os.listdir(place.folder / VERSION) == [STATIC]
    assert store.prune([]) == ()
    assert sorted(os.listdir(place.folder)) == ["builtin", "notes"]


def test_prunes_nothing_where_there_is_nothing(place):
    assert place.store().prune([]) == ()


def test_reports_what_cannot_be_pruned(place):
    for name in ("v0.0.1/list", "v0.0.2/list"):
        (place.folder / name).mkdir(parents=True)
    place.host.failing = "v0.0.1"
    assert place.store().prune([]) == (f"{place.folder}/v0.0.1 cannot be removed: Operation not permitted",)
    assert os.listdir(place.folder) == ["v0.0.1"]


def test_reports_what_cannot_be_listed(place):
    (place.folder / "list").mkdir(parents=True)
    place.host.failing = "releases"
    store = ReleaseStore(place.host, f"{place.folder}/list", Source())
    assert store.prune([]) == (f"{place.folder}/list cannot be listed: Permission denied",)


def builtin(tmp_path: pathlib.Path) -> pathlib.Path:
    """A builtin folder as GPUStack 0.7 makes it, with a leftover of its download."""
    folder = tmp_path / "llama-box-v0.0.171-darwin-arm64-mps"
    (folder / "tmp-llama-box").mkdir(parents=True)
    for name, content in archives.contents(VERSION, DYNAMIC).items():
        (folder / name).write_bytes(content)
    (folder / "llama-box-rpc-server").symlink_to("llama-box")
    (folder / "outside").symlink_to("/usr/bin/true")
    return folder


def test_adopts_a_folder_with_its_links(place, tmp_path):
    folder = builtin(tmp_path)
    link = tmp_path / "llama-box-default"
    link.symlink_to(folder.name)
    adopted = place.store().adopt("builtin-0.7.1", str(link))
    kept = place.folder / "builtin-0.7.1"
    assert adopted.folder == str(kept)
    assert adopted.links == {"llama-box-rpc-server": "llama-box", "outside": os.path.realpath("/usr/bin/true")}
    assert adopted.files.keys() == archives.contents(VERSION, DYNAMIC).keys()
    assert os.readlink(kept / "llama-box-rpc-server") == "llama-box"
    assert {name: (kept / name).read_bytes() for name in adopted.files} == archives.contents(VERSION, DYNAMIC)
    assert sorted(os.listdir(kept)) == sorted([*adopted.files, *adopted.links])
    assert place.store().adopted("builtin-0.7.1") == adopted


def test_adopts_a_program(place, tmp_path):
    program = tmp_path / "llama-box_v0.0.139"
    program.write_bytes(b"program")
    adopted = place.store().adopt("pinned-v0.0.139", str(program))
    assert list(adopted.files) == ["llama-box_v0.0.139"]
    assert adopted.links == {}
    # GPUStack 0.6 writes into its program: the copy must be one.
    with program.open("r+b") as file:
        file.write(b"CHANGED")
    assert (place.folder / "pinned-v0.0.139" / "llama-box_v0.0.139").read_bytes() == b"program"


def test_keeps_what_it_adopted_first(place, tmp_path):
    program = tmp_path / "llama-box"
    program.write_bytes(b"GPUStack's own")
    store = place.store()
    first = store.adopt("builtin", str(program))
    program.write_bytes(b"ours")
    assert store.adopt("builtin", str(program)) == first
    assert (place.folder / "builtin" / "llama-box").read_bytes() == b"GPUStack's own"


def test_adopts_again_what_is_damaged(place, tmp_path):
    program = tmp_path / "llama-box"
    program.write_bytes(b"GPUStack's own")
    store = place.store()
    first = store.adopt("builtin", str(program))
    (place.folder / "builtin" / "llama-box").write_bytes(b"x")
    assert store.adopted("builtin") is None
    assert store.adopt("builtin", str(program)) == first
    assert store.adopted("builtin") == first


@pytest.mark.parametrize(
    "manifest",
    [b"", b"x", b"[]", b"{}", b'{"files": 1, "links": {}}', b"\xff", b"[" * 100000, json.dumps({"files": {}, "links": {}}).encode()],
)
def test_takes_no_manifest_that_is_none(place, tmp_path, manifest):
    program = tmp_path / "llama-box"
    program.write_bytes(b"x")
    place.store().adopt("builtin", str(program))
    (place.folder / "builtin.json").write_bytes(manifest)
    assert place.store().adopted("builtin") is None


def test_knows_nothing_of_what_it_never_adopted(place):
    assert place.store().adopted("builtin") is None


@pytest.mark.parametrize("name", ["v0.0.139", "../x", ".x", ""])
def test_adopts_under_no_name_that_means_something_else(place, tmp_path, name):
    with pytest.raises(BadInputError) as caught:
        place.store().adopt(name, "/usr/bin/true")
    assert str(caught.value) == f"{name!r} is no name under which a copy of /usr/bin/true could be kept in {place.folder}"
    assert not place.folder.exists()


@pytest.mark.parametrize("what", ["nothing", "empty"])
def test_adopts_no_void(place, tmp_path, what):
    (tmp_path / "empty").mkdir()
    with pytest.raises(HostError) as caught:
        place.store().adopt("builtin", f"{tmp_path}/{what}")
    assert str(caught.value) == (
        f"there is no file at {tmp_path}/{what} of which a copy could be kept; let GPUStack start once, so that it makes one"
    )


def test_prune_leaves_what_was_adopted(place, tmp_path):
    program = tmp_path / "llama-box"
    program.write_bytes(b"x")
    store = place.store()
    adopted = store.adopt("builtin-0.6.2", str(program))
    store.prune([])
    assert store.adopted("builtin-0.6.2") == Adopted(adopted.folder, adopted.files, {})


def test_what_cannot_be_read_is_not_there(place, tmp_path, monkeypatch):
    release, store = place.release(), place.store()
    store.obtain(release)

    def refuse(_folder):
        raise HostError("no")

    monkeypatch.setattr(place.host, "names", refuse)
    assert not store.has(release)
