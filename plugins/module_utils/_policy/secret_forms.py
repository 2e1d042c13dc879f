# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""How a secret may stand in a text that is made from it."""

from __future__ import annotations

import json
import typing as t
import urllib.parse

_UNESCAPED = json.JSONEncoder(ensure_ascii=False)


def forms(secret: str) -> t.Tuple[str, ...]:
    """As it is, in JSON, in Python's quotes, in a URL."""
    if not secret:
        return ()
    escaped = (json.dumps(secret), _UNESCAPED.encode(secret), repr(secret))
    # surrogatepass: a byte that is not UTF-8 is a lone surrogate here, and quote() would refuse it.
    in_query = urllib.parse.quote_plus(secret, errors="surrogatepass")
    return (
        secret,
        *(form[1:-1] for form in escaped),
        in_query.replace("+", "%20"),
        in_query,
        urllib.parse.quote(secret, errors="surrogatepass"),
    )
