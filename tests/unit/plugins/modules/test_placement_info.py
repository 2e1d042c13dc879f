# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every option of the module, with a server on the loopback interface."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import placement
from ansible_collections.metalfleet.gpustack.plugins.modules import placement_info
from ansible_collections.metalfleet.gpustack.tests.unit import server_modules
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import FakeServer, Reply, running
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import GIB, Json, claim, instance, mac, model, serve

MACS = [mac(1), mac(2)]
MODELS = [model(1), model(2, env={"HF_TOKEN": "hidden-value"}), model(3, replicas=0)]
INSTANCES = [instance(1, 1, claim(1, 38)), instance(2, 2, claim(1, 10), others=[(1, claim(0, 5, offload=31))])]
NODE = {"name": "mac-1", "node": {"llama_box": [{"slot": "builtin", "version": "v0.0.136"}], "residency": {"state": "present"}}}


@pytest.fixture(name="server")
def a_server() -> t.Iterator[FakeServer]:
    with running(FakeServer()) as server:
        serve(server, "0.6.0", MACS, MODELS, INSTANCES)
        yield server


@pytest.fixture
def run(monkeypatch, server) -> t.Callable[..., Json]:
    return lambda **options: server_modules.run_module(monkeypatch, placement_info, **{"server_url": server.url, **options})


def verdicts(result: Json) -> t.Dict[str, str]:
    return {one["name"]: one["verdict"] for one in result["models"]}


def test_all_models_that_have_or_should_have_instances(run, server):
    result = run()
    assert verdicts(result) == {"model-1": "fits_only_by_mmap", "model-2": "estimate_apart"}
    assert (result["changed"], result["gpustack_version"], result["missing"], result["warned"]) == (False, "0.6.0", [], [])
    assert [worker["models"] for worker in result["workers"]] == [["model-1", "model-2"], ["model-2"]]
    assert "hidden-value" not in str(result)
    assert [seen.path for seen in server.seen] == ["/version", "/v1/workers", "/v1/models", "/v1/model-instances"]


def test_check_mode_is_the_same(run):
    assert run(_ansible_check_mode=True) == run()


def test_names(run):
    result = run(names=["model-3", "model-1", "gone"])
    assert verdicts(result) == {"model-1": "fits_only_by_mmap", "model-3": "not_running"}
    assert result["missing"] == ["gone"]
    assert [worker["models"] for worker in result["workers"]] == [["model-1", "model-2"], ["model-2"]]


def test_nodes(run):
    first = run(names=["model-1"])["models"][0]
    assert [finding["finding"] for finding in first["findings"]] == ["fits_only_by_mmap"]
    assert first["not_known"]
    told = run(names=["model-1"], nodes=[NODE])["models"][0]
    assert [finding["finding"] for finding in told["findings"]] == ["fits_only_by_mmap", "residency_alive"]
    assert told["not_known"] == []
    part = told["instances"][0]["workers"][0]
    assert (part["llama_box_version"], part["residency"]) == ("v0.0.136", "present")


@pytest.mark.parametrize("size", [664 * GIB, str(664 * GIB)])
def test_weights_bytes(run, size: t.Any):
    assert run(names=["model-1"])["models"][0]["instances"][0]["need_most_bytes"] is None
    told = run(names=["model-1"], weights_bytes={"model-1": size, "other": 1})["models"][0]
    assert (told["weights_bytes"], told["instances"][0]["need_most_bytes"]) == (664 * GIB, 703 * GIB)


def test_fail_on(run):
    result = run(fail_on=["over_memory", "fits_only_by_mmap"], weights_bytes={"model-1": 664 * GIB})
    assert result["failed"] is True
    assert result["msg"].startswith("model model-1: fits_only_by_mmap: the claim of 39.0 GiB on mac-1 leaves the weights out")
    assert verdicts(result) == {"model-1": "fits_only_by_mmap", "model-2": "over_memory"}
    assert result["msg"].endswith("(others with findings: model-2)")
    assert "failed" not in run(fail_on=["not_running"])
    assert "failed" not in run(fail_on=["fits_only_by_mmap"], names=["model-2"])


OVERRIDE = {"mmap": "mmap", "model": "model-1", "reason": "rarely asked"}


def test_overrides_and_labels(run, server):
    serve(server, "0.6.2", MACS, [model(1, backend_parameters=["--mmap"])], INSTANCES[:1])
    plain, told = (run(**options)["models"][0] for options in ({}, {"overrides": [OVERRIDE]}))
    assert "unless an override asks for mmap" in plain["mend"]
    assert told["reason"] == plain["reason"] + "; the override by model name model-1 says mmap: rarely asked"
    assert told["mend"].startswith("take the override by model name model-1 out of gpustack_models_overrides, then ansible-playbook ")
    by_label = [{"mmap": "mmap", "labels": {"use": "rare"}}]
    assert run(overrides=by_label, labels={"model-1": {"use": "rare"}})["models"][0]["mend"].startswith("take the override by labels ")
    assert run(overrides=by_label, labels={"model-1": {}})["models"][0]["mend"] == plain["mend"]


def test_overrides_that_cover_nothing_are_warned_of(run):
    overrides = [{**OVERRIDE, "model": "model-11"}, OVERRIDE, {"mmap": "mmap", "labels": {"use": "rare"}}]
    named = "override 1 is for the model model-11, which neither the server nor the list of models has: correct its name"
    assert run(overrides=overrides)["warned"] == [
        named,
        "override 3 is for models with the labels use=rare, which none in the list of models has: correct them",
    ]
    assert run(overrides=overrides, labels={"model-1": {"use": "rare"}})["warned"] == [named]
    failed = run(overrides=overrides, labels={"model-11": {"use": "rare"}}, fail_on=["fits_only_by_mmap"])
    assert (failed["failed"], failed["warned"]) == (True, [])
    # It is looked for among all models of the server.
    assert run(overrides=[OVERRIDE], names=["model-2"])["warned"] == []


def test_calls_do_not_grow_with_models(run, server):
    models = [model(number, replicas=0) for number in range(1, 301)]
    serve(server, "0.7.1", [mac(number) for number in range(1, 61)], models, [instance(300, 60, claim(1, 10))])
    result = run(names=["model-300"])
    assert verdicts(result) == {"model-300": "fits"}
    assert [seen.path for seen in server.seen] == ["/version", "/v1/workers", *["/v1/models"] * 3, "/v1/model-instances"]


def test_an_odd_version_is_warned_of(run, server):
    serve(server, "0.6.2rc1", MACS)
    assert run()["warned"] == [f"{server.url}: GPUStack 0.6.2rc1 is not a plain release; it is treated like the release it belongs to"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": [{"name": "a"}, {"name": "a"}]}, "nodes: a is there more than once; give each node once"),
        ({"weights_bytes": {"a": "large"}}, "weights_bytes of the model a is 'large': write a whole number of bytes above 0"),
        ({"overrides": [{"mmap": "mmap"}]}, "override 1 of the mmap policy needs either the name of a model or labels"),
        ({"labels": {"a": "x"}}, "labels of the model a are of type str: write a dictionary"),
        ({"timeout_seconds": 0}, "timeout_seconds: 0 is too small; the least is 1"),
        ({"fail_on": ["slow"]}, "value of fail_on must be one or more of: "),
        ({"username": "admin"}, "parameters are required together: username, password"),
    ],
)
def test_bad_input_is_a_failure_before_the_server_is_asked(run, server, options: Json, message: str):
    result = run(**options)
    assert result["failed"] is True
    assert result["msg"].startswith(message)
    assert server.seen == []


def test_what_the_server_refuses(run, server):
    server.answer = lambda seen: (
        Reply({"version": "v0.6.0"})
        if seen.path == "/version"
        else Reply({"code": 401, "reason": "Unauthorized", "message": "Invalid authentication credentials"}, 401)
    )
    result = run(username="admin", password="wrong-secret", _ansible_verbosity=3)
    assert result["api_error"]["status"] == 401
    assert "Invalid authentication credentials" in result["api_answer"]
    assert "wrong-secret" not in str(result)
    serve(server, "2.0.0", [])
    assert "GPUStack 2.0.0 is not supported" in run()["msg"]


def test_documents_say_what_is_so(run):
    assert server_modules.documented_options(placement_info) == server_modules.specified_options(placement_info)
    assert placement_info.ARGUMENT_SPEC["fail_on"]["choices"] == list(placement.FINDINGS)
    assert server_modules.undocumented(placement_info, run(nodes=[NODE])) == []
    failed = run(fail_on=["fits_only_by_mmap"])
    assert server_modules.undocumented(placement_info, {key: failed[key] for key in failed if key not in ("failed", "msg")}) == []
