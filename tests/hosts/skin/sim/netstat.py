# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""netstat(1): `netstat -an -p tcp`, the sockets of this host's network; nothing else."""

from __future__ import annotations

import socket
import struct
import typing as t

from .common import PROC, complain, read_bytes, recorded

USAGE = "usage: netstat -a -n -p tcp (of which this stand-in knows no other use)"
# By number in /proc/net/tcp (include/net/tcp_states.h), in the words of macOS.
STATES = {
    "01": "ESTABLISHED",
    "02": "SYN_SENT",
    "03": "SYN_RCVD",
    "04": "FIN_WAIT_1",
    "05": "FIN_WAIT_2",
    "06": "TIME_WAIT",
    "07": "CLOSED",
    "08": "CLOSE_WAIT",
    "09": "LAST_ACK",
    "0A": "LISTEN",
    "0B": "CLOSING",
}
MAPPED = bytes(10) + b"\xff\xff"


class End(t.NamedTuple):
    family: int
    address: bytes
    port: int

    def is_any(self) -> bool:
        return not any(self.address)

    def __str__(self) -> str:
        """The port behind a dot, and of a long address only the beginning."""
        host = "*" if self.is_any() else socket.inet_ntop(self.family, self.address)
        return f"{host[:16]}.{self.port or '*'}"


def _end(text: str) -> End:
    """An address of /proc/net/tcp: words of 32 bits, each in the machine's order."""
    digits, port = text.split(":")
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    address = struct.pack(f"={len(words)}I", *words)
    if address.startswith(MAPPED):
        address = address[12:]
    return End(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address, int(port, 16))


def _rows(table: str) -> t.Iterator[str]:
    for line in read_bytes(f"{PROC}/net/{table}").decode().splitlines()[1:]:
        fields = line.split()
        local, foreign = _end(fields[1]), _end(fields[2])
        send, receive = (int(number, 16) for number in fields[4].split(":"))
        # A socket of IPv6 that listens everywhere takes connections of both.
        kind = "tcp4" if local.family == socket.AF_INET else "tcp46" if local.is_any() else "tcp6"
        yield f"{kind:<5} {receive:6} {send:6}  {local!s:<22.22} {foreign!s:<22.22} {STATES[fields[3]]:<11}"


def _netstat(arguments: t.List[str]) -> int:
    words = list(arguments)
    if words[-2:] != ["-p", "tcp"] or set("".join(words[:-2])) != set("-an"):
        complain(USAGE)
        return 64
    print("Active Internet connections (including servers)")
    print("Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)    ")
    for table in ("tcp", "tcp6"):
        for row in _rows(table):
            print(row)
    return 0


main = recorded("netstat", _netstat)
