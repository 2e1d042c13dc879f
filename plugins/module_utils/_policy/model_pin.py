# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Whether a model's backend_version is a llama-box that the fleet may use, and one that its workers have.

GPUStack downloads what a worker lacks, and looks at neither its version nor its digest (worker/tools_manager.py).
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_layout import runs_builtin
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import ModelFacts


@dataclasses.dataclass(frozen=True)
class WorkerPins:
    """The pinned llama-boxes of a worker's node; versions None: not known. gpustack_version: of the node."""

    versions: t.Optional[t.Tuple[str, ...]] = None
    gpustack_version: t.Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Pins:
    """locked: the versions of the lock file, None where none was given. workers: by name, those of which a node is known."""

    locked: t.Optional[t.FrozenSet[str]] = None
    workers: t.Mapping[str, WorkerPins] = dataclasses.field(default_factory=dict)


def check(
    model: ModelFacts, workers: t.Sequence[str], pins: Pins, asked: t.Mapping[str, t.Any], before: t.Mapping[str, t.Any]
) -> t.List[str]:
    """What is wrong with the backend_version of a model, as warnings. Raises BadInputError where that is what the user asks for.

    workers: the names of those that may get the model. asked, before: the fields that the user and the server have.
    """
    version = model.backend_version
    if version is None:
        return []
    problems = [problem for problem in (_not_locked(version, pins), _missing(version, workers, pins)) if problem]
    if not problems:
        unknown = [name for name in workers if pins.workers.get(name, WorkerPins()).versions is None]
        if unknown and asked.get("backend_version") and asked["backend_version"] != before.get("backend_version"):
            problem = (
                f"whether {', '.join(unknown)} has llama-box {version} is not known, and GPUStack downloads unverified what a worker lacks"
            )
            return [f"the model {model.name}: {problem}; give the facts of these nodes (nodes)"]
        return []
    sentences = [f"backend_version {version} of the model {model.name} {problem}" for problem in problems]
    if asked.get("backend_version"):
        raise BadInputError(sentences[0])
    return sentences


def _not_locked(version: str, pins: Pins) -> str:
    if pins.locked is None or version in pins.locked:
        return ""
    return (
        f"is not in the lock file, which has {', '.join(sorted(pins.locked)) or 'nothing'}: add it with the playbook "
        "metalfleet.gpustack.lock, or take one of these"
    )


def _missing(version: str, workers: t.Sequence[str], pins: Pins) -> str:
    lacking = [name for name in workers if _lacks(version, pins.workers.get(name, WorkerPins()))]
    if not lacking:
        return ""
    return (
        f"is not on {', '.join(lacking)}, where GPUStack would download it unverified: put it there first (role gpustack_node with "
        f"gpustack_node_llama_box_version: {version})"
    )


def _lacks(version: str, worker: WorkerPins) -> bool:
    if worker.versions is None or version in worker.versions:
        return False
    return not (worker.gpustack_version and runs_builtin(worker.gpustack_version, version))
