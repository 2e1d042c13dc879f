# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""After restarts that waited until nobody noticed them."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host


def test_the_rpc_server_is_the_release_after_one_more_start(host: Host) -> None:
    build = "darwin-arm64-metal" if host.backend.get_hostname() == "mac" else "linux-amd64-avx2"
    seen.assert_llama_box(host, "v0.0.139", build, starts=2)
