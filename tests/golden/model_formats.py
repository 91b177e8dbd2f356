"""Makes the golden files of Meta's and GGUF's formats, with torch and with llama.cpp's own Python package `gguf`.

    python model_formats.py        # writes crates/model/tests/formats/

All come from the golden Hugging Face folders of crates/model/tests/golden, whose values they hold in another layout:

- `meta_two`: `gqa` in two shards as Llama 3 has them, the embedding cut by rows.
- `meta_llama2`: `gqa` in two shards as Llama 2 has them: the embedding cut by columns, frequencies, no vocabulary.
- `meta_four`: `gqa` in four shards for two key and value heads, which are repeated.
- `meta_tied`: `tied_scaled` in one bf16 shard, whose output layer is the embedding once more. (Its frequencies are
  scaled in another way, which params.json cannot say; only the tensors are compared.)
- `gqa.gguf`: `gqa` in F32, with a key of every type. `tied_scaled.gguf`: in F16, with the tensor of factors.
- `legacy.pth`: torch's format before version 1.6.
"""

import json
import math
import pathlib
import shutil

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

MODEL = pathlib.Path(__file__).resolve().parents[2] / "crates/model/tests"
OUT = MODEL / "formats"

META = {
    "model.embed_tokens": "tok_embeddings", "model.norm": "norm", "lm_head": "output",
    "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}


def case(name):
    folder = MODEL / "golden" / name
    return json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")


def pairs(weight, heads):
    """Halves of heads to pairs, as the rotary embedding of Meta and of llama.cpp has them."""
    rows, cols = weight.shape
    return weight.view(heads, 2, rows // heads // 2, cols).transpose(1, 2).reshape(rows, cols).contiguous()


def rotated(config, name, weight):
    if "q_proj" in name:
        return pairs(weight, config["num_attention_heads"])
    if "k_proj" in name:
        return pairs(weight, config["num_key_value_heads"])
    return weight


def meta_names(config, tensors):
    made = {}
    for name, weight in tensors.items():
        parts = name.removesuffix(".weight").removeprefix("model.layers.").split(".", 1)
        if parts[0].isdigit():
            own = f"layers.{parts[0]}.{META[parts[1]]}.weight"
        else:
            own = META[name.removesuffix(".weight")] + ".weight"
        made[own] = rotated(config, name, weight)
    return made


def shard(tensors, rank, ranks, config, embedding_dim):
    made = {}
    for name, weight in tensors.items():
        part = name.split(".")[-2]
        if weight.dim() == 1:
            cut = weight
        elif part in ("wo", "w2"):
            cut = weight.chunk(ranks, 1)[rank]
        elif part == "tok_embeddings":
            cut = weight.chunk(ranks, embedding_dim)[rank]
        elif part in ("wk", "wv") and ranks > config["num_key_value_heads"]:
            cut = weight.chunk(config["num_key_value_heads"], 0)[rank * config["num_key_value_heads"] // ranks]
        else:
            cut = weight.chunk(ranks, 0)[rank]
        made[name] = cut.clone()
    return made


def params(config, **more):
    return {
        "dim": config["hidden_size"], "n_layers": config["num_hidden_layers"],
        "n_heads": config["num_attention_heads"], "n_kv_heads": config["num_key_value_heads"],
        # Three places of the reference's rule at once: 2/3 of four times the width, a factor, a multiple.
        "multiple_of": config["intermediate_size"], "ffn_dim_multiplier": 0.4, "norm_eps": config["rms_norm_eps"],
        "rope_theta": 500000.0, "vocab_size": config["vocab_size"], **more,
    }


def folder(name):
    path = OUT / name
    path.mkdir(parents=True)
    return path


def write_meta(name, source, ranks, embedding_dim=0, spare=None, dtype=torch.float32, **more):
    config, tensors = case(source)
    tensors = {key: value.to(dtype) for key, value in meta_names(config, tensors).items()}
    if "output.weight" not in tensors:
        tensors["output.weight"] = tensors["tok_embeddings.weight"].clone()
    path = folder(name)
    (path / "params.json").write_text(json.dumps(params(config, **more)) + "\n")
    for rank in range(ranks):
        cut = shard(tensors, rank, ranks, config, embedding_dim) | (spare or {})
        torch.save(cut, path / f"consolidated.{rank:02}.pth")


def factors(config):
    """As llama.cpp's converter computes them."""
    rope = config.get("rope_scaling") or config["rope_parameters"]
    theta = config.get("rope_theta") or rope["rope_theta"]
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    original = rope["original_max_position_embeddings"]
    made = []
    for index in range(0, head, 2):
        wavelength = 2 * math.pi * theta ** (index / head)
        if wavelength < original / high:
            made.append(1.0)
        elif wavelength > original / low:
            made.append(rope["factor"])
        else:
            smooth = (original / wavelength - low) / (high - low)
            made.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(made, dtype=np.float32)


def write_gguf(name, kind, every_type):
    config, tensors = case(name)
    writer = gguf.GGUFWriter(OUT / f"{name}.gguf", "llama")
    writer.add_name(name)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config.get("rope_theta") or config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(0 if kind == "F32" else 1)
    if every_type:
        writer.add_uint8("test.u8", 8)
        writer.add_int8("test.i8", -8)
        writer.add_uint16("test.u16", 1600)
        writer.add_int16("test.i16", -1600)
        writer.add_int32("test.i32", -320000)
        writer.add_uint64("test.u64", 1 << 63)
        writer.add_int64("test.i64", -(1 << 62))
        writer.add_float64("test.f64", 0.1)
        writer.add_bool("test.bool", True)
        writer.add_array("test.texts", ["Ġa", "", "ł"])
        writer.add_array("test.floats", [0.5, -1.5])
        writer.add_array("test.bools", [True, False, True])
        writer.add_array("test.lists", [[1, 2], [3]])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    kind = gguf.GGMLQuantizationType[kind]
    for key, weight in tensors.items():
        own = names.get_name(key, try_suffixes=(".weight",))
        values = rotated(config, key, weight).numpy()
        encoding = kind if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(own, gguf.quants.quantize(values, encoding), raw_dtype=encoding)
    if kind == gguf.GGMLQuantizationType.F16:
        writer.add_tensor("rope_freqs.weight", factors(config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    write_meta("meta_two", "gqa", 2)
    write_meta("meta_llama2", "gqa", 2, 1, {"rope.freqs": torch.arange(4.0)}, vocab_size=-1)
    write_meta("meta_four", "gqa", 4)
    write_meta("meta_tied", "tied_scaled", 1, dtype=torch.bfloat16)
    write_gguf("gqa", "F32", True)
    write_gguf("tied_scaled", "F16", False)
    torch.save({"norm.weight": torch.ones(3)}, OUT / "legacy.pth", _use_new_zipfile_serialization=False)
    for file in OUT.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


if __name__ == "__main__":
    main()
