"""PyTorch's side of the comparison: one training step of a Llama, timed.

The same model, weights, tokens and step as crates/train/examples/step.rs: forward, cross-entropy, backward, clipping
by global norm, fused AdamW. Two documents a row under a mask; positions start anew in the second. Weights and tokens
come from the same hash on both sides, so the losses of the two programs must agree.

    python peer.py --shape small --dtype f32 --compile --steps 8

The last line is one JSON object.
"""

import argparse
import json
import resource
import time

import numpy
import torch
import torch.nn.functional as F

SHAPES = {
    "nano": dict(dim=64, layers=2, heads=4, kv_heads=2, ffn=128, vocab=256, rows=2, seq=32),
    "small": dict(dim=256, layers=6, heads=8, kv_heads=2, ffn=768, vocab=4096, rows=8, seq=256),
    "big": dict(dim=768, layers=12, heads=12, kv_heads=4, ffn=2048, vocab=32768, rows=2, seq=512),
    # Two layers of Llama 3.2 1B, tied like it, without the scaling of its frequencies.
    "wide": dict(dim=2048, layers=2, heads=32, kv_heads=8, ffn=8192, vocab=128256, rows=1, seq=2048, tied=True),
}
LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY, CLIP = 1e-3, (0.9, 0.95), 1e-8, 0.1, 1.0
NORM_EPSILON, ROPE_THETA = 1e-5, 500000.0


def hashed(name, count):
    """`count` 64-bit values: SplitMix64's finaliser over FNV-1a(name) + index * golden ratio."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(seed) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        return z ^ (z >> numpy.uint64(31))


def weight(name, *shape):
    """Uniform with standard deviation 0.02 (matrices), or ones (norms)."""
    if len(shape) == 1:
        return torch.ones(shape)
    count = shape[0] * shape[1]
    unit = (hashed(name, count) >> numpy.uint64(40)).astype(numpy.float32) * numpy.float32(2.0**-24)
    span = numpy.float32(0.02 * 3.0**0.5)
    return torch.from_numpy((unit * numpy.float32(2.0) - numpy.float32(1.0)) * span).reshape(shape)


def parameters_of(shape, dtype):
    dim, heads, kv_heads, ffn = shape["dim"], shape["heads"], shape["kv_heads"], shape["ffn"]
    head_dim = dim // heads
    sizes = {"model.embed_tokens.weight": (shape["vocab"], dim)}
    for layer in range(shape["layers"]):
        prefix = f"model.layers.{layer}."
        sizes[prefix + "input_layernorm.weight"] = (dim,)
        sizes[prefix + "self_attn.q_proj.weight"] = (heads * head_dim, dim)
        sizes[prefix + "self_attn.k_proj.weight"] = (kv_heads * head_dim, dim)
        sizes[prefix + "self_attn.v_proj.weight"] = (kv_heads * head_dim, dim)
        sizes[prefix + "self_attn.o_proj.weight"] = (dim, heads * head_dim)
        sizes[prefix + "post_attention_layernorm.weight"] = (dim,)
        sizes[prefix + "mlp.gate_proj.weight"] = (ffn, dim)
        sizes[prefix + "mlp.up_proj.weight"] = (ffn, dim)
        sizes[prefix + "mlp.down_proj.weight"] = (dim, ffn)
    sizes["model.norm.weight"] = (dim,)
    if not shape.get("tied"):
        sizes["lm_head.weight"] = (shape["vocab"], dim)
    return {name: weight(name, *size).to(dtype).requires_grad_() for name, size in sizes.items()}


def rotate(x, cos, sin):
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


class Forward:
    """The loss of a batch as a function of the parameters. B rows, T tokens a row, D width, V vocabulary."""

    def __init__(self, shape, dtype, attention):
        self.shape, self.attention = shape, attention
        tokens = shape["seq"]
        boundary = tokens * 3 // 8
        document = (torch.arange(tokens) >= boundary).long()
        position = torch.arange(tokens) - document * boundary
        head_dim = shape["dim"] // shape["heads"]
        frequency = ROPE_THETA ** (-torch.arange(0, head_dim, 2).float() / head_dim)
        angle = position[:, None].float() * frequency[None]
        self.cos, self.sin = angle.cos().to(dtype), angle.sin().to(dtype)
        self.mask = (document[:, None] == document[None, :]) & torch.ones(tokens, tokens, dtype=torch.bool).tril()

    def __call__(self, weights, inputs_BT, targets_BT):
        s = self.shape
        rows, tokens, heads, kv_heads = s["rows"], s["seq"], s["heads"], s["kv_heads"]
        head_dim = s["dim"] // heads
        x_BTD = F.embedding(inputs_BT, weights["model.embed_tokens.weight"])
        for layer in range(s["layers"]):
            w = lambda name: weights[f"model.layers.{layer}.{name}.weight"]
            normed = F.rms_norm(x_BTD, (s["dim"],), w("input_layernorm"), NORM_EPSILON)
            split = lambda y, count: y.view(rows, tokens, count, head_dim).transpose(1, 2)
            query = rotate(split(F.linear(normed, w("self_attn.q_proj")), heads), self.cos, self.sin)
            key = rotate(split(F.linear(normed, w("self_attn.k_proj")), kv_heads), self.cos, self.sin)
            value = split(F.linear(normed, w("self_attn.v_proj")), kv_heads)
            if self.attention == "repeat":
                key = key.repeat_interleave(heads // kv_heads, dim=1)
                value = value.repeat_interleave(heads // kv_heads, dim=1)
            mixed = F.scaled_dot_product_attention(
                query, key, value, attn_mask=self.mask, enable_gqa=self.attention == "grouped"
            )
            mixed = mixed.transpose(1, 2).reshape(rows, tokens, heads * head_dim)
            x_BTD = x_BTD + F.linear(mixed, w("self_attn.o_proj"))
            normed = F.rms_norm(x_BTD, (s["dim"],), w("post_attention_layernorm"), NORM_EPSILON)
            gated = F.silu(F.linear(normed, w("mlp.gate_proj"))) * F.linear(normed, w("mlp.up_proj"))
            x_BTD = x_BTD + F.linear(gated, w("mlp.down_proj"))
        x_BTD = F.rms_norm(x_BTD, (s["dim"],), weights["model.norm.weight"], NORM_EPSILON)
        output = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
        logits = F.linear(x_BTD, output).view(-1, s["vocab"])
        return F.cross_entropy(logits.float(), targets_BT.view(-1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--dtype", choices=["f32", "bf16", "autocast"], default="f32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--attention", choices=["grouped", "repeat"], default="grouped")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    shape = SHAPES[arguments.shape]
    dtype = torch.bfloat16 if arguments.dtype == "bf16" else torch.float32
    weights = parameters_of(shape, dtype)
    count = shape["rows"] * (shape["seq"] + 1)
    tokens = torch.from_numpy((hashed("tokens", count) % numpy.uint64(shape["vocab"])).astype(numpy.int64))
    tokens = tokens.view(shape["rows"], shape["seq"] + 1)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    tied = shape.get("tied", False)
    decays = lambda name: weights[name].dim() == 2 and (tied or name != "model.embed_tokens.weight")
    groups = [
        dict(params=[w for name, w in weights.items() if decays(name)], weight_decay=WEIGHT_DECAY),
        dict(params=[w for name, w in weights.items() if not decays(name)], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, eps=EPSILON, fused=True)
    forward = Forward(shape, dtype, arguments.attention)
    if arguments.compile:
        forward = torch.compile(forward)

    seconds, losses, norms_seen = [], [], []
    for _ in range(arguments.steps):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.dtype == "autocast"):
            loss = forward(weights, inputs, targets)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(weights.values()), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        norms_seen.append(norm.item())
        seconds.append(time.perf_counter() - began)

    timed = sorted(seconds[arguments.warm :])
    median = timed[len(timed) // 2]
    per_step = shape["rows"] * shape["seq"]
    print(json.dumps(dict(
        program="pytorch", version=torch.__version__, shape=arguments.shape, dtype=arguments.dtype,
        compiled=arguments.compile, attention=arguments.attention, threads=arguments.threads,
        parameters=sum(w.numel() for w in weights.values()), tokens_per_second=round(per_step / median, 1),
        best_tokens_per_second=round(per_step / timed[0], 1),
        peak_rss_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), losses=losses,
        gradient_norms=norms_seen,
    )))


if __name__ == "__main__":
    main()
