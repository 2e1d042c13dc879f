# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What each worker has of an instance: what the scheduler reckoned (the claim), and what that is worth (the need).

Where GPUStack's estimator takes a model for a mapped one, it leaves the weights out of what a local GPU with unified memory claims,
and of the RAM, but never out of what an RPC server claims (gguf-parser-go, file_estimate__llamacpp.go; measured: gpustack#1907).
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap_parameters
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need, exactly, leaves_weights_out, whole
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Claim, Instance, Subordinate
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model

# Why a claim leaves the weights out.
BY_VERSION = "GPUStack 0.6.0 reckons with mmap whatever the parameters say"
BY_PARAMETERS = "the backend_parameters of the model turn mmap on"
BY_SIZE = "it is smaller than they are, so it was made with other parameters than the model has now"


@dataclasses.dataclass(frozen=True)
class Part:
    """What one worker has of an instance.

    main: it loads the model, others serve it by RPC. worker: its name, for people. claimed: whether the scheduler has reckoned.
    gpu_claims_bytes, gpu_needs: by the index of the GPU. hidden: why the claim leaves the weights out; "" where it does not.
    unified: RAM and GPU memory are one. outlived: the parameters turn mmap on now, and the claim was made without.
    """

    worker_id: t.Optional[int]
    worker: str
    main: bool
    claimed: bool = False
    unified: t.Optional[bool] = None
    gpu_claims_bytes: t.Mapping[int, int] = dataclasses.field(default_factory=dict)
    ram_claim_bytes: int = 0
    gpu_needs: t.Mapping[int, Need] = dataclasses.field(default_factory=dict)
    ram_need: Need = dataclasses.field(default_factory=Need)
    hidden: str = ""
    outlived: bool = False

    @property
    def claim_bytes(self) -> t.Optional[int]:
        """RAM and GPU memory together; None where nothing is claimed."""
        return self.ram_claim_bytes + sum(self.gpu_claims_bytes.values()) if self.claimed else None

    @property
    def need(self) -> Need:
        """RAM and GPU memory together."""
        return together([self.ram_need, *self.gpu_needs.values()]) if self.claimed else Need()


def together(needs: t.Iterable[Need]) -> Need:
    """What several needs are together."""
    found = list(needs)
    most = [need.most_bytes for need in found if need.most_bytes is not None]
    return Need(sum(need.least_bytes for need in found), sum(most) if len(most) == len(found) else None)


def weights_of(model: Model, declared_bytes: t.Optional[int] = None) -> t.Optional[int]:
    """The size of a model's weights: as a person declares it, or as llama-box told when it ran last."""
    return whole(declared_bytes) or whole(model.meta.get("size"))


def parts_of(
    instance: Instance, model: Model, gpustack_version: t.Optional[str], weights_bytes: t.Optional[int] = None
) -> t.Tuple[Part, ...]:
    """The parts of an instance, the main one first. There are none before it is scheduled."""
    others = _others(instance)
    if instance.worker_id is None and instance.worker_name is None:
        return others
    main = _part(instance.worker_id, instance.worker_name, True, [instance.claim])
    if not main.claimed or not main.unified or not model.uses_llama_box:
        return (main, *others)
    hidden = _hidden(main, others, instance, model, gpustack_version, weights_bytes)
    if hidden:
        return (_with_weights(main, instance, hidden, weights_bytes), *others)
    outlived = mmap_parameters.estimator_assumes_mmap(model.backend_parameters, gpustack_version)
    return (dataclasses.replace(main, outlived=outlived), *others)


def _others(instance: Instance) -> t.Tuple[Part, ...]:
    """A worker has as many entries as GPUs take part (scheduler, ModelInstanceRPCServer)."""
    by_worker: t.Dict[t.Tuple[t.Any, t.Any], t.List[Subordinate]] = {}
    for one in instance.subordinates:
        by_worker.setdefault((one.worker_id, one.worker_name), []).append(one)
    return tuple(_part(*worker, False, [one.claim for one in entries]) for worker, entries in by_worker.items())


def _part(worker_id: t.Optional[int], name: t.Optional[str], main: bool, claims: t.Sequence[t.Optional[Claim]]) -> Part:
    known = [claim for claim in claims if claim is not None]
    gpus: t.Dict[int, int] = {}
    for claim in known:
        for index, size_bytes in claim.gpu_memory_bytes.items():
            gpus[index] = gpus.get(index, 0) + size_bytes
    ram_bytes = sum(claim.memory_bytes or 0 for claim in known)
    return Part(
        worker_id=worker_id,
        worker=name or ("an unknown worker" if worker_id is None else f"the worker with id {worker_id}"),
        main=main,
        claimed=bool(known) and len(known) == len(claims),
        unified=known[0].unified if known else None,
        gpu_claims_bytes=gpus,
        ram_claim_bytes=ram_bytes,
        gpu_needs={index: exactly(size_bytes) for index, size_bytes in gpus.items()},
        ram_need=exactly(ram_bytes),
    )


def _hidden(
    main: Part,
    others: t.Sequence[Part],
    instance: Instance,
    model: Model,
    gpustack_version: t.Optional[str],
    weights_bytes: t.Optional[int],
) -> str:
    """Why the main worker's claim leaves the weights out; "" where it does not."""
    parameters = model.backend_parameters
    claim_bytes = sum(part.claim_bytes or 0 for part in (main, *others))
    hides = leaves_weights_out(claim_bytes, weights_bytes, parameters, gpustack_version)
    if not mmap_parameters.estimator_assumes_mmap(parameters, gpustack_version):
        return BY_SIZE if hides else ""
    # The others never leave theirs out, and with a large KV cache they claim as much as all the weights.
    if not hides and not _lacks_its_share(main, instance, weights_bytes):
        return ""
    return BY_VERSION if mmap_parameters.is_without_no_mmap(gpustack_version) else BY_PARAMETERS


def _lacks_its_share(main: Part, instance: Instance, weights_bytes: t.Optional[int]) -> bool:
    """Whether the main worker of a distributed instance claims less than its layers weigh, by far, as they are not all alike."""
    layers = _layers(instance)
    if weights_bytes is None or layers is None or not instance.subordinates:
        return False
    return 10 * (main.claim_bytes or 0) * layers.total < 9 * weights_bytes * layers.local


def _with_weights(main: Part, instance: Instance, hidden: str, weights_bytes: t.Optional[int]) -> Part:
    """The main part with the weights that its claim leaves out, as far as they are known: by its share of the layers."""
    layers = _layers(instance)
    gpu, ram = Need(), Need()
    if weights_bytes is not None and layers is not None:
        gpu = exactly(weights_bytes * layers.offloaded // layers.total)
        ram = exactly(weights_bytes * (layers.local - layers.offloaded) // layers.total)
    needs = dict(main.gpu_needs)
    if needs:
        # A machine with unified memory has one GPU; of several, gguf-parser hides the weights of the first only.
        first = min(needs)
        needs[first] = together([needs[first], gpu])
    else:
        ram = together([ram, gpu])
    return dataclasses.replace(main, gpu_needs=needs, ram_need=together([main.ram_need, ram]), hidden=hidden)


class _Layers(t.NamedTuple):
    """Layers of the main worker, those of them on its GPU, and all of the model."""

    local: int
    offloaded: int
    total: int


def _layers(instance: Instance) -> t.Optional[_Layers]:
    """None where they are not known. On one worker, they are all on the GPU then.

    offload_layers of an instance counts those of the other workers, too (measured: 62, of which 31 are elsewhere).
    """
    claim = instance.claim or Claim()
    elsewhere = [one.claim.offload_layers if one.claim else None for one in instance.subordinates]
    counts = [count for count in (claim.offload_layers, claim.total_layers, *elsewhere) if count is not None]
    if len(counts) < 2 + len(elsewhere):
        return None if elsewhere else _Layers(1, 1, 1)
    offloaded, total, others = counts[0], counts[1], sum(counts[2:])
    if total == 0 or not others <= offloaded <= total:
        return None
    return _Layers(total - others, offloaded - others, total)
