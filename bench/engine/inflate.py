#!/usr/bin/env python3
"""Gives a small trained Llama the shape of a large one, and so its cost, without changing what it says.

    python3 bench/engine/inflate.py runs/tiny/base OUT --shape 1b

Needs numpy. What is added is zeros: channels, heads, layers whose outputs are nothing, and tokens that the tokenizer does not
know. Norms and queries are scaled for the larger widths; a head's pairs go where the larger head turns them at the same
speed. So logits are those of the small model but for rounding, and a pass costs what the large shape costs.
"""

import argparse
import json
import math
import pathlib
import shutil
import struct

import numpy

from random_model import SHAPES, SHARED, bf16, tensors


def read(folder):
    """The configuration, and every tensor in f32."""
    config = json.loads((folder / "config.json").read_text())
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        for name, entry in json.loads(data[8:8 + length]).items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            raw = data[8 + length + begin:8 + length + end]
            if entry["dtype"] == "BF16":
                values = (numpy.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
            else:
                values = numpy.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]]).astype("<f4")
            found[name] = values.reshape(entry["shape"])
    return config, found


def rows_of_heads(values, small, large, scale):
    """Rows of queries or keys, head by head: pair `j` of a head of the small width is pair `j * step` of the large one."""
    step = large // small
    heads = values.reshape(-1, 2, small // 2, values.shape[1])
    out = numpy.zeros((heads.shape[0], 2, large // 2, values.shape[1]), "<f4")
    out[:, :, ::step] = heads * scale
    return out.reshape(-1, values.shape[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="a Hugging Face folder of a small model")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    arguments = parser.parse_args()
    small, values = read(arguments.folder)
    large = SHARED | SHAPES[arguments.shape]
    for key in ("rope_theta", "rms_norm_eps", "max_position_embeddings"):
        large[key] = small[key]
    # As many bytes to read as of a tied model, but for the rows that an answer looks up.
    large |= dict(rope_scaling=None, tie_word_embeddings=False, bos_token_id=small["bos_token_id"],
                  eos_token_id=small["eos_token_id"])
    head, wide = small.get("head_dim") or small["hidden_size"] // small["num_attention_heads"], large["head_dim"]
    group = lambda config: config["num_attention_heads"] // config["num_key_value_heads"]
    if wide % head or group(small) != group(large):
        raise SystemExit(f"heads of {head} in groups of {group(small)} do not fit into heads of {wide} in groups of {group(large)}")
    if any(small[key] > large[key] for key in ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "vocab_size")):
        raise SystemExit("the model is larger than the shape that it is to be given")
    # The mean square of the same values among more channels is less by the ratio of the widths.
    norm = math.sqrt(small["hidden_size"] / large["hidden_size"])
    large["rms_norm_eps"] = small["rms_norm_eps"] * norm * norm

    def inflated(name):
        part = name.removesuffix(".weight").rsplit(".", 1)[-1]
        found = values.get(name)
        if found is None and name == "lm_head.weight":
            found = values["model.embed_tokens.weight"]
        if found is None:
            return None
        if part.endswith("norm"):
            return found * norm
        if part in ("q_proj", "k_proj"):
            # Scores are divided by the root of the head's width.
            return rows_of_heads(found, head, wide, math.sqrt(wide / head) if part == "q_proj" else 1.0)
        if part == "v_proj":
            out = numpy.zeros((found.shape[0] // head, wide, found.shape[1]), "<f4")
            out[:, :head] = found.reshape(-1, head, found.shape[1])
            return out.reshape(-1, found.shape[1])
        if part == "o_proj":
            out = numpy.zeros((found.shape[0], found.shape[1] // head, wide), "<f4")
            out[:, :, :head] = found.reshape(found.shape[0], -1, head)
            return out.reshape(found.shape[0], -1)
        return found

    arguments.out.mkdir(parents=True)
    for file in arguments.folder.iterdir():
        if file.is_file() and file.suffix != ".safetensors" and file.name != "model.safetensors.index.json":
            shutil.copyfile(file, arguments.out / file.name)
    (arguments.out / "config.json").write_text(json.dumps(large, indent=2))
    listed = list(tensors(large)) + [("lm_head.weight", (large["vocab_size"], large["hidden_size"]))]
    header, end = {}, 0
    for name, size in listed:
        begin, end = end, end + 2 * int(numpy.prod(size))
        header[name] = dict(dtype="BF16", shape=size, data_offsets=[begin, end])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(arguments.out / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, size in listed:
            # A norm of a layer that does nothing may be anything; ones are no numbers out of the way.
            whole = numpy.ones(size, "<f4") if len(size) == 1 else numpy.zeros(size, "<f4")
            found = inflated(name)
            if found is not None:
                whole[tuple(slice(length) for length in found.shape)] = found
            file.write(bf16(whole).tobytes())


if __name__ == "__main__":
    main()
