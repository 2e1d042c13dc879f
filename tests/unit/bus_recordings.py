# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd 247, 252 and 257 have said on the system bus of Debian 11 to 13, byte for byte, and systemctl at the same time.

Recorded on disposable hosts (tests/hosts, booted from each release) by systemd_properties() itself; the bus is dbus-daemon, and once
dbus-broker.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.systemd_bus import Question, bus_questions

PROPERTIES = (
    "LoadState,ActiveState,SubState,MainPID,ExecMainStartTimestampMonotonic,UnitFileState,FragmentPath,DropInPaths,"
    "EnvironmentFiles,InvocationID,Result,ExecMainStatus"
)
SHOW = ("systemctl", "--no-pager", "show", "gpustack.service", "-p", PROPERTIES)
SHOW_ENVIRONMENT = ("systemctl", "--no-pager", "show-environment")
QUESTIONS: tuple[Question, ...] = (*bus_questions(SHOW), *bus_questions(SHOW_ENVIRONMENT))
_FOLDER = pathlib.Path(__file__).parent / "fixtures/system_bus"


@dataclasses.dataclass(frozen=True)
class Recording:
    """name: of the release. sent, received: all that went over the socket. show, show_environment: outputs of systemctl."""

    name: str
    sent: bytes
    received: bytes
    show: str
    show_environment: str

    def __str__(self) -> str:
        return self.name

    def messages(self) -> t.Iterator[bytes]:
        """What was received after the line that lets us in."""
        data = self.received.partition(b"\r\n")[2]
        while data:
            fields = int.from_bytes(data[12:16], "little")
            size = 16 + fields + -fields % 8 + int.from_bytes(data[4:8], "little")
            yield data[:size]
            data = data[size:]

    def replies(self) -> list[list[bytes]]:
        """The variants for each of QUESTIONS. systemd replies in the order in which it was asked."""
        bodies = iter([message[-int.from_bytes(message[4:8], "little") :] for message in self.messages() if message[1] == 2][1:])
        return [[next(bodies) for _name in names] for _path, _interface, names in QUESTIONS]


def _read(path: pathlib.Path) -> Recording:
    data = json.loads(path.read_text())
    sent, received = (bytes.fromhex("".join(data[name])) for name in ("sent", "received"))
    return Recording(path.stem, sent, received, data["show"], data["show_environment"])


RECORDINGS = tuple(_read(path) for path in sorted(_FOLDER.glob("*.json")))
