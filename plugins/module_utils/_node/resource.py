# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The small interface of everything that is managed on a node."""

from __future__ import annotations

import dataclasses
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import Step


@dataclasses.dataclass(frozen=True)
class Planned:
    """What has to be done for one resource, the same in check mode and for real.

    steps: in the order in which they are to be made. changes, diffs: the same for people and for --diff; never a secret.
    restart_reasons: why the service must be restarted for it; none where it need not be. blocked: why such a restart would be
    in vain; the run is refused before anything changes. dropped: variables that the service must lose by it. replaced: whether
    it is for a program of the service that was replaced. fingerprint: a digest of the files that decide what a restart leads
    to. reloads: whether the service manager has to read its files anew. rolls_back: the transaction that this one takes back
    (Journal.started), 0 for one that goes forward. result: the resource's own part of what the module returns.
    """

    steps: t.Tuple[Step, ...] = ()
    changes: t.Tuple[t.Mapping[str, t.Any], ...] = ()
    diffs: t.Tuple[t.Mapping[str, str], ...] = ()
    restart_reasons: t.Tuple[str, ...] = ()
    blocked: t.Tuple[str, ...] = ()
    dropped: t.Tuple[str, ...] = ()
    replaced: bool = False
    fingerprint: str = ""
    reloads: bool = False
    rolls_back: int = 0
    warnings: t.Tuple[str, ...] = ()
    result: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


class Resource(t.Protocol):
    """One managed thing of a node: bound to its host, its installation and what is wanted of it."""

    name: str

    def plan(self) -> Planned:
        """Look at the host and say what has to change. Changes nothing. Raises BadInputError, HostError, ServiceError."""

    def prepare(self) -> None:
        """Fetch and verify everything the steps need, before any of them is made. Raises, and then nothing was changed."""

    def check(self) -> t.Tuple[str, ...]:
        """What is still not as wanted after the steps and a restart that succeeded, one clause each; empty where all is."""

    def finish(self) -> t.Tuple[str, ...]:
        """Tidy up after success, such as old releases beyond those to keep; returns warnings. Never fails.

        It may be asked for again by a run that goes on with one which died meanwhile.
        """
