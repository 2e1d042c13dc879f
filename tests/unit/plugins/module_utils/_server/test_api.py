# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server knows in our shapes. The stand-in keeps models as the sources of GPUStack say; a real one is asked elsewhere."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import api
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import NotFoundError, ServerError, StrangeAnswerError

MODEL: dict[str, t.Any] = {
    "id": 3,
    "name": "big",
    "source": "local_path",
    "local_path": "/models/big.gguf",
    "cpu_offloading": False,
    "distributed_inference_across_workers": True,
    "replicas": 1,
    "env": None,
}
INSTANCES = [
    {"id": 1, "name": "big-a", "model_id": 3, "distributed_servers": {"rpc_servers": [{"worker_id": 2}]}},
    {"id": 2, "name": "other-a", "model_id": 4},
]
WORKERS = [{"id": 1, "name": "mac-1"}, {"id": 2, "name": "mac-2"}, {"id": 3}, {"name": "x", "id": "y"}]


class MemoryClient:
    """Lists and one model, in memory. meanwhile: what another client does between two requests."""

    server_url = "https://gpustack.example.com"

    def __init__(self) -> None:
        self.model = dict(MODEL)
        self.calls: list[tuple[t.Any, ...]] = []
        self.meanwhile: list[t.Callable[[], t.Any]] = []
        self.says: t.Any = None

    def list(self, path: str, query: t.Any = None) -> t.Any:
        self.calls.append(("list", path, query))
        items: dict[str, t.Any] = {"/v1/workers": WORKERS, "/v1/models": [self.model], "/v1/model-instances": INSTANCES}
        return items[path]

    def get(self, path: str) -> t.Any:
        self.calls.append(("get", path))
        found = {"/v1/models/3": self.model, "/v1/model-instances/1": INSTANCES[0]}.get(path)
        if found is None:
            raise NotFoundError("no", "", 404, "NotFound", "not found")
        return dict(found)

    def post(self, path: str, body: t.Any, timeout_seconds: t.Optional[float] = None) -> t.Any:
        self.calls.append(("post", path, body) if timeout_seconds is None else ("post", path, body, timeout_seconds))
        return self.says if path == "/v1/model-evaluations" else {"id": 9, **body}

    def delete(self, path: str) -> t.Any:
        self.calls.append(("delete", path))
        for other in self.meanwhile:
            other()

    def put(self, path: str, body: t.Any) -> t.Any:
        self.calls.append(("put", path, body))
        self.model.update(body)
        for other in self.meanwhile:
            other()
        return dict(self.model)


@pytest.fixture
def client() -> MemoryClient:
    return MemoryClient()


def test_all_that_a_server_knows_by_one_list_of_each_kind(client):
    fleet = api.read_fleet(client)
    assert client.calls == [("list", "/v1/workers", None), ("list", "/v1/models", None), ("list", "/v1/model-instances", None)]
    assert [worker.name for worker in fleet.workers] == ["mac-1", "mac-2", None, "x"]
    assert [model.name for model in fleet.models] == ["big"]
    assert [instance.name for instance in fleet.instances] == ["big-a", "other-a"]
    assert fleet.instances[0].subordinates[0].worker_name == "mac-2"
    assert fleet.model("big") is fleet.models[0]
    assert fleet.model("none") is None
    assert fleet.instances_of(fleet.models[0]) == (fleet.instances[0],)


def test_the_instances_of_one_model(client):
    instances = api.read_instances(client, model_id=3)
    assert client.calls == [("list", "/v1/model-instances", {"model_id": 3})]
    assert instances[0].subordinates[0].worker_name is None


def test_one_model(client):
    assert api.read_model(client, 3).name == "big"
    with pytest.raises(NotFoundError):
        api.read_model(client, 4)


@pytest.mark.parametrize(("said", "kind"), [(None, "null"), ([], "a list")])
def test_what_is_no_model(client, said, kind):
    client.get = lambda path: said
    with pytest.raises(StrangeAnswerError) as caught:
        api.read_model(client, 3)
    assert str(caught.value) == f"https://gpustack.example.com: GET /v1/models/3 gives {kind} and no model; look for a proxy in between"


def test_a_new_model(client):
    model = api.create_model(client, {"name": "new", "source": "local_path", "backend_parameters": None})
    assert client.calls == [("post", "/v1/models", {"name": "new", "source": "local_path", "backend_parameters": []})]
    assert (model.id, model.name) == (9, "new")


def test_a_change_is_read_before_and_after(client):
    after = api.change_model(client, 3, lambda _now: {"replicas": 0})
    body = {field: MODEL[field] for field in MODEL if field not in ("id", "env")} | {"replicas": 0}
    assert client.calls == [("get", "/v1/models/3"), ("put", "/v1/models/3", body), ("get", "/v1/models/3")]
    assert (after.replicas, after.raw) == (0, {**MODEL, "replicas": 0})


def test_what_is_changed_is_told_from_the_model_of_now(client):
    client.model.update(replicas=4)
    assert api.change_model(client, 3, lambda now: {"replicas": (now.replicas or 0) + 1}).replicas == 5


def test_where_nothing_is_to_be_changed_nothing_is_sent(client):
    assert api.change_model(client, 3, lambda _now: {}).raw == MODEL
    assert client.calls == [("get", "/v1/models/3")]


def test_what_another_client_changed_before_is_kept(client):
    client.model.update(cpu_offloading=True, env={"A": "1"})
    after = api.change_model(client, 3, lambda _now: {"replicas": 0})
    assert (after.cpu_offloading, after.env, after.replicas) == (True, {"A": "1"}, 0)


def test_what_another_client_changes_elsewhere_is_no_matter(client):
    client.meanwhile.append(lambda: client.model.update(env={"A": "1"}))
    assert api.change_model(client, 3, lambda _now: {"replicas": 0}).env == {"A": "1"}


def test_what_another_client_changes_of_ours_is_an_error(client):
    client.meanwhile.append(lambda: client.model.update(cpu_offloading=True, replicas=5))
    with pytest.raises(ServerError) as caught:
        api.change_model(client, 3, lambda _now: {"replicas": 0})
    assert str(caught.value) == (
        "https://gpustack.example.com: model big: cpu_offloading, replicas is not what was sent just before, so somebody else changes "
        "this model; find out who, then run again"
    )
    assert caught.value.unsure is True


def test_a_change_that_cannot_be_looked_at_afterwards_was_made(client):
    def away() -> None:
        def get(path: str) -> t.Any:
            raise ServerError("away")

        client.get = get

    client.meanwhile.append(away)
    with pytest.raises(ServerError, match="away") as caught:
        api.change_model(client, 3, lambda _now: {"replicas": 0})
    assert (caught.value.unsure, client.model["replicas"]) == (True, 0)


def test_a_change_that_cannot_be_is_not_sent(client):
    with pytest.raises(BadInputError):
        api.change_model(client, 3, lambda _now: {"meta": {}})
    assert client.calls == [("get", "/v1/models/3")]


GONE = NotFoundError("no", "", 404, "NotFound", "not found")


def test_a_model_is_deleted(client):
    api.delete_model(client, Model(id=3, name="big"))
    assert client.calls == [("get", "/v1/models/3"), ("delete", "/v1/models/3")]


def test_an_instance_is_deleted(client):
    assert api.delete_instance(client, Instance(id=1, name="big-a")) is True
    assert client.calls == [("get", "/v1/model-instances/1"), ("delete", "/v1/model-instances/1")]


def test_what_is_gone_is_not_deleted(client):
    api.delete_model(client, Model(id=4, name="big"))
    assert api.delete_instance(client, Instance(id=4, name="big-a")) is False
    assert client.calls == [("get", "/v1/models/4"), ("get", "/v1/model-instances/4")]


def test_what_has_the_id_of_what_is_gone_is_not_deleted(client):
    api.delete_model(client, Model(id=3, name="other"))
    assert api.delete_instance(client, Instance(id=1, name="big-b")) is False
    assert client.calls == [("get", "/v1/models/3"), ("get", "/v1/model-instances/1")]


def test_what_goes_while_it_is_deleted_is_no_error(client):
    def go() -> None:
        raise GONE

    client.meanwhile.append(go)
    api.delete_model(client, Model(id=3, name="big"))
    assert api.delete_instance(client, Instance(id=1, name="big-a")) is False


def test_what_is_nothing_is_not_deleted(client):
    client.get = lambda path: None
    assert api.delete_instance(client, Instance(id=1, name="big-a")) is False
    assert client.calls == []


def test_models_that_are_not_there_are_evaluated_in_one_call(client):
    client.says = {"results": [{"compatible": True}, {"compatible": False}]}
    specs: list[dict[str, t.Any]] = [
        {"name": "a", "source": "local_path", "backend_parameters": None},
        {"name": "b", "source": "local_path"},
    ]
    assert api.evaluate(client, specs, 300) == client.says["results"]
    sent = [{**specs[0], "backend_parameters": []}, specs[1]]
    assert client.calls == [("post", "/v1/model-evaluations", {"model_specs": sent}, 300)]


@pytest.mark.parametrize(
    "said",
    [None, [], {}, {"results": None}, {"results": []}, {"results": [None]}, {"results": [{"compatible": True}, {"compatible": True}]}],
)
def test_an_evaluation_that_is_none(client, said):
    client.says = said
    with pytest.raises(StrangeAnswerError) as caught:
        api.evaluate(client, [{"name": "a", "source": "local_path"}], 300)
    assert str(caught.value) == (
        "https://gpustack.example.com: POST /v1/model-evaluations gives no result for each model; look for a proxy in between"
    )
