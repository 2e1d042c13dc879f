# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One node's life with real files, real archives from a real mirror, and programs that are really started."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import subprocess
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_box import LlamaBox
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import undo
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.builds import build_for
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_request import OPTIONS, parse_request
from ansible_collections.metalfleet.gpustack.tests.mirror import archives
from ansible_collections.metalfleet.gpustack.tests.mirror.mirror import Mirror, running

VERSIONS = ("v0.0.139", "v0.0.168", "v0.0.171")
OWN_FOLDER = "llama-box-v0.0.171-linux-amd64"


class PlainLinux(Host):
    """This machine, taken for a Linux host without accelerator, whatever it is."""

    def system(self) -> str:
        return "Linux"

    def machine(self) -> str:
        return "x86_64"


class Story:
    """A node with GPUStack 0.7.1 below a folder."""

    def __init__(self, folder: pathlib.Path, mirror: Mirror, served: pathlib.Path) -> None:
        self.host = PlainLinux()
        self.state = folder / "state"
        third_party = folder / "third_party/bin"
        self.builtin = third_party / "llama-box" / OWN_FOLDER
        self.bin_dir = folder / "bin"
        self.builtin.mkdir(parents=True)
        for name, content in archives.contents("v0.0.171", build("v0.0.171")).items():
            (self.builtin / name).write_bytes(content)
            (self.builtin / name).chmod(0o755)
        (self.builtin / "llama-box-rpc-server").symlink_to("llama-box")
        (third_party / "llama-box/llama-box-default").symlink_to(OWN_FOLDER)
        (third_party / "versions.json").write_text(json.dumps({OWN_FOLDER: "v0.0.171"}))
        self.installation = Installation(
            "systemd",
            "systemd",
            "gpustack.service",
            gpustack_version="0.7.1",
            third_party_bin=str(third_party),
            bin_dir=str(self.bin_dir),
        )
        releases = {
            version: {build(version): archives.release_data(served, mirror.base_url, version, build(version))} for version in VERSIONS
        }
        self.options = {name: option.get("default") for name, option in OPTIONS.items()}
        self.options.update(lock={"format": 1, "releases": releases}, retries=0, timeout_seconds=5)

    def resource(self, **options: t.Any) -> LlamaBox:
        return LlamaBox(self.host, self.installation, parse_request({**self.options, **options}), str(self.state))

    def run(self, **options: t.Any) -> Planned:
        box = self.resource(**options)
        planned = box.plan()
        if planned.steps:
            box.prepare()
            for step in planned.steps:
                step.apply(self.host)
        assert box.check() == ()
        if planned.steps:
            assert box.finish() == ()
        return planned

    def builtin_says(self, name: str = "llama-box") -> str:
        done = subprocess.run([self.builtin / name, "--version"], capture_output=True, text=True, check=True)
        return done.stderr.splitlines()[0]


def build(version: str) -> str:
    return build_for("Linux", "x86_64", version >= "v0.0.157", "cpu")


def look(folder: pathlib.Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below a folder: mode, inode and content or target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = os.fsencode(os.readlink(path)) if path.is_symlink() else b"" if path.is_dir() else path.read_bytes()
        found[str(path)] = (stat.S_IMODE(status.st_mode), status.st_ino, content)
    return found


@pytest.fixture
def story(tmp_path: pathlib.Path) -> t.Iterator[Story]:
    served = tmp_path / "served"
    for version in VERSIONS:
        archives.place(served, version, build(version))
    with running(Mirror(served)) as mirror:
        yield Story(tmp_path / "node", mirror, served)


def test_a_life(story: Story, tmp_path: pathlib.Path) -> None:
    before = {path: content for path, (_mode, _inode, content) in look(story.builtin).items()}
    story.run(version="v0.0.168")
    assert story.builtin_says() == story.builtin_says("llama-box-rpc-server") == "version    : v0.0.168 (abcdef0)"
    pinned = story.bin_dir / "llama-box/llama-box-v0.0.168"
    assert stat.S_IMODE((pinned / "llama-box").stat().st_mode) == 0o755
    seen = look(tmp_path / "node")
    assert story.run(version="v0.0.168").steps == ()
    assert look(tmp_path / "node") == seen
    # To a static one, and back, now without a mirror: the releases are kept.
    story.run(version="v0.0.139")
    assert sorted(os.listdir(story.builtin)) == ["llama-box", "llama-box-rpc-server"]
    assert story.builtin_says() == "version    : v0.0.139 (abcdef0)"
    story.run(version="v0.0.168", base_url="http://127.0.0.1:9/none")
    assert story.builtin_says() == "version    : v0.0.168 (abcdef0)"
    # Drift of every kind.
    (story.builtin / "libggml.so").write_bytes(b"other")
    (story.builtin / "libleft.so").write_bytes(b"left")
    (pinned / "llama-box").chmod(0o600)
    (story.builtin / "llama-box-rpc-server").unlink()
    assert [change["action"] for change in story.run(version="v0.0.168").changes] == ["repaired", "repaired"]
    assert story.run(version="v0.0.168").steps == ()
    # And GPUStack as it was.
    story.run(state="absent")
    assert {path: content for path, (_mode, _inode, content) in look(story.builtin).items()} == before
    assert not any(path.is_file() for path in [*story.state.rglob("*"), *story.bin_dir.rglob("*")])
    assert story.run(state="absent").steps == ()


def test_every_step_can_be_undone(story: Story, tmp_path: pathlib.Path) -> None:
    box = story.resource(version="v0.0.139")
    planned = box.plan()
    box.prepare()
    folders = [story.builtin.parent, story.bin_dir]
    before = [look(folder) for folder in folders]
    records = []
    for number, step in enumerate(planned.steps):
        records.append(step.save(story.host, str(tmp_path / f"backup-{number}")))
        step.apply(story.host)
    assert story.builtin_says() == "version    : v0.0.139 (abcdef0)"
    for record in reversed(records):
        undo(story.host, record)
    after = [look(folder) for folder in folders]
    assert after[0].keys() == before[0].keys()
    files = {path: value for path, value in before[0].items() if os.path.isfile(path) and not os.path.islink(path)}
    assert {path: after[0][path] for path in files} == files
    assert not any(os.path.isfile(path) for path in after[1])
    assert not os.path.exists(story.state / "llama-box.json")


def test_an_archive_that_is_not_the_one_of_the_lock_changes_nothing(story: Story, tmp_path: pathlib.Path) -> None:
    path = next((tmp_path / "served").rglob(archives.archive_name(build("v0.0.139"))))
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    before = look(story.builtin)
    box = story.resource(version="v0.0.139")
    box.plan()
    with pytest.raises(BadInputError, match=r"is not the archive of llama-box v0\.0\.139"):
        box.prepare()
    assert look(story.builtin) == before
