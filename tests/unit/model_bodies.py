# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What GPUStack makes of the body of POST and PUT /v1/models, after gpustack/schemas/models.py and routes/models.py of 0.6.0 to 0.7.1."""

from __future__ import annotations

import typing as t

Json = t.Dict[str, t.Any]

# ModelSource.check_huggingface_fields
_NEEDED = {
    "huggingface": "huggingface_repo_id",
    "ollama_library": "ollama_library_model_name",
    "model_scope": "model_scope_model_id",
    "local_path": "local_path",
}
_GGUF = {"huggingface": "huggingface_filename", "model_scope": "model_scope_file_path", "local_path": "local_path"}
SOURCE_FIELDS = (*_NEEDED.values(), "huggingface_filename", "model_scope_file_path")


def _texts(value: t.Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _named_texts(value: t.Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _whole(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


# The types of ModelSpecBase, and whether null is one.
_TYPES: t.Dict[str, t.Tuple[t.Callable[[t.Any], bool], bool]] = {
    "name": (lambda value: isinstance(value, str), False),
    "source": (lambda value: value in _NEEDED, False),
    **{field: (lambda value: isinstance(value, str), True) for field in (*SOURCE_FIELDS, "description", "backend", "backend_version")},
    "replicas": (_whole, False),
    "ready_replicas": (_whole, False),
    "meta": (lambda value: isinstance(value, dict), True),
    "categories": (_texts, False),
    "placement_strategy": (lambda value: value in ("spread", "binpack"), False),
    **{
        field: (lambda value: isinstance(value, bool), True)
        for field in ("cpu_offloading", "distributed_inference_across_workers", "restart_on_error", "distributable")
    },
    "worker_selector": (_named_texts, True),
    "gpu_selector": (lambda value: isinstance(value, dict) and (value.get("gpu_ids") is None or _texts(value["gpu_ids"])), True),
    "backend_parameters": (_texts, True),
    "env": (_named_texts, True),
}


class InvalidError(Exception):
    """The body is refused. status and reason: as the server answers."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


def new_model(version: str) -> Json:
    """The defaults of ModelSpecBase; those of two fields are null from 0.7 on."""
    later = not version.startswith("0.6")
    return {
        **dict.fromkeys(("source", *SOURCE_FIELDS, "name", "description")),
        "meta": {},
        "replicas": 1,
        "ready_replicas": 0,
        "categories": [],
        **dict.fromkeys(("embedding_only", "image_only", "reranker", "speech_to_text", "text_to_speech"), False),
        "placement_strategy": "spread",
        "cpu_offloading": None,
        "distributed_inference_across_workers": None,
        "worker_selector": {},
        "gpu_selector": None,
        "backend": None,
        "backend_version": None,
        "backend_parameters": None if later else [],
        "env": None if later else {},
        "restart_on_error": True,
        "distributable": False,
    }


def fields_of(body: t.Any, version: str, worker_names: t.Collection[str]) -> Json:
    """The fields that a body sets: those that it has, and those that ModelSpecBase.set_defaults sets. Raises InvalidError."""
    wrong = [("missing", field, "Field required") for field in ("source", "name") if body.get(field) is None]
    for field, (is_right, may_be_null) in _TYPES.items():
        value = body.get(field)
        if field in body and not (is_right(value) or (value is None and may_be_null)) and (field, value) != ("source", None):
            wrong.append(("value_error", field, "Input should be something else"))
    if wrong:
        # It repeats the body, as the real one does (api/exceptions.py, validation_exception_handler).
        lines = "".join(
            f"  {{'type': '{kind}', 'loc': ('body', '{field}'), 'msg': '{words}', 'input': {body}}}\n" for kind, field, words in wrong
        )
        raise InvalidError(422, "Invalid", f"{len(wrong)} validation errors:\n{lines}")
    given = {field: value for field, value in body.items() if field in _TYPES}
    whole = {**new_model(version), **given}
    backend = backend_of(whole)
    for field, by_default in (("cpu_offloading", ("llama-box",)), ("distributed_inference_across_workers", ("llama-box", "vllm"))):
        if whole[field] is None:
            whole[field] = given[field] = backend in by_default
    problem = _problem(whole, backend)
    if problem:
        line = f"  {{'type': 'value_error', 'loc': ('body',), 'msg': \"Value error, {problem}\", 'input': {body}}}\n"
        raise InvalidError(422, "Invalid", f"1 validation errors:\n{line}")
    _check_route(whole, version, worker_names)
    return given


def _problem(whole: Json, backend: str) -> str:
    """ModelSource.check_huggingface_fields and ModelBase.validate."""
    needed = _NEEDED[whole["source"]]
    if not whole[needed]:
        return f"{needed} must be provided when source is '{whole['source']}'"
    if backend == "llama-box" and whole["source"] == "huggingface" and not whole["huggingface_filename"]:
        return "huggingface_filename must be provided when source is 'huggingface'"
    if backend in ("vllm", "ascend-mindie") and whole["cpu_offloading"]:
        return "CPU offloading is only supported for GGUF models"
    if backend == "vox-box" and whole["distributed_inference_across_workers"]:
        return "Distributed inference across workers is not supported for the vox-box backend"
    return ""


def _check_route(whole: Json, version: str, worker_names: t.Collection[str]) -> None:
    """routes/models.py, validate_model_in."""
    if whole["gpu_selector"] is not None and whole["replicas"] > 0:
        for gpu_id in whole["gpu_selector"].get("gpu_ids") or []:
            worker = gpu_id.rsplit(":", 2)[0]
            if worker not in worker_names:
                raise InvalidError(400, "BadRequest", f"Worker {worker} not found")
    names = [parameter.partition("=")[0].lstrip("-") for parameter in whole["backend_parameters"] or []]
    if "port" in names and not version.startswith("0.6"):
        raise InvalidError(400, "BadRequest", "Setting the port using --port is not supported.")


def backend_of(model: Json) -> str:
    """get_backend"""
    if model["backend"]:
        return str(model["backend"])
    path = model.get(_GGUF.get(str(model["source"]), ""))
    if model["source"] == "ollama_library" or str(path).endswith(".gguf"):
        return "llama-box"
    return "vox-box" if {"speech_to_text", "text_to_speech"} & set(model["categories"]) else "vllm"
