# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The names of llama-box builds, and which one a host needs.

As in gpustack/worker/tools_manager.py (_get_llama_box_platform_name) and gpustack/utils/platform.py of GPUStack 0.6.0 to 0.7.1.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import llama_box_layout as layout
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.versions import NEWEST_KNOWN

PROGRAM = "llama-box"

# How GPUStack sees an accelerator (platform.device()), in its order: device, commands on PATH, folders.
DEVICE_SIGNS: t.Tuple[t.Tuple[str, t.Tuple[str, ...], t.Tuple[str, ...]], ...] = (
    ("cuda", ("nvidia-smi",), ("/usr/local/cuda",)),
    ("musa", ("mthreads-gmi",), ("/usr/local/musa", "/opt/musa")),
    ("npu", ("npu-smi",), ("/usr/local/Ascend/ascend-toolkit",)),
    ("dcu", ("hy-smi",), ("/opt/dtk",)),
    ("rocm", ("rocm-smi",), ()),
)
# The toolkit of each device; those with an example instead of one depend on what else is installed, or on the release.
_ROCM_TOOLKIT = "hip-6.2"
_EXAMPLES = {"cuda": "cuda-12.4", "musa": "musa-rc4.0", "npu": "cann-8.0", "dcu": "dtk-24.04"}

_DYNAMIC = "dl-"
# Versions, builds and names become parts of paths: nothing in them may lead elsewhere.
_VERSION = re.compile(r"v\d+(?:\.\d+)+(?:-rc\d+)?\Z", re.ASCII)
_BUILD = re.compile(
    r"(?P<prefix>dl-)?(?P<system>darwin|linux)-(?P<machine>amd64|arm64)-(?P<toolkit>[a-z][a-z0-9]*(?:-(?:[a-z0-9]+\.)*[a-z0-9]+)*)\Z",
    re.ASCII,
)
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,254}\Z", re.ASCII)
_BUILTIN_FOLDER_DEVICE = re.compile(r"-linux-(?:amd64|arm64)(?:-(?P<device>[a-z0-9]+))?\Z")

_CPU = ("avx2", "cpu", "neon")
TOOLKITS = "cann, cuda, dtk, hip or musa with a version, such as cuda-12.4, or avx2, neon or cpu"
_WITH_VERSION = re.compile(r"(?:cann|cuda|dtk|hip|musa)-")
_INSTRUCTIONS = {"amd64": "avx2", "arm64": "neon"}
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "arm64": "arm64", "aarch64": "arm64"}


def is_version(text: t.Any) -> bool:
    """Whether a value names a version of llama-box, with the `v` that is part of the name of its release."""
    return isinstance(text, str) and _VERSION.match(text) is not None


def is_build(text: t.Any) -> bool:
    """Whether a value names a build, static or dynamic."""
    return isinstance(text, str) and _BUILD.match(text) is not None


def unknown_toolkit(build: str) -> str:
    """The toolkit of a build for Linux if it is none that GPUStack 0.6.0 to 0.7.1 asks for there; "" otherwise."""
    match = _BUILD.match(build)
    if match is None or match.group("system") != "linux":
        return ""
    toolkit = match.group("toolkit")
    return "" if toolkit in _CPU or _WITH_VERSION.match(toolkit) else toolkit


def is_dynamic(build: str) -> bool:
    """Whether a build has its libraries beside it."""
    return build.startswith(_DYNAMIC)


def is_file_name(text: t.Any) -> bool:
    """Whether a value may name a file of a release: one part of a path, which leads nowhere else."""
    return isinstance(text, str) and _FILE_NAME.match(text) is not None


def archive_name(build: str) -> str:
    """The name of a build's archive: dl-llama-box-… for a dynamic one."""
    return f"dl-llama-box-{build[len(_DYNAMIC) :]}.zip" if is_dynamic(build) else f"llama-box-{build}.zip"


def builds_of_platform(version: str, platform: str) -> t.Tuple[str, ...]:
    """Every build that a node may need on a platform such as "darwin-arm64-metal".

    The static one is for GPUStack 0.6, and for 0.7 where GPUSTACK_DISABLE_DYNAMIC_LINK_LLAMA_BOX is set; the dynamic one is
    for 0.7 and exists since v0.0.157.
    """
    match = _BUILD.match(platform)
    if match is None or match.group("prefix"):
        raise BadInputError(f"platforms: {platform!r} is not a platform; write it like darwin-arm64-metal or linux-amd64-cuda-12.4")
    system, machine, toolkit = match.group("system", "machine", "toolkit")
    static, dynamic = _static_build(system, machine, toolkit), _dynamic_build(system, machine, toolkit)
    return (static, dynamic) if layout.takes_libraries(NEWEST_KNOWN, version) else (static,)


def build_for(system: str, machine: str, dynamic: bool, toolkit: str) -> str:
    """The build for a host. system, machine: as uname says them. toolkit: such as "metal", "avx2" or "cuda-12.4".

    "cpu", "avx2" and "neon" all mean: no accelerator; static builds name the instruction set, dynamic ones say "cpu".
    """
    build = (_dynamic_build if dynamic else _static_build)(*_names(system, machine), toolkit)
    if not is_build(build):
        raise BadInputError(f"toolkit: {toolkit!r} is not the name of one; write it like cuda-12.4, or leave it auto")
    if system == "Darwin" and toolkit not in ("metal", *_CPU):
        raise BadInputError(f"toolkit: {toolkit} does not exist on macOS; leave it auto on Macs")
    return build


def toolkit_for(system: str, machine: str, builtin_folder: t.Optional[str], device: t.Optional[str]) -> t.Tuple[str, str]:
    """The toolkit of a host whose `toolkit` is auto, and why.

    builtin_folder: the name of GPUStack 0.7's builtin folder, which ends with the device it saw, None where there is none.
    device: what the caller saw of DEVICE_SIGNS, None for nothing. Raises BadInputError where only a person can tell.
    """
    names = _names(system, machine)
    cpu = _INSTRUCTIONS[names[1]]
    if names == ("darwin", "arm64"):
        return "metal", "Apple Silicon has Metal"
    if names[0] == "darwin":
        return cpu, "GPUStack uses the processor of Macs with Intel"
    seen = f"{builtin_folder} is GPUStack's builtin folder"
    match = _BUILTIN_FOLDER_DEVICE.search(builtin_folder) if builtin_folder else None
    if match is None:
        seen = f"{device} is what the host's drivers say" if device else "no accelerator was found"
    else:
        device = match.group("device")
    if device == "rocm":
        return _ROCM_TOOLKIT, seen
    if device in _EXAMPLES:
        raise BadInputError(
            f"toolkit: auto cannot tell the build for this host, as its device is {device} ({seen}) and the build depends on "
            f"the version installed; say it, such as {_EXAMPLES[device]}"
        )
    # Others (corex, mlu) have no builds of their own: GPUStack takes those for the processor.
    return cpu, seen


def _static_build(system: str, machine: str, toolkit: str) -> str:
    return f"{system}-{machine}-{_INSTRUCTIONS[machine] if toolkit in _CPU else toolkit}"


def _dynamic_build(system: str, machine: str, toolkit: str) -> str:
    return f"{_DYNAMIC}{system}-{machine}-{'cpu' if toolkit in _CPU else toolkit}"


def _names(system: str, machine: str) -> t.Tuple[str, str]:
    """GPUStack's names for what uname says."""
    if system not in ("Darwin", "Linux") or machine not in _MACHINES:
        raise BadInputError(f"there is no llama-box for {system} on {machine}; take this host out of the play")
    return system.lower(), _MACHINES[machine]
