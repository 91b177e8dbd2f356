"""Makes a GGUF model of every encoding that is read, whole and in parts, with llama.cpp's own Python package `gguf`.

    python gguf_parts.py        # writes crates/model/tests/formats/gguf_parts/

A Llama of one layer, each of whose matrices is stored in another encoding: `gguf`'s own blocks where it quantises, random
bits with finite scales where it only reads. `whole.gguf` is one file, `part-0000N-of-00003.gguf` are the same in three.
`values.f32` are what `gguf` reads in the tensors, in the file's order, little-endian.
"""

import pathlib
import shutil

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

OUT = pathlib.Path(__file__).resolve().parents[2] / "crates/model/tests/formats/gguf_parts"
DIM, FFN, HEADS, KV_HEADS, HEAD, VOCAB = 256, 32, 2, 1, 8, 8

# Name, rows, columns, encoding. Columns that are no multiple of 256 have no K-quants.
TENSORS = (
    ("token_embd", VOCAB, DIM, Type.Q6_K),
    ("blk.0.attn_q", HEADS * HEAD, DIM, Type.Q2_K),
    ("blk.0.attn_k", KV_HEADS * HEAD, DIM, Type.Q3_K),
    ("blk.0.attn_v", KV_HEADS * HEAD, DIM, Type.Q5_K),
    ("blk.0.attn_output", DIM, HEADS * HEAD, Type.BF16),
    ("blk.0.ffn_gate", FFN, DIM, Type.Q4_1),
    ("blk.0.ffn_up", FFN, DIM, Type.Q5_0),
    ("blk.0.ffn_down", DIM, FFN, Type.Q5_1),
    ("blk.0.attn_norm", None, DIM, Type.F32),
    ("blk.0.ffn_norm", None, DIM, Type.F32),
    ("output_norm", None, DIM, Type.F32),
    ("output", VOCAB, DIM, Type.Q4_K),
)
# Where the f16 of a block lie.
SCALES = {Type.Q2_K: (80, 82), Type.Q3_K: (108,), Type.Q4_K: (0, 2), Type.Q5_K: (0, 2), Type.Q6_K: (208,)}


def tensors():
    generator = np.random.default_rng(20240418)
    for name, rows, cols, kind in TENSORS:
        if rows is None:
            data = (1 + 0.1 * generator.standard_normal(cols)).astype(np.float32)
        elif kind in SCALES:
            size = gguf.GGML_QUANT_SIZES[kind][1]
            data = generator.integers(0, 256, (rows, cols // 256, size), dtype=np.uint8)
            for place in SCALES[kind]:
                scales = generator.uniform(1e-4, 1e-3, data.shape[:2]).astype("<f2")
                data[..., place : place + 2] = scales.view(np.uint8).reshape(*data.shape[:2], 2)
            data = data.reshape(rows, -1)
        else:
            data = quantize((0.05 * generator.standard_normal((rows, cols))).astype(np.float32), kind)
        yield f"{name}.weight", data, kind


def write(path, **split):
    writer = gguf.GGUFWriter(path, "llama", **split)
    writer.add_name("parts")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(DIM)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(500000.0)
    writer.add_vocab_size(VOCAB)
    for name, data, kind in tensors():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    write(OUT / "whole.gguf")
    write(OUT / "part.gguf", split_max_tensors=4)
    values = [dequantize(data, kind).astype("<f4").tobytes() for _, data, kind in tensors()]
    (OUT / "values.f32").write_bytes(b"".join(values))


if __name__ == "__main__":
    main()
