# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.systemd import PROPERTIES
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.systemd_bus import bus_questions, is_of_a_run, says_the_same
from ansible_collections.metalfleet.gpustack.tests.unit import bus_recordings
from ansible_collections.metalfleet.gpustack.tests.unit.bus_recordings import RECORDINGS, SHOW, SHOW_ENVIRONMENT, Recording
from ansible_collections.metalfleet.gpustack.tests.unit.fake_bus import variant

UNIT = b"/org/freedesktop/systemd1/unit/gpustack_2eservice"
ALL = pytest.mark.parametrize("recording", RECORDINGS, ids=str)


def show(unit: str, names: str = "MainPID") -> tuple[str, ...]:
    return ("systemctl", "--no-pager", "show", unit, "-p", names)


def test_the_properties_that_the_module_asks_for() -> None:
    """All of them, so that nothing is left out; and recordings are of these."""
    assert bus_recordings.PROPERTIES == PROPERTIES
    asked = bus_questions(show("gpustack.service", PROPERTIES))
    assert sorted(name.decode() for _path, _interface, names in asked for name in names) == sorted(PROPERTIES.split(","))
    assert {path for path, _interface, _names in asked} == {UNIT}
    manager = (b"/org/freedesktop/systemd1", b"org.freedesktop.systemd1.Manager", (b"Environment",))
    assert bus_questions(SHOW_ENVIRONMENT) == (manager,)


@pytest.mark.parametrize(
    ("unit", "label"),
    [
        ("gpustack.service", b"gpustack_2eservice"),
        ("gpu-stack@2.service", b"gpu_2dstack_402_2eservice"),
        ("2gpu_s.service", b"_32gpu_5fs_2eservice"),
    ],
)
def test_the_object_of_a_unit(unit: str, label: bytes) -> None:
    """As LoadUnit() of systemd 257 says of these names. What is asked of no interface is no question."""
    assert bus_questions(show(unit)) == ((b"/org/freedesktop/systemd1/unit/" + label, b"org.freedesktop.systemd1.Service", (b"MainPID",)),)


@pytest.mark.parametrize(
    "argv",
    [
        show("gpustack.service", "MainPID,Unknown"),
        show("gpustack.timer"),
        show("gpustack.service")[:4],
        (*show("gpustack.service"), "more"),
        ("systemctl", "--no-pager", "show", "gpustack.service", "-P", "MainPID"),
        ("systemctl", "show", "--no-pager", "gpustack.service", "-p", "MainPID"),
        ("systemctl", "show-environment"),
        (*SHOW_ENVIRONMENT, "more"),
        ("launchctl", "print", "system/x"),
        (),
    ],
)
def test_what_is_not_known_is_not_asked_on_the_bus(argv: tuple[str, ...]) -> None:
    assert bus_questions(argv) == ()


@ALL
def test_both_say_the_same(recording: Recording) -> None:
    unit, service, manager = recording.replies()
    assert says_the_same(SHOW, recording.show, [unit, service])
    assert says_the_same(SHOW_ENVIRONMENT, recording.show_environment, [manager])


def test_which_answer_names_a_run() -> None:
    assert is_of_a_run(RECORDINGS[0].show)
    assert not is_of_a_run(RECORDINGS[0].show_environment)
    assert not is_of_a_run("InvocationID=\nMainPID=0\n")


@ALL
@pytest.mark.parametrize("name", bus_recordings.PROPERTIES.split(","))
def test_any_property_that_differs(recording: Recording, name: str) -> None:
    replies = recording.replies()[:2]
    lines = recording.show.splitlines(keepends=True)
    others = [
        [line for line in lines if not line.startswith(f"{name}=")],
        [f"{name}=1\n" if line.startswith(f"{name}=") else line for line in lines],
    ]
    for other in others:
        assert not says_the_same(SHOW, "".join(other), replies)
    # The same of what the bus says, whatever type it has.
    for value in (variant("s", "1"), variant("as", ["1"]), variant("ay", b"1"), variant("a(sb)", [("1", True)]), b"?"):
        changed = [list(told) for told in replies]
        for (_path, _interface, names), told in zip(bus_recordings.QUESTIONS, changed):
            if name.encode() in names:
                told[names.index(name.encode())] = value
        assert not says_the_same(SHOW, recording.show, changed)


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (variant("as", ["A=1", "B=x y"]), True),
        (variant("as", ["B=x y", "A=1"]), True),
        (variant("as", ["A=1"]), False),
        (variant("as", ["A=1", "B=x y", "C=1"]), False),
        (variant("as", ["A=1", "B=x"]), False),
        (variant("s", "A=1"), False),
        (variant("ay", b"A=1"), False),
        (variant("a(sb)", [("A=1", True)]), False),
        (b"", False),
    ],
)
def test_an_environment(value: bytes, same: bool) -> None:
    assert says_the_same(SHOW_ENVIRONMENT, "A=1\nB=$'x y'\n", [[value]]) is same


def test_a_unit_that_is_not_there() -> None:
    """Nothing is shown of what is empty, or an empty line of it."""
    names = "LoadState,FragmentPath,DropInPaths,InvocationID,MainPID,EnvironmentFiles"
    empty: list[list[t.Any]] = [
        [variant("s", "not-found"), variant("s", ""), variant("as", []), variant("ay", b"")],
        [variant("u", 0), variant("a(sb)", [])],
    ]
    for stdout in (
        "LoadState=not-found\nMainPID=0\n",
        "LoadState=not-found\nFragmentPath=\nDropInPaths=\nInvocationID=\nMainPID=0\nEnvironmentFiles=\n",
    ):
        assert says_the_same(show("gpustack.service", names), stdout, empty)
