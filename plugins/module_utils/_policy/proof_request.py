# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What a proof is asked to do: which models, with what, and the limits of everything."""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.json_fields import kind_of

# The categories of gpustack/schemas/models.py (CategoryEnum), but for "unknown".
LLM = "llm"
EMBEDDING = "embedding"
RERANKER = "reranker"
CATEGORIES = (LLM, EMBEDDING, RERANKER, "image", "speech_to_text", "text_to_speech")

# Documented in plugins/modules/throughput.py.
OPTIONS: t.Dict[str, t.Dict[str, t.Any]] = {
    "models": {"type": "list", "elements": "raw", "default": []},
    "all_models": {"type": "bool"},
    "prompt": {"type": "str", "default": "Count from one to one hundred in words."},
    "max_tokens": {"type": "int", "default": 64},
    "requests": {"type": "int", "default": 1},
    "concurrency": {"type": "int", "default": 1},
    "first_token_timeout_seconds": {"type": "float", "default": 60.0},
    "stall_timeout_seconds": {"type": "float", "default": 10.0},
    "read_seconds": {"type": "float", "default": 60.0},
    "min_tokens_per_second": {"type": "float", "default": 1.0},
    "fail": {"type": "bool", "default": True},
}
_KEYS = ("name", "category", "probe", "min_tokens_per_second", "max_first_token_seconds")
_WHOLE_NUMBERS = {"max_tokens": (1, 100_000), "requests": (1, 1000), "concurrency": (1, 32)}
_SECONDS = {"first_token_timeout_seconds": 3600.0, "stall_timeout_seconds": 3600.0, "read_seconds": 3600.0}


@dataclasses.dataclass(frozen=True)
class Limits:
    """first_token_seconds: from the question to the first token. stall_seconds: from one token to the next. read_seconds: from the
    first token until enough was heard."""

    first_token_seconds: float = 60.0
    stall_seconds: float = 10.0
    read_seconds: float = 60.0


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is said of one model. None: what holds for all."""

    name: str
    category: t.Optional[str] = None
    probe: bool = True
    min_tokens_per_second: t.Optional[float] = None
    max_first_token_seconds: t.Optional[float] = None


@dataclasses.dataclass(frozen=True)
class ProofRequest:
    """entries: by name. all_models: also those of the server that have no entry. requests: to each model, at least."""

    entries: t.Mapping[str, Entry] = dataclasses.field(default_factory=dict)
    all_models: bool = True
    prompt: str = "Hello"
    max_tokens: int = 64
    requests: int = 1
    concurrency: int = 1
    limits: Limits = Limits()
    min_tokens_per_second: float = 0.0


def read_request(params: t.Mapping[str, t.Any]) -> ProofRequest:
    """What the options say. Raises BadInputError."""
    for option, (least, most) in _WHOLE_NUMBERS.items():
        if not least <= params[option] <= most:
            raise BadInputError(f"{option}: {params[option]} is not within {least} and {most}; choose a number that is")
    for option, longest in _SECONDS.items():
        # Neither is NaN, which YAML and Python know.
        if not 0 < params[option] <= longest:
            raise BadInputError(f"{option}: {params[option]:g} is not above 0 and at most {longest:g} seconds; choose a number that is")
    if not params["prompt"].strip():
        raise BadInputError("prompt: it is empty; write what the models are asked")
    entries = [_entry(f"models[{index}]", entry) for index, entry in enumerate(params["models"])]
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise BadInputError(f"models: {name} is listed {names.count(name)} times; keep one of them")
    all_models = params["all_models"]
    return ProofRequest(
        entries={entry.name: entry for entry in entries},
        all_models=not entries if all_models is None else all_models,
        prompt=params["prompt"],
        max_tokens=params["max_tokens"],
        requests=params["requests"],
        concurrency=params["concurrency"],
        limits=Limits(params["first_token_timeout_seconds"], params["stall_timeout_seconds"], params["read_seconds"]),
        min_tokens_per_second=_limit("min_tokens_per_second", params["min_tokens_per_second"]),
    )


def _entry(where: str, given: t.Any) -> Entry:
    entry = {"name": given} if isinstance(given, str) else given
    if not isinstance(entry, dict):
        raise BadInputError(f"{where} is {kind_of(given)}; write the name of a model, or an object with `name`")
    unknown = sorted(str(key) for key in entry if key not in _KEYS)
    if unknown:
        raise BadInputError(f"{where}: {', '.join(unknown)} is not known; there are {', '.join(_KEYS)}")
    name, category, probe = entry.get("name"), entry.get("category"), entry.get("probe")
    if not isinstance(name, str) or not name.strip():
        raise BadInputError(f"{where}: name is missing; write the name that the model has on the server")
    if category is not None and category not in CATEGORIES:
        raise BadInputError(f"{where}: category {category!r} is not known; there are {', '.join(CATEGORIES)}")
    return Entry(
        name=name,
        category=category,
        probe=True if probe is None else _truth(f"{where}: probe", probe),
        min_tokens_per_second=_optional_limit(where, entry, "min_tokens_per_second"),
        max_first_token_seconds=_optional_limit(where, entry, "max_first_token_seconds"),
    )


def _truth(where: str, value: t.Any) -> bool:
    # Ansible does not convert what is in elements of any type, and templates may have made text of it.
    word = str(value).lower()
    if word not in ("true", "false", "yes", "no"):
        raise BadInputError(f"{where} is neither true nor false; write one of them")
    return word in ("true", "yes")


def _optional_limit(where: str, entry: t.Mapping[str, t.Any], key: str) -> t.Optional[float]:
    value = entry.get(key)
    return None if value is None else _limit(f"{where}: {key}", value)


def _limit(where: str, value: t.Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise BadInputError(f"{where}: {value!r} is no number from 0 on; write one, such as 5")
    return number
