# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs over the models of a GPUStack in memory, with all that there is between the options of a module and its result."""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.instance_age import unmarked
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_wanted import read_all
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import client as client_module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_options import UnfinishedRunError, carry_out
from ansible_collections.metalfleet.gpustack.plugins.modules import models as models_module
from ansible_collections.metalfleet.gpustack.tests.unit.memory_gpustack import PASSWORD, MemoryGpustack
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import Json
from ansible_collections.metalfleet.gpustack.tests.unit.whole_nodes import validated

SECRET = "Canary-Secr3t-Token"
# What a model has that is added by hand, after the policy has seen it.
IN_ORDER: Json = {"backend_parameters": ["--no-mmap", "--ctx-size=4096"]}
OTHER: Json = {"backend_parameters": ["--no-mmap", "--ctx-size=8192"]}


class DeathError(BaseException):
    """The run dies; nothing may catch it."""


@dataclasses.dataclass
class Run:
    """What a run gave. error: what it failed with, None where it did not."""

    result: Json
    warnings: t.Tuple[str, ...]
    progress: t.List[str]
    error: t.Optional[Exception] = None

    def model(self, name: str = "chat") -> Json:
        return next(model for model in self.result["models"] if model["name"] == name)

    @property
    def message(self) -> str:
        return str(self.error)


class Runs:
    """Runs on one server."""

    def __init__(self, server: MemoryGpustack) -> None:
        self.server = server

    def start(self, *wanted: Json, check_mode: bool = False, **options: t.Any) -> Run:
        """Run over models. An error that says what was done until then is returned, others are raised."""
        connection = {"server_url": "https://gpustack.example.com", "username": "admin", "password": PASSWORD}
        params = validated(models_module.ARGUMENT_SPEC, {**connection, "models": list(wanted), **options})
        said: t.List[str] = []
        try:
            result, warnings = carry_out(
                params, read_all(params["models"]), params["all_models"], check_mode, said.append, self.server.clock
            )
        except UnfinishedRunError as exc:
            return Run(exc.result, exc.warnings, said, exc.error)
        return Run(result, warnings, said)

    def finished(self, *wanted: Json, **options: t.Any) -> Run:
        """Run over models, without an error."""
        run = self.start(*wanted, **options)
        assert run.error is None, run.message
        return run


def on(server: MemoryGpustack, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs on a server of one's own."""
    monkeypatch.setattr(client_module, "Transport", server.transport)
    return Runs(server)


def state_of(server: MemoryGpustack) -> str:
    """All that a server has, but for times and our mark, to be compared."""
    ours = [{**model, "env": unmarked(model["env"] or {}), "updated_at": None} for model in server.models.values()]
    return json.dumps([ours, sorted(server.instances)], sort_keys=True)
