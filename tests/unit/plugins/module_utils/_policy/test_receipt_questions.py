# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import VIRTUAL_NAMES
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.receipt_questions import (
    BOOT_TIME,
    FIXED,
    JOB,
    LINES,
    PLAIN,
    is_ripe,
    seconds_of_trust,
    way_to_ask,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit import NAMES

SYSCTL = "/usr/sbin/sysctl"
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("argv", "way"),
    [
        ("launchctl print system/ai.gpustack", JOB),
        ("launchctl print-disabled system", LINES),
        ("launchctl getenv NAME", PLAIN),
        ("launchctl unsetenv NAME", None),
        ("launchctl", None),
        ("systemctl --no-pager show gpustack.service -p MainPID", PLAIN),
        ("systemctl --no-pager show-environment", PLAIN),
        ("systemctl --no-pager daemon-reload", None),
        ("systemctl show gpustack.service", None),
        ("ps -o lstart= -p 7", PLAIN),
        ("ps -o etime= -p 7", None),
        (f"{SYSCTL} {' '.join(NAMES)}", PLAIN),
        (f"{SYSCTL} hw.memsize {NAMES[0]}", PLAIN),
        (f"{SYSCTL} -n {BOOT_TIME}", PLAIN),
        (f"{SYSCTL} {' '.join(VIRTUAL_NAMES)}", FIXED),
        (f"{SYSCTL} -n hw.optional.arm64", FIXED),
        (f"{SYSCTL} hw.memsize {NAMES[0]}=5", None),
        ("/signed/llama-box --version", FIXED),
        ("/signed/llama-box --version --more", None),
        ("/signed/llama-box --help", None),
        ("/other/llama-box --version", None),
        ("no-such-program", None),
    ],
)
def test_ways_to_ask(argv: str, way: str | None) -> None:
    assert way_to_ask(argv.split(), {"/signed/llama-box"}) == way


@pytest.mark.parametrize(
    ("ctime_ns", "ripe"),
    [
        (99 * SECOND + 949_999_999, True),
        (99 * SECOND + 950_000_000, False),
        (100 * SECOND + 1, False),
        (200 * SECOND + 1, False),
        # The clock was set back.
        (3700 * SECOND, False),
        (3700 * SECOND + 1, True),
        (31_000_000 * SECOND, True),
        # Whole seconds: of a clock with no better ones.
        (98 * SECOND, False),
        (97 * SECOND, True),
    ],
)
def test_what_may_be_signed(ctime_ns: int, ripe: bool) -> None:
    assert is_ripe(ctime_ns, 100.0) is ripe


def test_each_host_has_a_share_of_its_own() -> None:
    hosts = [f"mac-{number}" for number in range(500)]
    shares = [seconds_of_trust(24.0, host) / 3600 for host in hosts]
    assert shares == [seconds_of_trust(24.0, host) / 3600 for host in hosts]
    assert 12.0 <= min(shares) < 12.5
    assert 23.5 < max(shares) <= 24.0
    # No hour of a day has much more than its part of the fleet.
    by_hour = [sum(1 for share in shares if hour <= share < hour + 1) for hour in range(12, 24)]
    assert sum(by_hour) == 500
    assert max(by_hour) < 70
    assert seconds_of_trust(2.0, "x") == seconds_of_trust(1.0, "x") * 2 == pytest.approx(seconds_of_trust(1.0, "x") + 3600 * shares_of("x"))
    assert seconds_of_trust(1.0, "\udcff") <= 3600.0


def shares_of(host: str) -> float:
    return seconds_of_trust(1.0, host) / 3600
