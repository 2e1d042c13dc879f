# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The HTTP status of a service of this host."""

from __future__ import annotations

import re
import socket
import time
import typing as t

_STATUS_LINE = re.compile(rb"HTTP/\d\.\d (\d{3})[ \r\n]")
# No status line is longer, and nothing that talks something else is read for longer.
_LIMIT_BYTES = 1024
# A time-out of 0 would mean not to wait at all.
_LEAST_SECONDS = 0.001


def http_status(port: int, path: str, timeout_seconds: float) -> t.Optional[int]:
    """The status that a service of this host gives for a path; None where nothing answers within the time.

    http.client gives each read of a socket the whole time: a service that answers byte by byte would hold the run for hours.
    """
    deadline = time.monotonic() + timeout_seconds
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
            while b"\n" not in answer and len(answer) < _LIMIT_BYTES:
                connection.settimeout(max(deadline - time.monotonic(), _LEAST_SECONDS))
                piece = connection.recv(_LIMIT_BYTES)
                if not piece:
                    return None
                answer += piece
    except (OSError, OverflowError):
        # OverflowError: no such port can be.
        return None
    match = _STATUS_LINE.match(answer)
    return int(match.group(1)) if match is not None else None
