# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A system bus, on which receipts are compared, that hangs or is gone. systemctl needs none for root."""

from __future__ import annotations

import time
import typing as t

from fault import Fault, require, require_cure, require_rest
from faulty_node import FaultyNode

_VARIABLE = "GGML_METAL_NO_RESIDENCY"
# Of the program, and of a module that asks twice with five seconds each.
_LIMIT_SECONDS = 60.0


def _kinds(node: FaultyNode) -> t.Dict[str, int]:
    """How systemd is to be asked, by the receipt."""
    words = [line.split(" ")[0] for line in node.sh(f"cat {node.state}/receipt").splitlines()]
    return {kind: words.count(kind) for kind in ("bus", "ask", "gap")}


def _without_bus(plant: str, heal: str, says: str) -> t.Callable[[FaultyNode], None]:
    """The fast path says no, and the module goes on without; with the bus again, the receipt of then is believed as well."""

    def story(node: FaultyNode) -> None:
        require_cure(node)
        require(_kinds(node) == {"bus": 3, "ask": 0, "gap": 0}, f"the receipt does not ask the bus: {_kinds(node)}")
        node.sh(plant)
        start = time.monotonic()
        said = node.ask_receipt()
        require(says in said, f"the fast path says {said}")
        require_rest(node)
        took = time.monotonic() - start
        require(took < _LIMIT_SECONDS, f"both took {took:.0f} s, and they may take {_LIMIT_SECONDS:.0f}")
        require(_kinds(node) == {"bus": 0, "ask": 2, "gap": 0}, f"the receipt asks a bus that does not answer: {_kinds(node)}")
        node.sh(f"systemctl set-environment {_VARIABLE}=1")
        require("says something else" in node.ask_receipt(), "drift is not seen without the bus")
        require_cure(node)
        node.sh(heal)
        require(node.ask_receipt() == "ok", f"with the bus again: {node.ask_receipt()}")
        node.sh(f"rm {node.state}/receipt")
        require_rest(node)
        require(_kinds(node)["bus"] == 3, f"the receipt does not ask the bus again: {_kinds(node)}")
        node.sh(f"systemctl set-environment {_VARIABLE}=1")
        said = node.ask_receipt()
        require("systemd says something else of /org/freedesktop/systemd1 " in said, f"drift is not seen on the bus: {said}")
        require_cure(node)

    return story


_HANGS = _without_bus(
    "systemctl kill -s STOP dbus.service",
    "systemctl kill -s CONT dbus.service",
    "the node did not answer within 20 seconds",
)
_IS_GONE = _without_bus(
    "systemctl stop dbus.socket dbus.service && rm -f /run/dbus/system_bus_socket",
    "systemctl start dbus.socket dbus.service",
    "systemd cannot be asked on the system bus",
)
FAULTS = (
    Fault("system_bus_hangs", "linux", _HANGS, some=True),
    Fault("system_bus_is_gone", "linux", _IS_GONE, some=True),
)
