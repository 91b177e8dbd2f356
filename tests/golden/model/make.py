"""Makes the golden files that the model's tests compare themselves with.

For each case below: a tiny random Llama saved by Hugging Face transformers, a packed batch with a document
mask, and the logits, the loss and every parameter's gradient as PyTorch computes them in f32.

    python make.py [CASE ...]        # writes crates/model/tests/golden/<case>/, and versions.json beside them

The files are committed; run this only to change a case, with the versions of requirements.txt.
"""

import json
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

OUT = pathlib.Path(__file__).resolve().parents[3] / "crates/model/tests/golden"

# `documents`: one list of document lengths a row; each row's sum is `seq_len`.
# `legacy_rope`: rope written as Meta's own config.json has it (rope_theta and rope_scaling at the top level), not
# as transformers 5 writes it (rope_parameters).
CASES = {
    # The plain case: grouped queries, untied output layer.
    "gqa": dict(
        dim=32, layers=2, heads=4, kv_heads=2, ffn=48, vocab=64, tied=False, theta=500000.0,
        documents=[[24], [9, 15]],
    ),
    # The shape of Llama 3.2 1B: tied embeddings and scaled rope. The original length is 64, so that the three bands
    # of the scaling (kept, smoothed, divided) all hold frequencies that matter within 48 positions.
    "tied_scaled": dict(
        dim=32, layers=2, heads=2, kv_heads=1, ffn=40, vocab=50, tied=True, theta=500000.0, legacy_rope=True,
        scaling=dict(factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64),
        documents=[[48], [20, 28]],
    ),
    # No size is a multiple of a vector or of a tile; the head size differs from dim / heads; one-token documents.
    "odd": dict(
        dim=30, layers=3, heads=6, kv_heads=3, head_dim=10, ffn=37, vocab=51, tied=False, theta=10000.0,
        documents=[[1, 1, 17], [19], [7, 11, 1]],
    ),
    # One KV head for all queries, rows longer than any attention tile, documents across tile borders.
    "long_mqa": dict(
        dim=24, layers=1, heads=3, kv_heads=1, head_dim=16, ffn=32, vocab=33, tied=False, theta=500000.0,
        scaling=dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=256),
        documents=[[300], [37, 150, 1, 112]],
    ),
    # As many KV heads as query heads: no grouping. The file itself is bf16 in several shards with an index; the
    # golden values are f32 arithmetic on those weights.
    "sharded_bf16": dict(
        dim=16, layers=2, heads=2, kv_heads=2, ffn=24, vocab=40, tied=True, theta=10000.0, shard="4KB",
        documents=[[5, 12], [17], [17]],
    ),
}


def config_of(case):
    rope = dict(rope_type="default", rope_theta=case["theta"])
    if "scaling" in case:
        rope = dict(rope_type="llama3", rope_theta=case["theta"], **case["scaling"])
    return LlamaConfig(
        vocab_size=case["vocab"], hidden_size=case["dim"], intermediate_size=case["ffn"],
        num_hidden_layers=case["layers"], num_attention_heads=case["heads"], num_key_value_heads=case["kv_heads"],
        head_dim=case.get("head_dim", case["dim"] // case["heads"]), rms_norm_eps=1e-5, rope_parameters=rope,
        max_position_embeddings=1024, tie_word_embeddings=case["tied"], attention_bias=False, mlp_bias=False,
        attn_implementation="eager",
    )


def randomise(model, generator, bf16):
    """Weights large enough that attention is far from uniform and every gradient far from rounding noise."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.copy_(1.0 + 0.2 * noise)
            elif "embed_tokens" in name:
                parameter.copy_(0.7 * noise)
            else:
                parameter.copy_(1.3 * noise / parameter.shape[1] ** 0.5)
            if bf16:
                parameter.copy_(parameter.bfloat16().float())


def batch_of(case, generator):
    rows, seq_len = len(case["documents"]), sum(case["documents"][0])
    tokens = torch.randint(0, case["vocab"], (rows, seq_len + 1), generator=generator)
    weights = torch.rand(rows, seq_len, generator=generator) + 0.25
    weights[torch.rand(rows, seq_len, generator=generator) < 0.1] = 0.0
    starts = torch.zeros(rows, seq_len, dtype=torch.long)
    for row, lengths in enumerate(case["documents"]):
        assert sum(lengths) == seq_len
        start = 0
        for length in lengths:
            starts[row, start : start + length] = start
            start += length
            if start < seq_len:
                weights[row, start - 1] = 0.0  # the target would be the next document's first token
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), weights, starts


def make(name, case):
    generator = torch.Generator().manual_seed(20240418 + sorted(CASES).index(name))
    config = config_of(case)
    model = LlamaForCausalLM(config).to(torch.float32).eval()
    randomise(model, generator, bf16="shard" in case)
    inputs, targets, weights, starts = batch_of(case, generator)
    rows, seq_len = inputs.shape

    positions = torch.arange(seq_len)
    same_document = starts[:, :, None] == starts[:, None, :]
    visible = same_document & (positions[None, :] <= positions[:, None])[None]
    mask = torch.zeros(rows, 1, seq_len, seq_len).masked_fill(~visible[:, None], torch.finfo(torch.float32).min)
    logits = model(input_ids=inputs, attention_mask=mask, position_ids=positions[None] - starts, use_cache=False).logits
    cross_entropy = torch.nn.functional.cross_entropy(
        logits.reshape(rows * seq_len, -1).double(), targets.reshape(-1), reduction="none"
    ).reshape(rows, seq_len)
    loss = (cross_entropy * weights).sum() / weights.double().sum()
    loss.backward()

    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    if "shard" in case:
        copy = LlamaForCausalLM(config).to(torch.bfloat16)
        copy.load_state_dict(model.state_dict())
        copy.save_pretrained(folder, max_shard_size=case["shard"])
    else:
        model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    settings = json.loads((folder / "config.json").read_text())
    if case.get("legacy_rope"):
        rope = settings.pop("rope_parameters")
        settings["rope_theta"] = rope.pop("rope_theta")
        settings["rope_scaling"] = rope if rope["rope_type"] != "default" else None
        (folder / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    golden = {
        "inputs": inputs.int(), "targets": targets.int(), "loss_weights": weights, "document_starts": starts.int(),
        "logits": logits.detach().contiguous(), "loss": loss.detach().reshape(1),
    }
    for key, parameter in model.named_parameters():
        golden[f"grad.{key}"] = parameter.grad.contiguous()
    save_file(golden, folder / "golden.safetensors")

    # The two forms of config.json must mean the same model.
    again = LlamaForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        repeated = again(input_ids=inputs, attention_mask=mask, position_ids=positions[None] - starts).logits
    assert torch.equal(repeated, logits), name
    for file in folder.iterdir():
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: loss {loss.item():.6f}, {sum(p.numel() for p in model.parameters())} parameters, {size} bytes")


def main():
    torch.set_num_threads(1)
    for name in sys.argv[1:] or CASES:
        make(name, CASES[name])
    versions = {"python": sys.version.split()[0], "torch": torch.__version__, "transformers": transformers.__version__}
    (OUT / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
