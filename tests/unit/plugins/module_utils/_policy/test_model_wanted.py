# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a user wants of a model, read from options as Ansible hands them over: those that were not given are None."""

from __future__ import annotations

import typing as t

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import model_wanted
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_wanted import MODEL_OPTIONS, Wanted, read_all
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import MODEL_FIELDS, SOURCE_FIELDS


def options(**given: t.Any) -> dict[str, t.Any]:
    result = ArgumentSpecValidator(MODEL_OPTIONS).validate({"name": "chat", **given})
    assert result.error_messages == []
    parameters: dict[str, t.Any] = result.validated_parameters
    return parameters


def read(**given: t.Any) -> Wanted:
    return model_wanted.read_wanted(options(**given))


def problem(**given: t.Any) -> str:
    with pytest.raises(BadInputError) as caught:
        read(**given)
    return str(caught.value)


def test_every_field_of_a_model_is_an_option() -> None:
    # GPUStack's gpu_selector has gpu_ids alone in it.
    assert set(MODEL_FIELDS) - {"gpu_selector"} | {"gpu_ids"} == set(MODEL_OPTIONS) - {
        "state",
        "secret_env",
        "weights_bytes",
        "labels",
        "force",
    }
    assert MODEL_OPTIONS["source"]["choices"] == list(SOURCE_FIELDS)
    assert {name for name, option in MODEL_OPTIONS.items() if option.get("required")} == {"name"}
    assert {name: option["default"] for name, option in MODEL_OPTIONS.items() if "default" in option} == {
        "state": "present",
        "labels": {},
        "force": False,
    }
    assert [name for name, option in MODEL_OPTIONS.items() if option.get("no_log")] == ["secret_env"]


def test_a_name_alone_asks_for_nothing_but_that_the_model_is_there() -> None:
    assert read() == Wanted("chat", "present", {"name": "chat"}, None, {}, None, False)


def test_all_that_can_be_asked_for() -> None:
    given = {
        "source": "huggingface",
        "huggingface_repo_id": "Qwen/Qwen2.5-7B-Instruct-GGUF",
        "huggingface_filename": "*q8_0*.gguf",
        "description": "for all",
        "replicas": 2,
        "categories": ["llm"],
        "placement_strategy": "binpack",
        "cpu_offloading": False,
        "distributed_inference_across_workers": True,
        "worker_selector": {"zone": "a"},
        "backend": "llama-box",
        "backend_version": "v0.0.139",
        "backend_parameters": ["--ctx-size=8192"],
        "restart_on_error": False,
    }
    wanted = read(
        **given,
        gpu_ids=["studio 1:mps:0", "b:mps:0"],
        env={"A": "1"},
        secret_env={"TOKEN": "xyzzy"},
        labels={"tier": "gold"},
        weights_bytes=1,
        force=True,
    )
    assert wanted == Wanted(
        name="chat",
        state="present",
        fields={"name": "chat", **given, "gpu_selector": {"gpu_ids": ["studio 1:mps:0", "b:mps:0"]}},
        env={"A": "1", "TOKEN": "xyzzy"},
        labels={"tier": "gold"},
        weights_bytes=1,
        force=True,
    )
    assert "xyzzy" not in repr(wanted)


@pytest.mark.parametrize(
    ("source", "given"),
    [
        ("ollama_library", {"ollama_library_model_name": "llama3"}),
        ("model_scope", {"model_scope_model_id": "a/b", "model_scope_file_path": "c.gguf"}),
        ("local_path", {"local_path": "/models/a.gguf"}),
        ("huggingface", {"huggingface_repo_id": "a/b"}),
    ],
)
def test_sources(source: str, given: dict[str, str]) -> None:
    assert read(source=source, **given).fields == {"name": "chat", "source": source, **given}


def test_options_that_are_none_of_a_model_are_not_looked_at() -> None:
    more = {"server_url": "https://gpustack.example.com", "password": "xyzzy", "restart": "never", "nodes": []}
    assert model_wanted.read_wanted({**options(replicas=1), **more}).fields == {"name": "chat", "replicas": 1}


def test_options_that_are_missing_are_not_given() -> None:
    assert model_wanted.read_wanted({"name": "chat", "state": "present"}) == Wanted("chat", fields={"name": "chat"})


def test_what_is_to_be_absent_needs_a_name_alone() -> None:
    wanted = read(state="absent", source="local_path", replicas=-1, labels={"tier": "gold"})
    assert wanted == Wanted("chat", "absent", {}, None, {"tier": "gold"}, None, False)


def test_empty_values_take_something_back() -> None:
    wanted = read(gpu_ids=[], backend_version="", env={}, description="", categories=[], worker_selector={}, backend_parameters=[])
    assert wanted.env == {}
    assert wanted.fields == {
        "name": "chat",
        "gpu_selector": None,
        "backend_version": None,
        "description": "",
        "categories": [],
        "worker_selector": {},
        "backend_parameters": [],
    }


def test_no_replicas_and_false_are_something() -> None:
    fields = read(replicas=0, cpu_offloading=False).fields
    assert fields == {"name": "chat", "replicas": 0, "cpu_offloading": False}


@pytest.mark.parametrize(
    ("given", "env"), [({"env": {}}, {}), ({"secret_env": {}}, {}), ({"secret_env": {"A": "b"}}, {"A": "b"}), ({}, None)]
)
def test_either_part_of_an_environment_is_all_of_it(given: dict[str, t.Any], env: dict[str, str] | None) -> None:
    assert read(**given).env == env


def test_numbers_of_yaml_are_texts() -> None:
    wanted = read(env={"PORT": 8080, "HALF": 0.5}, labels={"rank": 1}, worker_selector={2: 3})
    assert wanted.env == {"PORT": "8080", "HALF": "0.5"}
    assert wanted.labels == {"rank": "1"}
    assert wanted.fields["worker_selector"] == {"2": "3"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": ""}, "name of a model is empty; give it the name that GPUStack shows"),
        ({"name": " \t"}, "name of a model is empty; give it the name that GPUStack shows"),
        (
            {"local_path": "/a.gguf"},
            "local_path of the model chat is given without source; say which of huggingface, ollama_library, model_scope, local_path it is",
        ),
        (
            {"ollama_library_model_name": "a", "huggingface_repo_id": "b"},
            (
                "huggingface_repo_id of the model chat is given without source; "
                "say which of huggingface, ollama_library, model_scope, local_path it is"
            ),
        ),
        ({"source": "local_path"}, "source of the model chat is local_path, and local_path is missing; add it"),
        ({"source": "local_path", "local_path": ""}, "source of the model chat is local_path, and local_path is missing; add it"),
        (
            {"source": "huggingface", "huggingface_filename": "a.gguf"},
            "source of the model chat is huggingface, and huggingface_repo_id is missing; add it",
        ),
        (
            {"source": "local_path", "local_path": "/a", "model_scope_model_id": "b", "huggingface_repo_id": "c"},
            "source of the model chat is local_path, to which huggingface_repo_id does not belong; take it out",
        ),
        ({"replicas": -1}, "replicas of the model chat is -1; the least is 0"),
        ({"weights_bytes": 0}, "weights_bytes of the model chat is 0; it is a number of bytes above 0"),
        ({"gpu_ids": ["a:mps:0", "mps:0"]}, "gpu_selector of the model chat: 'mps:0' is no GPU; write it like worker-name:mps:0"),
        (
            {"env": {"A": "1"}, "secret_env": {"A": "xyzzy"}},
            "A of the model chat is in env and in secret_env; keep it in one of them",
        ),
        (
            {"env": {"GGML_METAL_NO_RESIDENCY": ""}},
            (
                "GGML_METAL_NO_RESIDENCY is in env of the model chat, and its presence disables Metal residency sets whatever its value "
                "(gpustack#1907); take it out"
            ),
        ),
        (
            {"secret_env": {"GGML_METAL_NO_RESIDENCY": "0"}},
            (
                "GGML_METAL_NO_RESIDENCY is in secret_env of the model chat, and its presence disables Metal residency sets whatever "
                "its value (gpustack#1907); take it out"
            ),
        ),
        (
            {"env": {"METALFLEET_INSTANCES_BEFORE": "x"}},
            "METALFLEET_INSTANCES_BEFORE is in env of the model chat, and the collection writes it itself; take it out",
        ),
        ({"env": {"A": None}}, "env of the model chat: A is no text; put its value in quotes"),
        ({"env": {"A": [1]}}, "env of the model chat: A is no text; put its value in quotes"),
        ({"env": {"A": ("xyzzy",)}}, "env of the model chat: A is no text; put its value in quotes"),
        ({"secret_env": {"A": {"b": "xyzzy"}}}, "secret_env of the model chat: A is no text; put its value in quotes"),
        ({"labels": {"a": None}}, "labels of the model chat: a is no text; put its value in quotes"),
        (
            {"worker_selector": {"fast": True}},
            "worker_selector of the model chat: fast is true or false to YAML, and GPUStack wants a text; put it in quotes",
        ),
    ],
)
def test_what_cannot_be_wanted(given: dict[str, t.Any], message: str) -> None:
    assert problem(**given) == message


def test_backend_parameters_are_a_list_of_texts() -> None:
    entry = {**options(), "backend_parameters": ["--ctx-size", 8192]}
    with pytest.raises(BadInputError, match=r"^backend_parameters: element 2 is of type int: put it in quotes$"):
        model_wanted.read_wanted(entry)
    # A copy: what is read later must not change what the user gave.
    entry = options(backend_parameters=["--no-mmap"])
    assert model_wanted.read_wanted(entry).fields["backend_parameters"] is not entry["backend_parameters"]


def test_labels_that_are_null_are_none() -> None:
    assert model_wanted.read_wanted({**options(), "labels": None, "force": None}) == read()


def test_all_models_of_a_list_in_its_order() -> None:
    assert read_all([]) == []
    assert read_all([options(name="b"), options(name="Ä b", state="absent"), options(name="a")]) == [
        Wanted("b", fields={"name": "b"}),
        Wanted("Ä b", "absent"),
        Wanted("a", fields={"name": "a"}),
    ]


def test_a_model_that_is_twice_in_a_list() -> None:
    with pytest.raises(BadInputError) as caught:
        read_all([options(name="a"), options(name="b"), options(name="a", state="absent")])
    assert str(caught.value) == "models has the model a twice, and GPUStack has one of a name at most; take one of them out"


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"name": "a"}, {"replicas": 1}], "entry 2 of the models has no name; say which model it is"),
        ([{"name": ""}], "entry 1 of the models has no name; say which model it is"),
        (
            [{"name": "a", "backend_paramters": []}],
            "the model a has backend_paramters, which no model can have; did you mean backend_parameters?",
        ),
        (
            [{"name": "a", "min_token_per_second": 1}],
            "the model a has min_token_per_second, which no model can have; did you mean min_tokens_per_second?",
        ),
        ([{"name": "a", "xyzzy": 1}], "the model a has xyzzy, which no model can have; take it out"),
    ],
)
def test_a_mistake_in_a_list_is_said_with_its_entry(entries: list[dict[str, t.Any]], said: str) -> None:
    with pytest.raises(BadInputError) as caught:
        model_wanted.check_names(entries)
    assert str(caught.value) == said


@pytest.mark.parametrize("entries", [None, [], "text", ["text"], [{"name": "a", "replicas": 1, "secret_env": {}}], ({"name": "a"},)])
def test_what_is_no_mistake_or_for_the_module_to_say(entries: t.Any) -> None:
    model_wanted.check_names(entries)


def test_paths_are_absolute() -> None:
    assert problem(source="local_path", local_path="models/a.gguf") == (
        "local_path of the model chat is models/a.gguf, and workers know absolute paths only; write it from / on"
    )
