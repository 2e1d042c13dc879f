# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A clock that is set back by a year, and right again later: no receipt of another time is believed, and new ones are.

The kernel's clock is that of the machine, so a library that is preloaded tells every program on the host another time. What a file system
writes down stays right, which makes all files a year younger than now: those from before the clock was set back are so in earnest.
"""

from __future__ import annotations

import pathlib
import subprocess

from fault import Fault, require, require_rest, require_tidy, require_wanted
from faulty_node import FaultyNode
from fleet import ROOT

LIBRARY = "/opt/faults/libset_back.so"
_PRELOAD = "/etc/ld.so.preload"


def make_library(layer: pathlib.Path) -> None:
    """Compile it into the layer, without the C library's version symbols, as tests/hosts does."""
    source = ROOT / "tests/faults/set_back.c"
    options = ["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-fno-stack-protector", "-nostdlib"]
    subprocess.run(["cc", *options, "-o", str(layer / LIBRARY[1:]), str(source)], check=True, timeout=60)


def _set_back(node: FaultyNode) -> None:
    node.sh(f"echo {LIBRARY} >>{_PRELOAD}")


def _set_right(node: FaultyNode) -> None:
    node.sh(f"sed -i /libset_back/d {_PRELOAD}")


def _drift(node: FaultyNode) -> None:
    node.sh("echo GGML_METAL_NO_RESIDENCY=1 >>/etc/default/gpustack")


def _year_back(node: FaultyNode) -> None:
    run = node.run()
    require(not run.failed, f"the first run failed: {run.message}")
    require_rest(node)
    _set_back(node)
    said = node.ask_receipt()
    require("hours ahead, so the clock was set back" in said, f"a receipt of next year: {said}")
    # The module runs, finds nothing to do, and leaves a receipt of this year, which is believed.
    require_rest(node)
    _drift(node)
    said = node.ask_receipt()
    require("/etc/default/gpustack is not as it was" in said, f"a file that was changed: {said}")
    run = node.run()
    require(not run.failed and run.result["changed"], f"the drift was not mended: {run.result}")
    require_wanted(node.look())
    require_rest(node)
    _set_right(node)
    said = node.ask_receipt()
    require("hours old, and counts for" in said, f"a receipt of last year: {said}")
    require_rest(node)
    require_tidy(node.look())


def _first_run_a_year_back(node: FaultyNode) -> None:
    """Certificates and archives aside, nothing needs the right time."""
    _set_back(node)
    run = node.run()
    require(not run.failed, f"the first run failed: {run.message}")
    require_wanted(node.look())
    _set_right(node)
    require("hours old" in node.ask_receipt(), "a receipt of last year is believed")
    require_rest(node)


FAULTS = (
    Fault("clock_set_back", "linux", _year_back, some=True),
    Fault("clock_set_back_mac", "mac", _year_back),
    Fault("first_run_with_the_clock_set_back", "linux", _first_run_a_year_back),
)
