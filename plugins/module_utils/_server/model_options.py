# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The modules model and models: the options that they share, and all that they do between those and their result."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import fleet_nodes, mmap, releases
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, GpustackError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_wanted import Wanted
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import connection, errors
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_report import report
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_run import NEVER, ONE_BY_ONE, TOGETHER, Options, Run
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_survey import Request, survey
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_wait import Say, Waiter
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.transport import Clock

# Documented in plugins/doc_fragments/models.py.
RUN_OPTIONS: t.Dict[str, t.Dict[str, t.Any]] = {
    **connection.OPTIONS,
    "overrides": mmap.OVERRIDES_OPTION,
    "strict": {"type": "bool", "default": False},
    "can_upgrade_llama_box": {"type": "bool", "default": True},
    "spread_on_060": {"type": "bool", "default": False},
    "nodes": fleet_nodes.OPTION,
    "lock": {"type": "dict"},
    "restart": {"type": "str", "choices": [ONE_BY_ONE, TOGETHER, NEVER], "default": ONE_BY_ONE},
    "wait": {"type": "bool", "default": True},
    "wait_timeout_seconds": {"type": "int", "default": 1800},
}
# In the module's temporary folder, where the action plugin reads it.
PROGRESS_FILE = "metalfleet-progress"


class UnfinishedRunError(Exception):
    """A run that failed once it had begun. error: what went wrong. result and warnings: what was done and said until then."""

    def __init__(self, error: GpustackError, result: t.Dict[str, t.Any], warnings: t.Sequence[str]) -> None:
        super().__init__(str(error))
        self.error = error
        self.result = result
        self.warnings = warnings


class Outcome(t.NamedTuple):
    """How a module ends: result, with the sentence that says why where it failed, and warnings."""

    failed: bool
    result: t.Dict[str, t.Any]
    warnings: t.Sequence[str] = ()


class Progress:
    """Keeps lines for the result, and writes them to the file that whoever watches reads. Nobody may be, so that must not fail."""

    def __init__(self, folder: str) -> None:
        self.lines: t.List[str] = []
        self._path = os.path.join(folder, PROGRESS_FILE)

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError:
            pass


def carry_out(
    params: t.Mapping[str, t.Any],
    wanted: t.Sequence[Wanted],
    all_models: bool,
    check_mode: bool,
    say: Say,
    clock: t.Optional[Clock] = None,
) -> t.Tuple[t.Dict[str, t.Any], t.Tuple[str, ...]]:
    """Bring models to what is wanted; returns the result and warnings.

    Raises GpustackError, or UnfinishedRunError once anything was begun.
    """
    if params["wait_timeout_seconds"] < 1:
        raise BadInputError(f"wait_timeout_seconds: {params['wait_timeout_seconds']} is too small; the least is 1")
    request = Request(
        wanted=tuple(wanted),
        all_models=all_models,
        overrides=tuple(mmap.overrides_from([_given(entry) for entry in params["overrides"]])),
        strict=params["strict"],
        can_upgrade_llama_box=params["can_upgrade_llama_box"],
        spread_on_060=params["spread_on_060"],
        nodes=fleet_nodes.parse_nodes(params["nodes"]),
        locked=None if params["lock"] is None else frozenset(release.version for release in releases.parse_lock(params["lock"]).releases),
    )
    clock = clock or Clock()
    client = Client(connection.connection(params), clock)
    seen = survey(client, request)
    run = Run(client, seen, Options(params["restart"], params["wait"]), Waiter(client, params["wait_timeout_seconds"], say, clock), say)
    if not check_mode:
        try:
            run.carry_out()
        except GpustackError as exc:
            raise UnfinishedRunError(exc, report(seen, run.jobs, params["restart"], check_mode), seen.warnings) from exc
    return report(seen, run.jobs, params["restart"], check_mode), seen.warnings


def _given(entry: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    return {key: value for key, value in entry.items() if value is not None}


def outcome(
    params: t.Mapping[str, t.Any],
    wanted: t.Callable[[], t.Sequence[Wanted]],
    all_models: bool,
    check_mode: bool,
    folder: str,
    verbosity: int,
) -> Outcome:
    """What both modules do. wanted: reads the options, and may raise BadInputError. folder: the module's own temporary one."""
    progress = Progress(folder)
    try:
        result, warnings = carry_out(params, wanted(), all_models, check_mode, progress)
    except UnfinishedRunError as exc:
        return Outcome(True, {"progress": progress.lines, **exc.result, **errors.failure(exc.error, verbosity)}, exc.warnings)
    except GpustackError as exc:
        return Outcome(True, errors.failure(exc, verbosity))
    return Outcome(False, {"progress": progress.lines, **result}, warnings)
