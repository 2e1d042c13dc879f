# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""ifconfig(8): lo0 and en0."""

from __future__ import annotations

import socket
import typing as t

from . import network
from .common import complain

LINKS = {"lo0": "lo", "en0": "en0"}


def _loopback() -> str:
    return (
        "lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384\n\toptions=1203<RXCSUM,TXCSUM,TXSTATUS,SW_TIMESTAMP>\n"
        "\tinet 127.0.0.1 netmask 0xff000000\n\tnd6 options=201<PERFORMNUD,DAD>\n"
    )


def _ethernet(name: str) -> str:
    mask = socket.inet_aton(network.address(name, network.SIOCGIFNETMASK)).hex()
    broadcast = network.address(name, network.SIOCGIFBRDADDR)
    return (
        f"{name}: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu {network.mtu(name)}\n\tether {network.ethernet(name)}\n"
        f"\tinet {network.address(name)} netmask 0x{mask} broadcast {broadcast}\n"
        "\tmedia: autoselect (10Gbase-T <full-duplex>)\n\tstatus: active\n"
    )


def main(arguments: t.List[str]) -> int:
    names = [word for word in arguments if not word.startswith("-")]
    if "-l" in arguments:
        print(" ".join(LINKS))
        return 0
    for name in names[:1] or list(LINKS):
        if name not in LINKS:
            complain(f"ifconfig: interface {name} does not exist")
            return 1
        print(_loopback() if name == "lo0" else _ethernet(name), end="")
    return 0
