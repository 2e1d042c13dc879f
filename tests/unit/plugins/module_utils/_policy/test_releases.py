# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import releases
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Lock, Release, parse_lock

GITHUB = "https://github.com/gpustack/llama-box/releases/download"


def fields(letter: str, version: str = "v0.0.139", name: str = "llama-box-darwin-arm64-metal.zip", **files: str) -> t.Dict[str, t.Any]:
    return {
        "url": f"{GITHUB}/{version}/{name}",
        "sha256": letter * 64,
        "size_bytes": 100,
        "files": {"llama-box": letter.replace("a", "1") * 64, **files},
    }


def data() -> t.Dict[str, t.Any]:
    return {
        "format": 1,
        "releases": {
            "v0.0.171": {
                "linux-amd64-avx2": fields("b", "v0.0.171"),
                "dl-darwin-arm64-metal": fields("c", "v0.0.171", **{"libggml.dylib": "e" * 64}),
            },
            "v0.0.99": {"darwin-arm64-metal": fields("a", "v0.0.99")},
            "v0.0.139": {"darwin-arm64-metal": fields("d")},
        },
    }


def at(*keys: str, value: t.Any = None, drop: bool = False) -> t.Dict[str, t.Any]:
    """The data with one value changed."""
    content = copy.deepcopy(data())
    place = content
    for key in keys[:-1]:
        place = place[key]
    if drop:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return content


def refusal(content: t.Any) -> str:
    with pytest.raises(BadInputError) as caught:
        parse_lock(content)
    return str(caught.value)


def release(version: str = "v0.0.139", build: str = "darwin-arm64-metal", letter: str = "d") -> Release:
    return Release(version, build, f"{GITHUB}/{version}/x.zip", letter * 64, 100, {"llama-box": letter * 64})


def test_reads_a_lock_in_the_order_of_versions_and_builds():
    lock = parse_lock(data())
    assert [(one.version, one.build) for one in lock.releases] == [
        ("v0.0.99", "darwin-arm64-metal"),
        ("v0.0.139", "darwin-arm64-metal"),
        ("v0.0.171", "dl-darwin-arm64-metal"),
        ("v0.0.171", "linux-amd64-avx2"),
    ]
    assert lock.releases[2] == Release(
        "v0.0.171",
        "dl-darwin-arm64-metal",
        f"{GITHUB}/v0.0.171/llama-box-darwin-arm64-metal.zip",
        "c" * 64,
        100,
        {"llama-box": "c" * 64, "libggml.dylib": "e" * 64},
    )


def test_writes_what_it_reads_in_order():
    lock = parse_lock(data())
    written = lock.as_data()
    assert written == data()
    assert list(written) == ["format", "releases"]
    assert list(written["releases"]) == ["v0.0.99", "v0.0.139", "v0.0.171"]
    assert list(written["releases"]["v0.0.171"]) == ["dl-darwin-arm64-metal", "linux-amd64-avx2"]
    assert list(written["releases"]["v0.0.171"]["dl-darwin-arm64-metal"]) == ["url", "sha256", "size_bytes", "files"]
    assert list(written["releases"]["v0.0.171"]["dl-darwin-arm64-metal"]["files"]) == ["libggml.dylib", "llama-box"]
    assert Lock().as_data() == {"format": 1, "releases": {}}
    assert parse_lock(Lock().as_data()) == Lock()


MAC = ("releases", "v0.0.139", "darwin-arm64-metal")
WHERE = ".".join(MAC)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "its content is not a mapping"),
        ([], "its content is not a mapping"),
        ({}, "format is missing"),
        (at("releases", drop=True), "releases is missing"),
        (at("more", value=1), "more is not known; there are format, releases"),
        (at("format", value=2), "format is 2, and this release of the collection knows 1 only"),
        (at("format", value="1"), "format is '1', and this release of the collection knows 1 only"),
        (at("format", value=True), "format is True, and this release of the collection knows 1 only"),
        (at("releases", value=[]), "releases is not a mapping"),
        (at("releases", "0.0.139", value={}), "releases.0.0.139 is not a version such as v0.0.139"),
        (at("releases", 7, value={}), "releases.7 is not a version such as v0.0.139"),
        (at("releases", "v0.0.139", value="x"), "releases.v0.0.139 is not a mapping"),
        (at("releases", "v0.0.139", "metal", value={}), "releases.v0.0.139.metal is not a build such as darwin-arm64-metal"),
        (at(*MAC, value=[]), f"{WHERE} is not a mapping"),
        (at(*MAC, "url", drop=True), f"{WHERE}.url is missing"),
        (at(*MAC, "sha256", drop=True), f"{WHERE}.sha256 is missing"),
        (at(*MAC, "size_bytes", drop=True), f"{WHERE}.size_bytes is missing"),
        (at(*MAC, "files", drop=True), f"{WHERE}.files is missing"),
        (at(*MAC, "shasum", value=1), f"{WHERE}.shasum is not known; there are url, sha256, size_bytes, files"),
        (at(*MAC, "url", value=1), f"{WHERE}.url is not text"),
        (
            at(*MAC, "url", value="https://u:secret@h/"),
            f"{WHERE}.url holds a user or a password, which have options of their own",
        ),
        (at(*MAC, "size_bytes", value=0), f"{WHERE}.size_bytes is 0, and not a number of bytes from 1 to 4294967296"),
        (at(*MAC, "size_bytes", value=4294967297), f"{WHERE}.size_bytes is 4294967297, and not a number of bytes from 1 to 4294967296"),
        (at(*MAC, "size_bytes", value="9"), f"{WHERE}.size_bytes is '9', and not a number of bytes from 1 to 4294967296"),
        (at(*MAC, "size_bytes", value=True), f"{WHERE}.size_bytes is True, and not a number of bytes from 1 to 4294967296"),
        (at(*MAC, "files", value=["llama-box"]), f"{WHERE}.files is not a mapping"),
        (at(*MAC, "files", value={}), f"{WHERE}.files has no llama-box"),
        (at(*MAC, "files", "../x", value="a" * 64), f"{WHERE}.files has '../x', which is not the plain name of a file"),
        (at(*MAC, "files", 1, value="a" * 64), f"{WHERE}.files has 1, which is not the plain name of a file"),
        (at(*MAC, "files", "llama-box", value="x"), f"{WHERE}.files.llama-box is 'x', and not 64 digits of 0-9 and a-f"),
        (at(*MAC, "sha256", value="A" * 64), f"{WHERE}.sha256 is '{'A' * 64}', and not 64 digits of 0-9 and a-f"),
        (at(*MAC, "sha256", value="a" * 65), f"{WHERE}.sha256 is '{'a' * 65}', and not 64 digits of 0-9 and a-f"),
        (at(*MAC, "sha256", value="a" * 63), f"{WHERE}.sha256 is '{'a' * 63}', and not 64 digits of 0-9 and a-f"),
        (at(*MAC, "sha256", value=12), f"{WHERE}.sha256 is 12, and not 64 digits of 0-9 and a-f"),
    ],
)
def test_names_the_place_of_a_mistake(content, message):
    entries = {
        "releases.0.0.139 ": "0.0.139",
        "releases.7 ": "7",
        "releases.v0.0.139 ": "v0.0.139",
        "releases.v0.0.139.metal ": "v0.0.139/metal",
        WHERE: "v0.0.139/darwin-arm64-metal",
    }
    found = [entry for beginning, entry in entries.items() if message.startswith(beginning)]
    what = f"take out the entry {found[0]}" if found else "remove it"
    how = f"restore the lock from version control, or {what} and run the playbook metalfleet.gpustack.lock again"
    assert refusal(content) == f"lock: {message}; {how}"


def test_names_the_file_where_it_is_known():
    with pytest.raises(BadInputError) as caught:
        parse_lock(at(*MAC, "sha256", value="x"), "/fleet/llama_box.lock.yml")
    assert str(caught.value) == (
        f"/fleet/llama_box.lock.yml: {WHERE}.sha256 is 'x', and not 64 digits of 0-9 and a-f; restore the lock from version control, or "
        "take out the entry v0.0.139/darwin-arm64-metal and run the playbook metalfleet.gpustack.lock again"
    )


@pytest.mark.parametrize("size_bytes", [1, 4294967296])
def test_takes_archives_of_any_size_that_one_can_have(size_bytes):
    assert parse_lock(at(*MAC, "size_bytes", value=size_bytes)).releases[1].size_bytes == size_bytes


def test_finds_a_release():
    lock = parse_lock(data())
    assert lock.find("v0.0.171", "linux-amd64-avx2").sha256 == "b" * 64
    assert lock.find("v0.0.171", "dl-darwin-arm64-metal").sha256 == "c" * 64
    assert lock.find("v0.0.139", "darwin-arm64-metal").sha256 == "d" * 64


def missing(lock: Lock, version: str, build: str) -> str:
    with pytest.raises(BadInputError) as caught:
        lock.find(version, build)
    return str(caught.value)


def test_says_which_versions_there_are_instead():
    assert missing(parse_lock(data()), "v0.0.150", "darwin-arm64-metal") == (
        "lock: the version v0.0.150 is not in it, only v0.0.99, v0.0.139, v0.0.171; use one of those, or write the lock with the "
        "playbook metalfleet.gpustack.lock for v0.0.150 too"
    )
    assert missing(Lock(), "v0.0.150", "darwin-arm64-metal") == (
        "lock: the version v0.0.150 is not in it, and no other is; write the lock with the playbook metalfleet.gpustack.lock"
    )


def test_says_which_builds_there_are_instead():
    assert missing(parse_lock(data()), "v0.0.171", "darwin-arm64-metal") == (
        "lock: v0.0.171 has no build darwin-arm64-metal, only dl-darwin-arm64-metal, linux-amd64-avx2; add its platform to "
        "llama_box_platforms and write the lock with the playbook metalfleet.gpustack.lock, or use a version that has one"
    )


def test_does_not_send_for_a_build_that_cannot_exist():
    assert missing(parse_lock(data()), "v0.0.171", "dl-linux-amd64-mettal") == (
        "toolkit: mettal is none that GPUStack knows on this system (cann, cuda, dtk, hip or musa with a version, such as cuda-12.4, "
        "or avx2, neon or cpu), and the lock has only dl-darwin-arm64-metal, linux-amd64-avx2 of v0.0.171; correct the toolkit, or "
        "leave it auto"
    )
    odd = release(build="linux-amd64-vulkan")
    assert Lock((odd,)).find("v0.0.139", "linux-amd64-vulkan") is odd


def test_identifies_a_program():
    lock = parse_lock(data())
    assert lock.identify("c" * 64) is lock.releases[2]
    # The digest of an archive and that of a library identify no program.
    assert lock.identify("a" * 64) is None
    assert lock.identify("e" * 64) is None
    assert lock.identify(None) is None


def test_adds_and_replaces_releases():
    old, other = release("v0.0.139", letter="1"), release("v0.0.9", letter="2")
    new = release("v0.0.139", letter="3")
    static, dynamic = release("v0.0.171", "darwin-arm64-metal", "4"), release("v0.0.171", "dl-darwin-arm64-metal", "5")
    lock = Lock((old,)).with_releases([dynamic, new, other, static])
    assert lock.releases == (other, new, static, dynamic)


def test_names_a_release():
    assert release().repair == (
        "restore the lock from version control, or take out the entry v0.0.139/darwin-arm64-metal and run the playbook "
        "metalfleet.gpustack.lock again"
    )
    assert release().title == "llama-box v0.0.139 (darwin-arm64-metal)"
    assert release().archive_name == "llama-box-darwin-arm64-metal.zip"
    assert release(build="dl-darwin-arm64-metal").archive_name == "dl-llama-box-darwin-arm64-metal.zip"


@pytest.mark.parametrize("base", ["https://mirror.example/github", "https://mirror.example/github/"])
def test_finds_archives_below_a_base_url(base):
    assert releases.release_url(base, "v0.0.171", "dl-linux-amd64-cpu") == (
        "https://mirror.example/github/gpustack/llama-box/releases/download/v0.0.171/dl-llama-box-linux-amd64-cpu.zip"
    )


def test_takes_the_same_release_from_a_mirror():
    original = release()
    mirrored = releases.with_base_url(original, "http://10.0.0.1")
    assert mirrored.url == "http://10.0.0.1/gpustack/llama-box/releases/download/v0.0.139/llama-box-darwin-arm64-metal.zip"
    assert releases.with_base_url(mirrored, "https://x/X/").url.startswith("https://x/X/gpustack/")
    assert (mirrored.version, mirrored.build, mirrored.sha256, mirrored.files) == (
        original.version,
        original.build,
        original.sha256,
        original.files,
    )


def test_finds_archives_in_a_folder():
    assert releases.places_in_folder("/srv/a", "v0.0.139", "darwin-arm64-metal") == (
        "/srv/a/v0.0.139/llama-box-darwin-arm64-metal.zip",
        "/srv/a/gpustack/llama-box/releases/download/v0.0.139/llama-box-darwin-arm64-metal.zip",
    )


def test_constants():
    assert releases.GITHUB == "https://github.com"
    assert releases.LARGEST_ARCHIVE_BYTES == 4294967296
