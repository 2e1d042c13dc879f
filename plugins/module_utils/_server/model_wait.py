# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Waiting until instances of a model run, with a limit, and with a word to who watches whenever something moves."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import instance_wait
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.api import read_instances, read_model
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import ServerError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.transport import Clock

Say = t.Callable[[str], None]

# A start of a small model takes some seconds, one of a large model minutes.
_SHORTEST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 10.0
_LOOKS_FOR_SUCCESSOR = 10


class NotRunningError(ServerError):
    """Instances do not run, or not in time. downloading: they may still come, since their files are being fetched."""

    def __init__(self, message: str, downloading: bool = False, answer: str = "") -> None:
        super().__init__(message, answer)
        self.downloading = downloading


class Waiter:
    """Waits for instances of one server. limit_seconds: for one wait."""

    def __init__(self, client: Client, limit_seconds: float, say: Say, clock: Clock) -> None:
        self._client = client
        self._limit_seconds = limit_seconds
        self._say = say
        self._clock = clock

    def until_running(self, model: Model, expected: int, old_names: t.Collection[str] = ()) -> None:
        """Wait until so many instances run that are not among the old ones. Raises NotRunningError, NotFoundError."""
        begin = self._clock.monotonic()
        pause_seconds = _SHORTEST_PAUSE_SECONDS
        said = ""
        stuck_since: t.Optional[float] = None
        while True:
            instances = read_instances(self._client, (), model.id)
            if not instances and expected and model.id is not None:
                # It may be gone, and then none would ever come.
                read_model(self._client, model.id)
            look = instance_wait.look(model, instances, old_names, expected)
            if look.text != said:
                said, pause_seconds = look.text, _SHORTEST_PAUSE_SECONDS
                self._say(f"{model.name}: {said}")
            if look.running >= expected:
                return
            now = self._clock.monotonic()
            stuck_since = (now if stuck_since is None else stuck_since) if look.stuck else None
            is_stuck = stuck_since is not None and now - stuck_since >= instance_wait.PENDING_SECONDS
            if look.failed or is_stuck:
                raise NotRunningError(look.failed or look.stuck)
            if now - begin >= self._limit_seconds:
                raise NotRunningError(f"after {now - begin:.0f} seconds: {look.text}", look.downloading)
            self._clock.pause(pause_seconds)
            pause_seconds = min(pause_seconds * 1.5, _LONGEST_PAUSE_SECONDS)

    def until_replaced(self, model: Model, ended: str) -> None:
        """Wait until the server has made another instance for one that was ended, or does not for a while.

        Two that are ended at once can get three successors, of which one stays (server/controllers.py, sync_replicas; measured).
        """
        for _ in range(_LOOKS_FOR_SUCCESSOR):
            names = [one.name for one in read_instances(self._client, (), model.id)]
            if ended not in names and len(names) >= (model.replicas or 0):
                return
            self._clock.pause(_SHORTEST_PAUSE_SECONDS)

    def until_gone(self, model: Model) -> None:
        """Wait until a deleted model has no instances any more, so that their memory is free. Raises NotRunningError."""
        begin = self._clock.monotonic()
        while True:
            left = [one for one in read_instances(self._client, (), model.id) if one.model_name == model.name]
            if not left:
                return
            if self._clock.monotonic() - begin >= self._limit_seconds:
                names = ", ".join(str(instance.name) for instance in left)
                raise NotRunningError(
                    f"the model {model.name} is deleted, and {names} is still there after {self._limit_seconds:.0f} seconds"
                )
            self._clock.pause(_SHORTEST_PAUSE_SECONDS)
