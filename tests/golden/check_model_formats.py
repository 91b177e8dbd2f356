"""Checks that torch, llama.cpp's Python package `gguf` and transformers read what `alti convert` writes.

    python check_model_formats.py ALTI

A random Llama whose rows are whole blocks of every kind goes from a Hugging Face folder to GGUF in each storage, to Meta's
layout and back. Exits with 1 at the first difference.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from model_formats import MODEL, factors, meta_names, rotated

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 256,
    "intermediate_size": 512, "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
    "vocab_size": 96, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 131072,
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
    "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}


def tensors():
    generator = torch.Generator().manual_seed(5)
    config = transformers.LlamaConfig(**{key: value for key, value in CONFIG.items() if key != "architectures"})
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in transformers.LlamaForCausalLM(config).state_dict().items()}
    return {key: 0.1 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def check_gguf(path, storage, made):
    """Every tensor is what `gguf` makes of the values, or for K-quants near it; the keys are llama.cpp's."""
    reader = gguf.GGUFReader(path)
    found = {tensor.name: tensor for tensor in reader.tensors}
    value = lambda key: reader.fields[key].contents()
    for key, wanted in {
        "general.architecture": "llama", "llama.block_count": 5, "llama.embedding_length": 256,
        "llama.feed_forward_length": 512, "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 64, "llama.rope.dimension_count": 64, "llama.context_length": 131072,
        "llama.vocab_size": 96, "llama.rope.freq_base": 500000.0,
    }.items():
        assert value(key) == wanted, (storage, key, value(key))
    assert np.allclose(found.pop("rope_freqs.weight").data, factors(CONFIG), rtol=1e-6), storage
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, CONFIG["num_hidden_layers"])
    read = {}
    for key, weight in made.items():
        tensor = found.pop(names.get_name(key, try_suffixes=(".weight",)))
        values = rotated(CONFIG, key, weight).numpy()
        kind = tensor.tensor_type
        assert tuple(reversed(tensor.shape)) == values.shape, (storage, key)
        read[key] = gguf.quants.dequantize(tensor.data, kind).reshape(values.shape)
        bound = {"Q4_K": 0.075, "Q5_K": 0.0375, "Q6_K": 0.019}.get(kind.name)
        if bound:
            noise = np.linalg.norm(read[key] - values) / np.linalg.norm(values)
            assert noise < bound, (storage, key, noise)
        else:
            assert np.array_equal(gguf.quants.quantize(values, kind), tensor.data), (storage, key, kind)
    assert not found, (storage, list(found))
    return read


def main():
    alti = pathlib.Path(sys.argv[1]).resolve()
    run = lambda *words: subprocess.run([alti, *map(str, words)], check=True, stderr=subprocess.PIPE)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        folder = scratch / "hf"
        folder.mkdir()
        made = tensors()
        save_file(made, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(CONFIG))
        for storage in ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_1", "q5_0", "q4_k_m", "q4_1", "q4_0"):
            path, back = scratch / f"{storage}.gguf", scratch / f"{storage}-back"
            run("convert", folder, path, "--quantize", storage)
            read = check_gguf(path, storage, made)
            run("convert", path, back, "--to", "hf", "--quantize", "f32")
            for key, values in load_file(back / "model.safetensors").items():
                expected = torch.from_numpy(np.array(read[key]))
                assert torch.equal(rotated(CONFIG, key, values), expected), (storage, key)
            print(f"gguf, {storage}: ok")

        for storage, dtype in (("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)):
            path = scratch / f"meta-{storage}"
            run("convert", folder, path, "--to", "meta", "--quantize", storage)
            found = torch.load(path / "consolidated.00.pth", weights_only=True, mmap=True)
            expected = meta_names(CONFIG, made)
            assert found.keys() == expected.keys(), storage
            assert all(torch.equal(found[key], expected[key].to(dtype)) for key in expected), storage
            print(f"meta, {storage}: ok")

        # The scaling of frequencies is not read from GGUF by transformers, so a golden model without it is compared.
        plain = MODEL / "golden/gqa"
        run("convert", plain, scratch / "gqa.gguf")
        tokens = torch.arange(48).reshape(1, 48) * 7 % 64
        with torch.no_grad():
            load = transformers.AutoModelForCausalLM.from_pretrained
            ours = load(scratch, gguf_file="gqa.gguf", dtype=torch.float32)(tokens).logits
            theirs = load(plain, dtype=torch.float32)(tokens).logits
        difference = (ours - theirs).abs().max().item()
        assert difference < 1e-4, difference
        print(f"transformers, gguf: ok, logits differ by {difference:.1e}")


if __name__ == "__main__":
    main()
