# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The llama-box of a node as a resource. What its slots have to hold is decided in `_policy`; nothing is decided here."""

from __future__ import annotations

import dataclasses
import hashlib
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.download import DownloadOptions
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_box_slots import find_machine, find_toolkit, look_at
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_box_steps import Todo, steps_for
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_boxes import builtin_slot, recorded_versions
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.lookout import Lookout
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import read_own
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.release_store import ReleaseStore, Source
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import RemovePath, Step, WriteFile
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import llama_box_layout as layout
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import llama_box_plan as plans
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.builds import PROGRAM
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, GpustackError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_record import (
    Placed,
    Record,
    parse_record,
    release_name,
    used_after,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_request import AUTO, PUSH, Request
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Release

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation

_PUSHED = "pushed"
_START_ONCE = "start GPUStack, which makes it, and run this again for the builtin slot"


class ArchivesNeededError(GpustackError):
    """Archives have to be brought to this node before its llama-box can be changed."""

    def __init__(self, releases: t.Sequence[Release]) -> None:
        super().__init__(f"the controller has to copy {', '.join(release.archive_name for release in releases)} to this node first")
        self.releases = tuple(releases)

    def as_result(self) -> t.Dict[str, t.Any]:
        """What the action plugin has to know."""
        return {
            "changed": False,
            "archives_needed": [
                {
                    "version": release.version,
                    "build": release.build,
                    "sha256": release.sha256,
                    "size_bytes": release.size_bytes,
                    "archive_name": release.archive_name,
                }
                for release in self.releases
            ],
        }


class LlamaBox:
    """The llama-box of an installation, as requested. state_folder: where the collection keeps what belongs to this node."""

    name = "llama_box"

    def __init__(self, host: Host, installation: Installation, request: Request, state_folder: str) -> None:
        self._host = host
        self._installation = installation
        self._request = request
        self._store_folder = f"{state_folder}/llama-box"
        self._record_path = f"{state_folder}/llama-box.json"
        self._store = ReleaseStore(host, self._store_folder, _source(request))
        self._todos: t.List[Todo] = []
        self._goals: t.List[plans.Goal] = []
        self._adopt: t.Dict[str, str] = {}
        self._used: t.Tuple[str, ...] = ()
        self._notes: t.List[str] = []

    def plan(self) -> Planned:
        """Look at the slots and say what has to change. Raises BadInputError, HostError."""
        record = parse_record(read_own(self._host, self._record_path))
        self._adopt = {}
        return self._plan_present(record) if self._request.present else self._plan_absent(record)

    def prepare(self) -> None:
        """Get every release that is not in the store yet. Raises ArchivesNeededError where the controller has to push them."""
        found = (todo.goal.release for todo in self._todos if todo.makes_files)
        needed = list({release.sha256: release for release in found if release is not None}.values())
        if self._request.source == PUSH:
            missing = [release for release in self._store.missing(needed) if release.sha256 not in self._request.archives]
            if missing:
                raise ArchivesNeededError(missing)
        for release in needed:
            self._notes.extend(self._store.obtain(release))
        for name, path in self._adopt.items():
            self._store.adopt(name, path)

    def check(self) -> t.Tuple[str, ...]:
        """How the slots differ now from what they have to hold."""
        record = parse_record(read_own(self._host, self._record_path))
        return tuple(clause for goal in self._goals for clause in plans.compare(goal, self._look(goal, record)).all())

    def finish(self) -> t.Tuple[str, ...]:
        """Remove the releases that are not to be kept; returns warnings."""
        if self._request.present:
            return (*self._notes, *self._store.prune(f"{self._store_folder}/{name}" for name in self._used))
        try:
            self._host.remove(self._store_folder)
        except HostError as exc:
            return (str(exc),)
        return ()

    def _plan_present(self, record: Record) -> Planned:
        request, installation = self._request, self._installation
        look = Lookout(self._host)
        builtin = builtin_slot(look, installation)
        machine = find_machine(self._host)
        node = plans.Node(
            gpustack_version=installation.gpustack_version,
            bin_dir=self._bin_dir(),
            system=self._host.system(),
            machine=machine,
            toolkit=find_toolkit(self._host, machine, builtin) if request.toolkit == AUTO else request.toolkit,
            builtin=builtin,
            only_static=installation.static_llama_box,
        )
        todos = self._compared(plans.goals_present(node, request.lock, request.version, request.slots), record)
        replacement = self._replacement(look, builtin) if layout.BUILTIN in request.slots else ""
        blocked = self._heed(replacement, todos, look)
        self._warn_of_builtin(node, record, look)
        self._todos = [todo for todo in todos if todo.differences.all()]
        placed = {**record.placed, **{todo.goal.path: self._placed(todo, record) for todo in self._todos if todo.differences.content}}
        in_slots = [release_name(todo.goal.release) for todo in todos if todo.goal.release is not None]
        self._used = used_after(record.used, in_slots, request.keep)
        steps = self._steps()
        if steps and Record(placed, self._used) != record:
            # First, so that a run that dies right after a program was placed leaves one that is known as ours.
            steps.insert(0, WriteFile(self._record_path, Record(placed, self._used).as_bytes(), 0o600))
        others = [name for name in self._used if name not in in_slots]
        kept = [name for name in others if self._host.status(f"{self._store_folder}/{name}") is not None]
        return self._planned(todos, steps, blocked, look.warnings, {"toolkit": node.toolkit, "kept": kept})

    def _plan_absent(self, record: Record) -> Planned:
        todos: t.List[Todo] = []
        warnings: t.List[str] = []
        for path, placed in sorted(record.placed.items(), key=lambda item: (item[1].slot == layout.BUILTIN, item[0])):
            goal = plans.Goal(placed.slot, path, in_folder=placed.in_folder)
            seen = self._look(goal, record)
            program = seen.program
            if program is None or record.ours(path, program.sha256) is None:
                # Somebody else has put something else there since.
                continue
            if placed.slot == layout.BUILTIN:
                goal = self._own_builtin(goal, placed, warnings)
                seen = self._look(goal, record)
            todos.append(Todo(goal, seen, plans.compare(goal, seen)))
        self._todos = [todo for todo in todos if todo.differences.all()]
        # GPUStack has made its builtin anew where it was removed.
        self._goals = [todo.goal for todo in todos if todo.goal.files or todo.goal.slot == layout.PINNED]
        steps = self._steps()
        changes = []
        for path, what in ((self._record_path, "record"), (self._store_folder, "releases")):
            if self._host.status(path) is not None:
                changes.append({"resource": self.name, "where": path, "action": "removed", "name": what, "from": None, "to": None})
        if changes:
            # The store goes in finish(): until then what is put back comes from it.
            steps.append(RemovePath(self._record_path))
        return self._planned(todos, steps, (), warnings, {"toolkit": None, "kept": []}, changes)

    def _compared(self, goals: t.Iterable[plans.Goal], record: Record) -> t.List[Todo]:
        looked = ((goal, self._look(goal, record)) for goal in goals)
        return [Todo(goal, seen, plans.compare(goal, seen)) for goal, seen in looked]

    def _heed(self, replacement: str, todos: t.List[Todo], look: Lookout) -> t.Tuple[str, ...]:
        """What GPUStack's next start does to the builtin slot: take out of the list what would be in vain, or say what is."""
        self._goals = [todo.goal for todo in todos]
        found = [todo for todo in todos if todo.goal.slot == layout.BUILTIN]
        if not replacement or not found:
            return ()
        todo = found[0]
        # What GPUStack is about to replace cannot be as wanted after a restart.
        self._goals.remove(todo.goal)
        if todo.seen.program is None:
            todos.remove(todo)
            look.warn(f"there is no {todo.goal.path} yet; {_START_ONCE}")
            return ()
        look.warn(replacement)
        return (replacement,) if todo.restarts else ()

    def _warn_of_builtin(self, node: plans.Node, record: Record, look: Lookout) -> None:
        """Say where the builtin slot matters and cannot be, or is not, taken care of."""
        version, slots = self._request.version, self._request.slots
        if layout.BUILTIN in slots:
            if node.builtin is None:
                look.warn(f"there is no builtin llama-box of GPUStack yet; {_START_ONCE}")
        elif layout.runs_builtin(node.gpustack_version or "", version, node.only_static):
            goals = plans.goals_present(node, self._request.lock, version, (layout.BUILTIN,))
            for todo in self._compared(goals, record):
                if todo.differences.content:
                    look.warn(
                        f"GPUStack {node.gpustack_version} runs its builtin llama-box for models with backend_version {version}, and"
                        f" {todo.goal.path} is another one; add builtin to slots"
                    )

    def _planned(
        self,
        todos: t.Sequence[Todo],
        steps: t.Sequence[Step],
        blocked: t.Tuple[str, ...],
        warnings: t.Iterable[str],
        result: t.Mapping[str, t.Any],
        changes: t.Sequence[t.Mapping[str, t.Any]] = (),
    ) -> Planned:
        restarts = any(todo.restarts for todo in self._todos)
        slots = [plans.slot_result(todo.goal, todo.seen) for todo in todos]
        return Planned(
            steps=tuple(steps),
            changes=(*[plans.change_of(todo.goal, todo.seen, todo.differences) for todo in self._todos], *changes),
            diffs=tuple(plans.diff_of(todo.goal, todo.seen, todo.differences) for todo in self._todos),
            restart_reasons=(plans.RESTART_REASON,) if restarts else (),
            blocked=blocked,
            replaced=restarts,
            fingerprint=hashlib.sha256(repr([(todo.goal, todo.seen) for todo in todos]).encode()).hexdigest(),
            warnings=tuple(dict.fromkeys(warnings)),
            result={"slots": slots, **result},
        )

    def _look(self, goal: plans.Goal, record: Record) -> plans.Seen:
        return look_at(self._host, goal, self._request.lock, record)

    def _bin_dir(self) -> str:
        installation = self._installation
        if installation.bin_dir is None:
            why = installation.warnings[0] if installation.warnings else f"there is no service {installation.label_or_unit} on this host"
            raise BadInputError(f"where GPUStack looks for llama-box cannot be told, as {why}; install GPUStack and start it once")
        return installation.bin_dir

    def _replacement(self, look: Lookout, builtin: t.Optional[layout.Slot]) -> str:
        """Why GPUStack replaces its builtin llama-box when it starts next; "" where it does not, or that cannot be seen."""
        recorded = recorded_versions(look, self._installation.third_party_bin)
        if builtin is None or recorded is None:
            return ""
        own = layout.kept_version(self._installation.gpustack_version, builtin)
        return plans.replacement_at_start(builtin.path, own, recorded.get(builtin.record_key))

    def _placed(self, todo: Todo, record: Record) -> Placed:
        """What is remembered of a program that we put into a slot; notes GPUStack's own one for being kept."""
        goal, program = todo.goal, todo.seen.program
        kept = ""
        if goal.slot == layout.BUILTIN:
            own = layout.builtin_version(self._installation.gpustack_version)
            name = f"builtin-{self._installation.gpustack_version}"
            digest = program.sha256 if program is not None else None
            if digest is not None and record.ours(goal.path, digest) is None and own in (None, todo.seen.version):
                self._adopt[name] = goal.folder if goal.in_folder else goal.path
                kept = name
            elif self._store.adopted(name) is not None:
                kept = name
        return Placed(goal.slot, goal.version or "", goal.files[PROGRAM], goal.in_folder, kept)

    def _own_builtin(self, goal: plans.Goal, placed: Placed, warnings: t.List[str]) -> plans.Goal:
        """GPUStack's own program for the builtin slot, or nothing there where no copy of it is kept."""
        adopted = self._store.adopted(placed.kept) if placed.kept else None
        if adopted is None:
            warnings.append(f"no copy of GPUStack's own llama-box is kept, so it downloads {goal.path} when it starts next")
            return goal
        own = layout.builtin_version(placed.kept.partition("-")[2])
        return dataclasses.replace(goal, files=adopted.files, version=own, kept=adopted.folder)

    def _steps(self) -> t.List[Step]:
        """Pinned slots come first: should one of their steps fail, the builtin one has not been touched."""
        return [
            step
            for todo in self._todos
            for step in steps_for(
                todo, todo.goal.kept if todo.goal.release is None else self._store.folder_of(todo.goal.release), self._request.sealed
            )
        ]


def _source(request: Request) -> Source:
    options = DownloadOptions(
        username=request.username,
        password=request.password,
        token=request.token,
        ca_path=request.ca_path,
        use_proxy=request.use_proxy,
        timeout_seconds=request.timeout_seconds,
        deadline_seconds=request.deadline_seconds,
        retries=request.retries,
    )
    kind = _PUSHED if request.source == PUSH else request.source
    return Source(kind, request.base_url, options, request.folder, request.archives)
