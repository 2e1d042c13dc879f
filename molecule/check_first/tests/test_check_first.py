# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""After check mode changed nothing (side_effect.yml), the run did its work, with and without GPUStack."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host


def test_file_holds_our_block_only_and_is_closed_to_others(host: Host) -> None:
    content = seen.read(host, seen.ENVIRONMENT_FILE)
    assert content is not None
    assert b"HF_TOKEN=canary-secret-1\n" in content
    assert seen.VARIABLE.encode() not in content
    if host.backend.get_hostname().startswith("fresh"):
        assert seen.mode(host, seen.ENVIRONMENT_FILE) == "0o600"


def test_service_was_restarted_once_where_there_is_one(host: Host) -> None:
    assert seen.starts(host) == (0 if host.backend.get_hostname().startswith("fresh") else 2)
