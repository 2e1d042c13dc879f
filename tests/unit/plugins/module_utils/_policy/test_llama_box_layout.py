# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import pathlib

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import llama_box_layout as layout

THIRD_PARTY = "/venv/lib/python3.11/site-packages/gpustack/third_party/bin"
BIN_DIR = "/var/lib/gpustack/bin"
DEFAULT = f"{THIRD_PARTY}/llama-box/llama-box-v0.0.171-darwin-arm64-mps"
NOT_JSON = "it is not JSON, so GPUStack downloads its builtin tools again when it starts"


def test_files_of_gpustack() -> None:
    assert layout.versions_file(THIRD_PARTY) == f"{THIRD_PARTY}/versions.json"
    assert layout.default_link(THIRD_PARTY) == f"{THIRD_PARTY}/llama-box/llama-box-default"


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.5.1", False), ("0.6.0", False), ("v0.6.2", False), ("0.7.0rc1", True), ("0.7.1", True), ("v0.0.0", None), (None, None)],
)
def test_uses_folders(version: str | None, expected: bool | None) -> None:
    assert layout.uses_folders(version) is expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.6.0", "v0.0.136"),
        ("v0.6.1", "v0.0.144"),
        ("0.6.2", "v0.0.154"),
        ("0.7.0", "v0.0.164"),
        ("v0.7.1", "v0.0.171"),
        ("0.7.9", None),
        (None, None),
    ],
)
def test_builtin_version(version: str | None, expected: str | None) -> None:
    assert layout.builtin_version(version) == expected


@pytest.mark.parametrize("version", ["0.6.0", "0.6.2"])
@pytest.mark.parametrize("only_static", [False, True])
def test_builtin_of_0_6_is_one_file(version: str, only_static: bool) -> None:
    slot = layout.builtin_slot(version, THIRD_PARTY, BIN_DIR, only_static, DEFAULT)
    assert slot == layout.Slot("builtin", f"{THIRD_PARTY}/llama-box/llama-box", "llama-box")


def test_builtin_of_0_7_is_where_the_link_leads() -> None:
    slot = layout.builtin_slot("0.7.1", THIRD_PARTY, BIN_DIR, default_target=DEFAULT)
    assert slot == layout.Slot("builtin", f"{DEFAULT}/llama-box", "llama-box-v0.0.171-darwin-arm64-mps")


def test_builtin_of_0_7_without_its_link_cannot_be_told() -> None:
    assert layout.builtin_slot("0.7.1", THIRD_PARTY, BIN_DIR) is None


def test_builtin_of_0_7_with_static_builds_only_lies_in_bin_dir() -> None:
    slot = layout.builtin_slot("0.7.0", THIRD_PARTY, BIN_DIR, True, DEFAULT)
    assert slot == layout.Slot("builtin", f"{BIN_DIR}/llama-box/static/llama-box-v0.0.164/llama-box", "llama-box-v0.0.164")
    assert layout.builtin_slot("0.7.9", THIRD_PARTY, BIN_DIR, True, DEFAULT) is None


def test_builtin_of_an_unknown_version_is_told_by_the_link() -> None:
    assert layout.builtin_slot(None, THIRD_PARTY, BIN_DIR) == layout.Slot("builtin", f"{THIRD_PARTY}/llama-box/llama-box", "llama-box")
    with_link = layout.builtin_slot(None, THIRD_PARTY, BIN_DIR, default_target=DEFAULT)
    assert with_link is not None
    assert with_link.path == f"{DEFAULT}/llama-box"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama-box-v0.0.171-darwin-arm64-mps", "v0.0.171"),
        ("llama-box-v0.0.164-linux-amd64", "v0.0.164"),
        ("llama-box-v0.0.164-rc1-linux-amd64-cuda", "v0.0.164-rc1"),
        ("llama-box-default", None),
        ("llama-box", None),
        ("llama-box-rpc-server", None),
    ],
)
def test_builtin_folder_version(name: str, expected: str | None) -> None:
    assert layout.builtin_folder_version(name) == expected


@pytest.mark.parametrize(
    ("gpustack", "pin", "only_static", "expected"),
    [
        ("0.6.0", "v0.0.139", False, f"{BIN_DIR}/llama-box_v0.0.139"),
        ("0.6.2", "v0.0.139", True, f"{BIN_DIR}/llama-box_v0.0.139"),
        ("0.7.1", "v0.0.139", False, f"{BIN_DIR}/llama-box/static/llama-box-v0.0.139/llama-box"),
        ("0.7.1", "v0.0.156", False, f"{BIN_DIR}/llama-box/static/llama-box-v0.0.156/llama-box"),
        ("0.7.1", "v0.0.157", False, f"{BIN_DIR}/llama-box/llama-box-v0.0.157/llama-box"),
        ("0.7.0", "v0.0.168", True, f"{BIN_DIR}/llama-box/static/llama-box-v0.0.168/llama-box"),
        # Compared as strings: "v0.0.99" > "v0.0.157", and "0.0.171" < "v…".
        ("0.7.1", "v0.0.99", False, f"{BIN_DIR}/llama-box/llama-box-v0.0.99/llama-box"),
        ("0.7.1", "0.0.171", False, f"{BIN_DIR}/llama-box/static/llama-box-0.0.171/llama-box"),
    ],
)
def test_pinned_slot(gpustack: str, pin: str, only_static: bool, expected: str) -> None:
    slot = layout.pinned_slot(gpustack, BIN_DIR, pin, only_static)
    assert slot == layout.Slot("pinned", expected, "", pin)


def test_static_builds_only_is_not_the_default() -> None:
    assert layout.pinned_slot("0.7.1", BIN_DIR, "v0.0.168") == layout.pinned_slot("0.7.1", BIN_DIR, "v0.0.168", False)
    assert layout.runs_builtin("0.7.1", "v0.0.171") is True


@pytest.mark.parametrize(
    ("gpustack", "pin", "only_static", "expected"),
    [
        ("0.7.1", "v0.0.171", False, True),
        ("0.7.1", "v0.0.164", False, False),
        ("0.7.1", "v0.0.171", True, False),
        ("0.6.2", "v0.0.154", False, False),
        (None, "v0.0.171", False, False),
    ],
)
def test_a_pin_to_its_own_version_runs_the_builtin_of_0_7(gpustack: str, pin: str, only_static: bool, expected: bool) -> None:
    assert layout.runs_builtin(gpustack, pin, only_static) is expected


@pytest.mark.parametrize(("gpustack", "number"), [("0.6.2", 1), ("0.7.1", 2), (None, 3)])
def test_what_is_pinned_is_found_again(gpustack: str | None, number: int) -> None:
    folders = layout.pinned_folders(gpustack, BIN_DIR)
    assert len(folders) == number
    for pin in ("v0.0.99", "v0.0.139", "v0.0.168"):
        for version in [gpustack] if gpustack else ["0.6.2", "0.7.1"]:
            wanted = layout.pinned_slot(version, BIN_DIR, pin)
            names = {folder: [wanted.path[len(folder) + 1 :].split("/")[0]] for folder in folders if wanted.path.startswith(folder + "/")}
            assert wanted in [slot for folder, listed in names.items() for slot in layout.pinned_found(BIN_DIR, folder, listed)]


def test_other_names_are_not_pinned() -> None:
    assert layout.pinned_found(BIN_DIR, BIN_DIR, ["llama-box", "vllm_0.8.5", "llama-box-v0.0.1"]) == []
    assert layout.pinned_found(BIN_DIR, f"{BIN_DIR}/llama-box", ["static", "llama-box-default", "tmp-llama-box"]) == []


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("TRUE", True), ("1", True), ("0", False), ("yes", False), ("", False)])
def test_static_only(value: str, expected: bool) -> None:
    assert layout.static_only({"GPUSTACK_DISABLE_DYNAMIC_LINK_LLAMA_BOX": value}) is expected
    assert layout.static_only({}) is False


def test_versions_file() -> None:
    data = json.dumps({"llama-box": "v0.0.154", "gguf-parser": "v0.19.0", "odd": 1}).encode()
    assert layout.parse_versions_file(data) == ({"llama-box": "v0.0.154", "gguf-parser": "v0.19.0"}, "")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", NOT_JSON),
        (b"{", NOT_JSON),
        (b"\xff\xfe", NOT_JSON),
        ("{}".encode("utf-16"), NOT_JSON),
        (b"[" * 100000, NOT_JSON),
        (b"[1]", "it holds no JSON object, so GPUStack cannot start its worker with it"),
    ],
)
def test_a_broken_versions_file_is_said_to_be_one(data: bytes, problem: str) -> None:
    assert layout.parse_versions_file(data) == ({}, problem)


def test_version_output(fixtures_dir: pathlib.Path) -> None:
    text = (fixtures_dir / "installation" / "synthetic_llama_box_version.txt").read_text()
    assert layout.parse_version_output("", text) == "v0.0.136"
    assert layout.parse_version_output(text, "ggml_metal_init: loading\n") == "v0.0.136"
    assert layout.parse_version_output("", "noise\nversion    : v0.0.99 (stand-in)\n") == "v0.0.99"


@pytest.mark.parametrize("text", ["", "illegal hardware instruction", "version    : (abc1234)", "conversion : v1"])
def test_no_version_in_the_output(text: str) -> None:
    assert layout.parse_version_output(text, text) is None


@pytest.mark.parametrize(
    ("gpustack", "version", "only_static", "expected"),
    [
        ("0.6.2", "v0.0.171", False, False),
        ("0.7.1", "v0.0.171", False, True),
        ("0.7.1", "v0.0.157", False, True),
        ("0.7.1", "v0.0.156", False, False),
        ("0.7.1", "v0.0.171", True, False),
        # GPUStack takes it for newer than v0.0.157, and would ask for a build that does not exist.
        ("0.7.1", "v0.0.99", False, False),
    ],
)
def test_takes_libraries(gpustack: str, version: str, only_static: bool, expected: bool) -> None:
    assert layout.takes_libraries(gpustack, version, only_static) is expected


def test_takes_libraries_by_default() -> None:
    assert layout.takes_libraries("0.7.1", "v0.0.171") is True


@pytest.mark.parametrize(
    ("gpustack", "key", "expected"),
    [
        ("0.6.2", "llama-box", "v0.0.154"),
        ("0.7.1", "llama-box-v0.0.164-darwin-arm64-mps", "v0.0.171"),
        ("0.7.9", "llama-box-v0.0.180-darwin-arm64-mps", "v0.0.180"),
        (None, "llama-box-v0.0.164-darwin-arm64-mps", "v0.0.164"),
        ("0.6.9", "llama-box", None),
    ],
)
def test_kept_version(gpustack: str | None, key: str, expected: str | None) -> None:
    assert layout.kept_version(gpustack, layout.Slot("builtin", "/p", key)) == expected
