# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Trying a llama-box that was unpacked: does this system let it run, and is it the version it should be?"""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_boxes import ask_version
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.builds import PROGRAM
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, CommandMissingError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Release

_QUARANTINE = "com.apple.quarantine"
# A signature covers every page of the file; the CUDA-sized ones take seconds.
_CODESIGN_SECONDS = 120.0


def try_program(host: Host, release: Release, folder: str) -> t.Tuple[str, ...]:
    """Make the unpacked files ready to run, and run the program for its version; returns warnings.

    Raises BadInputError where it must not be used on this host.
    """
    warnings: t.List[str] = []
    if host.system() == "Darwin":
        for name in release.files:
            _release_from_quarantine(host, f"{folder}/{name}", warnings)
            _check_signature(host, release, f"{folder}/{name}", warnings)
    reasons: t.List[str] = []
    version = ask_version(host, f"{folder}/{PROGRAM}", reasons)
    if version != release.version:
        what = "; ".join(reasons) or f"it says that it is {version}"
        raise BadInputError(
            f"{release.title} is not used on this host ({host.system()}, {host.machine()}): {what}; "
            "check the version, the platform and the toolkit"
        )
    return tuple(dict.fromkeys(warnings))


def _release_from_quarantine(host: Host, path: str, warnings: t.List[str]) -> None:
    """Gatekeeper asks a person, who is not there, before it starts what bears the mark. Ours is trusted by its digest."""
    try:
        if host.run(["xattr", "-p", _QUARANTINE, path]).rc == 0:
            result = host.run(["xattr", "-d", _QUARANTINE, path])
            if result.rc != 0:
                raise HostError(f"the mark {_QUARANTINE} of {path} cannot be removed ({result.failure()}); see what protects it")
    except CommandMissingError as exc:
        warnings.append(f"{exc}, so nobody looked for the mark {_QUARANTINE}")


def _check_signature(host: Host, release: Release, path: str, warnings: t.List[str]) -> None:
    """An ad-hoc signature is enough, and on Intel so is none; the kernel kills a process whose signature is broken."""
    try:
        result = host.run(["codesign", "--verify", path], timeout_seconds=_CODESIGN_SECONDS)
    except CommandMissingError as exc:
        warnings.append(f"{exc}, so nobody looked at the signatures of llama-box")
        return
    if result.rc != 0 and "not signed at all" not in result.stderr:
        name = path.rpartition("/")[2]
        raise BadInputError(
            f"{release.title} is not used: the signature of {name} is broken ({result.failure()}); take another release, "
            "or sign it again, pack it and write the lock from that archive"
        )
