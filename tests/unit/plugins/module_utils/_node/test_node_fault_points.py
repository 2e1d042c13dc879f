# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every change that the module node makes on a node, with its real resources, as the last one of its run, and the run after that."""

from __future__ import annotations

import re
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import journal as journals
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.journal import read_journal
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import state_folder
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import receipt_path
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError, ServiceError
from ansible_collections.metalfleet.gpustack.plugins.modules import rollback
from ansible_collections.metalfleet.gpustack.tests.unit import fake_kernel, whole_nodes
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import UNIT_FILE
from ansible_collections.metalfleet.gpustack.tests.unit.whole_nodes import (
    FILE,
    KINDS,
    RESIDENCY,
    Node,
    NodeMac,
    bring,
    dies,
    everything,
    is_at_rest,
    llama_box,
    state_of,
    validated,
)

ALL_KINDS = pytest.mark.parametrize("kind", list(KINDS))
# Where what differs between the two kinds of Macs plays no part.
TWO_KINDS = pytest.mark.parametrize("kind", ["mac_0_7", "linux"])


def old_node(kind: str) -> Node:
    """A node at an older release, with the fault of gpustack#1907 in every place, and a wired limit that somebody has set."""
    host = KINDS[kind]()
    bring(host, llama_box=llama_box(host, "v0.0.144"), environment={"variables": {"OLD": "1"}}, settle_seconds=0.0)
    line = f"{RESIDENCY}=1\n".encode()
    whole_nodes.write(host, FILE, host.files[FILE].content + line, 0o644)
    if isinstance(host, NodeMac):
        host.domain[RESIDENCY] = "1"
        host.kernel[fake_kernel.LIMIT] = 1000
        host.disable_daemon()
        host.run(["launchctl", "bootout", "system/ai.gpustack"])
        host.run(["launchctl", "bootstrap", "system", "/Library/LaunchDaemons/ai.gpustack.plist"])
    else:
        whole_nodes.write(host, UNIT_FILE, host.files[UNIT_FILE].content + f"Environment={RESIDENCY}=1\n".encode())
        host.manager[RESIDENCY] = "1"
        host.boot()
    host.clock += 3600.0
    host.stops, host.points = 0, []
    assert host.environment()[RESIDENCY] == "1"
    return host


def upgrade(host: Node, **options: t.Any) -> dict[str, t.Any]:
    return bring(host, **everything(host, **options))


def roll_back(host: Node, **options: t.Any) -> dict[str, t.Any]:
    given = validated(rollback.ARGUMENT_SPEC, {"settle_seconds": 0.0, **options})
    return rollback.run(given, host, False)[0]  # type: ignore[arg-type]


def points_of(host: Node, run: t.Callable[[], object]) -> list[str]:
    host.points = []
    run()
    points, host.points = host.points, []
    return points


def notes_of(host: Node) -> set[str]:
    """Everything in our own folder, whatever the time of its transaction was, and however often something was remembered."""
    folder = f"{state_folder(host)}/"  # type: ignore[arg-type]
    return {re.sub(r"/undo-\d+/.*", "/undo/", path) for path in host.files if path.startswith(folder)}


def folders_of(host: Node) -> set[str]:
    """All but our own, and that above it."""
    own = state_folder(host)  # type: ignore[arg-type]
    return {folder for folder in host.folders if not folder.startswith((own, "/proc/")) and not own.startswith(folder)}


def releases_of(host: Node) -> list[str]:
    """The files of the releases that are kept."""
    return sorted(path for path in host.files if path.startswith(f"{state_folder(host)}/llama-box/"))  # type: ignore[arg-type]


def assert_well(host: Node) -> None:
    """Nothing is left to do, nothing runs with the old state, and the receipt is there."""
    assert (host.is_up(), is_at_rest(host), RESIDENCY in host.environment()) == (True, True, False)
    assert host.environment()["HF_ENDPOINT"] == "https://hub.example.com"
    before, stops = state_of(host), host.stops
    host.points = []
    result = upgrade(host)
    assert (result["changed"], result["restart_pending"], host.stops) == (False, False, stops)
    assert (state_of(host), host.points) == (before, [f"write {receipt_path(host)}"])  # type: ignore[arg-type]


@ALL_KINDS
def test_the_points_are_of_every_kind(kind: str) -> None:
    host = old_node(kind)
    points = points_of(host, lambda: upgrade(host))
    about = "\n".join(points)
    named = [FILE, "llama-box", "journal.json", "pending-restart.json", "previous.json", "snapshot"]
    named.append(f"write {receipt_path(host)}")  # type: ignore[arg-type]
    if isinstance(host, NodeMac):
        named += [
            "launchctl bootout system/ai.gpustack",
            "launchctl bootstrap",
            "launchctl unsetenv",
            "launchctl enable",
            fake_kernel.PLIST,
        ]
        named += [f"sysctl {fake_kernel.LIMIT}=475136", f"sysctl {fake_kernel.COLLECTOR}=1"]
    else:
        named += ["systemctl restart", "systemctl unset-environment", "systemctl daemon-reload", UNIT_FILE]
    assert [name for name in named if name not in about] == []
    assert (len(points) > 35, host.stops) == (True, 1)


@ALL_KINDS
def test_wherever_an_upgrade_dies_the_next_run_goes_on_with_one_restart(kind: str) -> None:
    host = old_node(kind)
    points = points_of(host, lambda: upgrade(host))
    after, notes = state_of(host), notes_of(host)
    for number in range(1, len(points) + 1):
        host = old_node(kind)
        point = dies(host, number, lambda host=host: upgrade(host))  # type: ignore[misc]
        upgrade(host)
        assert (state_of(host), host.stops) == (after, 1), point
        assert_well(host)
        assert notes_of(host) == notes, point


@TWO_KINDS
def test_wherever_that_run_dies_too_the_third_one_goes_on(kind: str) -> None:
    host = old_node(kind)
    count = len(points_of(host, lambda: upgrade(host)))
    after = state_of(host)
    for number in range(1, count + 1):
        host = old_node(kind)
        dies(host, number, lambda host=host: upgrade(host))  # type: ignore[misc]
        try:
            dies(host, (count - number) // 2 + 1, lambda host=host: upgrade(host))  # type: ignore[misc]
        except AssertionError:
            # It had less to do.
            host.points = []
        upgrade(host)
        assert (state_of(host), host.stops) == (after, 1), number
        assert_well(host)


@TWO_KINDS
def test_wherever_a_run_without_a_restart_dies_the_restart_is_not_forgotten(kind: str) -> None:
    host = old_node(kind)
    points = points_of(host, lambda: upgrade(host, restart="never"))
    after = state_of(host)
    assert host.stops == 0
    for number in range(1, len(points) + 1):
        host = old_node(kind)
        point = dies(host, number, lambda host=host: upgrade(host, restart="never"))  # type: ignore[misc]
        result = upgrade(host, restart="never")
        assert (result["restart_pending"], host.stops, state_of(host)) == (True, 0, after), point
        upgrade(host)
        assert host.stops == 1, point
        assert_well(host)


@ALL_KINDS
def test_wherever_a_run_dies_that_makes_the_node_worse_everything_comes_back(kind: str) -> None:
    broken = {"environment": {"variables": {"BROKEN": "1"}}}

    def worse(host: Node) -> None:
        host.kills = lambda environment: "BROKEN" in environment
        with pytest.raises(ServiceError, match="everything that was changed was put back, and the node works as before"):
            upgrade(host, **broken)

    host = old_node(kind)
    before = state_of(host)
    points = points_of(host, lambda: worse(host))
    assert state_of(host) == before
    for number in range(1, len(points) + 1):
        host = old_node(kind)
        host.kills = lambda environment: "BROKEN" in environment
        point = dies(host, number, lambda host=host: upgrade(host, **broken))  # type: ignore[misc]
        assert read_journal(host) is not None or state_of(host) == before, point  # type: ignore[arg-type]
        with pytest.raises(GpustackError, match="everything that was changed was put back"):
            upgrade(host, **broken)
        assert (state_of(host), is_at_rest(host), host.is_up()) == (before, True, True), point
        # Who wants something else gets it.
        host.stops = 0
        upgrade(host)
        assert host.stops == 1
        assert_well(host)


@ALL_KINDS
def test_wherever_a_rollback_dies_the_next_one_goes_on(kind: str) -> None:
    host = old_node(kind)
    before, environment = state_of(host), host.environment()
    upgrade(host)
    after = state_of(host)
    points = points_of(host, lambda: roll_back(host))
    assert (state_of(host), host.stops) == (before, 2)
    for number in range(1, len(points) + 1):
        host = old_node(kind)
        upgrade(host)
        point = dies(host, number, lambda host=host: roll_back(host))  # type: ignore[misc]
        assert read_journal(host) is not None or state_of(host) in (before, after), point  # type: ignore[arg-type]
        roll_back(host)
        assert (state_of(host), host.stops, is_at_rest(host)) == (before, 2, True), point
        assert {**host.environment(), "INVOCATION_ID": ""} == {**environment, "INVOCATION_ID": ""}, point
        assert host.status(receipt_path(host)) is None, point  # type: ignore[arg-type]
        host.points = []
        assert (roll_back(host)["changed"], host.points) == (False, []), point
        # Forward again, as the inventory says.
        upgrade(host)
        assert state_of(host) == after
        assert_well(host)


def test_wherever_a_rollback_of_the_first_run_dies_no_folder_is_left() -> None:
    # A node on which the first run makes folders.
    kind = "mac_0_7"
    host = KINDS[kind]()
    before = folders_of(host)
    upgrade(host)
    assert folders_of(host) > before
    points = points_of(host, lambda: roll_back(host))
    assert folders_of(host) == before
    for number in range(1, len(points) + 1):
        host = KINDS[kind]()
        upgrade(host)
        point = dies(host, number, lambda host=host: roll_back(host))  # type: ignore[misc]
        roll_back(host)
        assert (folders_of(host), is_at_rest(host)) == (before, True), point


@TWO_KINDS
def test_who_goes_on_leaves_nothing_that_the_dead_run_was_making(kind: str) -> None:
    host = old_node(kind)
    points = points_of(host, lambda: upgrade(host))
    host = old_node(kind)
    stop = next(number for number, one in enumerate(points, 1) if one.startswith("systemctl restart") or " bootout system/ai" in one)
    dies(host, stop, lambda: upgrade(host))
    # A folder that was replaced is removed after its path is new, so that no later step comes by there.
    paths = list(journals.oldest(t.cast("journals.Journal", read_journal(host))))  # type: ignore[arg-type]
    left = [f"{path.rpartition('/')[0]}/.{path.rpartition('/')[2]}.99999999999.metalfleet" for path in paths]
    for path in left:
        whole_nodes.write(host, path, b"left")
    assert len(left) > 3
    upgrade(host)
    assert [path for path in left if path in host.files] == []


@TWO_KINDS
def test_wherever_an_upgrade_dies_the_next_run_keeps_no_more_releases(kind: str) -> None:
    def another(host: Node) -> dict[str, t.Any]:
        return bring(host, llama_box=llama_box(host, "v0.0.144", keep=0), settle_seconds=0.0)

    def started() -> Node:
        host = KINDS[kind]()
        bring(host, llama_box=llama_box(host, "v0.0.139", keep=0), settle_seconds=0.0)
        return host

    host = started()
    points = points_of(host, lambda: another(host))
    kept = releases_of(host)
    for number in range(1, len(points) + 1):
        host = started()
        point = dies(host, number, lambda host=host: another(host))  # type: ignore[misc]
        another(host)
        assert releases_of(host) == kept, point


@TWO_KINDS
def test_an_upgrade_that_died_can_be_rolled_back(kind: str) -> None:
    host = old_node(kind)
    before = state_of(host)
    points = points_of(host, lambda: upgrade(host))
    for number in range(1, len(points) + 1):
        host = old_node(kind)
        point = dies(host, number, lambda host=host: upgrade(host))  # type: ignore[misc]
        journal = read_journal(host)  # type: ignore[arg-type]
        if (journal is None or not journal.records) and state_of(host) == before:
            # It has changed nothing: what a rollback takes back is the run before.
            continue
        roll_back(host)
        assert (state_of(host), is_at_rest(host), host.is_up()) == (before, True, True), point
        assert host.environment()[RESIDENCY] == "1"
        assert host.stops <= 2
