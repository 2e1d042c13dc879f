# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What the mmap policy knows of a model and of a worker, from GPUStack's API and from the nodes' own probe. Unknown is None."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import llama_box_layout, mmap_parameters
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.chips import UNKNOWN, parse_chip
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import DARWIN
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import Need, mapping, other_workers, whole
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB, MEASURED, WIRED_LIMIT

LLAMA_BOX = "llama-box"
SERVER = "server"
NOT_MACOS = "other"

# GPUStack's own --system-reserved: 2 GiB of RAM and 1 GiB of VRAM, which are one memory on Apple Silicon.
DEFAULT_RESERVE_BYTES = 3 * GIB

_PARAVIRTUAL = "Paravirtual"
_LORA = ("--lora", "--lora-scaled")


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """A model. distributed: it runs on several workers at once. may_distribute: GPUStack may choose that.

    lora: it loads LoRA adapters. wants_mmap: its parameters turn mmap on in llama-box. backend None: GPUStack chooses.
    """

    name: str
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    need: Need = dataclasses.field(default_factory=Need)
    distributed: t.Optional[bool] = None
    may_distribute: bool = True
    lora: t.Optional[bool] = None
    wants_mmap: bool = False
    backend: t.Optional[str] = LLAMA_BOX
    backend_version: t.Optional[str] = None
    categories: t.Tuple[str, ...] = ()
    worker_selector: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    gpu_ids: t.Tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class WorkerFacts:
    """A worker. os: "Darwin", "linux", … reserve_bytes: what GPUStack gives to no model.

    working_set_source: "server" (GPUStack's own GPU memory), or as apple_silicon_facts names it. llama_box_version: the builtin
    one, which also serves RPC.
    """

    name: str
    os: t.Optional[str] = None
    is_apple_silicon: t.Optional[bool] = None
    is_virtual: t.Optional[bool] = None
    is_translated: t.Optional[bool] = None
    chip: t.Optional[str] = None
    memory_bytes: t.Optional[int] = None
    reserve_bytes: int = DEFAULT_RESERVE_BYTES
    working_set_bytes: t.Optional[int] = None
    working_set_source: t.Optional[str] = None
    llama_box_version: t.Optional[str] = None
    gpustack_version: t.Optional[str] = None
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    gpus: t.Tuple[str, ...] = ()

    def usable_bytes(self) -> t.Optional[int]:
        """The memory that models may have; None where it is not known or no unified memory."""
        if self.os != DARWIN or self.memory_bytes is None:
            return None
        return max(0, self.memory_bytes - self.reserve_bytes)


def text(value: t.Any) -> t.Optional[str]:
    """A text with something in it; None for everything else."""
    return value if isinstance(value, str) and value else None


def texts(value: t.Any) -> t.Dict[str, str]:
    """Labels: the pairs of texts of a JSON object."""
    return {key: label for key, label in mapping(value).items() if isinstance(key, str) and isinstance(label, str)}


def items(value: t.Any) -> t.List[t.Any]:
    """A JSON list; an empty one in place of everything else."""
    return value if isinstance(value, list) else []


def flag(value: t.Any) -> t.Optional[bool]:
    """A JSON boolean; None for everything else."""
    return value if isinstance(value, bool) else None


def model_from_api(model: t.Any, need: t.Optional[Need] = None, instances: t.Sequence[t.Any] = ()) -> ModelFacts:
    """A model as GPUStack's API names its fields; `labels` is this collection's own, GPUStack has none.

    instances: those of this model. One that is spread proves that the model is distributed; one that is not proves nothing,
    as it may stand where mmap put it (gpustack#1907).
    """
    fields = mapping(model)
    name = text(fields.get("name"))
    if name is None:
        raise BadInputError("a model has no name: the mmap policy decides by name, so set it")
    parameters = fields.get("backend_parameters")
    may_distribute = flag(fields.get("distributed_inference_across_workers")) is not False
    spread = any(other_workers(instance) for instance in instances)
    return ModelFacts(
        name=name,
        labels=texts(fields.get("labels")),
        need=need or Need(),
        distributed=True if spread else None if may_distribute else False,
        may_distribute=may_distribute,
        lora=any(parameter.partition("=")[0] in _LORA for parameter in mmap_parameters.checked(parameters)),
        wants_mmap=mmap_parameters.engine_uses_mmap(parameters, None),
        backend=text(fields.get("backend")),
        backend_version=text(fields.get("backend_version")),
        categories=tuple(str(category) for category in items(fields.get("categories"))),
        worker_selector=texts(fields.get("worker_selector")),
        gpu_ids=tuple(str(gpu_id) for gpu_id in items(mapping(fields.get("gpu_selector")).get("gpu_ids"))),
    )


def worker_from_api(worker: t.Any) -> WorkerFacts:
    """A worker of GPUStack's own list (GET /v1/workers)."""
    fields = mapping(worker)
    labels = texts(fields.get("labels"))
    name = text(fields.get("name")) or text(labels.get("worker-name"))
    if name is None:
        raise BadInputError("a worker has no name: give each the name that GPUStack's server knows it by")
    status = mapping(fields.get("status"))
    devices = [mapping(device) for device in items(status.get("gpu_devices"))]
    apple = next((device for device in devices if str(device.get("name")).startswith("Apple ")), None)
    system = _system(mapping(status.get("kernel")), labels)
    memory = mapping(status.get("memory"))
    working_set_bytes = whole(mapping(apple.get("memory")).get("total")) if apple else None
    return WorkerFacts(
        name=name,
        os=system,
        is_apple_silicon=_is_apple_silicon(system, apple is not None, labels),
        is_virtual=_is_virtual(str(apple.get("name"))) if apple else None,
        # GPUStack was started as an Intel program: what it calls its architecture is not that of the GPU.
        is_translated=labels.get("arch") == "amd64" if apple and labels.get("os") == "darwin" else None,
        chip=str(apple.get("name")) if apple else None,
        memory_bytes=whole(memory.get("total")),
        reserve_bytes=_reserve_bytes(fields.get("system_reserved")),
        working_set_bytes=working_set_bytes,
        working_set_source=SERVER if working_set_bytes else None,
        labels=labels,
        gpus=tuple(f"{name}:{device.get('type')}:{device.get('index')}" for device in devices),
    )


def _system(kernel: t.Mapping[str, t.Any], labels: t.Mapping[str, str]) -> t.Optional[str]:
    """The kernel's name as fastfetch told it; before the first status there is only the label that GPUStack set."""
    name = text(kernel.get("name")) or labels.get("os")
    return DARWIN if name is not None and name.lower() == DARWIN.lower() else name


def _is_apple_silicon(system: t.Optional[str], has_apple_gpu: bool, labels: t.Mapping[str, str]) -> t.Optional[bool]:
    if has_apple_gpu:
        return True
    if system != DARWIN:
        return None if system is None else False
    arch = labels.get("arch")
    return True if arch == "arm64" else False if arch == "amd64" else None


def _is_virtual(gpu_name: str) -> t.Optional[bool]:
    chip = parse_chip(gpu_name)
    if chip.is_virtual or _PARAVIRTUAL in gpu_name:
        return True
    return None if chip.family == UNKNOWN else False


def _reserve_bytes(reserved: t.Any) -> int:
    """RAM and VRAM that GPUStack keeps back; its defaults where it does not say."""
    if not isinstance(reserved, dict):
        return DEFAULT_RESERVE_BYTES
    return sum(whole(reserved.get(kind)) or 0 for kind in ("ram", "vram"))


def worker_with_probe(worker: WorkerFacts, facts: t.Any) -> WorkerFacts:
    """A worker with what the node itself says, ansible_facts.apple_silicon, wherever it says something.

    The server's working set is that which Metal reported when GPUStack asked, so an estimate does not replace it.
    """
    fields = mapping(facts)
    chip = text(fields.get("chip"))
    probed: t.Dict[str, t.Any] = {
        "os": _probed_system(fields),
        "is_apple_silicon": flag(fields.get("is_apple_silicon")),
        "is_virtual": flag(fields.get("is_virtual")),
        # Whether the module ran translated, not GPUStack: only a yes says that something is wrong on this node.
        "is_translated": flag(fields.get("is_translated")) or None,
        "chip": chip,
        "memory_bytes": whole(fields.get("memory_bytes")),
    }
    working_set_bytes, source = whole(fields.get("working_set_bytes")), text(fields.get("working_set_source"))
    if working_set_bytes and (worker.working_set_bytes is None or source in (MEASURED, WIRED_LIMIT)):
        probed.update(working_set_bytes=working_set_bytes, working_set_source=source)
    return dataclasses.replace(worker, **{name: value for name, value in probed.items() if value is not None})


def _probed_system(fields: t.Mapping[str, t.Any]) -> t.Optional[str]:
    """apple_silicon_facts tells of macOS only: what is no Mac has one False and nothing else."""
    if any(value is not None for name, value in fields.items() if name not in ("is_apple_silicon", "warnings")):
        return DARWIN
    told = flag(fields.get("is_apple_silicon"))
    return None if told is None else DARWIN if told else NOT_MACOS


def worker_from_mapping(entry: t.Any, gpustack_version: t.Optional[str] = None) -> WorkerFacts:
    """A worker of a play: GPUStack's fields, and with them, or in their place, `apple_silicon` of the node.

    `llama_box_version`, `gpustack_version` and `reserve_bytes` are read too. What runs is taken to be what this GPUStack brings,
    unless the entry says otherwise; gpustack_version is that of the server.
    """
    fields = mapping(entry)
    worker = worker_with_probe(worker_from_api(fields), fields.get("apple_silicon"))
    version = text(fields.get("gpustack_version")) or gpustack_version
    return dataclasses.replace(
        worker,
        gpustack_version=version,
        llama_box_version=text(fields.get("llama_box_version")) or llama_box_layout.builtin_version(version),
        reserve_bytes=whole(fields.get("reserve_bytes")) or worker.reserve_bytes,
    )
