# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""After the third step, one without a download where the release was kept."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from testinfra.host import Host


def test_it_is_everywhere_after_one_more_start(host: Host, node: t.Any) -> None:
    node.assert_at(host, "v0.0.139", starts=4, others=["v0.0.168"])
