# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ports with connections."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.sockets import netstat_ports, proc_ports, rpc_port

NETSTAT = """Active Internet connections (including servers)
Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)
tcp4       0      0  10.0.0.5.50052         10.0.0.6.49152         ESTABLISHED
tcp4       0   1448  127.0.0.1.80           127.0.0.1.49153        ESTABLISHED
tcp6       0      0  fe80::1%lo0.50053      fe80::1%lo0.49154      ESTABLISHED
tcp4       0      0  10.0.0.5.50054         10.0.0.6.49155         CLOSE_WAIT
tcp4       0      0  10.0.0.5.50055         10.0.0.6.49156         ESTABLISHEDISH
tcp46      0      0  *.10150                *.*                    LISTEN
tcp4       0      0  *.50056                *.*                    LISTEN
udp4       0      0  10.0.0.5.50057         10.0.0.6.1             ESTABLISHED
"""
PROC = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:27A6 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0500000A:C384 0600000A:C000 01 00000000:00000000 02:00000000 00000000     0        0 2 2 0 20 4 30 10 -1
  10: 0500000A:0050 0600000A:C001 01 00000000:00000000 02:00000000 00000000     0        0 3 2 0 20 4 30 10 -1
  11: 0500000A:C385 0600000A:C002 06 00000000:00000000 02:00000000 00000000     0        0 4 2 0 20 4 30 10 -1
"""
PROC6 = "   0: 0000000000000000FFFF00000500000A:C386 0000000000000000FFFF00000600000A:C000 01 00000000:00000000 02:0 0 0\n"
# So that a state that only begins with ours is none of ours, also where the kernel writes more digits.
ODD = "   0: 0500000A:C387 0600000A:C000 011 00000000\n   1: 0500000A:C388 0600000A:C000 1 00000000\nx: 0500000A:C389 0:C000 01 0\n"


def test_netstat() -> None:
    assert netstat_ports(NETSTAT) == {50052, 80, 50053}


def test_proc() -> None:
    assert proc_ports(PROC) == {50052, 80}
    assert proc_ports(PROC6) == {50054}
    assert proc_ports(ODD) == set()


@pytest.mark.parametrize("read", [netstat_ports, proc_ports])
@pytest.mark.parametrize("text", ["", "\n\n", "nonsense", "tcp4", "0:", "\x00\xff", "tcp4 0 0 10.0.0.5.x 10.0.0.6.1 ESTABLISHED"])
def test_nonsense(read: t.Callable[[str], t.Set[int]], text: str) -> None:
    assert read(text) == set()


@pytest.mark.parametrize(
    ("command", "port"),
    [
        ("/opt/llama-box-rpc-server --rpc-server-host 0.0.0.0 --rpc-server-port 50052 --rpc-server-main-gpu 0", 50052),
        ("/opt/llama-box-rpc-server --rpc-server-port=50053", 50053),
        ("/opt/llama-box-rpc-server --rpc-server-host 0.0.0.0", None),
        ("/opt/llama-box-rpc-server --rpc-server-port", None),
        ("/opt/llama-box-rpc-server --rpc-server-port x1", None),
        ("", None),
    ],
)
def test_the_port_of_an_rpc_server(command: str, port: t.Optional[int]) -> None:
    assert rpc_port(command) == port
