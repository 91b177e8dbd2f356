#!/usr/bin/env python3
"""Writes a Llama with random weights in a Hugging Face folder: the shape of a real one, so the speed of a real one.

    python3 bench/engine/random_model.py 1b OUT --tokenizer tokenizer.model

Needs numpy. Weights are bf16, normal with a deviation of 0.02 (norms are 1), cut from one block of random values at
random places: files of gigabytes in seconds, and no two rows alike.
"""

import argparse
import json
import pathlib
import shutil
import struct

import numpy

# Llama 3.2's, of its config.json.
SHAPES = {
    "1b": dict(hidden_size=2048, num_hidden_layers=16, num_attention_heads=32, intermediate_size=8192, head_dim=64),
    "3b": dict(hidden_size=3072, num_hidden_layers=28, num_attention_heads=24, intermediate_size=8192, head_dim=128),
}
SHARED = dict(
    architectures=["LlamaForCausalLM"], model_type="llama", num_key_value_heads=8, vocab_size=128256,
    max_position_embeddings=131072, rms_norm_eps=1e-5, rope_theta=500000.0, tie_word_embeddings=True,
    rope_scaling=dict(rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
                      original_max_position_embeddings=8192),
    hidden_act="silu", attention_bias=False, mlp_bias=False, torch_dtype="bfloat16",
    bos_token_id=128000, eos_token_id=128001,
)


def tensors(config):
    """Names and shapes, as transformers has them."""
    width, ffn = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"] * config["head_dim"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    yield "model.embed_tokens.weight", (config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        yield name + "input_layernorm.weight", (width,)
        yield name + "self_attn.q_proj.weight", (heads, width)
        yield name + "self_attn.k_proj.weight", (kv, width)
        yield name + "self_attn.v_proj.weight", (kv, width)
        yield name + "self_attn.o_proj.weight", (width, heads)
        yield name + "post_attention_layernorm.weight", (width,)
        yield name + "mlp.gate_proj.weight", (ffn, width)
        yield name + "mlp.up_proj.weight", (ffn, width)
        yield name + "mlp.down_proj.weight", (width, ffn)
    yield "model.norm.weight", (width,)


def bf16(values):
    """Upper halves of f32, rounded to nearest."""
    return ((values.astype("<f4").view("<u4") + 0x8000) >> 16).astype("<u2")


def write(shape, out, tokenizer):
    config = SHARED | SHAPES[shape]
    out.mkdir(parents=True)
    (out / "config.json").write_text(json.dumps(config, indent=2))
    shutil.copyfile(tokenizer, out / "tokenizer.model")
    random = numpy.random.default_rng(0)
    block = bf16(random.standard_normal(1 << 24, dtype="f4") * 0.02)
    header, end = {}, 0
    for name, size in tensors(config):
        begin, end = end, end + 2 * int(numpy.prod(size))
        header[name] = dict(dtype="BF16", shape=size, data_offsets=[begin, end])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(out / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, size in tensors(config):
            left = int(numpy.prod(size))
            if len(size) == 1:
                file.write(bf16(numpy.ones(left, "f4")).tobytes())
                continue
            while left:
                start = int(random.integers(len(block) // 2))
                piece = block[start:start + min(left, len(block) // 2)]
                file.write(piece.tobytes())
                left -= len(piece)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True, help="a tokenizer.model of Llama 3")
    arguments = parser.parse_args()
    write(arguments.shape, arguments.out, arguments.tokenizer)
