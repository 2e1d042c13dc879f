# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_box_slots import find_machine, find_toolkit
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, CommandTimeoutError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_layout import Slot
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost, Reply

QUESTION = ("/usr/sbin/sysctl", "-n", "hw.optional.arm64")


@pytest.mark.parametrize(
    ("system", "machine", "answer", "expected"),
    [
        ("Darwin", "arm64", CommandTimeoutError("not asked"), "arm64"),
        ("Linux", "x86_64", CommandTimeoutError("not asked"), "x86_64"),
        # Rosetta says x86_64 to what it translates.
        ("Darwin", "x86_64", CommandResult(0, "1\n", ""), "arm64"),
        ("Darwin", "x86_64", CommandResult(1, "", "sysctl: unknown oid 'hw.optional.arm64'\n"), "x86_64"),
        ("Darwin", "x86_64", CommandTimeoutError("it hangs"), "x86_64"),
    ],
)
def test_machine(system: str, machine: str, answer: Reply, expected: str) -> None:
    host = MemoryHost(system, machine, commands={QUESTION: answer})
    assert find_machine(host) == expected
    assert (QUESTION in host.calls) is ((system, machine) == ("Darwin", "x86_64"))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], "avx2"),
        (["/opt/rocm/bin/rocm-smi"], "hip-6.2"),
        (["/usr/bin/rocm-smi"], "hip-6.2"),
        (["/home/me/bin/rocm-smi"], "avx2"),
    ],
)
def test_toolkit_of_linux(files: list[str], expected: str) -> None:
    host = MemoryHost("Linux", "x86_64", files=dict.fromkeys(files, b""))
    assert find_toolkit(host, "x86_64", None) == expected
    assert find_toolkit(host, "x86_64", Slot("builtin", "/p", "llama-box")) == expected


@pytest.mark.parametrize("path", ["/usr/bin/nvidia-smi", "/usr/local/cuda/version.json"])
def test_a_device_whose_build_only_a_person_can_tell(path: str) -> None:
    host = MemoryHost("Linux", "x86_64", files={path: b"", "/usr/bin/rocm-smi": b""})
    with pytest.raises(BadInputError, match=r"^toolkit: auto cannot tell .* device is cuda "):
        find_toolkit(host, "x86_64", None)
    # What GPUStack itself saw counts for more.
    assert find_toolkit(host, "x86_64", Slot("builtin", "/p", "llama-box-v0.0.171-linux-amd64")) == "avx2"


def test_toolkit_of_macs() -> None:
    host = MemoryHost(files={"/usr/local/cuda/version.json": b""})
    assert find_toolkit(host, "arm64", None) == "metal"
    assert find_toolkit(host, "x86_64", None) == "avx2"
