# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fault: how it is brought about on a host of its own, what a run has to say of it, and what the host has to be afterwards."""

from __future__ import annotations

import dataclasses
import re
import time
import typing as t

from faulty_node import FaultyNode, Look, Run

# A run that waits for nothing may take so long on a machine that is busy with other tests; one that waits for a time limit of the
# service or of a download takes longer.
SOON_SECONDS = 120.0

NO_OPTIONS: t.Mapping[str, t.Any] = {}

Act = t.Callable[[FaultyNode], None]
Story = t.Callable[[FaultyNode], None]


class FaultError(Exception):
    """A run did not do what it has to in this fault; the message says what it did instead."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """kind: linux or mac. story: what happens. installs: arguments for the stand-in. some: whether it is in the quick subset."""

    name: str
    kind: str
    story: Story
    installs: t.Tuple[str, ...] = ()
    some: bool = False


def require(holds: bool, what: str) -> None:
    """Fail with a sentence."""
    if not holds:
        raise FaultError(what)


def nothing(node: FaultyNode) -> None:
    """No act."""


def refused(
    plant: Act,
    heal: Act,
    *says: str,
    limit_seconds: float = SOON_SECONDS,
    prepare: Act = nothing,
    after: Act = nothing,
    is_down: bool = False,
    options: t.Mapping[str, t.Any] = NO_OPTIONS,
) -> Story:
    """A fault with which a run has to fail and to leave the node as it was, and without which the next one succeeds.

    prepare: what has to be done before the node is looked at for the first time. says: patterns, each of which has to be in the
    message. after: what else has to be so while the fault is still there. is_down: the service cannot be brought back before the
    fault has gone. options: of the task, for all runs.
    """

    def story(node: FaultyNode) -> None:
        prepare(node)
        before = node.look()
        plant(node)
        start = time.monotonic()
        run = node.run(**options)
        took = time.monotonic() - start
        require(run.failed, f"the run did not fail: {run.result}")
        require_sentence(run, says)
        require(took < limit_seconds, f"the run took {took:.0f} s, and it may take {limit_seconds:.0f}")
        after(node)
        require(node.ask_receipt() != "ok", "the receipt is believed after a run that failed")
        heal(node)
        require_unchanged(node.look(), before, is_down)
        require_cure(node, **options)

    return story


def borne(
    plant: Act, heal: Act, *, limit_seconds: float = SOON_SECONDS, prepare: Act = nothing, options: t.Mapping[str, t.Any] = NO_OPTIONS
) -> Story:
    """A fault with which a run has to succeed all the same."""

    def story(node: FaultyNode) -> None:
        prepare(node)
        plant(node)
        start = time.monotonic()
        run = node.run(**options)
        took = time.monotonic() - start
        require(not run.failed, f"the run failed: {run.message}")
        require(took < limit_seconds, f"the run took {took:.0f} s, and it may take {limit_seconds:.0f}")
        require_wanted(node.look())
        heal(node)
        require_rest(node, **options)

    return story


def require_sentence(run: Run, says: t.Iterable[str]) -> None:
    """One line for people, which names the cause."""
    message = run.message
    for pattern in says:
        require(re.search(pattern, message) is not None, f"the message does not say {pattern!r}: {message}")
    require(0 < len(message) < 1500 and "\n" not in message and "Traceback" not in message, f"that is no sentence: {message}")


def require_unchanged(now: Look, before: Look, is_down: bool = False) -> None:
    """The host is what it was, with its service, and nothing lies about."""
    require_same_files(now, before)
    require_tidy(now)
    if not is_down:
        require(now.service == before.service, f"the service is {now.service}, and it was {before.service}")


def require_same_files(now: Look, before: Look) -> None:
    """Every file, folder and link, by content, mode and owner."""
    paths = [path for path in sorted({*now.files, *before.files}) if now.files.get(path) != before.files.get(path)]
    require(not paths, "; ".join(f"{path} is {now.files.get(path)}, and was {before.files.get(path)}" for path in paths[:5]))


def require_tidy(now: Look) -> None:
    """No temporary file, no command that hangs."""
    require(not now.leftovers, f"left behind: {now.leftovers}")
    require(not now.hung, f"still there: {now.hung}")


def require_wanted(now: Look) -> None:
    """The host is as the task wants it, whatever the module says."""
    require(now.program_sha256 == now.wanted_sha256, "the builtin llama-box is not that of the lock")
    service = now.service
    right = service["processes"] == 1 and service["answers"] and service["has_ours"] and not service["has_variable"]
    require(right, f"the service is {service}")
    require_tidy(now)


def require_cure(node: FaultyNode, **options: t.Any) -> None:
    """A run without the fault does all that is wanted, and says so."""
    run = node.run(**options)
    require(not run.failed, f"the next run failed: {run.message}")
    require(bool(run.result["changed"]), f"the next run says that it changed nothing: {run.result}")
    require_wanted(node.look())
    require_rest(node, **options)


def require_rest(node: FaultyNode, **options: t.Any) -> None:
    """Then there is nothing left to do, and the receipt says so."""
    run = node.run(**options)
    require(not run.failed, f"the run after that failed: {run.message}")
    require(not run.result["changed"], f"the run after that changed something: {run.result['changes']}")
    require_wanted(node.look())
    said = node.ask_receipt()
    require(said == "ok", f"the receipt is not believed in the end: {said}")
