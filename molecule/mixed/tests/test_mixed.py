# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Seven hosts with GPUStack, of all kinds, after the playbook has run twice, and once more for one that had drifted."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host

NEW = "v0.0.168"
# Starts: one by the installation, one more where the service ran with the variable or another builtin llama-box. Version of the
# builtin one, and of the pinned one if there is to be one. The wired limit in MiB, None where there is no such sysctl.
EXPECTED = {
    "ultra": (2, NEW, NEW, 491520),
    "mini": (2, "v0.0.144", NEW, 0),
    "max": (2, NEW, NEW, 118784),
    "intel": (2, NEW, NEW, None),
    "paravirtual": (3, NEW, NEW, 0),
    "rosetta": (2, NEW, None, 59392),
    "debian": (2, NEW, NEW, None),
}

OF_THE_ROLE = b"""\
# BEGIN managed by metalfleet.gpustack (new file)
# Set gpustack_node_environment in the inventory instead of editing these lines.
GPUSTACK_NOTE=two words
HF_ENDPOINT=https://hub.example.com
NO_PROXY=example.com
http_proxy=http://proxy.example.com:3128
# END managed by metalfleet.gpustack
"""
# Variables alone, the same by the role's template, and a template of one's own. The last one had lines, too, which were given up.
LINES = {
    "mini": OF_THE_ROLE,
    "intel": OF_THE_ROLE,
    "debian": b"""\
# BEGIN managed by metalfleet.gpustack (new file)
# Of debian
HF_ENDPOINT=https://hub.example.com
# END managed by metalfleet.gpustack
""",
    "paravirtual": None,
}

testinfra_hosts = [f"ansible://{name}" for name in EXPECTED]


def test_variable_is_alive_only_where_it_may_be(host: Host) -> None:
    allowed = host.backend.get_hostname() == "paravirtual"
    assert [seen.VARIABLE in environment for _name, environment in seen.processes(host)] == [allowed] * 3


def test_file_drifted_again_where_the_last_run_did_not_go(host: Host) -> None:
    if host.backend.get_hostname() in ("ultra", "rosetta"):
        content = seen.read(host, seen.ENVIRONMENT_FILE)
        assert content == (b"" if host.backend.get_hostname() == "rosetta" else b"GGML_METAL_NO_RESIDENCY=1\n")


def test_lines_are_those_of_the_template(host: Host) -> None:
    name, content = host.backend.get_hostname(), seen.read(host, seen.ENVIRONMENT_FILE)
    if name in LINES:
        assert content == LINES[name]
    else:
        assert b"metalfleet" not in (content or b"")


def test_starts_and_llama_box(host: Host) -> None:
    starts, builtin, pinned, _wired = EXPECTED[host.backend.get_hostname()]
    found = seen.look(host)
    assert found["starts"] == starts
    assert found["llama_box"]["builtin"]["version"] == builtin
    assert [one["version"] for one in found["llama_box"]["pinned"].values()] == ([pinned] if pinned else [])
    assert [one["sha256"] for one in found["rpc"]["running"]] == [found["llama_box"]["builtin"]["sha256"]]


def test_wired_limit(host: Host) -> None:
    wired = EXPECTED[host.backend.get_hostname()][3]
    assert wired is None or seen.sysctl(host, "iogpu.wired_limit_mb") == wired
