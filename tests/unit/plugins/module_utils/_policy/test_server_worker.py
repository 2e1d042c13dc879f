# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import Gpu, RpcServer, Worker, parse_worker

# Synthetic, in the shape of GET /v1/workers of 0.7; 0.6 has no worker_uuid.
WHOLE = {
    "id": 7,
    "name": "studio-1",
    "hostname": "studio-1.local",
    "ip": "10.0.0.11",
    "port": 10150,
    "worker_uuid": "0dbdc708",
    "labels": {"os": "darwin"},
    "state": "ready",
    "state_message": "all is well",
    "unreachable": False,
    "heartbeat_time": "2026-11-22T11:36:42Z",
    "system_reserved": {"ram": 2147483648, "vram": 1073741824},
    "status": {
        "cpu": {"total": 32, "utilization_rate": 5.0},
        "memory": {"total": 549755813888, "used": 8589934592, "allocated": 67108864, "is_unified_memory": True},
        "os": {"name": "macOS", "version": "15.5"},
        "kernel": {"name": "Darwin", "release": "24.5.0", "version": "Darwin Kernel", "architecture": "arm64"},
        "gpu_devices": [
            {
                "index": 0,
                "name": "Apple M3 Ultra",
                "vendor": "Apple",
                "type": "mps",
                "memory": {"total": 412316860416, "used": 5, "allocated": 6, "is_unified_memory": True},
            },
        ],
        "rpc_servers": {"0": {"pid": 76, "port": 40064, "gpu_index": 0}},
    },
}


def test_reads_all_that_is_known_of_a_worker():
    assert parse_worker(WHOLE) == Worker(
        id=7,
        name="studio-1",
        hostname="studio-1.local",
        ip="10.0.0.11",
        port=10150,
        uuid="0dbdc708",
        labels={"os": "darwin"},
        state="ready",
        state_message="all is well",
        unreachable=False,
        heartbeat_time="2026-11-22T11:36:42Z",
        os_name="macOS",
        os_version="15.5",
        kernel_name="Darwin",
        kernel_release="24.5.0",
        architecture="arm64",
        cpu_count=32,
        memory_total_bytes=549755813888,
        memory_used_bytes=8589934592,
        memory_allocated_bytes=67108864,
        unified_memory=True,
        reserved_memory_bytes=2147483648,
        reserved_gpu_memory_bytes=1073741824,
        gpus=(
            Gpu(
                gpu_id="studio-1:mps:0",
                index=0,
                name="Apple M3 Ultra",
                vendor="Apple",
                type="mps",
                memory_total_bytes=412316860416,
                memory_used_bytes=5,
                memory_allocated_bytes=6,
                unified=True,
            ),
        ),
        rpc_servers=(RpcServer(gpu_index=0, port=40064, pid=76),),
    )


def test_keeps_the_object_as_it_came_out_of_sight():
    worker = parse_worker(WHOLE)
    assert worker.raw is WHOLE
    assert "raw" not in repr(worker)
    assert worker == dataclasses.replace(worker, raw={})


@pytest.mark.parametrize("status", [{}, {"status": None}, {"status": {"gpu_devices": None, "rpc_servers": None, "os": None}}])
def test_a_worker_that_has_reported_nothing_has_no_known_gpus(status):
    assert parse_worker({"id": 1, "name": "new", **status}) == Worker(id=1, name="new")


def test_a_worker_without_gpus_says_so():
    assert parse_worker({"name": "cpu", "status": {"gpu_devices": []}}) == Worker(name="cpu", gpus=())


@pytest.mark.parametrize("section", ["os", "kernel"])
def test_empty_texts_of_the_system_are_none(section):
    empty = {"name": "", "version": "", "release": "", "architecture": ""}
    assert parse_worker({"name": "a", "status": {section: empty}}) == Worker(name="a")


def gpu_id(worker: t.Any) -> str | None:
    (gpu,) = parse_worker(worker).gpus or ()
    return gpu.gpu_id


@pytest.mark.parametrize("missing", ["index", "type"])
def test_a_gpu_has_an_id_only_where_all_of_it_is_known(missing):
    gpu = {"index": 1, "type": "cuda"}
    assert gpu_id({"name": "a", "status": {"gpu_devices": [gpu]}}) == "a:cuda:1"
    assert gpu_id({"status": {"gpu_devices": [gpu]}}) is None
    del gpu[missing]
    assert gpu_id({"name": "a", "status": {"gpu_devices": [gpu]}}) is None


def test_empty_texts_of_a_gpu_are_none():
    gpu = {"index": 0, "type": "", "name": "", "vendor": ""}
    assert parse_worker({"name": "a", "status": {"gpu_devices": [gpu]}}) == Worker(name="a", gpus=(Gpu(index=0),))


def test_an_rpc_server_without_index_has_that_of_its_key():
    servers = {"1": {"port": 5}, "2": {"port": 6, "gpu_index": 0}, "3": {}, "x": {"pid": 9}}
    found = parse_worker({"name": "a", "status": {"rpc_servers": servers}}).rpc_servers
    assert found == (RpcServer(1, 5, None), RpcServer(0, 6, None), RpcServer(None, None, 9))


def test_garbage_is_none_and_named():
    garbage = {"id": "7", "name": 5, "labels": {"os": 1}, "status": {"gpu_devices": ["x", {"index": -1}], "memory": {"total": "much"}}}
    worker = parse_worker(garbage)
    assert (worker.id, worker.name, worker.labels, worker.memory_total_bytes) == (None, None, {}, None)
    assert worker.gpus == (Gpu(),)
    assert worker.problems == (
        "a worker: status: gpu_devices[0] is text, not an object",
        "a worker: id is text, not a whole number",
        "a worker: name is a number, not text",
        "a worker: labels is an object, not an object of texts",
        "a worker: status: memory: total is text, not a whole number",
        "a worker: status: gpu_devices[1]: index is a number, not a whole number",
    )


def test_problems_name_the_worker():
    assert parse_worker({"name": "a", "port": "x"}).problems == ("worker a: port is text, not a whole number",)
    assert parse_worker("x").problems == ("a worker is text, not an object",)
