# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What the rules of placement look at: a model with its instances, among all that the server and the play know."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import fleet_nodes, placement_parts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.fleet_nodes import NodeFacts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap import Override, override_for
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import ModelFacts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_parameters import MMAP, engine_uses_mmap
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_parts import Part
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement_rooms import Load, Room, Tenant, loads_of, room_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import Worker


@dataclasses.dataclass(frozen=True)
class Placed:
    """An instance and what each worker has of it."""

    instance: Instance
    parts: t.Tuple[Part, ...]

    @property
    def name(self) -> str:
        """The instance's name, for people."""
        return self.instance.name or "an instance without a name"

    @property
    def distributed(self) -> bool:
        """Whether it runs on several workers."""
        return len(self.parts) > 1


@dataclasses.dataclass(frozen=True)
class Case:
    """A model. weights_bytes: None where that is not known. override: what a person decided about mmap, None where nobody did."""

    model: Model
    placed: t.Tuple[Placed, ...] = ()
    weights_bytes: t.Optional[int] = None
    override: t.Optional[Override] = None

    @property
    def name(self) -> str:
        """The model's name, for people."""
        return self.model.name or "a model without a name"

    @property
    def keeps_mmap(self) -> bool:
        """Whether the flag for mmap stays, as the override says so."""
        if self.override is None:
            return False
        # With the backend's default, the parameters are left as they are.
        return self.override.flag == MMAP or (self.override.flag is None and engine_uses_mmap(self.model.backend_parameters, None))

    @property
    def override_words(self) -> str:
        """What the override that keeps mmap says, to end a reason with; "" where there is none."""
        return f"; {self.override.words()}" if self.override is not None and self.keeps_mmap else ""


@dataclasses.dataclass(frozen=True)
class Around:
    """What all models have in common. rooms and loads: by the id of the worker."""

    gpustack_version: t.Optional[str]
    server_url: str = ""
    rooms: t.Mapping[t.Optional[int], Room] = dataclasses.field(default_factory=dict)
    loads: t.Mapping[t.Optional[int], Load] = dataclasses.field(default_factory=dict)

    def room(self, part: Part) -> t.Optional[Room]:
        """The room of the worker that has a part; None where the server does not list it."""
        return self.rooms.get(part.worker_id)

    def load(self, part: Part) -> Load:
        """All that is on the worker that has a part."""
        return self.loads.get(part.worker_id, Load())


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something about a model that is not as it should be. mend: what to do, a command or a variable wherever there is one.

    instance, worker: which one it is about; None where it is about no single one.
    """

    finding: str
    reason: str
    mend: str
    instance: t.Optional[str] = None
    worker: t.Optional[str] = None

    def as_dict(self) -> t.Dict[str, t.Any]:
        """As module return value."""
        return dataclasses.asdict(self)


def declared_weights(sizes: t.Mapping[str, t.Any]) -> t.Dict[str, int]:
    """The sizes of weights that a person declares, by the model's name. Raises BadInputError."""
    found = {}
    for name, size in sizes.items():
        # A template makes a text of a number.
        if isinstance(size, bool) or not str(size).isdecimal() or int(size) == 0:
            raise BadInputError(f"weights_bytes of the model {name} is {size!r}: write a whole number of bytes above 0")
        found[str(name)] = int(size)
    return found


def declared_labels(labels: t.Mapping[str, t.Any]) -> t.Dict[str, t.Dict[str, str]]:
    """The labels that a person declares, by the model's name. Raises BadInputError."""
    found = {}
    for name, texts in labels.items():
        if not isinstance(texts, dict):
            raise BadInputError(f"labels of the model {name} are of type {type(texts).__name__}: write a dictionary")
        found[str(name)] = {str(key): str(value) for key, value in texts.items()}
    return found


def survey(
    workers: t.Sequence[Worker],
    models: t.Iterable[Model],
    instances: t.Iterable[Instance],
    nodes: t.Sequence[NodeFacts],
    gpustack_version: t.Optional[str],
    server_url: str,
    weights_bytes: t.Mapping[str, int],
    overrides: t.Sequence[Override],
    labels: t.Mapping[str, t.Mapping[str, str]],
) -> t.Tuple[t.Tuple[Case, ...], Around]:
    """All models of a server as cases, in its order. weights_bytes, labels: by the model's name, as a person declares them."""
    by_model: t.Dict[t.Optional[int], t.List[Instance]] = {}
    for instance in instances:
        by_model.setdefault(instance.model_id, []).append(instance)
    cases = []
    for model in models:
        size_bytes = placement_parts.weights_of(model, weights_bytes.get(str(model.name)))
        placed = tuple(
            Placed(instance, placement_parts.parts_of(instance, model, gpustack_version, size_bytes))
            for instance in by_model.get(model.id, ())
        )
        name = str(model.name)
        override = override_for(overrides, ModelFacts(name, labels.get(name, {})))
        cases.append(Case(model, placed, size_bytes, override))
    tenants = [Tenant(case.name, placed.name, part) for case in cases for placed in case.placed for part in placed.parts]
    return tuple(cases), Around(gpustack_version, server_url, _rooms(workers, nodes), loads_of(tenants))


def _rooms(workers: t.Sequence[Worker], nodes: t.Sequence[NodeFacts]) -> t.Dict[t.Optional[int], Room]:
    # Which llama-box a worker has for want of better knowledge is no part of its room.
    facts = fleet_nodes.worker_facts(workers, nodes, None)
    rooms = [(worker.id, room_of(worker, known, fleet_nodes.node_of(worker, nodes))) for worker, known in zip(workers, facts)]
    return {worker_id: room for worker_id, room in rooms if worker_id is not None}
