# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The llama-box programs on a node: what their place, GPUStack's record, and they themselves say they are."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.lookout import Lookout
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import llama_box_layout as layout
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import CommandMissingError, HostError

# The first start of a program on macOS waits for the system's check of its signature.
_VERSION_TIMEOUT_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class LlamaBox:
    """One llama-box. Every None has its reason in `reason`.

    slot: builtin or pinned. path: the program, links followed for the builtin one. pin: the backend_version with which a
    model asks for it; None for the builtin one. version: what the program says. recorded_version: what GPUStack's own
    versions.json says, for the builtin one. sha256: of the program's bytes, lower-case hexadecimal.
    """

    slot: str
    path: str
    pin: t.Optional[str]
    version: t.Optional[str]
    recorded_version: t.Optional[str]
    sha256: t.Optional[str]
    size_bytes: t.Optional[int]
    reason: str = ""

    def as_dict(self) -> t.Dict[str, t.Any]:
        """The program as module return value."""
        return dataclasses.asdict(self)


class LlamaBoxes(t.NamedTuple):
    """The programs found, and warnings."""

    programs: t.Tuple[LlamaBox, ...]
    warnings: t.Tuple[str, ...]


def list_llama_boxes(host: Host, installation: Installation, run_binaries: bool = True, checksums: bool = True) -> LlamaBoxes:
    """The llama-box programs in the slots of this installation, the builtin one first."""
    look = Lookout(host)
    if installation.bin_dir is None:
        return LlamaBoxes((), ())
    recorded = recorded_versions(look, installation.third_party_bin)
    slots = [*_builtin(look, installation), *_pinned(look, installation)]
    found = (_examine(look, slot, recorded, run_binaries, checksums) for slot in slots)
    programs = tuple(program for program in found if program is not None)
    if recorded is not None:
        _warn_of_replacement(look, installation, programs)
    return LlamaBoxes(programs, tuple(look.warnings))


def builtin_slot(look: Lookout, installation: Installation) -> t.Optional[layout.Slot]:
    """The builtin slot of this installation, whether there is a program in it or not; None where it cannot be told."""
    if installation.third_party_bin is None or installation.bin_dir is None:
        return None
    link = layout.default_link(installation.third_party_bin)
    target = look.host.resolve(link)
    status = look.status(target)
    return layout.builtin_slot(
        installation.gpustack_version,
        installation.third_party_bin,
        installation.bin_dir,
        installation.static_llama_box,
        target if status is not None and status.is_directory else None,
    )


def _builtin(look: Lookout, installation: Installation) -> t.List[layout.Slot]:
    slot = builtin_slot(look, installation)
    if slot is not None:
        return [slot]
    if installation.third_party_bin is None:
        return []
    link = layout.default_link(installation.third_party_bin)
    if look.is_missing(look.host.resolve(link)):
        names = look.names(f"{installation.third_party_bin}/llama-box")
        there = [name for name in names if layout.builtin_folder_version(name)]
        found = f", although {', '.join(there)} is there" if there else ""
        look.warn(f"{link} leads nowhere{found}: there is no builtin llama-box until GPUStack's next start makes it")
    return []


def _pinned(look: Lookout, installation: Installation) -> t.Iterator[layout.Slot]:
    bin_dir = installation.bin_dir or ""
    for folder in layout.pinned_folders(installation.gpustack_version, bin_dir):
        yield from layout.pinned_found(bin_dir, folder, look.names(folder))


def recorded_versions(look: Lookout, third_party_bin: t.Optional[str]) -> t.Optional[t.Dict[str, str]]:
    """What versions.json records; None where it cannot be read, which says nothing about what is in it."""
    if third_party_bin is None:
        return None
    path = layout.versions_file(third_party_bin)
    try:
        data = look.host.read(path)
    except HostError as exc:
        look.warn(str(exc))
        return None
    if data is None:
        return {}
    recorded, problem = layout.parse_versions_file(data)
    look.warn(f"{path}: {problem}" if problem else "")
    return recorded


def _examine(
    look: Lookout, slot: layout.Slot, recorded: t.Optional[t.Mapping[str, str]], run_binaries: bool, checksums: bool
) -> t.Optional[LlamaBox]:
    path = look.host.resolve(slot.path)
    status = look.status(path)
    if status is None or not status.is_file:
        if slot.kind == layout.BUILTIN and look.is_missing(path):
            look.warn(f"there is no {slot.path} yet: GPUStack downloads its builtin llama-box when it starts")
        return None
    reasons: t.List[str] = []
    version = ask_version(look.host, slot.path, reasons) if run_binaries else None
    if not run_binaries:
        reasons.append("version: the program was not run, as run_binaries is false")
    return LlamaBox(
        slot=slot.kind,
        path=slot.path,
        pin=slot.version,
        version=version,
        recorded_version=(recorded or {}).get(slot.record_key),
        sha256=_checksum(look.host, slot.path, reasons) if checksums else None,
        size_bytes=status.size_bytes,
        reason="; ".join(reasons if checksums else [*reasons, "sha256: not computed, as checksums is false"]),
    )


def ask_version(host: Host, path: str, reasons: t.List[str]) -> t.Optional[str]:
    """What the program says it is; None, with a reason added, where it does not say."""
    try:
        result = host.run([path, "--version"], timeout_seconds=_VERSION_TIMEOUT_SECONDS)
    except CommandMissingError:
        # The file is there: the kernel says "no such file" of the interpreter or loader that it names.
        reasons.append("version: it cannot be started, as the interpreter or loader that it needs is missing on this host")
        return None
    except HostError as exc:
        reasons.append(f"version: {exc}")
        return None
    version = layout.parse_version_output(result.stdout, result.stderr)
    if version is None:
        # macOS ends a program whose code signature it does not accept with SIGKILL.
        how = f"signal {-result.rc}" if result.rc < 0 else f"exit status {result.rc}"
        reasons.append(f"version: `--version` gave none ({how})")
    return version


def _checksum(host: Host, path: str, reasons: t.List[str]) -> t.Optional[str]:
    try:
        digest = host.sha256(path)
    except HostError as exc:
        reasons.append(f"sha256: {exc}")
        return None
    if digest is None:
        reasons.append("sha256: the file went away")
    return digest


def _warn_of_replacement(look: Lookout, installation: Installation, programs: t.Iterable[LlamaBox]) -> None:
    own = layout.builtin_version(installation.gpustack_version)
    for program in programs:
        if program.slot == layout.BUILTIN and own is not None and program.recorded_version != own:
            says = program.recorded_version or "nothing"
            look.warn(
                f"GPUStack downloads llama-box {own} over {program.path} at its next start: versions.json says {says} there, not {own}"
            )
