# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_eligible import eligible
from ansible_collections.metalfleet.gpustack.tests.unit.mmap_cases import linux, mac, model

FLEET = [
    mac("mac-1", labels={"os": "darwin", "room": "a"}),
    mac("mac-2", labels={"os": "darwin", "room": "b"}),
    linux("rack:1", labels={"os": "linux", "room": "a"}),
    linux("bare"),
]


@pytest.mark.parametrize(
    ("selector", "gpu_ids", "names"),
    [
        ({}, (), ["mac-1", "mac-2", "rack:1", "bare"]),
        ({"os": "darwin"}, (), ["mac-1", "mac-2"]),
        ({"os": "darwin", "room": "a"}, (), ["mac-1"]),
        ({"os": "Darwin"}, (), []),
        ({}, ("mac-2:mps:0",), ["mac-2"]),
        ({}, ("rack:1:cuda:0", "rack:1:cuda:1", "mac-1:mps:0"), ["mac-1", "rack:1"]),
        ({"room": "a"}, ("mac-2:mps:0", "mac-1:mps:10"), ["mac-1"]),
        ({}, ("gone:mps:0",), []),
    ],
)
def test_selectors_choose_workers_as_the_scheduler_does(selector: dict[str, str], gpu_ids: tuple[str, ...], names: list[str]) -> None:
    chosen = eligible(model(worker_selector=selector, gpu_ids=gpu_ids), FLEET)
    assert [worker.name for worker in chosen] == names


@pytest.mark.parametrize("gpu_id", ["mac-1", "mac-1:mps", "mac-1:mps:", "mac-1:mps:x", ":mps:0", "mac-1:mps:0 ", ""])
def test_what_is_no_gpu_is_refused(gpu_id: str) -> None:
    with pytest.raises(BadInputError) as caught:
        eligible(model(gpu_ids=("mac-1:mps:0", gpu_id)), FLEET)
    assert str(caught.value) == f"gpu_selector of the model synthetic: {gpu_id!r} is no GPU; write it like worker-name:mps:0"
