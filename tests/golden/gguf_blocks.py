"""Makes the golden files of GGUF's blocks, with llama.cpp's own Python package `gguf`.

    python gguf_blocks.py        # writes crates/kernels/src/quant/golden/

`values.f32` are 512 values; `q8_0.bin`, `q5_1.bin`, `q5_0.bin`, `q4_1.bin` and `q4_0.bin` are what `gguf` makes of them.
`NAME.bin` of the other formats are blocks of random bits with finite scales, and `NAME.f32` what `gguf` reads in them. All
are little-endian.
"""

import pathlib

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

OUT = pathlib.Path(__file__).resolve().parents[2] / "crates/kernels/src/quant/golden"


def values():
    """A normal layer's values, with a block of zeros, one of a lone large value, ties, and tiny and huge ones."""
    generator = np.random.default_rng(20240418)
    made = (0.05 * generator.standard_normal(512)).astype(np.float32)
    made[32:64] = 0
    made[64:96] = 0
    made[80] = -3
    made[96:128] = np.arange(-16, 16) * 0.5
    made[128:160] *= 1e-6
    made[160:192] *= 1e4
    return made


def blocks(size, scales):
    """Two blocks of random bits whose f16 at the places `scales` are between 0.01 and 0.5, the second's negative."""
    generator = np.random.default_rng(size)
    made = generator.integers(0, 256, (2, size), dtype=np.uint8)
    for place in scales:
        numbers = generator.uniform(0.01, 0.5, 2) * [1, -1]
        made[:, place : place + 2] = numbers.astype("<f2").view(np.uint8).reshape(2, 2)
    return made


def main():
    OUT.mkdir(exist_ok=True)
    plain = values()
    (OUT / "values.f32").write_bytes(plain.astype("<f4").tobytes())
    for name in ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"):
        made = quantize(plain, GGMLQuantizationType[name])
        (OUT / f"{name.lower()}.bin").write_bytes(made.tobytes())
        (OUT / f"{name.lower()}.f32").write_bytes(dequantize(made, GGMLQuantizationType[name]).astype("<f4").tobytes())
    random = (
        ("Q6_K", 210, (208,)), ("Q5_K", 176, (0, 2)), ("Q4_K", 144, (0, 2)), ("Q3_K", 110, (108,)),
        ("Q2_K", 84, (80, 82)),
    )
    for name, size, scales in random:
        made = blocks(size, scales)
        (OUT / f"{name.lower()}.bin").write_bytes(made.tobytes())
        (OUT / f"{name.lower()}.f32").write_bytes(dequantize(made, GGMLQuantizationType[name]).astype("<f4").tobytes())


if __name__ == "__main__":
    main()
