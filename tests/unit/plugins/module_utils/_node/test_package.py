# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import plistlib

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.lookout import Lookout
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.package import Package, application_of, find_package
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost
from ansible_collections.metalfleet.gpustack.tests.unit.installations import APPLICATION, fixture, metadata, shy, venv_files

VENV = "/root/.local/pipx/venvs/gpustack"
SITE = f"{VENV}/lib/python3.11/site-packages"
PROGRAM = "/root/.local/bin/gpustack"


def look_at(files: dict[str, bytes | MemoryFile], program: str = PROGRAM, unreadable: tuple[str, ...] = ()) -> tuple[Package, list[str]]:
    look = Lookout(MemoryHost(files=files, unreadable=unreadable))
    return find_package(look, program), look.warnings


def test_a_pipx_installation() -> None:
    package, warnings = look_at(venv_files("/root", "0.6.2"))
    assert package == Package(SITE, VENV, "0.6.2")
    assert package.third_party_bin == f"{SITE}/gpustack/third_party/bin"
    assert warnings == []


def test_the_interpreter_of_a_venv_is_not_followed_to_the_python_it_was_made_with() -> None:
    files = venv_files("/root", "0.6.2")
    files["/opt/homebrew/lib/python3.11/site-packages/gpustack-0.5.1.dist-info/METADATA"] = metadata("0.5.1")
    assert look_at(files)[0].version == "0.6.2"


@pytest.mark.parametrize(
    ("script", "site"),
    [
        (b"#!/home/a/venv/bin/python\nimport sys\n", "/home/a/venv/lib/python3.11/site-packages"),
        (b"#! /home/a/venv/bin/python3.11 -I\nimport sys\n", "/home/a/venv/lib/python3.11/site-packages"),
        (
            fixture("synthetic_console_script_with_blank.py.txt"),
            "/Users/syn thetic/.local/pipx/venvs/gpustack/lib/python3.12/site-packages",
        ),
        (b'#!/bin/bash\nexport X=1\nexec /home/a/venv/bin/python3 -m gpustack.main "$@"\n', "/home/a/venv/lib/python3.11/site-packages"),
        (b"#!/home/a b/venv/bin/python3.11\n", "/home/a b/venv/lib/python3.11/site-packages"),
        # No interpreter to be found: the folder above bin/ is what is left.
        (b"#!/usr/bin/env python3\n", "/usr/local/lib/python3.11/site-packages"),
        (b"\x7fELF", "/usr/local/lib/python3.11/dist-packages"),
        (b"#" * 70000, "/usr/local/lib64/python3.11/site-packages"),
        (b"#!/usr/bin/env python3\n", "/usr/local/lib/python/site-packages"),
    ],
)
def test_ways_to_the_package(script: bytes, site: str) -> None:
    program = "/usr/local/bin/gpustack"
    package, warnings = look_at({program: script, f"{site}/gpustack-0.7.1.dist-info/METADATA": metadata("0.7.1")}, program)
    assert package == Package(site, None, "0.7.1")
    assert warnings == []


def test_a_python_that_runs_the_module() -> None:
    files = {"/srv/venv/bin/python3": MemoryFile(target="/usr/bin/python3.11"), "/usr/bin/python3.11": b"\x7fELF"}
    files["/srv/venv/lib/python3.11/site-packages/gpustack-0.7.0.dist-info/METADATA"] = MemoryFile(metadata("0.7.0"))
    assert look_at(files, "/srv/venv/bin/python3")[0].version == "0.7.0"


def test_the_newest_python_of_a_venv_counts() -> None:
    files = {**venv_files("/root", "0.6.0", "python3.9"), **venv_files("/root", "0.6.2", "python3.11")}
    assert look_at(files)[0] == Package(SITE, VENV, "0.6.2")


def test_other_packages_are_not_taken_for_gpustack() -> None:
    files = {PROGRAM: b"#!/x\n", "/root/.local/lib/python3.11/site-packages/gpustack_runtime-1.0.dist-info/METADATA": metadata("1.0")}
    package, warnings = look_at(files)
    assert package == Package()
    assert warnings == [f"no GPUStack package was found for {PROGRAM}, so its version and its llama-box are not known"]


def test_metadata_without_a_version_falls_back_to_its_folder() -> None:
    files = venv_files("/root", "0.6.2")
    files[f"{SITE}/gpustack-0.6.2.dist-info/METADATA"] = b"\xff\xfe garbage"
    assert look_at(files)[0].version == "0.6.2"


def test_two_versions_left_by_an_interrupted_upgrade() -> None:
    files = venv_files("/root", "0.6.2")
    files[f"{SITE}/gpustack-0.6.0.dist-info/METADATA"] = metadata("0.6.0")
    package, warnings = look_at(files)
    assert package.version == "0.6.2"
    assert "several GPUStack versions (0.6.0, 0.6.2)" in warnings[0]
    files[f"{SITE}/gpustack/__init__.py"] = b"__version__ = 'v0.0.0'\n"
    assert look_at(files)[0].version is None


def test_a_package_without_metadata_says_its_version_itself() -> None:
    files = venv_files("/root", "0.6.2")
    del files[f"{SITE}/gpustack-0.6.2.dist-info/METADATA"]
    assert look_at(files)[0].version == "0.6.2"


def test_a_program_that_is_gone() -> None:
    package, warnings = look_at({PROGRAM: MemoryFile(target="/gone/bin/gpustack")})
    assert package == Package()
    assert warnings == ["the program /gone/bin/gpustack of the service does not exist, so the service cannot start"]


def test_a_home_that_may_not_be_looked_into() -> None:
    files = venv_files("/root", "0.6.2")
    package, warnings = look_at(files, unreadable=(f"{VENV}/bin/gpustack", f"{VENV}/lib"))
    assert package == Package()
    assert warnings == [f"{VENV}/bin/gpustack cannot be read: Permission denied", f"{VENV}/lib cannot be listed: Permission denied"]


def test_a_program_that_may_not_be_looked_at_is_not_said_to_be_gone() -> None:
    look = Lookout(shy(MemoryHost(files=venv_files("/root", "0.6.2")), f"{VENV}/bin", f"{VENV}/lib"))
    assert find_package(look, PROGRAM) == Package()
    assert look.warnings[0] == f"{VENV}/bin/gpustack cannot be examined: Permission denied"
    assert not any("does not exist" in warning or "no GPUStack package" in warning for warning in look.warnings)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (f"{APPLICATION}/Contents/MacOS/gpustack", APPLICATION),
        ("/Users/a/My Apps/GPUStack.app/Contents/MacOS/gpustack", "/Users/a/My Apps/GPUStack.app"),
        ("/usr/local/bin/gpustack", None),
    ],
)
def test_application_of(program: str, expected: str | None) -> None:
    assert application_of(program) == expected


def info_plist(version: object) -> bytes:
    return plistlib.dumps({"CFBundleShortVersionString": version})


@pytest.mark.parametrize("folder", ["Frameworks", "Resources", "MacOS"])
def test_the_desktop_package(folder: str) -> None:
    program = f"{APPLICATION}/Contents/MacOS/gpustack"
    files = {
        program: b"\xcf\xfa\xed\xfe",
        f"{APPLICATION}/Contents/Info.plist": info_plist("0.7.1"),
        f"{APPLICATION}/Contents/{folder}/gpustack/third_party/bin/versions.json": b"{}",
    }
    package, warnings = look_at(files, program)
    assert package == Package(f"{APPLICATION}/Contents/{folder}", None, "0.7.1")
    assert warnings == []
    files[f"{APPLICATION}/Contents/{folder}/gpustack-0.7.0.dist-info/METADATA"] = metadata("0.7.0")
    assert look_at(files, program)[0].version == "0.7.0"


def test_an_application_with_a_virtual_environment_in_it() -> None:
    venv = f"{APPLICATION}/Contents/Resources/venv"
    program = f"{venv}/bin/gpustack"
    site = f"{venv}/lib/python3.11/site-packages"
    files = {program: f"#!{venv}/bin/python\n".encode(), f"{site}/gpustack-0.7.1.dist-info/METADATA": metadata("0.7.1")}
    assert look_at(files, program) == (Package(site, None, "0.7.1"), [])


@pytest.mark.parametrize(
    ("info", "warning"),
    [
        (None, "Info.plist could not be read"),
        (b"<plist", "is not a property list that can be read"),
        (b"bplist00garbage", "is not a property list that can be read"),
    ],
)
def test_a_damaged_application(info: bytes | None, warning: str) -> None:
    program = f"{APPLICATION}/Contents/MacOS/gpustack"
    files = {program: b""} if info is None else {program: b"", f"{APPLICATION}/Contents/Info.plist": info}
    package, warnings = look_at(files, program)
    assert package == Package()
    assert "holds no gpustack/third_party" in warnings[0]
    assert warning in warnings[1]


@pytest.mark.parametrize("version", [7, "unknown"])
def test_an_application_without_a_usable_version(version: object) -> None:
    program = f"{APPLICATION}/Contents/MacOS/gpustack"
    assert look_at({program: b"", f"{APPLICATION}/Contents/Info.plist": info_plist(version)}, program)[0].version is None
