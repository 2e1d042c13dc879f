# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Which refusals of a server that serves files are for now only, and how long to wait then."""

from __future__ import annotations

import typing as t

_LATER = (408, 425)
_TOO_MANY_REQUESTS = 429
_FORBIDDEN = 403
LONGEST_PAUSE_SECONDS = 30.0


def why_later(status: int, headers: t.Mapping[str, str]) -> str:
    """Why it is worth asking again after a while; empty where it is not."""
    if status == _TOO_MANY_REQUESTS or (status == _FORBIDDEN and _is_limit(headers)):
        return f"status {status}, as too much was asked of this server lately, so wait, or use a mirror of your own"
    return f"status {status}" if status in _LATER or status >= 500 else ""


def asked_pause_seconds(headers: t.Mapping[str, str]) -> float:
    """How long the server asks us to wait, within reason; 0 where it does not say."""
    asked = _header(headers, "retry-after")
    return min(float(asked), LONGEST_PAUSE_SECONDS) if asked.isdecimal() else 0.0


def _is_limit(headers: t.Mapping[str, str]) -> bool:
    """GitHub says 403 as well as 429 of its limits, and one of these with it (docs.github.com, "Rate limits for the REST API")."""
    return bool(_header(headers, "retry-after")) or _header(headers, "x-ratelimit-remaining") == "0"


def _header(headers: t.Mapping[str, str], wanted: str) -> str:
    """In whatever case a server writes its name."""
    return next((value for name, value in headers.items() if name.lower() == wanted), "")
