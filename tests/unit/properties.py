# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the property tests of environment files share: how long they search, and what they search in."""

from __future__ import annotations

import os
import typing as t

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# No deadline: a slow machine is no failure. Few enough examples that all unit tests stay within seconds; PROPERTY_EXAMPLES
# for a longer search.
PROPERTY = settings(
    deadline=None,
    max_examples=int(os.environ.get("PROPERTY_EXAMPLES", "150")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

# Pieces on which the two readers' state machines turn, and bytes that some of them refuse.
_PIECES = (
    *(b"=", b"=", b'"', b"'", b"\\", b"\n", b"\n", b"\n", b"\r\n", b"\r", b" ", b"\t", b"#", b"# ", b";", b"$", b"`", b"%b", b"&", b"<"),
    *(b"OTHER", b"OTHER=1\n", b"export ", b"x", b"-n", b"\xc3\xa9", b"\xe2\x80\xa8", b"\x0c", b"\x1c", b"\xef\xbb\xbf", b"\x7f"),
)
_BROKEN_PIECES = (b"\xc3", b"\xa9", b"\xff", b"\xef\xbf\xbf", b"\xed\xa0\x80", b"\0")


def file_bytes(*more: bytes, broken: bool = True) -> st.SearchStrategy[bytes]:
    """Bytes of environment files without rhyme or reason; more: further pieces, as frequent as all others together."""
    pieces: t.List[st.SearchStrategy[bytes]] = [st.sampled_from(_PIECES), st.sampled_from(_PIECES)]
    if more:
        pieces.append(st.sampled_from(more))
    if broken:
        pieces.append(st.one_of(st.sampled_from(_PIECES), st.sampled_from(_BROKEN_PIECES)))
    return st.lists(st.one_of(pieces), max_size=25).map(b"".join)
