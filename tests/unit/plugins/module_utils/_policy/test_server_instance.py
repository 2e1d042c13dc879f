# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import (
    Claim,
    Instance,
    Subordinate,
    parse_instance,
)

GIB = 1 << 30
# Synthetic, in the shape of GET /v1/model-instances.
WHOLE: dict[str, t.Any] = {
    "id": 4,
    "name": "big-APPkc",
    "model_id": 1,
    "model_name": "big",
    "worker_id": 1,
    "worker_name": "mac-1",
    "worker_ip": "10.0.0.1",
    "pid": 7803,
    "port": 41005,
    "state": "downloading",
    "state_message": "soon",
    "download_progress": 41.5,
    "resolved_path": "/models/big.gguf",
    "restart_count": 2,
    "last_restart_time": "2026-11-22T11:31:40Z",
    "computed_resource_claim": {
        "is_unified_memory": True,
        "offload_layers": 31,
        "total_layers": 62,
        "ram": 67108864,
        "vram": {"0": 30 * GIB},
        "tensor_split": [47 * GIB, 48 * GIB],
    },
    "gpu_indexes": [0],
    "created_at": "2026-11-22T11:31:12Z",
    "updated_at": "2026-11-22T11:31:47Z",
}
MAIN = Claim(67108864, {0: 30 * GIB}, 31, 62, True, (47 * GIB, 48 * GIB))
REMOTE = {"is_unified_memory": True, "offload_layers": 31, "total_layers": 62, "ram": 0, "vram": {"0": 31 * GIB}, "tensor_split": None}
REMOTE_CLAIM = Claim(0, {0: 31 * GIB}, 31, 62, True)
OLD = {"rpc_servers": [{"pid": None, "port": None, "gpu_index": 0, "worker_id": 2, "computed_resource_claim": REMOTE}], "ray_actors": None}
NEW = {
    "mode": "delegated",
    "download_model_files": False,
    "subordinate_workers": [
        {
            "worker_id": 2,
            "worker_name": "mac-2",
            "worker_ip": None,
            "gpu_indexes": [0],
            "computed_resource_claim": REMOTE,
            "download_progress": None,
            "state": "pending",
            "state_message": None,
        }
    ],
}


def test_reads_all_that_is_known_of_an_instance():
    instance = parse_instance(WHOLE)
    assert instance == Instance(
        id=4,
        name="big-APPkc",
        model_id=1,
        model_name="big",
        worker_id=1,
        worker_name="mac-1",
        worker_ip="10.0.0.1",
        pid=7803,
        port=41005,
        state="downloading",
        state_message="soon",
        download_percent=41.5,
        resolved_path="/models/big.gguf",
        restart_count=2,
        last_restart_time="2026-11-22T11:31:40Z",
        gpu_indexes=(0,),
        claim=MAIN,
        created_at="2026-11-22T11:31:12Z",
        updated_at="2026-11-22T11:31:47Z",
    )
    assert instance.claim is not None
    assert [field.name for field in dataclasses.fields(Claim)] == [
        "memory_bytes",
        "gpu_memory_bytes",
        "offload_layers",
        "total_layers",
        "unified",
        "tensor_split_bytes",
    ]
    assert (instance.distributed, instance.worker_ids) == (False, (1,))


def test_keeps_the_object_as_it_came_out_of_sight():
    instance = parse_instance(WHOLE)
    assert instance.raw is WHOLE
    assert "raw" not in repr(instance)
    assert instance == dataclasses.replace(instance, raw={})


@pytest.mark.parametrize(
    "empty",
    [
        {},
        dict.fromkeys(set(WHOLE) - {"name"}),
        {"state_message": ""},
        {"computed_resource_claim": {}},
        {"distributed_servers": None},
        {"distributed_servers": {"rpc_servers": None, "ray_actors": None}},
        {"distributed_servers": {"mode": "delegated", "download_model_files": False, "subordinate_workers": None}},
        {"distributed_servers": {"rpc_servers": [], "ray_actors": [], "subordinate_workers": []}},
    ],
)
def test_what_is_missing_or_empty_is_no_problem(empty):
    assert parse_instance({"name": "a", **empty}) == Instance(name="a")


def test_a_claim_of_which_little_is_known():
    assert parse_instance({"name": "a", "computed_resource_claim": {"ram": 0}}).claim == Claim(memory_bytes=0)


def test_both_versions_say_who_takes_part():
    old = parse_instance({**WHOLE, "distributed_servers": OLD}, {1: "mac-1", 2: "mac-2"})
    new = parse_instance({**WHOLE, "distributed_servers": NEW})
    assert old.subordinates == (Subordinate(2, "mac-2", None, (0,), REMOTE_CLAIM),)
    assert new.subordinates == (Subordinate(2, "mac-2", None, (0,), REMOTE_CLAIM, state="pending"),)
    for instance in (old, new):
        assert (instance.distributed, instance.worker_ids, instance.problems) == (True, (1, 2), ())


@pytest.mark.parametrize("names", [None, {}, {1: "mac-1"}])
def test_0_6_alone_does_not_name_a_worker(names):
    assert parse_instance({"name": "a", "distributed_servers": OLD}, names).subordinates[0].worker_name is None


def test_the_servers_own_name_of_a_worker_goes_first():
    assert parse_instance({"name": "a", "distributed_servers": NEW}, {2: "older"}).subordinates[0].worker_name == "mac-2"


def test_reads_all_that_is_known_of_a_part():
    part = {
        "worker_id": 2,
        "worker_name": "linux-1",
        "worker_ip": "10.0.0.2",
        "gpu_index": 9,
        "gpu_indexes": [0, 1],
        "download_progress": 100.0,
        "state": "error",
        "state_message": "no room",
    }
    expected = Subordinate(2, "linux-1", "10.0.0.2", (0, 1), None, 100.0, "error", "no room")
    for key in ("rpc_servers", "ray_actors", "subordinate_workers"):
        assert parse_instance({"name": "a", "distributed_servers": {key: [part]}}).subordinates == (expected,)


def test_a_part_of_which_nothing_is_known():
    instance = parse_instance({"name": "a", "distributed_servers": {"rpc_servers": [{"state_message": ""}]}}, {1: "mac-1"})
    assert instance.subordinates == (Subordinate(),)
    assert (instance.distributed, instance.worker_ids) == (True, ())


def test_a_worker_with_two_parts_is_one_worker():
    parts = [{"worker_id": 2, "gpu_index": 0}, {"worker_id": 1, "gpu_index": 1}, {"worker_id": 2, "gpu_index": 1}]
    instance = parse_instance({"name": "a", "worker_id": 1, "distributed_servers": {"rpc_servers": parts}})
    assert instance.worker_ids == (1, 2)
    assert [one.gpu_indexes for one in instance.subordinates] == [(0,), (1,), (1,)]


def test_garbage_is_none_and_named():
    garbage = {
        "name": "a",
        "pid": -1,
        "gpu_indexes": "0",
        "computed_resource_claim": {"vram": {"x": 1}, "tensor_split": [1, None]},
        "distributed_servers": {"rpc_servers": ["x", {"worker_id": "2"}]},
    }
    instance = parse_instance(garbage)
    assert instance == Instance(name="a", claim=Claim(), subordinates=(Subordinate(),), problems=instance.problems)
    assert instance.problems == (
        "instance a: pid is a number, not a whole number",
        "instance a: gpu_indexes is text, not a list of whole numbers",
        "instance a: computed_resource_claim: vram is an object, not an object of whole numbers by index",
        "instance a: computed_resource_claim: tensor_split is a list, not a list of whole numbers",
        "instance a: distributed_servers: rpc_servers[0] is text, not an object",
        "instance a: distributed_servers: rpc_servers[1]: worker_id is text, not a whole number",
    )


def test_problems_where_there_is_no_name():
    assert parse_instance([]).problems == ("an instance is a list, not an object",)
    assert parse_instance({"name": 5}).problems == ("an instance: name is a number, not text",)
