# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The steps that bring a llama-box slot to its goal."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import PlaceFile, PlaceFolder, PlaceLink, RemovePath, Step
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import llama_box_layout as layout
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import llama_box_plan as plans
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.builds import PROGRAM
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host


@dataclasses.dataclass(frozen=True)
class Todo:
    """A slot, and how it differs from its goal."""

    goal: plans.Goal
    seen: plans.Seen
    differences: plans.Differences

    @property
    def makes_files(self) -> bool:
        """Whether the files themselves are made anew."""
        return bool(self.differences.content or self.differences.access)

    @property
    def restarts(self) -> bool:
        """Whether the running service has the old program."""
        return self.goal.slot == layout.BUILTIN and bool(self.differences.content)


def steps_for(todo: Todo, source: str, sealed: bool) -> t.List[Step]:
    """The steps for a slot. source: the folder with the files. sealed: whether an application may be written to."""
    found = list(_steps_of(todo, source))
    application = plans.application_around(todo.goal.path)
    if application is None or not found:
        return found
    if not sealed:
        raise BadInputError(
            f"slots: the builtin llama-box lies inside the signed application {application}; leave it alone with slots: [pinned],"
            " or say sealed: true to write there all the same, which breaks the application's signature"
        )
    return [_IntoApplication(step) for step in found]


@dataclasses.dataclass(frozen=True)
class _IntoApplication:
    """A step inside an application, which macOS may forbid even to root."""

    step: Step

    def save(self, host: Host, backup: str) -> t.Dict[str, t.Any]:
        """As the step itself."""
        return self.step.save(host, backup)

    def apply(self, host: Host) -> None:
        """As the step itself, with what to do if it may not."""
        try:
            self.step.apply(host)
        except HostError as exc:
            raise HostError(
                f"{exc}; if it is macOS that forbids it, allow the program of Ansible's connection in System Settings, Privacy & Security,"
                " App Management, or say slots: [pinned]"
            ) from exc


def _steps_of(todo: Todo, source: str) -> t.Iterator[Step]:
    goal = todo.goal
    if not goal.files:
        yield RemovePath(goal.folder if goal.in_folder else goal.path)
    elif goal.in_folder and todo.makes_files:
        yield PlaceFolder(goal.folder, source, goal.files, goal.links)
    else:
        if todo.makes_files:
            yield PlaceFile(goal.path, f"{source}/{PROGRAM}", goal.files[PROGRAM], plans.MODE)
        if todo.differences.link:
            yield PlaceLink(f"{goal.folder}/{plans.RPC_LINK}", PROGRAM)
