# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Whether a node works, and whether it works worse than before. Only what got worse is undone: a node that was sick stays configured."""

from __future__ import annotations

import dataclasses
import posixpath
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.processes import Process

# gpustack/config/config.py of 0.6 and 0.7.
SERVER_PORT = 80
WORKER_PORT = 10150
# Both the server and the worker answer there (routes/probes.py).
HEALTH_PATH = "/healthz"
SERVER = "server"
WORKER = "worker"
_SERVING_TITLE = "gpustack_serving_process"


@dataclasses.dataclass(frozen=True)
class Health:
    """What works on a node.

    running: the service's main process runs; None where that could not be asked, and detail says why. answering: which of SERVER
    and WORKER say that they are well; not on which ports, which a restart may change. rpc_servers: llama-box processes that offer
    this node's GPUs to other nodes and have run for a while; None where the process table could not be read.
    """

    running: t.Optional[bool]
    answering: t.Tuple[str, ...] = ()
    rpc_servers: t.Optional[int] = None
    detail: str = ""

    def as_dict(self) -> t.Dict[str, t.Any]:
        """As module return value and in the journal."""
        return {**dataclasses.asdict(self), "answering": list(self.answering)}


def health_of(data: t.Mapping[str, t.Any]) -> Health:
    """What as_dict() wrote. Raises KeyError, TypeError or ValueError for anything else."""
    return Health(data["running"], tuple(str(part) for part in data["answering"]), data["rpc_servers"], str(data["detail"]))


def losses(before: Health, after: Health) -> t.Tuple[str, ...]:
    """What worked before and does not now, one clause each."""
    found = []
    if before.running and not after.running:
        found.append(f"the service does not run ({after.detail})")
    found += [f"the {part} does not answer {HEALTH_PATH}" for part in before.answering if part not in after.answering]
    if before.rpc_servers and after.rpc_servers is not None and after.rpc_servers < before.rpc_servers:
        found.append(f"{after.rpc_servers} of {before.rpc_servers} RPC servers of llama-box go on running")
    return tuple(found)


def sickness(health: Health) -> t.Tuple[str, ...]:
    """What a node that should work does not do, whatever it did before."""
    if health.running is False:
        return (f"the service does not run ({health.detail})",)
    if health.running and not health.answering:
        return (f"GPUStack does not answer {HEALTH_PATH} on any of its ports",)
    return ()


def is_llama_box(process: Process) -> bool:
    """Whether a process is a llama-box: its file is called so in every slot (see llama_box_layout)."""
    return _program(process) is not None


def is_rpc_server(process: Process) -> bool:
    """Whether it offers the GPUs to other nodes (gpustack/worker/rpc_server.py), rather than serve a model."""
    program = _program(process)
    return program is not None and ("rpc-server" in program or "--rpc-server-port" in process.command)


def models_served(processes: t.Iterable[Process]) -> int:
    """How many model instances these processes serve, of whatever backend.

    Each is a process of GPUStack's with a title of its own (worker/serve_manager.py), and one of the backend.
    """
    commands = list(processes)
    titled = sum(1 for process in commands if process.command.startswith(_SERVING_TITLE))
    return max(titled, sum(1 for process in commands if is_llama_box(process) and not is_rpc_server(process)))


def _program(process: Process) -> t.Optional[str]:
    # A script shows its interpreter first, and a path may have a blank.
    words = process.command.split()[:2]
    names = [posixpath.basename(word) for word in words]
    return next((name for name in names if name.startswith("llama-box")), None)
