# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models of less than a megabyte with random weights, which llama.cpp really loads and really runs: tiny_models.py FOLDER

Each GGUF file has a sidecar NAME.gguf.json, which is ours: it declares to our stand-in for gguf-parser how large the model is
said to be, so that a real GPUStack plans for a model of any size and the engine still loads a small file.
"""

from __future__ import annotations

import array
import dataclasses
import json
import math
import pathlib
import random
import struct
import sys
import typing as t

# The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Little-endian, version 3.
ALIGNMENT = 32
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
CONTEXT = 8192
# Of the encoders, whose positions are rows of a matrix.
ENCODER_CONTEXT = 512
WIDTH, HEADS, LAYERS = 64, 4, 4
WORDS = "the metal residency set keeps its buffers wired while two macs share one model and mmap maps weights page by page".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz.,"
CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"

Value = t.Union[int, float, bool, str, t.List[int], t.List[float], t.List[str]]


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    """A value of the metadata, with its type before it."""
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(_string(str(one)) for one in value)
    if isinstance(value[0], float):
        return struct.pack(f"<IIQ{len(value)}f", ARRAY, FLOAT32, len(value), *value)
    return struct.pack(f"<IIQ{len(value)}i", ARRAY, INT32, len(value), *value)


@dataclasses.dataclass
class Tensor:
    """Rows of 32-bit floats; a vector is one row."""

    columns: int
    rows: int
    numbers: array.array[float]

    def row(self, number: int) -> slice:
        return slice(number * self.columns, (number + 1) * self.columns)


class Builder:
    """Metadata and tensors of one file. The architecture is the first thing in it."""

    def __init__(self, architecture: str) -> None:
        self.metadata: dict[str, Value] = {"general.architecture": architecture}
        self.tensors: dict[str, Tensor] = {}
        self._random = random.Random(1907)

    def noise(self, columns: int, rows: int, scale: float = 1.0) -> Tensor:
        """A matrix that keeps the variance of what it is multiplied with, times the scale."""
        sigma = scale / math.sqrt(columns)
        return Tensor(columns, rows, array.array("f", (self._random.gauss(0.0, sigma) for _ in range(columns * rows))))

    def add(self, name: str, tensor: Tensor) -> None:
        self.tensors[name] = tensor

    def constant(self, name: str, columns: int, number: float) -> None:
        self.add(name, Tensor(columns, 1, array.array("f", [number] * columns)))

    def write(self, path: pathlib.Path) -> None:
        """The header, the metadata, where each tensor is, the tensors."""
        head = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.metadata))
        head += b"".join(_string(key) + _value(value) for key, value in self.metadata.items())
        data = b""
        for name, tensor in self.tensors.items():
            dimensions = [tensor.columns, tensor.rows] if tensor.rows > 1 else [tensor.columns]
            head += _string(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, 0, len(data))
            data += _padded(tensor.numbers.tobytes())
        path.write_bytes(_padded(head) + data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)


def language_model() -> Builder:
    """Of Llama's architecture. It talks until it is stopped, in printable text.

    Dimension 0 of every embedding is a large constant, and nothing else writes there, so the final state has a large positive
    number in it. Output rows of control and byte tokens have a negative weight there: they are never chosen.
    """
    tokens = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL), *((f"<0x{byte:02X}>", BYTE) for byte in range(256))]
    unwanted = len(tokens)
    tokens += [(f"\u2581{word}", NORMAL) for word in dict.fromkeys(WORDS)] + [(letter, NORMAL) for letter in (*LETTERS, "\u2581")]
    model = Builder("llama")
    model.metadata |= {
        "general.name": "tiny-random",
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": 2 * WIDTH,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS,
        "llama.rope.dimension_count": WIDTH // HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": len(tokens),
        "general.file_type": 0,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [text for text, _kind in tokens],
        "tokenizer.ggml.scores": [-float(number) for number in range(len(tokens))],
        "tokenizer.ggml.token_type": [kind for _text, kind in tokens],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }
    embedding = model.noise(WIDTH, len(tokens), 4.0)
    embedding.numbers[::WIDTH] = array.array("f", [6.0] * len(tokens))
    model.add("token_embd.weight", embedding)
    for layer in range(LAYERS):
        model.constant(f"blk.{layer}.attn_norm.weight", WIDTH, 1.0)
        model.constant(f"blk.{layer}.ffn_norm.weight", WIDTH, 1.0)
        for name, columns, rows in (
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", WIDTH, WIDTH),
            ("attn_v", WIDTH, WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_gate", WIDTH, 2 * WIDTH),
            ("ffn_up", WIDTH, 2 * WIDTH),
            ("ffn_down", 2 * WIDTH, WIDTH),
        ):
            tensor = model.noise(columns, rows)
            if name in ("attn_output", "ffn_down"):
                tensor.numbers[tensor.row(0)] = array.array("f", [0.0] * columns)
            model.add(f"blk.{layer}.{name}.weight", tensor)
    model.constant("output_norm.weight", WIDTH, 1.0)
    output = model.noise(WIDTH, len(tokens), 4.0)
    for number in range(len(tokens)):
        output.numbers[number * WIDTH] = 0.0
        if number < unwanted:
            output.numbers[output.row(number)] = array.array("f", [-20.0, *[0.0] * (WIDTH - 1)])
    model.add("output.weight", output)
    return model


def encoder(ranks: bool) -> Builder:
    """Of Bert's architecture: an embedding of a text, or (ranks) how well two texts go together."""
    special = [("[PAD]", CONTROL), ("[UNK]", UNKNOWN), ("[CLS]", CONTROL), ("[SEP]", CONTROL), ("[MASK]", CONTROL)]
    # A word's beginning is marked as llama.cpp's converter does it; all else continues a word.
    texts = [f"\u2581{word}" for word in dict.fromkeys(WORDS)] + [mark + letter for mark in ("\u2581", "") for letter in LETTERS]
    tokens = special + [(text, NORMAL) for text in dict.fromkeys(texts)]
    model = Builder("bert")
    model.metadata |= {
        "general.name": "tiny-random-reranker" if ranks else "tiny-random-embedding",
        "bert.context_length": ENCODER_CONTEXT,
        "bert.embedding_length": WIDTH,
        "bert.block_count": LAYERS,
        "bert.feed_forward_length": 2 * WIDTH,
        "bert.attention.head_count": HEADS,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        # LLAMA_POOLING_TYPE_MEAN, LLAMA_POOLING_TYPE_RANK
        "bert.pooling_type": 4 if ranks else 1,
        "general.file_type": 0,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": [text for text, _kind in tokens],
        "tokenizer.ggml.token_type": [kind for _text, kind in tokens],
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.mask_token_id": 4,
    }
    model.add("token_embd.weight", model.noise(WIDTH, len(tokens), 4.0))
    model.add("position_embd.weight", model.noise(WIDTH, ENCODER_CONTEXT))
    model.add("token_types.weight", model.noise(WIDTH, 2))
    names = [("token_embd_norm", 0)]
    for layer in range(LAYERS):
        for name, columns, rows in (
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", WIDTH, WIDTH),
            ("attn_v", WIDTH, WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_up", WIDTH, 2 * WIDTH),
            ("ffn_down", 2 * WIDTH, WIDTH),
        ):
            model.add(f"blk.{layer}.{name}.weight", model.noise(columns, rows, 2.0))
            model.constant(f"blk.{layer}.{name}.bias", rows, 0.0)
        names += [(f"blk.{layer}.attn_output_norm", 0), (f"blk.{layer}.layer_output_norm", 0)]
    for name, _ in names:
        model.constant(f"{name}.weight", WIDTH, 1.0)
        model.constant(f"{name}.bias", WIDTH, 0.0)
    if ranks:
        model.add("cls.weight", model.noise(WIDTH, WIDTH))
        model.constant("cls.bias", WIDTH, 0.0)
        model.add("cls.output.weight", model.noise(WIDTH, 1, 4.0))
        model.constant("cls.output.bias", 1, 0.0)
    return model


# Name -> the model, and what its sidecar declares to gguf-parser and llama-box. The first is that of gpustack#1907, DeepSeek-V3-0324
# in Q8_0; its KV cache is what GPUStack 0.6.0 claimed there on one worker.
MODELS: dict[str, tuple[t.Callable[[], Builder], dict[str, t.Any]]] = {
    "deepseek-v3-0324-Q8_0": (
        language_model,
        {"weights_gib": 664, "layers": 61, "kv_gib": 38.1, "input_gib": 0.9, "output_gib": 0.9, "architecture": "deepseek2"},
    ),
    "tiny": (language_model, {"weights_gib": 8, "layers": 32, "kv_gib": 1}),
    "embedder": (lambda: encoder(ranks=False), {"weights_gib": 0.5, "layers": 4, "architecture": "bert", "embedding_only": True}),
    "reranker": (
        lambda: encoder(ranks=True),
        {"weights_gib": 0.5, "layers": 4, "architecture": "bert", "embedding_only": True, "reranking": True},
    ),
}


def write_all(folder: pathlib.Path) -> None:
    """Every model with its sidecar."""
    for name, (build, declared) in MODELS.items():
        build().write(folder / f"{name}.gguf")
        (folder / f"{name}.gguf.json").write_text(json.dumps(declared) + "\n")


if __name__ == "__main__":
    write_all(pathlib.Path(sys.argv[1]))
