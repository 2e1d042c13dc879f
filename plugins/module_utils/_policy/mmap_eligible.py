# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The workers that GPUStack's scheduler may put a model on (gpustack/policies/worker_filters).

Its third filter, by state, is left out: a worker that does not answer now may get the model when it is back.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import ModelFacts, WorkerFacts

# gpustack/utils/gpu.py
_GPU_ID = re.compile(r"(?P<worker>.+):[^:]+:\d+")


def eligible(model: ModelFacts, workers: t.Iterable[WorkerFacts]) -> t.List[WorkerFacts]:
    """The workers that have all labels of worker_selector, and a GPU among those of gpu_selector."""
    selected = {parse_gpu_id(model.name, gpu_id) for gpu_id in model.gpu_ids}
    return [
        worker
        for worker in workers
        if all(worker.labels.get(key) == value for key, value in model.worker_selector.items())
        and (not selected or worker.name in selected)
    ]


def parse_gpu_id(model_name: str, gpu_id: str) -> str:
    """The worker of a selected GPU. Raises BadInputError."""
    match = _GPU_ID.fullmatch(gpu_id)
    if match is None:
        raise BadInputError(f"gpu_selector of the model {model_name}: {gpu_id!r} is no GPU; write it like worker-name:mps:0")
    return match.group("worker")
