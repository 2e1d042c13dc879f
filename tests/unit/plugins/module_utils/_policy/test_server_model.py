# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import server_model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import (
    Model,
    model_post_body,
    model_put_body,
    parse_model,
    put_differences,
    says_gguf,
)

# Synthetic, in the shape of GET /v1/models.
WHOLE: dict[str, t.Any] = {
    "id": 3,
    "name": "deepseek ü",
    "source": "local_path",
    "huggingface_repo_id": "a/b",
    "huggingface_filename": "c.gguf",
    "ollama_library_model_name": "d",
    "model_scope_model_id": "e/f",
    "model_scope_file_path": "g.gguf",
    "local_path": "/models/x.gguf",
    "description": "d1",
    "meta": {"n_ctx": 8192},
    "replicas": 2,
    "ready_replicas": 1,
    "categories": ["llm"],
    "embedding_only": False,
    "image_only": False,
    "reranker": False,
    "speech_to_text": False,
    "text_to_speech": False,
    "placement_strategy": "spread",
    "cpu_offloading": False,
    "distributed_inference_across_workers": True,
    "worker_selector": {"os": "darwin"},
    "gpu_selector": {"gpu_ids": ["a:mps:0"]},
    "backend": "llama-box",
    "backend_version": "v0.0.139",
    "backend_parameters": ["--no-mmap"],
    "env": {"TOKEN": "geheim"},
    "restart_on_error": True,
    "distributable": True,
    "created_at": "2026-11-22T11:25:14Z",
    "updated_at": "2026-11-22T11:25:34Z",
}
FORCED = {
    "name": "deepseek ü",
    "source": "local_path",
    "local_path": "/models/x.gguf",
    "cpu_offloading": False,
    "distributed_inference_across_workers": True,
}


def current(**changes: t.Any) -> dict[str, t.Any]:
    """A model as the server gives it, that has just one source."""
    one: dict[str, t.Any] = {**WHOLE, **{field: None for fields in server_model.SOURCE_FIELDS.values() for field in fields}}
    return {**one, "local_path": "/models/x.gguf", **changes}


def test_reads_all_that_is_known_of_a_model():
    assert parse_model(WHOLE) == Model(
        id=3,
        name="deepseek ü",
        source="local_path",
        huggingface_repo_id="a/b",
        huggingface_filename="c.gguf",
        ollama_library_model_name="d",
        model_scope_model_id="e/f",
        model_scope_file_path="g.gguf",
        local_path="/models/x.gguf",
        description="d1",
        meta={"n_ctx": 8192},
        replicas=2,
        ready_replicas=1,
        categories=("llm",),
        placement_strategy="spread",
        cpu_offloading=False,
        distributed_inference_across_workers=True,
        worker_selector={"os": "darwin"},
        gpu_ids=("a:mps:0",),
        backend="llama-box",
        backend_version="v0.0.139",
        backend_parameters=("--no-mmap",),
        env={"TOKEN": "geheim"},
        restart_on_error=True,
        distributable=True,
        created_at="2026-11-22T11:25:14Z",
        updated_at="2026-11-22T11:25:34Z",
    )


def test_keeps_the_object_as_it_came_and_shows_no_environment():
    model = parse_model(WHOLE)
    assert model.raw is WHOLE
    assert "geheim" not in repr(model)
    assert model == dataclasses.replace(model, raw={})


@pytest.mark.parametrize(
    "empty", [{}, dict.fromkeys(set(WHOLE) - {"name"}), {"gpu_selector": {"gpu_ids": None}}, {"backend": "", "backend_version": ""}]
)
def test_what_is_missing_or_null_is_no_problem(empty):
    assert parse_model({"name": "a", **empty}) == Model(name="a")


def test_null_parameters_are_not_empty_ones():
    assert parse_model({"backend_parameters": None, "env": None}) == Model()
    assert parse_model({"backend_parameters": [], "env": {}}) == Model(backend_parameters=(), env={})


def test_garbage_is_none_and_named_without_its_value():
    model = parse_model({"name": "a", "env": {"TOKEN": 5}, "backend_parameters": "--geheim", "gpu_selector": ["x"]})
    assert (model.env, model.backend_parameters, model.gpu_ids) == (None, None, None)
    assert model.problems == (
        "model a: gpu_selector is a list, not an object",
        "model a: backend_parameters is text, not a list of texts",
        "model a: env is an object, not an object of texts",
    )


def test_problems_where_there_is_no_name():
    assert parse_model(None).problems == ("a model is null, not an object",)
    assert parse_model({"name": 5}).problems == ("a model: name is a number, not text",)


@pytest.mark.parametrize(
    ("fields", "gguf"),
    [
        ({"source": "ollama_library"}, True),
        ({"source": "huggingface", "huggingface_filename": "a*.gguf"}, True),
        ({"source": "huggingface", "huggingface_filename": "a.safetensors", "local_path": "a.gguf"}, False),
        ({"source": "huggingface", "huggingface_filename": None}, False),
        ({"source": "model_scope", "model_scope_file_path": "a.gguf"}, True),
        ({"source": "model_scope", "huggingface_filename": "a.gguf"}, False),
        ({"source": "local_path", "local_path": "/a.gguf"}, True),
        ({"source": "local_path", "local_path": "/a.GGUF"}, False),
        ({"source": "local_path", "local_path": ["a.gguf"]}, False),
        ({"source": "later"}, False),
        ({"source": ["x"]}, False),
        ({}, False),
    ],
)
def test_what_the_server_takes_for_gguf(fields, gguf):
    assert says_gguf(fields) is gguf


@pytest.mark.parametrize(
    ("fields", "backend"),
    [
        ({"source": "local_path", "local_path": "/a.gguf"}, "llama-box"),
        ({"source": "local_path", "local_path": "/a.gguf", "backend": "vllm"}, "vllm"),
        ({"source": "local_path", "local_path": "/a", "backend": "llama-box"}, "llama-box"),
        ({"source": "local_path", "local_path": "/a"}, "vllm"),
        ({"source": "huggingface", "categories": ["llm"]}, "vllm"),
        ({"source": "huggingface", "categories": ["llm", "speech_to_text"]}, "vox-box"),
        ({"source": "huggingface", "categories": ["text_to_speech"]}, "vox-box"),
        ({"categories": ["text_to_speech"]}, None),
    ],
)
def test_the_backend_that_serves_a_model(fields, backend):
    model = parse_model(fields)
    assert model.serving_backend == backend
    assert model.uses_llama_box is (backend == "llama-box")


def test_put_sends_what_is_forced_and_the_changes_and_nothing_else():
    assert model_put_body(current(), {"replicas": 3}) == {**FORCED, "replicas": 3}
    assert model_put_body(current(), {}) == FORCED


def test_put_changes_what_it_would_have_to_send_anyway():
    body = model_put_body(current(), {"name": "b", "cpu_offloading": True, "local_path": "/b.gguf"})
    assert body == {**FORCED, "name": "b", "cpu_offloading": True, "local_path": "/b.gguf"}


@pytest.mark.parametrize("flag", server_model.FORCED_FLAGS)
def test_put_keeps_each_flag_that_it_would_reset(flag):
    for value in (True, False):
        assert model_put_body(current(**{flag: value}), {})[flag] is value
    assert flag not in model_put_body(current(**{flag: None}), {})


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        ("huggingface", {"huggingface_repo_id": "a/b", "huggingface_filename": "c.gguf"}),
        ("ollama_library", {"ollama_library_model_name": "d"}),
        ("model_scope", {"model_scope_model_id": "e/f", "model_scope_file_path": "g.gguf"}),
        ("local_path", {"local_path": "/models/x.gguf"}),
    ],
)
def test_put_sends_what_belongs_to_the_source(source, fields):
    body = model_put_body({**WHOLE, "source": source}, {})
    assert {field: body[field] for field in body if field not in ("name", "source", *server_model.FORCED_FLAGS)} == fields


def test_put_to_another_source_sends_what_belongs_to_that_one():
    body = model_put_body(current(), {"source": "ollama_library", "ollama_library_model_name": "d", "local_path": None})
    assert body == {**FORCED, "source": "ollama_library", "ollama_library_model_name": "d", "local_path": None}


def test_put_leaves_out_what_a_source_does_not_have():
    server = {**current(local_path=None), "source": "huggingface", "huggingface_repo_id": "a/b", "backend": "vllm"}
    assert model_put_body(server, {}) == {
        "name": "deepseek ü",
        "source": "huggingface",
        "huggingface_repo_id": "a/b",
        "cpu_offloading": False,
        "distributed_inference_across_workers": True,
    }


@pytest.mark.parametrize("source", ["later", None])
def test_put_of_an_unknown_source_leaves_it_to_the_server(source):
    body = model_put_body({"name": "a", "source": source}, {"replicas": 0})
    assert body == {"name": "a", **({"source": source} if source else {}), "replicas": 0}


@pytest.mark.parametrize(
    ("path", "backend", "sent"),
    [
        ("/a.gguf", "llama-box", False),
        ("/a", "llama-box", True),
        ("/a.gguf", "vllm", True),
        ("/a", "vllm", False),
        ("/a", "vox-box", False),
        ("/a", None, False),
        ("/a.gguf", None, False),
        ("/a", "", False),
    ],
)
def test_put_sends_the_backend_where_the_server_would_guess_another(path, backend, sent):
    body = model_put_body(current(local_path=path, backend=backend), {})
    assert ("backend" in body) is sent
    assert body.get("backend") == (backend if sent else None)


def test_put_judges_the_backend_by_what_it_changes():
    assert "backend" not in model_put_body(current(local_path="/a"), {"local_path": "/b.gguf"})
    assert model_put_body(current(), {"local_path": "/b"})["backend"] == "llama-box"
    assert model_put_body(current(local_path="/a"), {"backend": None})["backend"] is None


@pytest.mark.parametrize("make", [model_post_body, lambda fields: model_put_body({}, fields)])
class TestBodies:
    def test_null_parameters_become_an_empty_list(self, make):
        assert make({"backend_parameters": None, "env": None}) == {"backend_parameters": [], "env": None}

    def test_tuples_become_lists(self, make):
        assert make({"backend_parameters": ("--a",), "categories": ()}) == {"backend_parameters": ["--a"], "categories": []}

    def test_other_values_stay(self, make):
        fields = {"env": {"A": "1"}, "replicas": 0, "restart_on_error": False, "gpu_selector": None}
        assert make(fields) == fields

    @pytest.mark.parametrize("field", server_model.SERVER_FIELDS)
    def test_what_the_server_writes_is_refused(self, make, field):
        with pytest.raises(BadInputError) as caught:
            make({field: None})
        assert str(caught.value) == f"{field} of a model cannot be set: {server_model.SERVER_FIELDS[field]} writes it; leave it out"

    def test_an_unknown_field_is_refused(self, make):
        with pytest.raises(BadInputError) as caught:
            make({"backend_paramters": []})
        assert str(caught.value) == "backend_paramters is no field of a model in GPUStack 0.6 or 0.7; look for a slip of the pen"


def test_a_body_is_no_part_of_what_it_was_made_of():
    changes = {"replicas": 1}
    assert model_post_body(changes) is not changes


def test_every_field_that_the_server_has_is_a_users_or_its_own():
    assert set(WHOLE) <= {*server_model.MODEL_FIELDS, *server_model.SERVER_FIELDS}
    assert not set(server_model.MODEL_FIELDS) & set(server_model.SERVER_FIELDS)
    assert set(FORCED) <= set(server_model.MODEL_FIELDS)


@pytest.mark.parametrize(
    ("sent", "found", "same"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", None, False),
        (None, None, True),
        (None, "", True),
        (None, [], True),
        ({}, None, True),
        ([], {}, True),
        ([], ["x"], False),
        (["x"], [], False),
        (False, None, False),
        (False, False, True),
        (False, True, False),
        (0, None, False),
        (None, 0, False),
        (None, False, False),
        (["a", "b"], ["b", "a"], False),
        ({"a": "1"}, {"a": "1"}, True),
    ],
)
def test_what_was_sent_is_compared_with_what_is_there(sent, found, same):
    assert put_differences({"other": 1, "field": sent}, {"field": found, "other": 1}) == (() if same else ("field",))


def test_all_that_differs_is_named_and_what_is_not_there_is_null():
    assert put_differences({"a": 1, "b": None, "c": 3}, {}) == ("a", "c")
