# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What the llama-box slots of a node have to hold, and what has to change for that: pure functions, for check mode and for real."""

from __future__ import annotations

import dataclasses
import posixpath
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import llama_box_layout as layout
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import versions
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.builds import PROGRAM, build_for
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Lock, Release

# GPUStack starts RPC servers by this name, to tell their processes from the others (tools_manager._link_llama_box_rpc_server).
RPC_LINK = "llama-box-rpc-server"
MODE = 0o755
RESTART_REASON = "the builtin llama-box changes, and RPC servers run the old one until GPUStack starts anew"

# ggml loads every backend library that lies beside the program, so one left by another version counts.
_LIBRARY = re.compile(r".+\.(?:so(?:\.\d+)*|dylib|metallib)\Z", re.DOTALL)
_APPLICATION = re.compile(r"(?P<application>.*\.app)/Contents/")


@dataclasses.dataclass(frozen=True)
class Node:
    """What decides which release a slot takes. builtin: its slot, None where there is none (yet). toolkit: such as "metal"."""

    gpustack_version: t.Optional[str]
    bin_dir: str
    system: str
    machine: str
    toolkit: str
    builtin: t.Optional[layout.Slot] = None
    only_static: bool = False


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a slot has to hold.

    slot: builtin or pinned. path: the program. files: name -> sha256; empty: nothing. version: of the program. in_folder:
    whether the files have the folder of the program to themselves. release: where the files come from; None: they lie in
    `kept`, a folder of the store.
    """

    slot: str
    path: str
    files: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    version: t.Optional[str] = None
    in_folder: bool = False
    release: t.Optional[Release] = None
    kept: str = ""

    @property
    def folder(self) -> str:
        """The folder of the program."""
        return posixpath.dirname(self.path)

    @property
    def links(self) -> t.Dict[str, str]:
        """The links beside the program: RPC servers run the builtin one only."""
        return {RPC_LINK: PROGRAM} if self.slot == layout.BUILTIN and self.files else {}


@dataclasses.dataclass(frozen=True)
class SeenFile:
    """A file as found. sha256: None where it is no regular file."""

    sha256: t.Optional[str]
    mode: int


@dataclasses.dataclass(frozen=True)
class Seen:
    """A slot as found. files: the program by the name PROGRAM, and in a folder of its own what lies beside it and counts.

    has_link: whether RPC_LINK leads to the program. version: of the program, None where it is not known.
    """

    files: t.Mapping[str, SeenFile] = dataclasses.field(default_factory=dict)
    has_link: bool = True
    version: t.Optional[str] = None

    @property
    def program(self) -> t.Optional[SeenFile]:
        """The program, if it is there."""
        return self.files.get(PROGRAM)


@dataclasses.dataclass(frozen=True)
class Differences:
    """How a slot differs from its goal, one clause each: in what its files hold, in who may do what with them, in the link."""

    content: t.Tuple[str, ...] = ()
    access: t.Tuple[str, ...] = ()
    link: t.Tuple[str, ...] = ()

    def all(self) -> t.Tuple[str, ...]:
        """All clauses."""
        return (*self.content, *self.access, *self.link)


def counts(name: str, goal: Goal) -> bool:
    """Whether a file beside the program has to be looked at."""
    return name in goal.files or (bool(goal.files) and _LIBRARY.match(name) is not None)


def goals_present(node: Node, lock: Lock, version: str, slots: t.Collection[str]) -> t.Tuple[Goal, ...]:
    """What the slots have to hold; none for the builtin one where there is none (yet). Raises BadInputError."""
    in_folder = layout.uses_folders(node.gpustack_version)
    if node.gpustack_version is None or in_folder is None:
        what = "is not known, so neither is" if node.gpustack_version is None else f"is {node.gpustack_version!r}, which does not say"
        raise BadInputError(f"GPUStack's version {what} where it looks for llama-box; install a release of GPUStack")
    dynamic = layout.takes_libraries(node.gpustack_version, version, node.only_static)
    release = lock.find(version, build_for(node.system, node.machine, dynamic, node.toolkit))
    # GPUStack 0.6 knows only the program.
    files = release.files if in_folder else {PROGRAM: release.files[PROGRAM]}
    found: t.Dict[str, layout.Slot] = {}
    if layout.PINNED in slots and not layout.runs_builtin(node.gpustack_version, version, node.only_static):
        pinned = layout.pinned_slot(node.gpustack_version, node.bin_dir, version, node.only_static)
        found[pinned.path] = pinned
    if layout.BUILTIN in slots and node.builtin is not None:
        # With static builds only, the builtin slot of GPUStack 0.7 is the pinned one of its own version.
        found[node.builtin.path] = node.builtin
    return tuple(Goal(slot.kind, path, files, version, in_folder, release) for path, slot in found.items())


def compare(goal: Goal, seen: Seen) -> Differences:
    """How the slot differs from its goal."""
    if not goal.files:
        return Differences(content=(f"{goal.path} is there",)) if seen.program is not None else Differences()
    content: t.List[str] = []
    access: t.List[str] = []
    for name in sorted({*goal.files, *seen.files}):
        path = goal.path if name == PROGRAM else f"{goal.folder}/{name}"
        wanted, found = goal.files.get(name), seen.files.get(name)
        if wanted is None:
            content.append(f"{path} does not belong to {goal.version}")
        elif found is None:
            content.append(f"{path} is missing")
        elif found.sha256 is None:
            content.append(f"{path} is not a regular file")
        elif found.sha256 != wanted:
            content.append(f"{path} has the sha256 {found.sha256}, and {goal.version} has {wanted}")
        elif found.mode & 0o022 or (name == PROGRAM and found.mode & 0o100 == 0):
            access.append(f"{path} has the mode {found.mode:04o}")
    link = () if seen.has_link or not goal.links else (f"{goal.folder}/{RPC_LINK} does not lead to {PROGRAM}",)
    return Differences(tuple(content), tuple(access), link)


def action_of(goal: Goal, seen: Seen, differences: Differences) -> str:
    """What bringing the slot to its goal is called: installed, upgraded, downgraded, repaired or removed."""
    if not goal.files:
        return "removed"
    if seen.program is None:
        return "installed"
    if not differences.content:
        return "repaired"
    try:
        order = versions.compare(str(goal.version), str(seen.version))
    except BadInputError:
        # It does not say what it is, and it may say anything.
        return "repaired"
    return {1: "upgraded", -1: "downgraded"}.get(order, "repaired")


def change_of(goal: Goal, seen: Seen, differences: Differences) -> t.Dict[str, t.Any]:
    """The change as module return value."""
    action = action_of(goal, seen, differences)
    return {
        "resource": "llama_box",
        "where": goal.path,
        "action": action,
        "name": goal.slot,
        "from": seen.version,
        "to": goal.version,
    }


def diff_of(goal: Goal, seen: Seen, differences: Differences) -> t.Dict[str, str]:
    """The change in the form that Ansible prints."""
    before = [_shown(name, file.sha256 or "not a regular file", file.mode) for name, file in sorted(seen.files.items())]
    after = [_shown(name, digest, _mode_after(name, seen, differences)) for name, digest in sorted(goal.files.items())]
    if goal.links:
        before.extend([f"{RPC_LINK} -> {PROGRAM}\n"] if seen.has_link and seen.files else [])
        after.append(f"{RPC_LINK} -> {PROGRAM}\n")
    return {
        "before_header": f"{goal.path} ({_named(seen.version) if seen.files else 'nothing'})",
        "after_header": f"{goal.path} ({_named(goal.version) if goal.files else 'nothing'})",
        "before": "".join(before),
        "after": "".join(after),
    }


def slot_result(goal: Goal, seen: Seen) -> t.Dict[str, t.Any]:
    """The slot as module return value."""
    return {
        "slot": goal.slot,
        "path": goal.path,
        "version_before": seen.version,
        "version": goal.version,
        "sha256": goal.files.get(PROGRAM),
        "build": goal.release.build if goal.release is not None else None,
    }


def application_around(path: str) -> t.Optional[str]:
    """The macOS application that a path lies in; None where it lies in none."""
    match = _APPLICATION.match(path)
    return match.group("application") if match else None


def replacement_at_start(path: str, own: t.Optional[str], recorded: t.Optional[str]) -> str:
    """Why GPUStack replaces what is at the path when it starts next, as a sentence with what to do; "" where it does not.

    own: layout.kept_version(). recorded: what versions.json names, None where it names nothing. (tools_manager.download_llama_box)
    """
    if own is None or own == recorded:
        return ""
    says = f"names {recorded} for it and not" if recorded else "does not name"
    return (
        f"GPUStack downloads its own llama-box {own} over {path} when it starts next, as its versions.json {says} {own};"
        " restart GPUStack once so that it does, and run this again"
    )


def _mode_after(name: str, seen: Seen, differences: Differences) -> int:
    """Everything is made anew unless only the link is wrong."""
    return MODE if differences.content or differences.access else seen.files[name].mode


def _shown(name: str, digest: str, mode: int) -> str:
    return f"{name} mode {mode:04o} sha256 {digest}\n"


def _named(version: t.Optional[str]) -> str:
    return f"llama-box {version}" if version else "an unknown llama-box"
