# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""After the role has run twice and the real GPUStack was restarted by hand."""

from __future__ import annotations

import json
import pathlib
import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host

PROGRAM = pathlib.Path(__file__).parents[3] / "tests/gpustack/install_gpustack.py"
# GPUStack, its own llama-box, the one that it is to run, and its build.
EXPECTED = {
    "linux060": ("0.6.0", "v0.0.136", "v0.0.139", "linux-amd64-avx2"),
    "linux062": ("0.6.2", "v0.0.154", "v0.0.139", "linux-amd64-avx2"),
    "mac071": ("0.7.1", "v0.0.171", "v0.0.168", "dl-darwin-arm64-metal"),
    "linux071": ("0.7.1", "v0.0.171", "v0.0.168", "dl-linux-amd64-cpu"),
}


def test_gpustack_is_well_and_its_rpc_server_is_the_release(host: Host) -> None:
    gpustack, own, version, build = EXPECTED[host.backend.get_hostname()]
    found = json.loads(host.check_output("python3 -c %s look", PROGRAM.read_text()))
    assert found["gpustack"] == gpustack
    assert found["healthz"] == {"80": 200, "10150": 200}
    # That of the process, which says it, and that of the file.
    assert [(one["version"], one["is_that_file"]) for one in found["rpc_servers"]] == [(version, True)]
    assert found["rpc_servers"][0]["program"] == found["builtin"]["path"]
    assert (found["builtin"]["version"], found["builtin"]["recorded"]) == (version, own)
    name = found["builtin"]["path"].partition("/third_party/bin/")[2]
    assert found["third_party"][name] == seen.locked(version, build)["llama-box"]


def test_the_pinned_one_is_there_too(host: Host) -> None:
    _gpustack, _own, version, build = EXPECTED[host.backend.get_hostname()]
    pinned = seen.look(host)["llama_box"]["pinned"]
    assert {name: program["sha256"] for name, program in pinned.items()} == {version: seen.locked(version, build)["llama-box"]}
