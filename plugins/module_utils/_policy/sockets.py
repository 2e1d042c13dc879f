# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Which local ports have TCP connections, as netstat on macOS and /proc/net on Linux tell."""

from __future__ import annotations

import re
import typing as t

# macOS writes the port behind a dot: tcp4  0  0  10.0.0.5.50052  10.0.0.6.49152  ESTABLISHED
_NETSTAT_LINE = re.compile(r"tcp\S*\s+\d+\s+\d+\s+\S+\.(?P<port>\d+)\s+\S+\s+ESTABLISHED\b")
# proc(5): sl, local address:port in hexadecimal, remote, state; 01 is TCP_ESTABLISHED (include/net/tcp_states.h).
_PROC_LINE = re.compile(r"\s*\d+: [0-9A-F]+:(?P<port>[0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} 01 ")
_RPC_PORT = re.compile(r"--rpc-server-port[ =](?P<port>\d+)")


def netstat_ports(text: str) -> t.Set[int]:
    """The local ports with connections, from `netstat -an -p tcp`."""
    return {int(match.group("port")) for match in map(_NETSTAT_LINE.match, text.splitlines()) if match}


def proc_ports(text: str) -> t.Set[int]:
    """The local ports with connections, from /proc/net/tcp or /proc/net/tcp6."""
    return {int(match.group("port"), 16) for match in map(_PROC_LINE.match, text.splitlines()) if match}


def rpc_port(command: str) -> t.Optional[int]:
    """The port that an RPC server of llama-box was told to listen on; None where its command does not say."""
    match = _RPC_PORT.search(command)
    return int(match.group("port")) if match else None
