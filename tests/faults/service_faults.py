# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service that dies a while after it was started with what a run gave it, and a node that has no memory for a run."""

from __future__ import annotations

import typing as t

from fault import Fault, require, require_cure, require_sentence, require_tidy, require_unchanged
from faulty_node import ENVIRONMENT, FaultyNode

# The stand-in for GPUStack heeds it (tests/stand_in).
_DIES = "STAND_IN_DIES_AFTER_SECONDS"
_PUT_BACK = "; everything that was changed was put back, and the node works as before"
_KIB_MORE = (0, 512, 1024, 2048, 4096, 8192, 16384)


def _dying(seconds: int, **options: t.Any) -> t.Dict[str, t.Any]:
    return {"environment": {"variables": {**ENVIRONMENT, _DIES: str(seconds)}}, "health_timeout_seconds": 5, **options}


def _noticed(seconds: int, settle_seconds: float) -> t.Callable[[FaultyNode], None]:
    """It lived for less than it had to without a break, so everything is put back."""

    def story(node: FaultyNode) -> None:
        before = node.look()
        run = node.run(**_dying(seconds, settle_seconds=settle_seconds))
        require(run.failed, f"the run did not notice that the service dies after {seconds} s")
        require_sentence(run, ("^the node got worse: .*(its main process ends and is started again|the service does not run)", _PUT_BACK))
        require_unchanged(node.look(), before)
        require(node.ask_receipt() != "ok", "the receipt is believed after a run that failed")
        require_cure(node)

    return story


def _not_noticed(node: FaultyNode) -> None:
    """docs/transaction.md says so: who lives longer than settle_seconds passes. The next run that changes something finds it sick."""
    run = node.run(**_dying(30, settle_seconds=10))
    require(not run.failed, f"a death after 30 s was noticed within 10: {run.message}")
    require_cure(node)


def _without_memory(node: FaultyNode) -> None:
    """With less and less of it a run succeeds, or says in a sentence why not, or does not even start; the next one is right."""
    before = node.look()
    script = "import resource, ansible.module_utils.basic, ansible.module_utils.urls, zipfile; print(open('/proc/self/status').read())"
    told = node.sh(f'PYTHONPATH=/opt/faults python3 -c "{script}"')
    peak_kib = next(int(line.split()[1]) for line in told.splitlines() if line.startswith("VmPeak:"))
    sentences = 0
    for more_kib in _KIB_MORE:
        run = node.run(before=f"ulimit -v {peak_kib + more_kib};")
        if not run.failed:
            break
        started = "no answer of the module" not in run.message
        require(started or "MemoryError" in run.message or "memory" in run.message, f"{more_kib} KiB more than at rest: {run.message}")
        if started:
            sentences += 1
            require_sentence(run, ("[Mm]emory",))
        require_tidy(node.look())
    require(sentences > 0, "no run came so far that it could say a sentence")
    require_unchanged(node.look(), before)
    require_cure(node)


FAULTS = (
    Fault("service_dies_after_5_s", "linux", _noticed(5, 10)),
    Fault("service_dies_after_5_s_mac", "mac", _noticed(5, 10)),
    Fault("service_dies_after_30_s", "linux", _noticed(30, 40)),
    Fault("service_dies_after_30_s_mac", "mac", _noticed(30, 40)),
    Fault("service_dies_later_than_is_looked", "linux", _not_noticed),
    Fault("no_memory", "linux", _without_memory),
)
