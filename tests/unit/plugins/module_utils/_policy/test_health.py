# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What works on a node, and what a process is."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.health import (
    HEALTH_PATH,
    SERVER,
    SERVER_PORT,
    WORKER,
    WORKER_PORT,
    Health,
    health_of,
    is_llama_box,
    is_rpc_server,
    losses,
    models_served,
    sickness,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.processes import Process

WELL = Health(True, (SERVER, WORKER), 2, "state = running")


def test_what_gpustack_s_documentation_says() -> None:
    assert (SERVER_PORT, WORKER_PORT, HEALTH_PATH) == (80, 10150, "/healthz")


@pytest.mark.parametrize("health", [WELL, Health(None), Health(False, (), 0, "stopped")])
def test_there_and_back(health: Health) -> None:
    data = health.as_dict()
    assert set(data) == {"running", "answering", "rpc_servers", "detail"}
    assert isinstance(data["answering"], list)
    assert health_of(data) == health


@pytest.mark.parametrize("data", [{}, {"running": True, "answering": 1, "rpc_servers": 1, "detail": ""}])
def test_what_is_no_health(data: t.Dict[str, t.Any]) -> None:
    with pytest.raises((KeyError, TypeError)):
        health_of(data)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (WELL, WELL, ()),
        (WELL, Health(False, (SERVER, WORKER), 2, "failed"), ("the service does not run (failed)",)),
        (WELL, Health(None, (SERVER, WORKER), 2, "no bus"), ("the service does not run (no bus)",)),
        (Health(False), Health(False), ()),
        (Health(None), Health(False), ()),
        (WELL, Health(True, (WORKER,), 2), ("the server does not answer /healthz",)),
        (WELL, Health(True, (), 2), ("the server does not answer /healthz", "the worker does not answer /healthz")),
        (Health(True, (WORKER,)), Health(True, (SERVER, WORKER)), ()),
        (WELL, Health(True, (SERVER, WORKER), 1), ("1 of 2 RPC servers of llama-box go on running",)),
        (WELL, Health(True, (SERVER, WORKER), 0), ("0 of 2 RPC servers of llama-box go on running",)),
        (WELL, Health(True, (SERVER, WORKER), 3), ()),
        # What cannot be seen is no loss.
        (WELL, Health(True, (SERVER, WORKER), None), ()),
        (Health(True, (), None), Health(True, (), 0), ()),
        (Health(True, (), 0), Health(True, (), 0), ()),
    ],
)
def test_losses(before: Health, after: Health, expected: t.Tuple[str, ...]) -> None:
    assert losses(before, after) == expected


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (WELL, ()),
        (Health(True, (WORKER,)), ()),
        (Health(False, (WORKER,), detail="failed"), ("the service does not run (failed)",)),
        (Health(True), ("GPUStack does not answer /healthz on any of its ports",)),
        (Health(None), ()),
    ],
)
def test_sickness(health: Health, expected: t.Tuple[str, ...]) -> None:
    assert sickness(health) == expected


MODEL = "/opt/bin/llama-box/llama-box-v0.0.171/llama-box --host 0.0.0.0 --port 40000 --rpc 10.0.0.2:50052"
RPC_LINK = "/opt/third_party/bin/llama-box/llama-box-rpc-server --rpc-server-host 0.0.0.0"


@pytest.mark.parametrize(
    ("command", "box", "rpc"),
    [
        (MODEL, True, False),
        ("/opt/gpustack/bin/llama-box_v0.0.139 --port 1", True, False),
        (RPC_LINK, True, True),
        ("/opt/bin/llama-box --rpc-server-port 50052", True, True),
        ("/Library/Application Support/GPUStack/bin/llama-box --rpc-server-port 50052", True, True),
        # An interpreter first, as for a stand-in.
        ("/usr/bin/python3 /opt/bin/llama-box-rpc-server --x", True, True),
        ("llama-box", True, False),
        ("/usr/bin/gpustack start --bin-dir /opt/llama-box --rpc-server-port 1", False, False),
        ("/usr/bin/tail -f /var/log/llama-box", False, False),
        ("gpustack_worker", False, False),
        ("", False, False),
    ],
)
def test_what_a_process_is(command: str, box: bool, rpc: bool) -> None:
    process = Process(1, 0, command)
    assert (is_llama_box(process), is_rpc_server(process)) == (box, rpc)


def test_models_served() -> None:
    helper = "gpustack_serving_process: model_instance_%d"
    commands = ["/usr/bin/gpustack start", "gpustack_worker", "gpustack_rpc_server_process: gpu_0", RPC_LINK]
    assert models_served(Process(1, 0, command) for command in commands) == 0
    # One instance is two processes, of which the system may show but one.
    assert models_served(Process(1, 0, command) for command in [*commands, helper % 1, MODEL]) == 1
    assert models_served(Process(1, 0, command) for command in [*commands, MODEL, MODEL]) == 2
    # Backends other than llama-box have their own programs.
    assert models_served(Process(1, 0, command) for command in [helper % 1, helper % 2, MODEL, "/usr/bin/vllm serve"]) == 2
