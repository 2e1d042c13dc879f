# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.http_answers import asked_pause_seconds, why_later

LIMIT = "status {}, as too much was asked of this server lately, so wait, or use a mirror of your own"


@pytest.mark.parametrize(
    ("status", "headers", "why"),
    [
        (403, {}, ""),
        (403, {"X-RateLimit-Remaining": "12"}, ""),
        (403, {"X-RateLimit-Remaining": "0"}, LIMIT.format(403)),
        (403, {"Retry-After": "60"}, LIMIT.format(403)),
        (403, {"Server": "0", "x-ratelimit-remaining": "0"}, LIMIT.format(403)),
        (403, {"retry-after": "60"}, LIMIT.format(403)),
        (429, {}, LIMIT.format(429)),
        (404, {"Retry-After": "60"}, ""),
        (401, {"X-RateLimit-Remaining": "0"}, ""),
        (408, {}, "status 408"),
        (425, {}, "status 425"),
        (499, {}, ""),
        (500, {}, "status 500"),
        (503, {"Retry-After": "60"}, "status 503"),
    ],
)
def test_what_may_pass(status, headers, why):
    assert why_later(status, headers) == why


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "8"}, 8.0),
        ({"Retry-After": "31"}, 30.0),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0.0),
    ],
)
def test_how_long_to_wait(headers, seconds):
    assert asked_pause_seconds(headers) == seconds
