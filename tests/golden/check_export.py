"""Compares the logits of a Hugging Face folder in transformers (f32) with ours.

    python check_export.py LOGITS_PROGRAM FOLDER [--rows 2] [--length 96] [--limit 1e-4] [--export FOLDER]

LOGITS_PROGRAM is the built example `logits` of crates/model. With --export the program first writes the model back
from FOLDER to the folder given there, as `alti` exports it, and transformers reads that one. Exits with 1 where
any logit differs by more than the limit.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--length", type=int, default=96)
    parser.add_argument("--limit", type=float, default=1e-4)
    parser.add_argument("--export", type=pathlib.Path)
    arguments = parser.parse_args()

    config = json.loads((arguments.folder / "config.json").read_text())
    generator = torch.Generator().manual_seed(11)
    tokens = torch.randint(0, config["vocab_size"], (arguments.rows, arguments.length), generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        given, found = pathlib.Path(folder, "tokens.json"), pathlib.Path(folder, "logits.safetensors")
        given.write_text(json.dumps({"tokens": tokens.tolist()}))
        command = [arguments.program, arguments.folder, given, found]
        subprocess.run(command + ([arguments.export] if arguments.export else []), check=True)
        ours = load_file(found)["logits"]

    model = AutoModelForCausalLM.from_pretrained(arguments.export or arguments.folder, dtype=torch.float32).eval()
    with torch.no_grad():
        theirs = model(input_ids=tokens, use_cache=False).logits
    difference = (ours - theirs).abs().max().item()
    agree = ours.shape == theirs.shape and difference <= arguments.limit
    print(json.dumps(dict(
        folder=str(arguments.folder), exported=bool(arguments.export), largest_difference=difference,
        largest_logit=theirs.abs().max().item(), limit=arguments.limit, agree=agree,
    )))
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
