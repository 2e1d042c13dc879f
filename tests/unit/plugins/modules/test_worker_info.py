# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every option of the module, with a server on the loopback interface."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.modules import worker_info
from ansible_collections.metalfleet.gpustack.tests.unit import server_modules
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import FakeServer, Reply, running
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import GIB, Json, gpu, linux, mac, serve, with_status

WORKERS = [mac(1, worker_uuid="u-1"), linux(2, gpu(80, 3, "NVIDIA H100", "cuda")), with_status(mac(3), gpu_devices=None, rpc_servers=None)]
NODE: Json = {
    "name": "studio-1.example.com",
    "apple_silicon": {"working_set_bytes": 464 * GIB, "working_set_source": "wired_limit", "is_virtual": False},
    "node": {
        "gpustack_version": "0.6.2",
        "llama_box": [{"slot": "builtin", "version": "v0.0.154"}, {"slot": "pinned", "pin": "v0.0.139"}],
        "residency": {"state": "absent"},
    },
}


@pytest.fixture(name="server")
def a_server() -> t.Iterator[FakeServer]:
    with running(FakeServer()) as server:
        serve(server, "0.6.2", WORKERS)
        yield server


@pytest.fixture
def run(monkeypatch, server) -> t.Callable[..., Json]:
    return lambda **options: server_modules.run_module(monkeypatch, worker_info, **{"server_url": server.url, **options})


def test_a_mac(run, server):
    result = run()
    assert (result["changed"], result["gpustack_version"], result["missing"], result["warned"]) == (False, "0.6.2", [], [])
    assert result["nodes_without_worker"] == []
    assert result["workers"][0] == {
        "name": "mac-1",
        "id": 1,
        "uuid": "u-1",
        "hostname": "studio-1.example.com",
        "ip": "10.0.0.1",
        "port": 10150,
        "labels": {"os": "darwin", "arch": "arm64", "worker-name": "mac-1"},
        "state": "ready",
        "state_message": None,
        "heartbeat_time": "2026-11-22T11:37:02Z",
        "os": "Darwin",
        "os_name": "macOS",
        "os_version": "15.5",
        "cpu_count": 32,
        "is_apple_silicon": True,
        "is_virtual": False,
        "is_translated": False,
        "chip": "Apple M3 Ultra",
        "memory_bytes": 512 * GIB,
        "memory_used_bytes": 8 * GIB,
        "memory_allocated_bytes": 0,
        "unified_memory": True,
        "reserved_memory_bytes": 2 * GIB,
        "reserved_gpu_memory_bytes": GIB,
        "usable_bytes": 509 * GIB,
        "working_set_bytes": 384 * GIB,
        "working_set_source": "server",
        "gpus": [
            {
                "gpu_id": "mac-1:mps:0",
                "index": 0,
                "name": "Apple M3 Ultra",
                "vendor": "Apple",
                "type": "mps",
                "memory_total_bytes": 384 * GIB,
                "memory_used_bytes": None,
                "memory_allocated_bytes": 0,
                "unified": True,
            }
        ],
        "rpc_servers": [{"gpu_index": 0, "port": 40064, "pid": 76}],
        "node": None,
        "problems": [],
    }
    assert [seen.path for seen in server.seen] == ["/version", "/v1/workers"]


def test_another_machine_and_a_worker_that_has_not_reported(run):
    _mac, machine, silent = run()["workers"]
    assert (machine["os"], machine["is_apple_silicon"], machine["usable_bytes"], machine["working_set_bytes"]) == (
        "Linux",
        False,
        None,
        None,
    )
    assert machine["gpus"][0]["memory_used_bytes"] == 3 * GIB
    assert (silent["gpus"], silent["rpc_servers"], silent["working_set_bytes"]) == (None, [], None)


def test_nodes(run):
    result = run(nodes=[NODE, {"name": "server-only"}])
    first = result["workers"][0]
    assert (first["working_set_bytes"], first["working_set_source"]) == (464 * GIB, "wired_limit")
    assert first["node"] == {
        "name": "studio-1.example.com",
        "gpustack_version": "0.6.2",
        "llama_box_version": "v0.0.154",
        "pinned_versions": ["v0.0.139"],
        "residency": "absent",
    }
    assert [one["node"] for one in result["workers"][1:]] == [None, None]
    assert result["nodes_without_worker"] == ["server-only"]
    bare = run(nodes=[{"name": "x", "addresses": ["10.0.0.1"]}])["workers"][0]["node"]
    assert bare == {"name": "x", "gpustack_version": None, "llama_box_version": None, "pinned_versions": None, "residency": "unknown"}


@pytest.mark.parametrize(
    ("names", "found", "missing"),
    [
        ([], ["mac-1", "linux-2", "mac-3"], []),
        (["mac-3", "z", "mac-1", "a"], ["mac-1", "mac-3"], ["a", "z"]),
    ],
)
def test_names(run, names: t.List[str], found: t.List[str], missing: t.List[str]):
    result = run(names=names, nodes=[NODE])
    assert ([one["name"] for one in result["workers"]], result["missing"]) == (found, missing)
    # A node is not without its worker because nobody asked for that.
    assert result["nodes_without_worker"] == []


def test_check_mode_is_the_same(run):
    assert run(_ansible_check_mode=True) == run()


def test_problems(run, server):
    serve(server, "0.6.2", [mac(1, port="x")])
    assert run()["workers"][0]["problems"] == ["worker mac-1: port is text, not a whole number"]


def test_an_odd_version_is_warned_of(run, server):
    serve(server, "0.6.2rc1", WORKERS)
    assert run()["warned"] == [f"{server.url}: GPUStack 0.6.2rc1 is not a plain release; it is treated like the release it belongs to"]


def test_failures(run, server):
    assert run(nodes=[{"name": "a", "node": {"node": {}}}])["msg"] == (
        "node 1 of nodes, a: node is the whole result of node_info; write RESULT.node"
    )
    assert server.seen == []
    server.answer = lambda seen: Reply({"code": 403, "reason": "Forbidden", "message": "Admins only"}, 403)
    result = run()
    assert result["failed"] is True
    assert "api_answer" not in result


def test_documents_say_what_is_so(run):
    assert server_modules.documented_options(worker_info) == server_modules.specified_options(worker_info)
    assert server_modules.undocumented(worker_info, run(nodes=[NODE])) == []


@pytest.mark.parametrize("version", ["062", "071"])
def test_recorded_workers(run, server, captures_dir, version: str):
    recorded = json.loads(pathlib.Path(captures_dir, "gpustack-api", f"{version}-basic.json").read_text("utf-8"))
    serve(server, f"{version[0]}.{version[1]}.{version[2]}", recorded["workers"][1]["items"])
    result = run()
    assert server_modules.undocumented(worker_info, result) == []
    assert [(one["name"], one["os"], one["working_set_bytes"]) for one in result["workers"]] == [
        ("mac-2", "Darwin", 48 * GIB),
        ("mac-1", "Darwin", 48 * GIB),
    ]
