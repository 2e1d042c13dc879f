# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""After the last step, which gave the pin up."""

from __future__ import annotations

import hashlib
import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host


def test_own_llama_box_is_back_and_nothing_is_left_of_others(host: Host, node: t.Any) -> None:
    found = seen.look(host)
    builtin = found["llama_box"]["builtin"]
    assert builtin["version"] == seen.OWN[node.gpustack]
    own = seen.read(host, "/opt/gpustack-own/llama-box")
    assert own is not None
    assert builtin["sha256"] == hashlib.sha256(own).hexdigest()
    assert [one["sha256"] for one in found["rpc"]["running"]] == [builtin["sha256"]]
    assert (found["llama_box"]["pinned"], found["llama_box"]["kept"]) == ({}, [])
    assert found["starts"] == found["rpc"]["starts"] == 5
    seen.assert_record(host, node.gpustack, node.device)
