# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What systemctl is asked, as properties on the system bus, and whether both say the same.

Source: org.freedesktop.systemd1(5); systemd src/basic/bus-label.c (bus_label_escape), v239 to v257.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.dbus_value import parse_variant
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.systemd_show import Shown, parse_environment, parse_show

# Path of an object, interface, names of properties.
Question = t.Tuple[bytes, bytes, t.Tuple[bytes, ...]]

_SYSTEMCTL = ("systemctl", "--no-pager")
_OBJECT = b"/org/freedesktop/systemd1"
_MANAGER = b"org.freedesktop.systemd1.Manager"
_PROPERTIES = {
    b"org.freedesktop.systemd1.Unit": frozenset(
        "LoadState ActiveState SubState UnitFileState FragmentPath DropInPaths InvocationID".split()
    ),
    b"org.freedesktop.systemd1.Service": frozenset(
        "MainPID ExecMainStartTimestampMonotonic EnvironmentFiles Result ExecMainStatus".split()
    ),
}
_ENVIRONMENT: t.Tuple[Question, ...] = ((_OBJECT, _MANAGER, (b"Environment",)),)


def bus_questions(argv: t.Sequence[str]) -> t.Tuple[Question, ...]:
    """The properties from which systemctl makes its answer; none where that is not known."""
    words = tuple(argv)
    if words == (*_SYSTEMCTL, "show-environment"):
        return _ENVIRONMENT
    if len(words) != 6 or words[:3] != (*_SYSTEMCTL, "show") or words[4] != "-p" or not words[3].endswith(".service"):
        return ()
    names = words[5].split(",")
    path = _OBJECT + b"/unit/" + _label(words[3])
    asked = {interface: tuple(name.encode() for name in names if name in known) for interface, known in _PROPERTIES.items()}
    # One that is not known would be left out.
    if sum(map(len, asked.values())) != len(names):
        return ()
    return tuple((path, interface, found) for interface, found in asked.items() if found)


def is_of_a_run(stdout: str) -> bool:
    """Whether `systemctl show` has named a run of a unit by its random id, so that who knows it is the same systemd."""
    return bool(parse_show(stdout).text("InvocationID"))


def says_the_same(argv: t.Sequence[str], stdout: str, replies: t.Sequence[t.Sequence[bytes]]) -> bool:
    """Whether the replies to the questions, a variant for each property, are what systemctl has printed."""
    questions = bus_questions(argv)
    try:
        values = {
            name.decode(): parse_variant(reply)
            for (_path, _interface, names), told in zip(questions, replies)
            for name, reply in zip(names, told)
        }
    except ValueError:
        return False
    if questions == _ENVIRONMENT:
        return _is_environment(values["Environment"], parse_environment(stdout))
    shown = parse_show(stdout)
    return all(_is_shown(shown, name, value) for name, value in values.items())


def _is_environment(entries: t.Any, shown: t.Mapping[str, str]) -> bool:
    wanted = sorted(f"{name}={value}" for name, value in shown.items())
    return isinstance(entries, list) and sorted(map(str, entries)) == wanted


def _is_shown(shown: Shown, name: str, value: t.Any) -> bool:
    if name == "EnvironmentFiles":
        return bool(value == [(file.path, file.optional) for file in shown.environment_files()])
    if name == "DropInPaths":
        return bool(value == list(shown.words(name)))
    return (value.hex() if isinstance(value, bytes) else str(value)) == shown.text(name)


def _label(name: str) -> bytes:
    """A unit's name as a part of an object's path."""
    return re.sub(rb"^[0-9]|[^A-Za-z0-9]", lambda found: b"_%02x" % ord(found.group()), name.encode("utf-8", "surrogateescape"))
