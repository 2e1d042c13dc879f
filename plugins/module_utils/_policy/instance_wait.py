# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Whether the instances of a model run yet, will never run, or are to be waited for, and how to say so."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import (
    DOWNLOADING,
    ERROR,
    PENDING,
    RUNNING,
    UNREACHABLE,
    Instance,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model

# The scheduler looks at what is pending when an instance is made, and else every 180 seconds (scheduler/scheduler.py, start).
PENDING_SECONDS = 200.0
# A worker starts a failed instance again after 5, 10, 20 s … (worker/serve_manager.py, _restart_error_instance).
_MOST_RESTARTS = 2


@dataclasses.dataclass(frozen=True)
class Look:
    """What one look at a model's instances gives. running: how many do. failed: why it will not get better; else "".

    text: the state for people. stuck: an instance that no worker takes, as far as the scheduler says; "" for none.
    downloading: whether an instance still fetches its files.
    """

    running: int
    failed: str
    text: str
    stuck: str = ""
    downloading: bool = False


def look(model: Model, instances: t.Sequence[Instance], old_names: t.Collection[str], expected: int) -> Look:
    """Look at the instances that are not among the old ones, of which so many are expected to run.

    What is broken or stuck is told of only where too few others are left for that: it may have been so before.
    """
    new = [instance for instance in instances if instance.name not in old_names]
    running = sum(1 for instance in new if instance.state == RUNNING)
    others = [instance for instance in new if instance.state != RUNNING]
    broken = [instance for instance in others if _is_broken(model, instance)]
    stuck = [instance for instance in others if instance.state == PENDING and instance.state_message]
    to_come = max(0, (model.replicas or 0) - len(instances))
    hopes = len(new) + to_come - len(broken)
    failed = next((f"{one.name} on {one.worker_name or 'no worker'}: {_line(one.state_message)}" for one in broken), "")
    waits = next((f"GPUStack finds no worker for {one.name}: {_line(one.state_message)}" for one in stuck), "")
    return Look(
        running=running,
        failed=failed if hopes < expected else "",
        text=", ".join([f"{running} of {expected} running", *(_state(instance) for instance in others)]),
        stuck=waits if hopes - len(stuck) < expected else "",
        downloading=any(instance.state == DOWNLOADING for instance in others),
    )


def _is_broken(model: Model, instance: Instance) -> bool:
    was_restarted = instance.restart_count is not None and instance.restart_count >= _MOST_RESTARTS
    return instance.state == ERROR and (model.restart_on_error is not True or was_restarted)


def _state(instance: Instance) -> str:
    where = f" on {instance.worker_name}" if instance.worker_name else ""
    state = instance.state or "in no state"
    if instance.state == DOWNLOADING:
        percents = [
            part for part in (instance.download_percent, *(one.download_percent for one in instance.subordinates)) if part is not None
        ]
        state += f" {min(percents):.1f} %" if percents else ""
    why = f" ({_line(instance.state_message)})" if instance.state_message and instance.state in (ERROR, PENDING) else ""
    if instance.state == UNREACHABLE:
        why = ", since its worker does not answer"
    return f"{instance.name} {state}{where}{why}"


def _line(text: t.Optional[str]) -> str:
    return " ".join((text or "GPUStack does not say why").split())
