# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Where GPUStack looks for llama-box: its own builtin one, and those pinned by a model's backend_version.

Read in gpustack/worker/tools_manager.py, worker/backends/llama_box.py and worker/rpc_server.py of 0.6.0, 0.6.1, 0.6.2,
0.7.0 and 0.7.1.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import versions

BUILTIN = "builtin"
PINNED = "pinned"

# BUILTIN_LLAMA_BOX_VERSION of each release; it is what versions.json has to go on naming (a replaced builtin is kept then).
BUILTIN_VERSIONS = {
    "0.6.0": "v0.0.136",
    "0.6.1": "v0.0.144",
    "0.6.2": "v0.0.154",
    "0.7.0": "v0.0.164",
    "0.7.1": "v0.0.171",
}
# With this set to "true" or "1", GPUStack 0.7 uses the static builds only, and keeps even its builtin one in bin_dir.
STATIC_ONLY_VARIABLE = "GPUSTACK_DISABLE_DYNAMIC_LINK_LLAMA_BOX"

_FIRST_DYNAMIC = "v0.0.157"
_DEFAULT_LINK = "llama-box-default"
_BUILTIN_FOLDER = re.compile(r"llama-box-(?P<version>v?\d[^-]*(?:-rc\d+)?)-(?:darwin|linux|windows)-.+\Z")
_PINNED_FOLDER = re.compile(r"llama-box-(?P<version>v?\d.*)\Z")
_PINNED_FILE = re.compile(r"llama-box_(?P<version>.+)\Z")
# fprintf(stderr, "version    : %s (%s)\n") in llama-box's param.hpp.
_VERSION_OUTPUT = re.compile(r"^version\s*:\s*(?P<version>[^\s()]+)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Slot:
    """A place where GPUStack looks for llama-box.

    kind: builtin or pinned. path: the program. record_key: its key in versions.json, "" for pinned ones, which have none.
    version: for a pinned one what its place says; None for the builtin.
    """

    kind: str
    path: str
    record_key: str = ""
    version: t.Optional[str] = None


def uses_folders(gpustack_version: t.Optional[str]) -> t.Optional[bool]:
    """True for 0.7, where each llama-box has a folder of its own; False for 0.6; None where the version is not known."""
    numbers = versions.series(gpustack_version)
    return None if numbers is None else numbers >= (0, 7)


def builtin_version(gpustack_version: t.Optional[str]) -> t.Optional[str]:
    """The llama-box that this GPUStack brings by itself; None where that is not known."""
    version = versions.parse(gpustack_version)
    return BUILTIN_VERSIONS.get(".".join(map(str, version.release))) if version else None


def default_link(third_party_bin: str) -> str:
    """The symbolic link to the folder of the builtin llama-box of GPUStack 0.7."""
    return f"{third_party_bin}/llama-box/{_DEFAULT_LINK}"


def versions_file(third_party_bin: str) -> str:
    """GPUStack's own record of the builtin tools."""
    return f"{third_party_bin}/versions.json"


def static_only(environment: t.Mapping[str, str]) -> bool:
    """Whether the service's environment makes GPUStack 0.7 use static builds only (envs.get_gpustack_env_bool)."""
    return environment.get(STATIC_ONLY_VARIABLE, "").lower() in ("true", "1")


def is_static(version: str, only_static: bool) -> bool:
    """Whether GPUStack 0.7 takes the static build of a version. It compares STRINGS: v0.0.99 counts as newer than v0.0.157."""
    return version < _FIRST_DYNAMIC or only_static


def takes_libraries(gpustack_version: str, version: str, only_static: bool = False) -> bool:
    """Whether this GPUStack runs the dynamic build of a version, which has its libraries beside it.

    There is none of a version older than v0.0.157, so is_static()'s comparison of strings is not enough.
    """
    if not uses_folders(gpustack_version) or is_static(version, only_static):
        return False
    return versions.compare(version, _FIRST_DYNAMIC) >= 0


def builtin_slot(
    gpustack_version: t.Optional[str],
    third_party_bin: str,
    bin_dir: str,
    only_static: bool = False,
    default_target: t.Optional[str] = None,
) -> t.Optional[Slot]:
    """The builtin slot. default_target: the resolved path that default_link() leads to, None where it leads nowhere.

    None where the place cannot be told: GPUStack 0.7 without that link, or a pre-release of 0.7 with only_static.
    """
    folders = uses_folders(gpustack_version)
    if folders is None:
        # Only 0.7 makes that link, so it tells which of the two an unknown version is like.
        folders = default_target is not None
    if not folders:
        return Slot(BUILTIN, f"{third_party_bin}/llama-box/llama-box", "llama-box")
    if only_static:
        own = builtin_version(gpustack_version)
        if own is None:
            return None
        return Slot(BUILTIN, f"{_pinned_folder(bin_dir, own, True)}/llama-box", f"llama-box-{own}")
    if default_target is None:
        return None
    return Slot(BUILTIN, f"{default_target}/llama-box", posixpath.basename(default_target))


def builtin_folder_version(name: str) -> t.Optional[str]:
    """The version in the name of a builtin folder of 0.7, such as llama-box-v0.0.171-darwin-arm64-mps; None for other names."""
    match = _BUILTIN_FOLDER.match(name)
    return match.group("version") if match else None


def kept_version(gpustack_version: t.Optional[str], slot: Slot) -> t.Optional[str]:
    """What versions.json has to name for the builtin slot, or GPUStack replaces its content when it starts; None where not known."""
    return builtin_version(gpustack_version) or builtin_folder_version(slot.record_key)


def pinned_slot(gpustack_version: str, bin_dir: str, version: str, only_static: bool = False) -> Slot:
    """Where GPUStack looks for the llama-box of a model with this backend_version (but see runs_builtin)."""
    if not uses_folders(gpustack_version):
        return Slot(PINNED, f"{bin_dir}/llama-box_{version}", version=version)
    return Slot(PINNED, f"{_pinned_folder(bin_dir, version, is_static(version, only_static))}/llama-box", version=version)


def runs_builtin(gpustack_version: str, version: str, only_static: bool = False) -> bool:
    """Whether a model with this backend_version runs the builtin slot all the same.

    GPUStack 0.7 does so where the pin names its own builtin version, whatever the builtin slot holds by now.
    """
    own = builtin_version(gpustack_version)
    return bool(uses_folders(gpustack_version)) and version == own and not is_static(version, only_static)


def pinned_folders(gpustack_version: t.Optional[str], bin_dir: str) -> t.Tuple[str, ...]:
    """The folders whose names are to be handed to pinned_found()."""
    flat = (bin_dir,)
    nested = (f"{bin_dir}/llama-box", f"{bin_dir}/llama-box/static")
    folders = uses_folders(gpustack_version)
    return flat + nested if folders is None else nested if folders else flat


def pinned_found(bin_dir: str, folder: str, names: t.Iterable[str]) -> t.List[Slot]:
    """The pinned slots among the names in one of pinned_folders()."""
    pattern, tail = (_PINNED_FILE, "") if folder == bin_dir else (_PINNED_FOLDER, "/llama-box")
    found = ((name, pattern.match(name)) for name in names)
    return [Slot(PINNED, f"{folder}/{name}{tail}", version=match.group("version")) for name, match in found if match]


def parse_versions_file(data: bytes) -> t.Tuple[t.Dict[str, str], str]:
    """What versions.json records, and what is wrong with it ("" where nothing is)."""
    try:
        content = json.loads(data.decode())
    except (ValueError, RecursionError):
        return {}, "it is not JSON, so GPUStack downloads its builtin tools again when it starts"
    if not isinstance(content, dict):
        return {}, "it holds no JSON object, so GPUStack cannot start its worker with it"
    return {key: value for key, value in content.items() if isinstance(value, str)}, ""


def parse_version_output(stdout: str, stderr: str) -> t.Optional[str]:
    """The version in what `llama-box --version` wrote (it writes to standard error); None where there is none."""
    match = _VERSION_OUTPUT.search(stderr) or _VERSION_OUTPUT.search(stdout)
    return match.group("version") if match else None


def _pinned_folder(bin_dir: str, version: str, static: bool) -> str:
    return f"{bin_dir}/llama-box/static/llama-box-{version}" if static else f"{bin_dir}/llama-box/llama-box-{version}"
