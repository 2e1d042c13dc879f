# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A model as GPUStack's server knows it (gpustack/schemas/models.py), and what to send to change one.

PUT /v1/models/{id} takes over the fields that are in its body and leaves the others (ActiveRecordMixin.update), with these
exceptions, the same in 0.6.0 to 0.7.1:
* name, source and what belongs to the source have to be there (ModelSource);
* cpu_offloading and distributed_inference_across_workers get a default where they are left out (ModelSpecBase.set_defaults);
* the body alone is checked, as if it were a whole model: without `backend` the server guesses one from the source.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.json_fields import Fields

LLAMA_BOX = "llama-box"

# What belongs to a source (ModelSource); the first is always needed.
SOURCE_FIELDS: t.Mapping[str, t.Tuple[str, ...]] = {
    "huggingface": ("huggingface_repo_id", "huggingface_filename"),
    "ollama_library": ("ollama_library_model_name",),
    "model_scope": ("model_scope_model_id", "model_scope_file_path"),
    "local_path": ("local_path",),
}
# Where a source says that it is GGUF, by its end (is_gguf_model); Ollama's library has nothing else.
_GGUF_FIELDS = {"huggingface": "huggingface_filename", "model_scope": "model_scope_file_path", "local_path": "local_path"}
_AUDIO = ("speech_to_text", "text_to_speech")

# PUT resets these to its defaults unless it is told (ModelSpecBase.set_defaults).
FORCED_FLAGS = ("cpu_offloading", "distributed_inference_across_workers")

# What a user may say of a model.
MODEL_FIELDS = (
    "name",
    "source",
    *(field for fields in SOURCE_FIELDS.values() for field in fields),
    "description",
    "replicas",
    "categories",
    "placement_strategy",
    *FORCED_FLAGS,
    "worker_selector",
    "gpu_selector",
    "backend",
    "backend_version",
    "backend_parameters",
    "env",
    "restart_on_error",
)

# What the server writes itself while others look: a value of ours would be an old one. Field -> who writes it.
SERVER_FIELDS: t.Mapping[str, str] = {
    "id": "the database",
    "created_at": "the database",
    "updated_at": "the database",
    "deleted_at": "the database",
    "meta": "the server when an instance runs (server/controllers.py, ModelInstanceController)",
    "ready_replicas": "the server when an instance changes (server/controllers.py, sync_ready_replicas)",
    "distributable": "the scheduler (scheduler/scheduler.py, evaluate_gguf_model)",
    "embedding_only": "the scheduler, from the categories (scheduler/scheduler.py)",
    "image_only": "the scheduler, from the categories (scheduler/scheduler.py)",
    "reranker": "the scheduler, from the categories (scheduler/scheduler.py)",
    "speech_to_text": "the scheduler, from the categories (scheduler/scheduler.py)",
    "text_to_speech": "the scheduler, from the categories (scheduler/scheduler.py)",
}


@dataclasses.dataclass(frozen=True)
class Model:
    """A model. What the server does not say is None; problems names what it said and could not be understood.

    source: huggingface, ollama_library, model_scope or local_path. gpu_ids: of its gpu_selector. backend: None where the
    server guesses it, see serving_backend. backend_parameters, env: None for null, which 0.7 takes for its default and which
    breaks instances of 0.6 in case of backend_parameters. raw: the object as it came, for model_put_body.
    """

    id: t.Optional[int] = None
    name: t.Optional[str] = None
    source: t.Optional[str] = None
    huggingface_repo_id: t.Optional[str] = None
    huggingface_filename: t.Optional[str] = None
    ollama_library_model_name: t.Optional[str] = None
    model_scope_model_id: t.Optional[str] = None
    model_scope_file_path: t.Optional[str] = None
    local_path: t.Optional[str] = None
    description: t.Optional[str] = None
    meta: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    replicas: t.Optional[int] = None
    ready_replicas: t.Optional[int] = None
    categories: t.Tuple[str, ...] = ()
    placement_strategy: t.Optional[str] = None
    cpu_offloading: t.Optional[bool] = None
    distributed_inference_across_workers: t.Optional[bool] = None
    worker_selector: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    gpu_ids: t.Optional[t.Tuple[str, ...]] = None
    backend: t.Optional[str] = None
    backend_version: t.Optional[str] = None
    backend_parameters: t.Optional[t.Tuple[str, ...]] = None
    # People keep tokens in it.
    env: t.Optional[t.Mapping[str, str]] = dataclasses.field(default=None, repr=False)
    restart_on_error: t.Optional[bool] = None
    distributable: t.Optional[bool] = None
    created_at: t.Optional[str] = None
    updated_at: t.Optional[str] = None
    problems: t.Tuple[str, ...] = ()
    raw: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def serving_backend(self) -> t.Optional[str]:
        """What serves it: its backend, or the one that the server guesses; None where the source is not known."""
        if self.backend:
            return self.backend
        if self.source is None:
            return None
        if says_gguf(self.raw):
            return LLAMA_BOX
        return "vox-box" if any(category in self.categories for category in _AUDIO) else "vllm"

    @property
    def uses_llama_box(self) -> bool:
        """Whether llama-box serves it, so that mmap matters."""
        return self.serving_backend == LLAMA_BOX


def parse_model(data: t.Any) -> Model:
    """A model from an item of GET /v1/models. Never raises."""
    problems: t.List[str] = []
    name = data.get("name") if isinstance(data, dict) else None
    fields = Fields(data, f"model {name}" if isinstance(name, str) else "a model", problems)
    return Model(
        id=fields.whole("id"),
        name=fields.text("name"),
        source=fields.text("source"),
        huggingface_repo_id=fields.text("huggingface_repo_id"),
        huggingface_filename=fields.text("huggingface_filename"),
        ollama_library_model_name=fields.text("ollama_library_model_name"),
        model_scope_model_id=fields.text("model_scope_model_id"),
        model_scope_file_path=fields.text("model_scope_file_path"),
        local_path=fields.text("local_path"),
        description=fields.text("description"),
        meta=fields.anything("meta") or {},
        replicas=fields.whole("replicas"),
        ready_replicas=fields.whole("ready_replicas"),
        categories=fields.texts("categories") or (),
        placement_strategy=fields.text("placement_strategy"),
        cpu_offloading=fields.flag("cpu_offloading"),
        distributed_inference_across_workers=fields.flag("distributed_inference_across_workers"),
        worker_selector=fields.texts_by_name("worker_selector") or {},
        gpu_ids=fields.section("gpu_selector").texts("gpu_ids"),
        backend=fields.text("backend") or None,
        backend_version=fields.text("backend_version") or None,
        backend_parameters=fields.texts("backend_parameters"),
        env=fields.texts_by_name("env"),
        restart_on_error=fields.flag("restart_on_error"),
        distributable=fields.flag("distributable"),
        created_at=fields.text("created_at"),
        updated_at=fields.text("updated_at"),
        raw=fields.raw,
        problems=tuple(problems),
    )


def says_gguf(model: t.Mapping[str, t.Any]) -> bool:
    """Whether the server takes the source of a model, as it came, for GGUF, and so for one of llama-box (is_gguf_model)."""
    source = str(model.get("source"))
    path = model.get(_GGUF_FIELDS[source]) if source in _GGUF_FIELDS else None
    return source == "ollama_library" or (isinstance(path, str) and path.endswith(".gguf"))


def model_post_body(wanted: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    """The body that creates a model. Raises BadInputError for a field that is not a user's to set."""
    return _sendable(wanted)


def model_put_body(current: t.Mapping[str, t.Any], changes: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    """The body that changes these fields of a model and no others.

    current: the model as the server gave it just now, as it came. Whatever is sent besides the changes is taken from there
    and would undo a change that somebody else makes in this moment, so it is only what the server forces on us. Raises
    BadInputError for a field that is not a user's to set.
    """
    sent = _sendable(changes)
    after = {**current, **sent}
    needed = ["name", "source", *SOURCE_FIELDS.get(str(after.get("source")), ()), *FORCED_FLAGS]
    # The guess would be another: a model of llama-box would be refused for cpu_offloading, as if it were one of vLLM.
    if after.get("backend") and (after["backend"] == LLAMA_BOX) != says_gguf(after):
        needed.append("backend")
    return {**{field: after[field] for field in needed if after.get(field) is not None}, **sent}


def put_differences(body: t.Mapping[str, t.Any], after: t.Mapping[str, t.Any]) -> t.Tuple[str, ...]:
    """The fields of a body that the server, read again, has otherwise: somebody else changed them, or it did not take them."""
    return tuple(field for field, value in body.items() if not _same(value, after.get(field)))


def _same(sent: t.Any, found: t.Any) -> bool:
    return bool(sent == found) or (_says_nothing(sent) and _says_nothing(found))


def _says_nothing(value: t.Any) -> bool:
    # Not falsehood: false and 0 say something.
    return value is None or value in ("", [], {})


def _sendable(fields: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    for field in fields:
        if field in SERVER_FIELDS:
            raise BadInputError(f"{field} of a model cannot be set: {SERVER_FIELDS[field]} writes it; leave it out")
        if field not in MODEL_FIELDS:
            raise BadInputError(f"{field} is no field of a model in GPUStack 0.6 or 0.7; look for a slip of the pen")
    # JSON has no tuples, and what comes back is compared with what was sent.
    sent = {field: list(value) if isinstance(value, tuple) else value for field, value in fields.items()}
    # 0.6 starts no instance with null: "'NoneType' object is not iterable" (worker/backends/llama_box.py).
    if "backend_parameters" in sent and sent["backend_parameters"] is None:
        sent["backend_parameters"] = []
    return sent
