# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks that are full, have no inodes left, or cannot be written to: below each folder that a run writes to, in turn."""

from __future__ import annotations

import typing as t

from fault import Act, Fault, refused
from faulty_node import FaultyNode

_NO_SPACE = r"No space left on device \(are space or inodes used up, as `df` and `df -i` say\?\)"
_READ_ONLY = r"Read-only file system \(is it mounted so, or has it become so by itself, after an error of the disk\?\)"
_PUT_BACK = r"; everything that was changed was put back"
_MIB, _INODES = "100", "400"

Where = t.Callable[[FaultyNode], str]


def _state(node: FaultyNode) -> str:
    return node.state


def _llama_box(node: FaultyNode) -> str:
    return node.llama_box


def _etc_default(_node: FaultyNode) -> str:
    return "/etc/default"


def _daemons(_node: FaultyNode) -> str:
    return "/Library/LaunchDaemons"


def _act(where: Where, *words: str) -> Act:
    """An action of on_faulty_host.py at that path."""

    def act(node: FaultyNode) -> None:
        node.act(words[0], where(node), *words[1:])

    return act


def _used_up(where: Where, how: str, *says: str, **more: t.Any) -> t.Callable[[FaultyNode], None]:
    return refused(_act(where, *how.split()), _act(where, "make_room"), *says, prepare=_act(where, "tmpfs", _MIB, _INODES), **more)


def _read_only(where: Where, *says: str) -> t.Callable[[FaultyNode], None]:
    return refused(_act(where, "read_only"), _act(where, "writable"), *says)


FAULTS = (
    # Looked at before an archive is fetched.
    Fault("state_nearly_full", "linux", _used_up(_state, "fill 30", r"metalfleet/llama-box has room for \d+ bytes, .* make room there")),
    Fault("state_full", "linux", _used_up(_state, "fill", _NO_SPACE + r"|make room there"), some=True),
    Fault("state_full_mac", "mac", _used_up(_state, "fill", _NO_SPACE + r"|make room there")),
    Fault("state_without_inodes", "linux", _used_up(_state, "use_up_inodes", "/var/lib/metalfleet", _NO_SPACE)),
    Fault(
        "environment_file_full",
        "linux",
        _used_up(_etc_default, "fill", "/etc/default/gpustack cannot be written: " + _NO_SPACE, _PUT_BACK),
        some=True,
    ),
    Fault(
        "environment_file_full_mac",
        "mac",
        _used_up(_etc_default, "fill", "/etc/default/gpustack cannot be written: " + _NO_SPACE, _PUT_BACK),
    ),
    Fault(
        "environment_file_without_inodes",
        "linux",
        _used_up(_etc_default, "use_up_inodes", "/etc/default/gpustack cannot be written: " + _NO_SPACE, _PUT_BACK),
    ),
    Fault("property_list_full", "mac", _used_up(_daemons, "fill", "/Library/LaunchDaemons/.* cannot be written: " + _NO_SPACE, _PUT_BACK)),
    Fault("llama_box_full", "linux", _used_up(_llama_box, "fill", "/llama-box cannot be written: " + _NO_SPACE, _PUT_BACK)),
    Fault("llama_box_full_mac", "mac", _used_up(_llama_box, "fill", "/llama-box cannot be written: " + _NO_SPACE, _PUT_BACK)),
    Fault(
        "llama_box_without_inodes", "linux", _used_up(_llama_box, "use_up_inodes", "/llama-box cannot be written: " + _NO_SPACE, _PUT_BACK)
    ),
    Fault("state_read_only", "linux", _read_only(_state, "/var/lib/metalfleet", _READ_ONLY)),
    Fault(
        "environment_file_read_only",
        "linux",
        _read_only(_etc_default, "/etc/default/gpustack cannot be written: " + _READ_ONLY, _PUT_BACK),
    ),
    Fault("property_list_read_only", "mac", _read_only(_daemons, "/Library/LaunchDaemons/", _READ_ONLY, _PUT_BACK)),
    Fault("llama_box_read_only", "linux", _read_only(_llama_box, "/llama-box cannot be written: " + _READ_ONLY, _PUT_BACK)),
    Fault("llama_box_read_only_mac", "mac", _read_only(_llama_box, "/llama-box cannot be written: " + _READ_ONLY, _PUT_BACK)),
)
