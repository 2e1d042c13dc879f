# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""The host's interface as the kernel tells it by ioctl, since /sys is not there."""

from __future__ import annotations

import fcntl
import socket
import struct
import typing as t

from .common import PROC, read_bytes

SIOCGIFADDR, SIOCGIFBRDADDR, SIOCGIFNETMASK, SIOCGIFHWADDR, SIOCGIFMTU = 0x8915, 0x8919, 0x891B, 0x8927, 0x8921


def _ask(link: str, request: int) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        return fcntl.ioctl(channel.fileno(), request, struct.pack("256s", link.encode()))


def address(link: str, request: int = SIOCGIFADDR) -> str:
    return socket.inet_ntoa(_ask(link, request)[20:24])


def ethernet(link: str) -> str:
    return _ask(link, SIOCGIFHWADDR)[18:24].hex(":")


def mtu(link: str) -> int:
    return int(struct.unpack("i", _ask(link, SIOCGIFMTU)[16:20])[0])


def default_route() -> t.Optional[t.Tuple[str, str]]:
    """(gateway, interface)"""
    for line in read_bytes(f"{PROC}/net/route").decode().splitlines()[1:]:
        link, destination, gateway = line.split()[:3]
        if destination == "00000000":
            return socket.inet_ntoa(struct.pack("<I", int(gateway, 16))), link
    return None
