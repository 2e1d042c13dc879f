# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Properties of systemd, asked for on the system bus: two calls of systemctl cost a node about as much as the rest of the fast path.

The action plugin sends this file before that of the fast path's program, so it imports nothing but what interpreters bring along and is
loaded at once.
systemd's own socket would do without the bus, but systemd(1) reserves it. Sources: the D-Bus Specification ("Message Protocol",
"Authentication Protocol", "org.freedesktop.DBus.Properties"); org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import typing as t

    # Path of an object, interface, names of properties.
    Question = t.Tuple[bytes, bytes, t.Sequence[bytes]]

SOCKET = b"/run/dbus/system_bus_socket"
_SYSTEMD = b"org.freedesktop.systemd1"
_BUS = b"org.freedesktop.DBus"
_BUS_OBJECT = b"/org/freedesktop/DBus"
_PROPERTIES = b"org.freedesktop.DBus.Properties"
_BYTE_ORDER = b"l" if sys.byteorder == "little" else b"B"
_CALL, _RETURN, _ERROR = 1, 2, 3
# systemd need not be started by a bus, and what is asked of a bus that has only just begun is not to wait for it.
_NO_AUTO_START = 2
_PROTOCOL = 1
# Fields of a header, with the types of their values.
_PATH, _INTERFACE, _MEMBER, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 5, 6, 8
_FIXED_BYTES = 16
# More than all that systemd says of a unit, and than there are signals on the way.
_MOST_BYTES = 4 * 1024 * 1024


def systemd_properties(questions: t.Sequence[Question], timeout_seconds: float, path: bytes = SOCKET) -> t.List[t.List[bytes]]:
    """What is in systemd's replies to Get, as variants in this machine's byte order: for each question one for each name.

    timeout_seconds: for each wait, of which there are few. Raises OSError, or ImportError where this Python has no sockets, where there is
    no answer to each.
    """
    from _socket import AF_UNIX, SOCK_STREAM, socket  # noqa: PLC0415

    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        connection.settimeout(timeout_seconds)
        connection.connect(path)
        # All at once; the bus works through it in order.
        sent = b"\0AUTH EXTERNAL %s\r\nBEGIN\r\n" % (b"%d" % posix.geteuid()).hex().encode()
        sent += _call(1, _BUS, _BUS_OBJECT, _BUS, b"Hello")
        serial = 1
        for where, interface, names in questions:
            for name in names:
                serial += 1
                sent += _call(serial, _SYSTEMD, where, _PROPERTIES, b"Get", interface, name)
        connection.sendall(sent)
        replies = _replies(connection.recv, serial)
    finally:
        connection.close()
    found = iter(range(2, serial + 1))
    return [[replies[next(found)] for _name in names] for _where, _interface, names in questions]


def _call(serial: int, destination: bytes, path: bytes, interface: bytes, member: bytes, *texts: bytes) -> bytes:
    """A message that calls a method with strings."""
    body = b""
    for text in texts:
        body = _padded(body, 4) + _string(text)
    fields = b""
    for code, kind, value in (
        (_PATH, b"o", path),
        (_INTERFACE, b"s", interface),
        (_MEMBER, b"s", member),
        (_DESTINATION, b"s", destination),
    ):
        fields = _padded(fields, 8) + b"%c\1%b\0%b" % (code, kind, _string(value))
    if texts:
        fields = _padded(fields, 8) + b"%c\1g\0%c%b\0" % (_SIGNATURE, len(texts), b"s" * len(texts))
    head = _BYTE_ORDER + bytes((_CALL, _NO_AUTO_START, _PROTOCOL)) + _number(len(body)) + _number(serial) + _number(len(fields))
    return _padded(head + fields, 8) + body


def _replies(receive: t.Callable[[int], bytes], last_serial: int) -> t.Dict[int, bytes]:
    """Serial of the call -> body of its reply, for the calls 1 to last_serial. Raises OSError for anything else."""
    replies: t.Dict[int, bytes] = {}
    left = [_MOST_BYTES]

    def more(data: bytes) -> bytes:
        piece = receive(65536)
        left[0] -= len(piece)
        if not piece or left[0] < 0:
            raise OSError("the system bus does not answer to the end")
        return data + piece

    data = b""
    while b"\r\n" not in data:
        data = more(data)
    said, _end, data = data.partition(b"\r\n")
    if said[:3] != b"OK ":
        raise OSError("the system bus does not let us in")
    while len(replies) < last_serial:
        while len(data) < _FIXED_BYTES:
            data = more(data)
        if data[:1] != _BYTE_ORDER:
            raise OSError("the system bus does not speak as this machine does")
        fields_end = _FIXED_BYTES + _number_at(data, 12)
        start = fields_end + -fields_end % 8
        end = start + _number_at(data, 4)
        while len(data) < end:
            data = more(data)
        kind, body = data[1], data[start:end]
        serial = _reply_serial(data[_FIXED_BYTES:fields_end]) if kind in (_RETURN, _ERROR) else 0
        data = data[end:]
        if kind == _ERROR:
            raise OSError("the system bus does not say what it is asked")
        # The rest is not for us to answer: signals, and what nobody here has asked for.
        if kind == _RETURN and 0 < serial <= last_serial:
            replies[serial] = body
    return replies


def _reply_serial(fields: bytes) -> int:
    """Of the call that a message is about; 0 where it is about none."""
    at = 0
    while at < len(fields):
        at += -at % 8
        code, size = fields[at : at + 1], _at(fields, at + 1)
        kind = fields[at + 2 : at + 2 + size]
        at += 3 + size
        if kind == b"g":
            at += 2 + _at(fields, at)
            continue
        at += -at % 4
        value = _number_at(fields, at)
        if code == bytes((_REPLY_SERIAL,)):
            return value
        at += 4 if kind == b"u" else 5 + value
    return 0


def _string(text: bytes) -> bytes:
    return _number(len(text)) + text + b"\0"


def _padded(data: bytes, size: int) -> bytes:
    return data + bytes(-len(data) % size)


def _number(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


def _number_at(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], sys.byteorder)


def _at(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 1], "big")
