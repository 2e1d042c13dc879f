# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The models after all that was done to them: processes on the Mac, and the server's own answers."""

from __future__ import annotations

import json
import typing as t

import pytest
import real_gpustack

if t.TYPE_CHECKING:
    from testinfra.host import Host

MARK = "METALFLEET_INSTANCES_BEFORE"

testinfra_hosts = ["ansible://studio"]


@pytest.fixture(name="engines")
def _engines(host: Host) -> dict[str, dict[str, t.Any]]:
    return real_gpustack.engines(host)


def test_two_models_are_served(engines: dict[str, dict[str, t.Any]]) -> None:
    assert sorted(engines) == ["chat", "drifted"]


def test_no_weights_are_mapped(host: Host, engines: dict[str, dict[str, t.Any]]) -> None:
    for name, engine in engines.items():
        assert "--no-mmap" in engine["argv"]
        assert "--mmap" not in engine["argv"]
        # What it says of itself, of which the second is from its own memory map.
        props = real_gpustack.props(host, engine)
        assert (name, props["mmap"], props["mapped"]) == (name, False, False)


def test_parameters_reached_the_process(engines: dict[str, dict[str, t.Any]]) -> None:
    assert engines["drifted"]["argv"][-3:] == ["--no-mmap", "--ctx-size", "4096"]
    assert engines["chat"]["argv"][-1:] == ["--no-mmap"]


def test_variable_is_in_no_process(engines: dict[str, dict[str, t.Any]]) -> None:
    assert [name for name, engine in engines.items() if "GGML_METAL_NO_RESIDENCY" in engine["environment"]] == []


def test_server_has_what_is_wanted(host: Host) -> None:
    models = {model["name"]: model for model in real_gpustack.items(host, "/v1/models")}
    assert sorted(models) == sorted(["chat", "drifted", "idle", "empty", "Grüße aus Köln"])
    for name, model in models.items():
        wanted = ["--no-mmap", "--ctx-size=4096"] if name == "drifted" else ["--no-mmap"]
        assert (name, model["backend_parameters"]) == (name, wanted)
    assert {name: (model["replicas"], model["ready_replicas"]) for name, model in models.items()} == {
        "chat": (1, 1),
        "drifted": (1, 1),
        "idle": (0, 0),
        "empty": (0, 0),
        "Grüße aus Köln": (0, 0),
    }
    drifted = models["drifted"]
    # What belongs to somebody else stays: the description was changed by another client just before our own change.
    assert drifted["description"] == "of another client"
    assert {name: value for name, value in drifted["env"].items() if name != MARK} == {"HF_TOKEN": "canary-secret-3"}


def test_one_instance_of_each_runs(host: Host) -> None:
    instances = real_gpustack.items(host, "/v1/model-instances")
    assert sorted((one["model_name"], one["state"], one["worker_name"]) for one in instances) == [
        ("chat", "running", "studio"),
        ("drifted", "running", "studio"),
    ]


def test_no_secret_was_sent_to_a_log(host: Host) -> None:
    assert "canary-secret-3" not in json.dumps([engine["argv"] for engine in real_gpustack.engines(host).values()])
