# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What a user wants of a model, from the options of the module model or an entry of the module models."""

from __future__ import annotations

import dataclasses
import difflib
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap_parameters
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.instance_age import MARK
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_eligible import parse_gpu_id
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import SOURCE_FIELDS

PRESENT = "present"
ABSENT = "absent"

# Options of one model, which are GPUStack's own fields but for the last ones. Documented in plugins/doc_fragments/model.py.
MODEL_OPTIONS: t.Dict[str, t.Dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": [PRESENT, ABSENT], "default": PRESENT},
    "source": {"type": "str", "choices": list(SOURCE_FIELDS)},
    **{field: {"type": "str"} for fields in SOURCE_FIELDS.values() for field in fields},
    "description": {"type": "str"},
    "replicas": {"type": "int"},
    "categories": {"type": "list", "elements": "str"},
    "placement_strategy": {"type": "str", "choices": ["spread", "binpack"]},
    "cpu_offloading": {"type": "bool"},
    "distributed_inference_across_workers": {"type": "bool"},
    "worker_selector": {"type": "dict"},
    "gpu_ids": {"type": "list", "elements": "str"},
    "backend": {"type": "str", "choices": ["llama-box", "vllm", "vox-box", "ascend-mindie"]},
    "backend_version": {"type": "str"},
    "backend_parameters": {"type": "list", "elements": "str"},
    "env": {"type": "dict"},
    "secret_env": {"type": "dict", "no_log": True},
    "restart_on_error": {"type": "bool"},
    "weights_bytes": {"type": "int"},
    "labels": {"type": "dict", "default": {}},
    "force": {"type": "bool", "default": False},
}
_OURS = ("state", "labels", "force", "env", "secret_env", "gpu_ids", "weights_bytes")
# What the roles read of an entry beside them.
_OF_PROOF = ("probe", "category", "min_tokens_per_second", "max_first_token_seconds")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A model as it should be. fields: of the server, only those that the user speaks of.

    env: the whole environment, None where the user does not speak of it. weights_bytes: their size, where the user knows it.
    force: create it although no worker can hold it.
    """

    name: str
    state: str = PRESENT
    fields: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    env: t.Optional[t.Mapping[str, str]] = dataclasses.field(default=None, repr=False)
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    weights_bytes: t.Optional[int] = None
    force: bool = False


def read_wanted(options: t.Mapping[str, t.Any]) -> Wanted:
    """What the options of one model say; others, such as those of the connection, are none of a model's. Raises BadInputError."""
    name = options["name"]
    if not name.strip():
        raise BadInputError("name of a model is empty; give it the name that GPUStack shows")
    labels = _texts(f"labels of the model {name}", options.get("labels") or {})
    if options["state"] == ABSENT:
        return Wanted(name, ABSENT, labels=labels)
    fields = {key: options[key] for key in MODEL_OPTIONS if options.get(key) is not None and key not in _OURS}
    _check_source(name, fields)
    if "replicas" in fields and fields["replicas"] < 0:
        raise BadInputError(f"replicas of the model {name} is {fields['replicas']}; the least is 0")
    if "worker_selector" in fields:
        fields["worker_selector"] = _texts(f"worker_selector of the model {name}", fields["worker_selector"])
    if "backend_parameters" in fields:
        fields["backend_parameters"] = mmap_parameters.checked(fields["backend_parameters"])
    weights_bytes = options.get("weights_bytes")
    if weights_bytes is not None and weights_bytes < 1:
        raise BadInputError(f"weights_bytes of the model {name} is {weights_bytes}; it is a number of bytes above 0")
    gpu_ids = options.get("gpu_ids")
    if gpu_ids is not None:
        for gpu_id in gpu_ids:
            parse_gpu_id(name, gpu_id)
        fields["gpu_selector"] = {"gpu_ids": list(gpu_ids)} if gpu_ids else None
    # Empty takes the pin back.
    if fields.get("backend_version") == "":
        fields["backend_version"] = None
    return Wanted(name, PRESENT, fields, _env(name, options), labels, weights_bytes, bool(options.get("force")))


def check_names(entries: t.Any) -> None:
    """Whether each entry of a list has a name and no key that there is not. Raises BadInputError, which says in which one.

    Ansible's own check of a module's options names the key alone, which in a list of thirty models is a riddle.
    """
    for number, entry in enumerate(entries if isinstance(entries, (list, tuple)) else (), 1):
        if not isinstance(entry, dict):
            continue
        if not entry.get("name"):
            raise BadInputError(f"entry {number} of the models has no name; say which model it is")
        unknown = [str(key) for key in entry if key not in MODEL_OPTIONS]
        if unknown:
            alike = difflib.get_close_matches(unknown[0], [*MODEL_OPTIONS, *_OF_PROOF], 1)
            advice = f"did you mean {alike[0]}?" if alike else "take it out"
            raise BadInputError(f"the model {entry['name']} has {unknown[0]}, which no model can have; {advice}")


def read_all(entries: t.Sequence[t.Mapping[str, t.Any]]) -> t.List[Wanted]:
    """The models of a list, each once. Raises BadInputError."""
    found: t.Dict[str, Wanted] = {}
    for entry in entries:
        wanted = read_wanted(entry)
        if wanted.name in found:
            raise BadInputError(f"models has the model {wanted.name} twice, and GPUStack has one of a name at most; take one of them out")
        found[wanted.name] = wanted
    return list(found.values())


def _check_source(name: str, fields: t.Mapping[str, t.Any]) -> None:
    source = fields.get("source")
    given = sorted({field for own in SOURCE_FIELDS.values() for field in own} & set(fields))
    if source is None:
        if given:
            raise BadInputError(f"{given[0]} of the model {name} is given without source; say which of {', '.join(SOURCE_FIELDS)} it is")
        return
    own = SOURCE_FIELDS[source]
    if not fields.get(own[0]):
        raise BadInputError(f"source of the model {name} is {source}, and {own[0]} is missing; add it")
    path = fields.get("local_path")
    if path and not str(path).startswith("/"):
        raise BadInputError(f"local_path of the model {name} is {path}, and workers know absolute paths only; write it from / on")
    foreign = [field for field in given if field not in own]
    if foreign:
        raise BadInputError(f"source of the model {name} is {source}, to which {foreign[0]} does not belong; take it out")


def _env(name: str, options: t.Mapping[str, t.Any]) -> t.Optional[t.Dict[str, str]]:
    given = {option: options.get(option) for option in ("env", "secret_env")}
    if given["env"] is None and given["secret_env"] is None:
        return None
    env: t.Dict[str, str] = {}
    for option, values in given.items():
        for key, value in _texts(f"{option} of the model {name}", values or {}).items():
            if key in env:
                raise BadInputError(f"{key} of the model {name} is in env and in secret_env; keep it in one of them")
            if key == RESIDENCY_VARIABLE:
                raise BadInputError(
                    f"{RESIDENCY_VARIABLE} is in {option} of the model {name}, and its presence disables Metal residency sets whatever "
                    "its value (gpustack#1907); take it out"
                )
            if key == MARK:
                raise BadInputError(f"{MARK} is in {option} of the model {name}, and the collection writes it itself; take it out")
            env[key] = value
    return env


def _texts(where: str, values: t.Mapping[t.Any, t.Any]) -> t.Dict[str, str]:
    """Labels and variables as the texts that GPUStack wants. YAML makes numbers and truths of some."""
    texts: t.Dict[str, str] = {}
    for key, value in values.items():
        if value is None or isinstance(value, (dict, list, tuple)):
            raise BadInputError(f"{where}: {key} is no text; put its value in quotes")
        if isinstance(value, bool):
            raise BadInputError(f"{where}: {key} is true or false to YAML, and GPUStack wants a text; put it in quotes")
        texts[str(key)] = str(value)
    return texts
