# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the model is after the playbook has run twice, by the server and by the processes."""

from __future__ import annotations

import typing as t

import real_gpustack

if t.TYPE_CHECKING:
    from testinfra.host import Host

GIB = 1 << 30

testinfra_hosts = ["ansible://studio-1", "ansible://studio-2"]


def test_server_claims_what_the_model_needs_of_both_workers(host: Host) -> None:
    instances = real_gpustack.items(host, "/v1/model-instances")
    assert [(one["model_name"], one["state"]) for one in instances] == [("deepseek", "running")]
    others = instances[0]["distributed_servers"]["rpc_servers"]
    workers = [instances[0]["worker_id"], *(part["worker_id"] for part in others)]
    assert sorted(workers) == sorted(worker["id"] for worker in real_gpustack.items(host, "/v1/workers"))
    claims = [instances[0]["computed_resource_claim"], *(part["computed_resource_claim"] for part in others)]
    sizes_gib = [sum(claim["vram"].values()) / GIB for claim in claims]
    # What 384 GiB of GPU memory have room for, and 664 GiB of weights with the KV cache together.
    assert max(sizes_gib) < 384
    assert 690 < sum(sizes_gib) < 720


def test_llama_box_is_told(host: Host) -> None:
    engines = real_gpustack.engines(host)
    instance = real_gpustack.items(host, "/v1/model-instances")[0]
    if instance["worker_name"] != host.backend.get_hostname():
        assert engines == {}
        assert [one["listens"] for one in real_gpustack.look(host)["rpc_servers"]] == [True]
        return
    argv = engines["deepseek"]["argv"]
    assert {"--rpc", "--no-mmap"} <= set(argv)
    assert "--mmap" not in argv
    props = real_gpustack.props(host, engines["deepseek"])
    assert (props["mmap"], props["mapped"]) == (False, False)
