# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The beginning of an instance's log, which says what llama-box was started with."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.instance_age import (
    command_line,
    is_marked,
    runs_with,
    suspects,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import RUNNING, Instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.api import INSTANCES
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import ServerError

# Preparing files and, in GPUStack's debug log, the environment come before it.
_HEAD_BYTES = 256 * 1024


def old_instances(client: Client, model: Model, instances: t.Sequence[Instance]) -> t.Tuple[t.List[Instance], t.List[str]]:
    """The instances that run with other parameters than their model has, and warnings on those of which that cannot be told.

    Reads the logs of those alone that nothing but times speak against, so that no call is made for a model to which nothing has
    happened.
    """
    old: t.List[Instance] = []
    warnings: t.List[str] = []
    for instance in suspects(model, instances):
        if is_marked(model, instance):
            # No command line shows a change of env, nor of what the scheduler goes by.
            old.append(instance)
            continue
        try:
            log = client.beginning(f"{INSTANCES}/{instance.id}/logs", {"follow": "true"}, _HEAD_BYTES, _says_it)
            arguments = command_line(log)
        except ServerError as exc:
            warnings.append(_untold(instance, str(exc)))
            continue
        if arguments is not None:
            old += [] if runs_with(arguments, model) else [instance]
        elif instance.state == RUNNING:
            warnings.append(_untold(instance, "its log does not begin with the command line of llama-box"))
    return old, warnings


def _untold(instance: Instance, why: str) -> str:
    return (
        f"whether the instance {instance.name} runs with the parameters of its model cannot be told, so it is left alone ({why}); "
        "delete it in GPUStack, which starts it anew, if in doubt"
    )


def _says_it(log: str) -> bool:
    # Not while its line may go on.
    return command_line(log[: log.rfind("\n") + 1]) is not None
