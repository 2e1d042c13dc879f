# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Mac with the Desktop package, after the role has run twice."""

from __future__ import annotations

import plistlib
import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://desktop"]


def test_property_list_of_the_desktop_package_stays_binary_and_behind_its_link(host: Host) -> None:
    content = seen.read(host, seen.PLIST)
    assert content is not None
    assert content.startswith(b"bplist00")
    assert host.file(seen.PLIST).is_symlink
    expected = {"HOME": "/Library/Application Support/GPUStack/root", "HF_HUB_OFFLINE": "1"}
    assert plistlib.loads(content)["EnvironmentVariables"] == expected
    assert plistlib.loads(content)["RunAtLoad"] is False


def test_neither_job_nor_process_nor_launchd_has_the_variable(host: Host) -> None:
    assert seen.VARIABLE not in seen.loaded_job(host)
    assert not host.run("launchctl getenv GGML_METAL_NO_RESIDENCY").stdout
    found = seen.processes(host)
    assert len(found) == 3
    assert all(seen.VARIABLE not in environment for _name, environment in found)


def test_one_restart(host: Host) -> None:
    assert seen.starts(host) == 2
