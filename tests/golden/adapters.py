"""Makes the golden files of adapters and of 4-bit NormalFloat, as peft and bitsandbytes have them.

    python tests/golden/adapters.py

writes crates/model/tests/peft/: an adapter folder saved by peft over the golden model `gqa`, and the logits, the loss and
the adapters' gradients on that model's batch; and crates/kernels/tests/nf4/: codes and scales of bitsandbytes.
Versions: torch 2.15.0, transformers 5.24.0, peft 0.21.2, bitsandbytes 0.50.2, accelerate.
"""

import pathlib
import shutil

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASE = ROOT / "crates/model/tests/golden/gqa"
PEFT = ROOT / "crates/model/tests/peft"
NF4 = ROOT / "crates/kernels/tests/nf4"


def adapters():
    model = LlamaForCausalLM.from_pretrained(BASE, attn_implementation="eager", dtype=torch.float32)
    modules = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    settings = LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=modules, task_type="CAUSAL_LM")
    torch.manual_seed(1)
    tuned = get_peft_model(model, settings).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    batch = load_file(BASE / "golden.safetensors")
    inputs, targets, starts = (batch[name].long() for name in ("inputs", "targets", "document_starts"))
    weights = batch["loss_weights"]
    rows, seq_len = inputs.shape
    positions = torch.arange(seq_len)
    visible = (starts[:, :, None] == starts[:, None, :]) & (positions[None, :] <= positions[:, None])[None]
    mask = torch.zeros(rows, 1, seq_len, seq_len).masked_fill(~visible[:, None], torch.finfo(torch.float32).min)
    logits = tuned(
        input_ids=inputs, attention_mask=mask, position_ids=positions[None] - starts, use_cache=False
    ).logits
    cross_entropy = torch.nn.functional.cross_entropy(
        logits.reshape(rows * seq_len, -1).double(), targets.reshape(-1), reduction="none"
    ).reshape(rows, seq_len)
    loss = (cross_entropy * weights).sum() / weights.double().sum()
    loss.backward()
    shutil.rmtree(PEFT, ignore_errors=True)
    tuned.save_pretrained(PEFT)
    (PEFT / "README.md").unlink()
    golden = {"logits": logits.detach().contiguous(), "loss": loss.detach().reshape(1)}
    for name, parameter in tuned.named_parameters():
        if parameter.grad is not None:
            golden["grad." + name.replace(".default", "")] = parameter.grad.contiguous()
    save_file(golden, PEFT / "golden.safetensors")
    # The base's path on this machine is nobody's business.
    for file in PEFT.iterdir():
        file.chmod(0o644)
    config = PEFT / "adapter_config.json"
    config.write_text(config.read_text().replace(str(BASE), "gqa"))


def values(count):
    """Made alike by the test in Rust: SplitMix64 from 17, 24 bits a value, in [-1, 1), times a slow ramp."""
    made, state, mask = [], 17, (1 << 64) - 1
    for index in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        made.append(((z >> 40) / (1 << 23) - 1.0) * (1 + index // 64) / 1024)
    return torch.tensor(made, dtype=torch.float32)


def nf4():
    from bitsandbytes.functional import quantize_4bit

    weights = values(300 * 64)
    NF4.mkdir(exist_ok=True)
    packed, state = quantize_4bit(weights, blocksize=64, quant_type="nf4")
    packed_again, double = quantize_4bit(weights, blocksize=64, quant_type="nf4", compress_statistics=True)
    assert torch.equal(packed, packed_again)
    parts = {
        "codes.u8": packed.flatten(),
        "absmax.f32": state.absmax,
        "double_codes.u8": double.absmax,
        "double_absmax.f32": double.state2.absmax,
        "double_mean.f32": double.offset.reshape(1),
        "map.f32": double.state2.code,
    }
    for name, tensor in parts.items():
        (NF4 / name).write_bytes(tensor.contiguous().numpy().tobytes())


torch.set_num_threads(1)
adapters()
nf4()
