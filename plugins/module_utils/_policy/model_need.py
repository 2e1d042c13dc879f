# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What a model needs in a machine's memory: weights, KV cache and overhead, in bytes, as bounds where only those are known."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap_parameters
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.json_fields import count_of


@dataclasses.dataclass(frozen=True)
class Need:
    """What a model needs lies between the two; most_bytes None: no upper bound is known. Need() says nothing."""

    least_bytes: int = 0
    most_bytes: t.Optional[int] = None

    def exceeds(self, limit_bytes: t.Optional[int]) -> t.Optional[bool]:
        """Whether more than the limit is needed; None where that cannot be told."""
        if limit_bytes is None:
            return None
        if self.least_bytes > limit_bytes:
            return True
        return None if self.most_bytes is None or self.most_bytes > limit_bytes else False


def exactly(size_bytes: int) -> Need:
    """A need that is known."""
    return Need(size_bytes, size_bytes)


def whole(value: t.Any) -> t.Optional[int]:
    """A number of bytes above 0 and of 64 bits; None for everything else that a JSON document can hold."""
    return count_of(value) or None


def mapping(value: t.Any) -> t.Mapping[str, t.Any]:
    """A JSON object; an empty one in place of everything else."""
    return value if isinstance(value, dict) else {}


def of_claim(claim_bytes: t.Optional[int], weights_bytes: t.Optional[int], hides_weights: bool) -> Need:
    """The need behind what GPUStack's estimator claims.

    Where it assumes mmap, it leaves the weights of a Mac out (measured: 38.4 GiB instead of 702.4 GiB for 664 GiB of weights,
    gpustack#1907), so that they have to be added.
    """
    claim, weights = whole(claim_bytes), whole(weights_bytes)
    if claim is None:
        return Need(weights or 0)
    if not hides_weights:
        return exactly(claim)
    return Need(claim) if weights is None else exactly(claim + weights)


def holds_weights(claim_bytes: int, weights_bytes: int) -> bool:
    """Whether a claim is large enough to hold the weights, whose size may be a rounded one."""
    return 1000 * claim_bytes >= 999 * weights_bytes


def claim_of_evaluation(resource_claim: t.Any) -> t.Optional[int]:
    """The bytes that an answer of /v1/model-evaluations claims (ModelSpecEvaluation resource_claim: ram, vram)."""
    claim = mapping(resource_claim)
    parts = [whole(claim.get("ram")), whole(claim.get("vram"))]
    return sum(part or 0 for part in parts) or None


def claim_of_instance(instance: t.Any) -> t.Optional[int]:
    """The bytes that an instance claims on all its workers, in the schema of 0.6 or of 0.7."""
    claims = [mapping(instance).get("computed_resource_claim")]
    claims += [part.get("computed_resource_claim") for part in other_workers(instance)]
    total = 0
    for claim in map(mapping, claims):
        sizes = [claim.get("ram"), *mapping(claim.get("vram")).values()]
        total += sum(whole(size) or 0 for size in sizes)
    return total or None


def other_workers(instance: t.Any) -> t.List[t.Mapping[str, t.Any]]:
    """The parts of an instance on workers besides its main one: rpc_servers (0.6) or subordinate_workers (0.7)."""
    servers = mapping(mapping(instance).get("distributed_servers"))
    parts = servers.get("rpc_servers") or servers.get("subordinate_workers")
    return [mapping(part) for part in parts] if isinstance(parts, list) else []


def of_model(
    model: t.Any,
    gpustack_version: t.Optional[str],
    claim_bytes: t.Optional[int] = None,
    weights_bytes: t.Optional[int] = None,
    instances: t.Sequence[t.Any] = (),
) -> Need:
    """The need of a model as GPUStack's API names its fields, from what the server claims for it and the size of its weights.

    claim_bytes: what the estimator says just now. weights_bytes: if not given, what llama-box told when the model ran last (meta.size).
    instances: those of the model; the one that needs most counts. What a claim itself shows of whether it leaves the weights out outranks
    the parameters, which may have been others when it was made.
    """
    fields = mapping(model)
    weights = whole(weights_bytes) or whole(mapping(fields.get("meta")).get("size"))
    claim = whole(claim_bytes)
    parameters = fields.get("backend_parameters")
    claims = [(claim, False), *((claim_of_instance(instance), bool(other_workers(instance))) for instance in instances)]
    needs = [
        _of_one(size_bytes, is_spread, weights, leaves_weights_out(size_bytes, weights, parameters, gpustack_version))
        for size_bytes, is_spread in claims
        if size_bytes is not None
    ]
    return max(needs, key=lambda need: need.least_bytes, default=Need(weights or 0))


def _of_one(claim_bytes: int, is_spread: bool, weights_bytes: t.Optional[int], hides_weights: bool) -> Need:
    if is_spread and hides_weights and weights_bytes is not None:
        # Only the share of the main worker is left out.
        return Need(max(claim_bytes, weights_bytes), claim_bytes + weights_bytes)
    return of_claim(claim_bytes, weights_bytes, hides_weights)


def leaves_weights_out(
    claim_bytes: t.Optional[int], weights_bytes: t.Optional[int], parameters: t.Any, gpustack_version: t.Optional[str]
) -> bool:
    """Whether a claim of a Mac was made without the weights of the layers that it is for.

    Below their size, but for rounding, it was. From there to twice as much it was not, since context and overhead are smaller than the
    weights nearly always. Beyond that, and where their size is not known, it is as the parameters say now.
    """
    if claim_bytes is not None and weights_bytes is not None:
        if not holds_weights(claim_bytes, weights_bytes):
            return True
        # 0.6.0 knows no other way than to leave them out.
        if claim_bytes < 2 * weights_bytes and not mmap_parameters.is_without_no_mmap(gpustack_version):
            return False
    return mmap_parameters.estimator_assumes_mmap(parameters, gpustack_version)
