# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What a server knows, in our shapes, and changing a model without touching what others change."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.json_fields import kind_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance, parse_instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import (
    Model,
    model_post_body,
    model_put_body,
    parse_model,
    put_differences,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import Worker, parse_worker
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import NotFoundError, ServerError, StrangeAnswerError

MODELS = "/v1/models"
INSTANCES = "/v1/model-instances"
WORKERS = "/v1/workers"
EVALUATIONS = "/v1/model-evaluations"


@dataclasses.dataclass(frozen=True)
class Fleet:
    """All of a server's workers, models and instances."""

    workers: t.Tuple[Worker, ...]
    models: t.Tuple[Model, ...]
    instances: t.Tuple[Instance, ...]

    def model(self, name: str) -> t.Optional[Model]:
        """The model of that name, of which there is one at most."""
        return next((model for model in self.models if model.name == name), None)

    def instances_of(self, model: Model) -> t.Tuple[Instance, ...]:
        """The instances of a model."""
        return tuple(instance for instance in self.instances if instance.model_id == model.id)


def read_fleet(client: Client) -> Fleet:
    """Everything, by a call for each hundred of each kind."""
    workers = read_workers(client)
    return Fleet(workers, read_models(client), read_instances(client, workers))


def read_workers(client: Client) -> t.Tuple[Worker, ...]:
    """All workers."""
    return tuple(map(parse_worker, client.list(WORKERS)))


def read_models(client: Client) -> t.Tuple[Model, ...]:
    """All models."""
    return tuple(map(parse_model, client.list(MODELS)))


def read_instances(client: Client, workers: t.Sequence[Worker] = (), model_id: t.Optional[int] = None) -> t.Tuple[Instance, ...]:
    """All instances, or those of one model. workers: to name those that take part, which 0.6 does not."""
    names = {worker.id: worker.name for worker in workers if worker.id is not None and worker.name is not None}
    items = client.list(INSTANCES, None if model_id is None else {"model_id": model_id})
    return tuple(parse_instance(item, names) for item in items)


def read_model(client: Client, model_id: int) -> Model:
    """One model as it is now. Raises NotFoundError where there is none."""
    data = client.get(f"{MODELS}/{model_id}")
    if not isinstance(data, dict):
        raise StrangeAnswerError(
            f"{client.server_url}: GET {MODELS}/{model_id} gives {kind_of(data)} and no model; look for a proxy in between"
        )
    return parse_model(data)


def create_model(client: Client, wanted: t.Mapping[str, t.Any]) -> Model:
    """Create a model. Raises ConflictError where there is one of its name."""
    return parse_model(client.post(MODELS, model_post_body(wanted)))


def change_model(client: Client, model_id: int, changes_of: t.Callable[[Model], t.Mapping[str, t.Any]]) -> Model:
    """Change fields of a model and no others; returns it as it is afterwards. changes_of: from the model of now to the fields.

    It is read just before, since PUT forces some fields on us and some hold what others keep there, too, and read again, since
    nothing else shows that another client came in between. Raises ServerError where the model is then otherwise than it was sent.
    """
    now = read_model(client, model_id)
    changes = changes_of(now)
    if not changes:
        return now
    body = model_put_body(now.raw, changes)
    client.put(f"{MODELS}/{model_id}", body)
    try:
        after = read_model(client, model_id)
    except ServerError as exc:
        exc.unsure = True
        raise
    different = put_differences(body, after.raw)
    if different:
        raise ServerError(
            f"{client.server_url}: model {after.name}: {', '.join(different)} is not what was sent just before, so somebody else "
            "changes this model; find out who, then run again",
            unsure=True,
        )
    return after


def delete_model(client: Client, model: Model) -> None:
    """Delete a model with its instances. One that is gone already is no error."""
    _delete(client, f"{MODELS}/{model.id}", model.name)


def delete_instance(client: Client, instance: Instance) -> bool:
    """End an instance; the server makes another one for it at once. Returns whether it was still there."""
    return _delete(client, f"{INSTANCES}/{instance.id}", instance.name)


def _delete(client: Client, path: str, name: t.Optional[str]) -> bool:
    """Delete what has this name. SQLite gives the id of what is gone to the next one, so that it is looked at once more before that."""
    try:
        found = client.get(path)
        if not isinstance(found, dict) or found.get("name") != name:
            return False
        client.delete(path)
    except NotFoundError:
        return False
    return True


def evaluate(client: Client, specs: t.Sequence[t.Mapping[str, t.Any]], timeout_seconds: float) -> t.List[t.Mapping[str, t.Any]]:
    """What the scheduler says of models that are not there yet, in one call. It changes nothing."""
    answer = client.post(EVALUATIONS, {"model_specs": [model_post_body(spec) for spec in specs]}, timeout_seconds)
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or len(results) != len(specs) or not all(isinstance(result, dict) for result in results):
        raise StrangeAnswerError(f"{client.server_url}: POST {EVALUATIONS} gives no result for each model; look for a proxy in between")
    return results
