# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write tiny models with random weights that llama.cpp loads and that really answer: make_models.py FOLDER (needs gguf from PyPI).

A large constant in dimension 0 of every embedding, which no layer writes to, keeps the last hidden state's first element positive; the
output rows of control and byte tokens have a negative weight there. So they are never sampled: the text stays printable, and
generation goes on until max_tokens.
"""

from __future__ import annotations

import json
import pathlib
import sys

import gguf
import numpy

EMBEDDING, LAYERS, HEADS, CONTEXT = 64, 4, 4, 8192
WORDS = "the metal residency set keeps its buffers wired while two macs share one model and mmap maps weights page by page"
# What the estimate of each model is declared to be (gguf-parser). The first is the model of gpustack#1907.
DECLARED = {
    "deepseek-v3-0324-Q8_0": {"weights_gib": 664, "layers": 61, "kv_gib": 38, "input_gib": 1, "output_gib": 1, "architecture": "deepseek2"},
    "tiny": {"weights_gib": 8, "layers": 32, "kv_gib": 1},
}


def vocabulary() -> tuple[list[str], list[int], int]:
    """Tokens, their types, and how many of the first are never to be said."""
    kinds = gguf.TokenType
    tokens = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    # Any input can be cut into bytes.
    tokens += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    unsaid = len(tokens)
    texts = [*(f"\u2581{word}" for word in dict.fromkeys(WORDS.split())), *"abcdefghijklmnopqrstuvwxyz.,", "\u2581"]
    tokens += [(text, kinds.NORMAL) for text in texts]
    return [text for text, _kind in tokens], [int(kind) for _text, kind in tokens], unsaid


def write(path: pathlib.Path) -> None:
    """One model of the architecture llama."""
    random = numpy.random.default_rng(1907)

    def matrix(*shape: int) -> numpy.ndarray:
        return (random.standard_normal(shape) / numpy.sqrt(shape[-1])).astype(numpy.float32)

    texts, kinds, unsaid = vocabulary()
    size, inner = len(texts), 2 * EMBEDDING
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny-random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text in texts])
    writer.add_token_scores([-float(number) for number in range(size)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_chat_template("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:")
    embedding = matrix(size, EMBEDDING) * 4
    embedding[:, 0] = 6
    writer.add_tensor("token_embd.weight", embedding)
    for layer in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", numpy.ones(EMBEDDING, numpy.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            shape = {"ffn_gate": (inner, EMBEDDING), "ffn_up": (inner, EMBEDDING), "ffn_down": (EMBEDDING, inner)}
            tensor = matrix(*shape.get(name, (EMBEDDING, EMBEDDING)))
            if name in ("attn_output", "ffn_down"):
                tensor[0, :] = 0
            writer.add_tensor(f"blk.{layer}.{name}.weight", tensor)
    writer.add_tensor("output_norm.weight", numpy.ones(EMBEDDING, numpy.float32))
    output = matrix(size, EMBEDDING) * 4
    output[:, 0] = 0
    output[:unsaid] = 0
    output[:unsaid, 0] = -20
    writer.add_tensor("output.weight", output)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Each declared model; they share their bytes."""
    folder = pathlib.Path(sys.argv[1])
    first = None
    for name, declaration in DECLARED.items():
        path = folder / f"{name}.gguf"
        if first is None:
            write(path)
            first = path
        else:
            path.hardlink_to(first)
        path.with_name(f"{path.name}.json").write_text(json.dumps(declaration))


if __name__ == "__main__":
    main()
