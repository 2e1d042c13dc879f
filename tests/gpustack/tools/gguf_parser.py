# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-in for gguf-parser: the arithmetic of the real one (gguf-parser-go, file_estimate__llamacpp.go), on numbers that are declared.

Layers go to devices as in estimateLLaMACppRunInModel there; what is added up, and left out, is as in SummarizeItem, which is the same in
v0.14.1, v0.19.0 and v0.22.1 (that of GPUStack 0.6.0, 0.6.2 and 0.7.1) for models without overridden tensors.

What a model needs stands beside it in MODEL.gguf.json; only the first two are needed:
  {"weights_gib": 664, "layers": 61, "kv_gib": 38, "input_gib": 1, "output_gib": 1, "architecture": "deepseek2"}
The real one reads it from the file, which could not be 664 GiB here. GPUStack asks for one estimate for each number of layers on
GPUs (--gpu-layers-step), once as for a machine with unified memory ("uma") and once as for others.

embedding_only and reranking may be declared, too.

The heart of gpustack#1907 is in `Device.estimate`: with mmap, the weights on the local GPU of a machine with unified memory are not
counted. GPUStack 0.6.0 passes no flag, and mmap is the default here, too; later ones pass --mmap=false or --mmap=true.
"""

from __future__ import annotations

import bisect
import dataclasses
import json
import os
import sys
import typing as t

GIB, MIB = 1 << 30, 1 << 20
# llama.cpp's own: bootstrap, and what belongs to the output buffer.
BOOT_BYTES, OUTPUT_BYTES, COMPUTE_BYTES, RAM_COMPUTE_BYTES = 35 * MIB, 256 * MIB, 2048 * MIB, 64 * MIB


def option(names: t.Sequence[str], default: str) -> str:
    """The last value of an option."""
    value = default
    for position, word in enumerate(sys.argv):
        if word in names and position + 1 < len(sys.argv):
            value = sys.argv[position + 1]
        name, equals, rest = word.partition("=")
        if equals and name in names:
            value = rest
    return value


def uses_mmap() -> bool:
    """Whether the model is taken to be mapped."""
    mmap = True
    for word in sys.argv:
        if word in ("--no-mmap", "--no-mmap=true", "--mmap=false"):
            mmap = False
        elif word in ("--mmap", "--mmap=true", "--no-mmap=false"):
            mmap = True
    return mmap


class Model:
    """What is declared of a model. Sizes in bytes; those of layers are of one layer."""

    def __init__(self, path: str, context: int) -> None:
        with open(path, "rb") as file:
            if file.read(4) != b"GGUF":
                raise OSError(f"{path} is no GGUF file")
        if os.path.exists(f"{path}.json"):
            with open(f"{path}.json", encoding="utf-8") as file:
                declared = json.load(file)
        else:
            declared = {"weights_gib": max(os.path.getsize(path), 1) / GIB, "layers": 4}
        self.layers = int(declared["layers"])
        self.architecture = declared.get("architecture", "llama")
        self.embedding_only = bool(declared.get("embedding_only"))
        self.reranking = bool(declared.get("reranking"))
        edge_gib = 0.01 * declared["weights_gib"] / self.layers
        self.input_bytes = declared.get("input_gib", edge_gib) * GIB
        self.output_bytes = declared.get("output_gib", edge_gib) * GIB
        self.layer_bytes = (declared["weights_gib"] * GIB - self.input_bytes - self.output_bytes) / self.layers
        # Declared for 8192 tokens; it grows with the context.
        self.kv_bytes = declared.get("kv_gib", 0.0) * GIB / self.layers * context / 8192


@dataclasses.dataclass
class Device:
    """A GPU, its layers and the number of its last one; -1 without any. remote: behind an RPC server. position: among its kind."""

    remote: bool
    position: int
    layers: int = 0
    last_layer: int = -1
    has_output: bool = False

    def estimate(self, model: Model, mmap: bool, platform_bytes: int) -> dict[str, t.Any]:
        """What it has to hold."""
        kv_bytes = self.layers * model.kv_bytes
        weight_bytes = self.layers * model.layer_bytes + (model.output_bytes if self.has_output else 0)
        foot_bytes = OUTPUT_BYTES if self.has_output else 0
        is_local = not self.remote and not (self.position > 0 and self.last_layer >= 0)
        uma = foot_bytes + kv_bytes + (0 if mmap and is_local else weight_bytes)
        nonuma = platform_bytes + foot_bytes + kv_bytes
        if self.remote or self.position == 0 or self.last_layer >= 0:
            nonuma += weight_bytes + COMPUTE_BYTES
        return _handled(self.layers, self.last_layer, self.has_output, self.remote, self.position, uma, nonuma)


def _handled(layers: int, last: int, output: bool, remote: bool, position: int, uma: float, nonuma: float) -> dict[str, t.Any]:
    return {
        "handleLayers": layers,
        "handleLastLayer": last,
        "handleOutputLayer": output,
        "remote": remote,
        "position": position,
        "uma": int(uma),
        "nonuma": int(nonuma),
    }


def item(model: Model, mmap: bool, offloaded: int) -> dict[str, t.Any]:
    """The estimate with so many layers on GPUs; one more than the model has is all of them and the output layer."""
    full = offloaded > model.layers
    on_gpus = min(offloaded, model.layers)
    active = on_gpus + (1 if full else 0)
    splits = [float(part) for part in option(("--tensor-split", "-ts"), "1").split(",")]
    remotes = len([server for server in option(("--rpc",), "").split(",") if server])
    ram_bytes, gpu_bytes = (int(part) * MIB for part in option(("--platform-footprint",), "150,250").split(","))
    cumulated = [sum(splits[: position + 1]) / sum(splits) for position in range(len(splits))]
    devices = [Device(index < remotes, index if index < remotes else index - remotes) for index in range(len(splits))]
    on_ram = model.layers - on_gpus
    last_device = None
    for layer in range(on_ram, model.layers):
        device = devices[min(bisect.bisect_right(cumulated, (layer - on_ram) / active), len(devices) - 1)]
        device.layers, device.last_layer, last_device = device.layers + 1, layer, device
    if full and last_device is not None:
        last_device.has_output = True
    # The input and the output layer also stay in RAM.
    ram_weight_bytes = model.input_bytes + model.output_bytes + on_ram * model.layer_bytes
    ram = BOOT_BYTES + (0 if full else OUTPUT_BYTES) + ram_weight_bytes + on_ram * model.kv_bytes + RAM_COMPUTE_BYTES
    if mmap or full:
        ram -= ram_weight_bytes - (0 if mmap else model.output_bytes)
    return {
        "offloadLayers": active,
        "fullOffloaded": full,
        "ram": _handled(on_ram, on_ram - 1, not full, False, 0, ram, ram_bytes + ram),
        "vrams": [device.estimate(model, mmap, gpu_bytes) for device in devices],
    }


def main() -> None:
    """Print what GPUStack asks for."""
    if "--version" in sys.argv:
        print("gguf-parser version (stand-in)")
        return
    path = option(("--path", "-path"), "")
    if not path:
        sys.exit("this stand-in for gguf-parser knows models by --path only")
    context = int(option(("--ctx-size", "-c"), "8192"))
    try:
        model, mmap = Model(path, context), uses_mmap()
    except OSError as exc:
        sys.exit(f"failed to parse GGUF file: {exc}")
    step, layers = option(("--gpu-layers-step",), ""), int(option(("--gpu-layers", "-ngl"), "-1"))
    everything = model.layers + 1
    asked = everything if layers < 0 or layers > model.layers else layers
    counts = [*range(0, everything, int(step)), everything] if step else [asked]
    estimate = {
        "items": [item(model, mmap, count) for count in counts],
        "type": "model",
        "architecture": model.architecture,
        "contextSize": context,
        "flashAttention": False,
        "noMMap": not mmap,
        "embeddingOnly": model.embedding_only,
        "reranking": model.reranking,
        "distributable": True,
        "logicalBatchSize": 2048,
        "physicalBatchSize": 512,
    }
    architecture = {
        "type": "model",
        "architecture": model.architecture,
        "maximumContextLength": 163840,
        "blockCount": model.layers,
        "attentionHeadCount": 128,
        "embeddingLength": 7168,
    }
    print(json.dumps({"estimate": estimate, "architecture": architecture}))


if __name__ == "__main__":
    main()
