# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives on a real file system, damaged in many ways."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import random
import stat
import zipfile

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.archive import (
    describe_archive,
    open_archive,
    verify_archive,
    verify_files,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.archive_listing import Entry
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, GpustackError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Release
from ansible_collections.metalfleet.gpustack.tests.mirror import archives

FILES = archives.contents("v0.0.171", "dl-darwin-arm64-metal")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def path(tmp_path) -> str:
    (tmp_path / "box.zip").write_bytes(archives.pack(FILES))
    return str(tmp_path / "box.zip")


def test_lists_what_is_in_an_archive(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("llama-box")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, b"x" * 1000, zipfile.ZIP_DEFLATED)
        archive.writestr("plain", b"y" * 7, zipfile.ZIP_STORED)
    with open_archive(Host(), str(path)) as content:
        first, second = content.entries()
    assert dataclasses.replace(first, compressed_bytes=0) == Entry("llama-box", 1000, 0, stat.S_IFLNK | 0o777)
    assert 0 < first.compressed_bytes < 100
    assert second == Entry("plain", 7, 7, 0o600, method=0)


def test_shows_names_as_they_stand_in_the_archive(tmp_path):
    data = archives.pack({"llama-boxXevil": b""}).replace(b"llama-boxXevil", b"llama-box\x00evil")
    (tmp_path / "nul.zip").write_bytes(data)
    with open_archive(Host(), str(tmp_path / "nul.zip")) as content:
        assert content.entries()[0].name == "llama-box\x00evil"


def test_sees_encryption(tmp_path):
    data = bytearray(archives.pack({"llama-box": b"x"}))
    # The flag bits of the local header and of the central directory.
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with open_archive(Host(), str(tmp_path / "a.zip")) as content:
        assert content.entries()[0].is_encrypted
        with pytest.raises(BadInputError):
            list(content.pieces("llama-box"))


def test_gives_the_content_of_a_file_in_pieces(tmp_path):
    big = bytes(3 * 1024 * 1024 + 1)
    (tmp_path / "a.zip").write_bytes(archives.pack({"llama-box": big}))
    with open_archive(Host(), str(tmp_path / "a.zip")) as content:
        pieces = list(content.pieces("llama-box"))
    assert [len(piece) for piece in pieces] == [1024 * 1024] * 3 + [1]
    assert b"".join(pieces) == big


def test_notices_content_that_is_damaged(tmp_path):
    data = archives.pack({"llama-box": b"good content"}).replace(b"good content", b"evil content")
    (tmp_path / "a.zip").write_bytes(data)
    with open_archive(Host(), str(tmp_path / "a.zip")) as content, pytest.raises(BadInputError) as caught:
        list(content.pieces("llama-box"))
    assert str(caught.value).startswith(f"{tmp_path}/a.zip is not a zip archive that can be read (Bad CRC-32")
    assert str(caught.value).endswith("); remove it and get it again")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + bytes(10), b"PK\x05\x06" + b"\xff" * 18])
def test_refuses_what_is_no_archive(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(BadInputError) as caught, open_archive(Host(), str(tmp_path / "a.zip")):
        pass
    assert str(caught.value).startswith(f"{tmp_path}/a.zip is not a zip archive that can be read (")


def is_refused(path: str) -> bool:
    try:
        describe_archive(Host(), path, "v0.0.171", "dl-darwin-arm64-metal", "https://x")
    except GpustackError as exc:
        return path in str(exc)
    return False


def test_any_damage_is_a_failure_with_a_sentence_or_none_at_all(tmp_path):
    chance = random.Random(3)
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    good = memory.getvalue()
    refused = 0
    for number in range(400):
        data = bytearray(good)
        for _change in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path = tmp_path / f"{number}.zip"
        path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
        refused += is_refused(str(path))
        path.unlink()
    assert refused > 200


def test_describes_an_archive(path):
    found = describe_archive(Host(), path, "v0.0.171", "dl-darwin-arm64-metal", "https://x/y.zip")
    data = archives.pack(FILES)
    files = {name: sha256(content) for name, content in FILES.items()}
    assert found == Release("v0.0.171", "dl-darwin-arm64-metal", "https://x/y.zip", sha256(data), len(data), files)


def test_does_not_describe_what_may_not_be_unpacked(tmp_path):
    (tmp_path / "a.zip").write_bytes(archives.pack({"llama-box": b"x", "../x": b"x"}))
    with pytest.raises(BadInputError, match="is a path, and not the name of a file"):
        describe_archive(Host(), str(tmp_path / "a.zip"), "v0.0.171", "darwin-arm64-metal", "https://x")


def test_verifies_size_and_digest(path):
    data = archives.pack(FILES)
    release = Release("v0.0.171", "dl-darwin-arm64-metal", "https://x", sha256(data), len(data), {})
    verify_archive(Host(), release, path)
    for wrong in (dataclasses.replace(release, size_bytes=1), dataclasses.replace(release, sha256="0" * 64)):
        with pytest.raises(BadInputError) as caught:
            verify_archive(Host(), wrong, path)
        assert str(caught.value) == (
            f"{path} is not the archive of llama-box v0.0.171 (dl-darwin-arm64-metal) that the lock names: it has {len(data)} bytes "
            f"with the sha256 {sha256(data)}, and not {wrong.size_bytes} with {wrong.sha256}: somebody has tampered with it, or it "
            f"was damaged; find out which before anything else, and if it is the lock that is wrong, {release.repair}"
        )


def test_verifies_files(path):
    release = describe_archive(Host(), path, "v0.0.171", "dl-darwin-arm64-metal", "https://x")
    verify_files(Host(), release, path)
    good = release.files["llama-box"]
    wrong = dataclasses.replace(release, files={**release.files, "llama-box": "0" * 64})
    with pytest.raises(BadInputError) as caught:
        verify_files(Host(), wrong, path)
    assert str(caught.value) == (
        f"llama-box in {path} has the sha256 {good}, and not {'0' * 64} as the lock says of llama-box v0.0.171 (dl-darwin-arm64-metal); "
        f"{release.repair}"
    )
    with pytest.raises(BadInputError, match="by the lock it also holds"):
        verify_files(Host(), dataclasses.replace(release, files={"llama-box": good}), path)


def test_says_that_there_is_none(tmp_path):
    release = Release("v0.0.171", "darwin-arm64-metal", "https://x", "0" * 64, 1, {})
    with pytest.raises(HostError, match=f"^{tmp_path}/none.zip does not exist$"):
        verify_archive(Host(), release, f"{tmp_path}/none.zip")
    with pytest.raises(HostError, match=f"^{tmp_path}/none.zip does not exist$"), open_archive(Host(), f"{tmp_path}/none.zip"):
        pass
