# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_boxes import LlamaBox, list_llama_boxes
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import (
    CommandMissingError,
    CommandTimeoutError,
    HostError,
)
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost, Reply
from ansible_collections.metalfleet.gpustack.tests.unit.installations import fixture, shy

SITE = "/venv/lib/python3.11/site-packages"
THIRD_PARTY = f"{SITE}/gpustack/third_party/bin"
BIN_DIR = "/var/lib/gpustack/bin"
BUILTIN_0_6 = f"{THIRD_PARTY}/llama-box/llama-box"
FOLDER_0_7 = "llama-box-v0.0.171-darwin-arm64-mps"
BUILTIN_0_7 = f"{THIRD_PARTY}/llama-box/{FOLDER_0_7}/llama-box"
LINK_0_7 = f"{THIRD_PARTY}/llama-box/llama-box-default"
DIGEST = hashlib.sha256(b"program").hexdigest()


def installed(version: str | None, static: bool = False) -> Installation:
    return Installation("script", gpustack_version=version, third_party_bin=THIRD_PARTY, bin_dir=BIN_DIR, static_llama_box=static)


def says(version: str) -> CommandResult:
    return CommandResult(0, "", fixture("synthetic_llama_box_version.txt").decode().replace("v0.0.136", version))


def host_0_6(answer: Reply | None = None, recorded: str = "v0.0.154") -> MemoryHost:
    return MemoryHost(
        files={
            BUILTIN_0_6: b"program",
            f"{THIRD_PARTY}/versions.json": json.dumps({"llama-box": recorded, "fastfetch": "2.25.0.1"}).encode(),
        },
        commands={(BUILTIN_0_6, "--version"): says("v0.0.154") if answer is None else answer},
    )


def host_0_7(recorded: str = "v0.0.171") -> MemoryHost:
    host = MemoryHost(
        files={BUILTIN_0_7: b"program", f"{THIRD_PARTY}/versions.json": json.dumps({FOLDER_0_7: recorded}).encode()},
        commands={(BUILTIN_0_7, "--version"): says("v0.0.171")},
    )
    host.link(LINK_0_7, FOLDER_0_7)
    return host


def test_the_builtin_one_of_0_6() -> None:
    found = list_llama_boxes(host_0_6(), installed("0.6.2"))
    assert found.programs == (LlamaBox("builtin", BUILTIN_0_6, None, "v0.0.154", "v0.0.154", DIGEST, 7),)
    assert found.warnings == ()


def test_the_builtin_one_of_0_7() -> None:
    found = list_llama_boxes(host_0_7(), installed("0.7.1"))
    assert found.programs == (LlamaBox("builtin", BUILTIN_0_7, None, "v0.0.171", "v0.0.171", DIGEST, 7),)
    assert found.warnings == ()


def test_the_builtin_one_of_0_7_with_static_builds_only() -> None:
    path = f"{BIN_DIR}/llama-box/static/llama-box-v0.0.171/llama-box"
    host = host_0_7()
    host._put(path, MemoryFile(b"static"))
    host.files[f"{THIRD_PARTY}/versions.json"] = MemoryFile(b'{"llama-box-v0.0.171": "v0.0.171"}')
    builtin = list_llama_boxes(host, installed("0.7.1", static=True), run_binaries=False, checksums=False).programs[0]
    assert (builtin.slot, builtin.path, builtin.recorded_version) == ("builtin", path, "v0.0.171")


@pytest.mark.parametrize(("host", "expected"), [(host_0_6(), BUILTIN_0_6), (host_0_7(), BUILTIN_0_7)])
def test_an_unknown_version_is_told_by_what_is_there(host: MemoryHost, expected: str) -> None:
    assert [box.path for box in list_llama_boxes(host, installed(None)).programs] == [expected]


def test_pinned_ones() -> None:
    host = host_0_6()
    host._put(f"{BIN_DIR}/llama-box_v0.0.139", MemoryFile(b"other program"))
    host._put(f"{BIN_DIR}/vllm_0.8.5", MemoryFile(b""))
    host.commands[(f"{BIN_DIR}/llama-box_v0.0.139", "--version")] = says("v0.0.139")
    pinned = list_llama_boxes(host, installed("0.6.2")).programs[1:]
    digest = hashlib.sha256(b"other program").hexdigest()
    assert pinned == (LlamaBox("pinned", f"{BIN_DIR}/llama-box_v0.0.139", "v0.0.139", "v0.0.139", None, digest, 13),)


def test_pinned_ones_of_0_7() -> None:
    host = host_0_7()
    paths = [f"{BIN_DIR}/llama-box/llama-box-v0.0.168/llama-box", f"{BIN_DIR}/llama-box/static/llama-box-v0.0.139/llama-box"]
    for path in paths:
        host._put(path, MemoryFile(b"x"))
    host._put(f"{BIN_DIR}/llama-box/llama-box-v0.0.170/tmp-llama-box/half.zip", MemoryFile(b"x"))
    pinned = list_llama_boxes(host, installed("0.7.1"), run_binaries=False).programs[1:]
    assert [(box.path, box.pin) for box in pinned] == [(paths[0], "v0.0.168"), (paths[1], "v0.0.139")]


def test_a_replaced_builtin_shows_both_versions() -> None:
    box = list_llama_boxes(host_0_6(answer=says("v0.0.139")), installed("0.6.2")).programs[0]
    assert (box.version, box.recorded_version) == ("v0.0.139", "v0.0.154")


@pytest.mark.parametrize("recorded", ["v0.0.139", None])
def test_a_builtin_that_gpustack_will_replace(recorded: str | None) -> None:
    host = host_0_6(recorded="v0.0.139")
    if recorded is None:
        host.remove(f"{THIRD_PARTY}/versions.json")
    says_now = recorded or "nothing"
    message = f"llama-box v0.0.154 over {BUILTIN_0_6} at its next start: versions.json says {says_now} there, not v0.0.154"
    assert list_llama_boxes(host, installed("0.6.2")).warnings == (f"GPUStack downloads {message}",)


def test_no_builtin_yet() -> None:
    found = list_llama_boxes(MemoryHost(), installed("0.6.2"))
    assert found.programs == ()
    assert found.warnings == (f"there is no {BUILTIN_0_6} yet: GPUStack downloads its builtin llama-box when it starts",)


@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_of_0_7_that_leads_nowhere(dangling: bool) -> None:
    host = host_0_7()
    host.remove(LINK_0_7)
    if dangling:
        host.link(LINK_0_7, "llama-box-v0.0.164-darwin-arm64-mps")
    found = list_llama_boxes(host, installed("0.7.1"))
    assert found.programs == ()
    assert found.warnings == (
        f"{LINK_0_7} leads nowhere, although {FOLDER_0_7} is there: there is no builtin llama-box until GPUStack's next start makes it",
    )


def test_nothing_of_0_7_yet() -> None:
    assert list_llama_boxes(MemoryHost(), installed("0.7.1")).warnings == (
        f"{LINK_0_7} leads nowhere: there is no builtin llama-box until GPUStack's next start makes it",
    )


@pytest.mark.parametrize(("host", "version"), [(host_0_6(), "0.6.2"), (host_0_7(), "0.7.1")])
def test_a_builtin_that_may_not_be_looked_at_is_not_said_to_be_gone(host: MemoryHost, version: str) -> None:
    found = list_llama_boxes(shy(host, f"{THIRD_PARTY}/llama-box"), installed(version))
    assert found.programs == ()
    assert found.warnings
    assert all(warning.endswith("Permission denied") for warning in found.warnings)


def test_a_broken_record() -> None:
    host = host_0_6()
    host.files[f"{THIRD_PARTY}/versions.json"] = MemoryFile(b"{")
    found = list_llama_boxes(host, installed("0.6.2"))
    assert found.programs[0].recorded_version is None
    assert found.warnings[0].startswith(f"{THIRD_PARTY}/versions.json: it is not JSON")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (CommandResult(-9, "", ""), "version: `--version` gave none (signal 9)"),
        (CommandResult(127, "", "dyld: missing library"), "version: `--version` gave none (exit status 127)"),
        (CommandMissingError("no"), "version: it cannot be started, as the interpreter or loader that it needs is missing on this host"),
        (
            CommandTimeoutError("it did not end within 30 seconds and was killed"),
            "version: it did not end within 30 seconds and was killed",
        ),
        (HostError(f"{BUILTIN_0_6} cannot be run: Exec format error"), f"version: {BUILTIN_0_6} cannot be run: Exec format error"),
    ],
)
def test_a_program_that_does_not_tell(answer: Reply, reason: str) -> None:
    box = list_llama_boxes(host_0_6(answer=answer), installed("0.6.2")).programs[0]
    assert (box.version, box.reason, box.sha256) == (None, reason, DIGEST)


def test_programs_are_not_run_where_that_is_not_wanted() -> None:
    host = host_0_6()
    box = list_llama_boxes(host, installed("0.6.2"), run_binaries=False).programs[0]
    assert (box.version, box.sha256) == (None, DIGEST)
    assert box.reason == "version: the program was not run, as run_binaries is false"
    assert host.calls == []


def test_programs_are_not_read_where_that_is_not_wanted() -> None:
    host = host_0_6()
    host.unreadable.add(BUILTIN_0_6)
    box = list_llama_boxes(host, installed("0.6.2"), checksums=False).programs[0]
    assert (box.version, box.sha256, box.reason) == ("v0.0.154", None, "sha256: not computed, as checksums is false")


def test_a_program_that_may_not_be_read() -> None:
    host = host_0_6()
    host.unreadable.add(BUILTIN_0_6)
    box = list_llama_boxes(host, installed("0.6.2")).programs[0]
    assert (box.sha256, box.reason) == (None, f"sha256: {BUILTIN_0_6} cannot be read: Permission denied")


def test_a_program_that_goes_away_while_it_is_looked_at() -> None:
    host = host_0_6()

    def vanish() -> CommandResult:
        host.remove(BUILTIN_0_6)
        return says("v0.0.154")

    host.commands[(BUILTIN_0_6, "--version")] = vanish
    assert list_llama_boxes(host, installed("0.6.2")).programs[0].reason == "sha256: the file went away"


def test_folders_that_may_not_be_listed() -> None:
    host = host_0_6()
    host.unreadable.update({BIN_DIR, f"{THIRD_PARTY}/versions.json"})
    found = list_llama_boxes(host, installed("0.6.2"))
    assert found.programs[0].recorded_version is None
    assert f"{BIN_DIR} cannot be listed: Permission denied" in found.warnings
    assert f"{THIRD_PARTY}/versions.json cannot be read: Permission denied" in found.warnings
    # Not being able to read the record is no sign that GPUStack will replace the program.
    assert not any("at its next start" in warning for warning in found.warnings)


def test_nothing_installed() -> None:
    assert list_llama_boxes(MemoryHost(), Installation("none")) == ((), ())


def test_only_pinned_ones_where_the_package_was_not_found() -> None:
    host = MemoryHost(files={f"{BIN_DIR}/llama-box_v0.0.139": b"x"})
    found = list_llama_boxes(host, Installation("script", bin_dir=BIN_DIR), run_binaries=False)
    assert [box.pin for box in found.programs] == ["v0.0.139"]
    assert found.warnings == ()
