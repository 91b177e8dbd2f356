#!/usr/bin/env python3
"""Our engine's scores beside those of transformers and llama.cpp, of the same weights and the same tokens.

    python3 bench/engine/exact.py                                        # beside transformers
    python3 bench/engine/exact.py --llama-cpp DIR                        # and beside llama.cpp
    python3 bench/engine/exact.py --llama-cpp DIR --model FOLDER         # of a model that you have, beside llama.cpp alone

Random models of odd shapes are made on the spot. The other program writes 256 tokens, always its likeliest; `alti serve`
then writes as many, and scores the other's token by token.

- transformers computes in f32: every token must be our likeliest too, the texts must be equal, and no log-probability may
  differ by more than 1e-4.
- llama.cpp quantises the model itself (`llama-quantize`) and both programs read its files: they must be nearer to each
  other than the file is to the model in f32, by the root mean square over log-probabilities.

Needs torch, transformers and numpy (requirements_exact.txt); `DIR` has `llama-server` and `llama-quantize`, which bench/README.md
says how to build. Ends with one line of JSON, and with 1 when something differs.
"""

import argparse
import itertools
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from run import ROOT, built

TOKENS = 256
# Of f32 arithmetic in another order.
TOLERANCE = 1e-4
KINDS = ["f32", "q8_0", "q6_k", "q5_0", "q4_k_m", "q4_0"]

# `scaling`: the llama3 rope scaling; its original length lies within the tokens that are written, so that it matters.
SHAPES = {
    "odd": dict(dim=72, layers=3, heads=6, kv_heads=3, head_dim=20, ffn=100, tied=False, theta=1e4),
    "one KV head, tied, scaled": dict(dim=96, layers=3, heads=6, kv_heads=1, head_dim=16, ffn=160, tied=True, theta=5e5,
                                      scaling=(8.0, 128)),
    "as 3.2's, scaled": dict(dim=256, layers=2, heads=8, kv_heads=2, head_dim=64, ffn=512, tied=True, theta=5e5,
                             scaling=(32.0, 64)),
    "no grouping, bf16 file": dict(dim=64, layers=4, heads=4, kv_heads=4, head_dim=16, ffn=176, tied=False, theta=1e4,
                                   bf16=True),
}
# Blocks of K-quants are 256 wide.
QUANTISED = dict(dim=512, layers=4, heads=8, kv_heads=1, head_dim=64, ffn=1024, tied=False, theta=5e5, scaling=(8.0, 128))


def make_model(shape, tokenizer, folder, seed):
    """Random weights, large enough that attention is far from uniform. Special tokens, and those that are a part of a
    character, are hardly ever likely: they end answers, and llama-server does not tell of them by themselves."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    specials = json.loads((tokenizer / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    rope = dict(rope_type="default", rope_theta=shape["theta"])
    if "scaling" in shape:
        factor, original = shape["scaling"]
        rope.update(rope_type="llama3", factor=factor, low_freq_factor=1.0, high_freq_factor=4.0,
                    original_max_position_embeddings=original)
    config = LlamaConfig(
        vocab_size=1 + max(map(int, specials)), hidden_size=shape["dim"], intermediate_size=shape["ffn"],
        num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"], num_key_value_heads=shape["kv_heads"],
        head_dim=shape["head_dim"], rope_parameters=rope, rms_norm_eps=1e-5, max_position_embeddings=1024,
        tie_word_embeddings=shape["tied"], attn_implementation="eager",
    )
    model = LlamaForCausalLM(config).to(torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    first = min(map(int, specials))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            width = parameter.shape[-1]
            scaled = 1.0 + 0.1 * noise if parameter.dim() == 1 else noise * 1.2 / width**0.5
            parameter.copy_(scaled.bfloat16().float() if shape.get("bf16") else scaled)
        parts = ["\ufffd" in text for text in AutoTokenizer.from_pretrained(tokenizer).batch_decode([[i] for i in range(first)])]
        model.lm_head.weight[:first][torch.tensor(parts)] *= 0.01
        model.lm_head.weight[first:] *= 0.01
    (model.to(torch.bfloat16) if shape.get("bf16") else model).save_pretrained(folder)
    # Anew: on the way through bf16 the frequencies of the rope were rounded too.
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    for file in tokenizer.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return model, first


class Server:
    """A server from its start to its end."""

    def __init__(self, words, ready):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = tempfile.TemporaryFile()
        words = [str(word).replace("PORT", str(self.port)) for word in words]
        self.process = subprocess.Popen(words, stdout=self.log, stderr=self.log)
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}{ready}").read()
                return
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None:
                    self.log.seek(0)
                    sys.exit(self.log.read().decode()[-2000:] + f"\n{words[0]} ended with {self.process.returncode}")
                time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)

    def ask(self, path, **body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(),
                                         {"content-type": "application/json"})
        return json.loads(urllib.request.urlopen(request).read())


class Ours(Server):
    def __init__(self, alti, model):
        super().__init__([alti, "serve", model, "--name", "model", "--listen", "127.0.0.1:PORT", "--log-format", "none",
                          "--set", 'engine.precision="f32"'],
                         "/readyz")

    def write(self, prompt, count):
        """The text of so many likeliest tokens."""
        answer = self.ask("/v1/completions", prompt=prompt, max_tokens=count, temperature=0)
        return answer["choices"][0]["text"]

    def score(self, tokens, after):
        """The log-probability of each token after the first `after`, and whether it is the likeliest."""
        answer = self.ask("/v1/completions", prompt=tokens, max_tokens=0, logprobs=1, echo=True)
        logprobs = answer["choices"][0]["logprobs"]
        values = logprobs["token_logprobs"][after:]
        return values, [value == max(top.values()) for value, top in zip(values, logprobs["top_logprobs"][after:])]


def prompts_of(first, bos):
    draw = random.Random(7)
    return [[bos] + [draw.randrange(first) for _ in range(length)] for length in (0, 17, 200)]


def beside_transformers(alti, tokenizer, scratch):
    import torch
    from transformers import AutoTokenizer

    rows = []
    for number, (name, shape) in enumerate(SHAPES.items()):
        folder = scratch / f"transformers-{number}"
        model, first = make_model(shape, tokenizer, folder, number)
        words = AutoTokenizer.from_pretrained(folder)
        worst, equal, texts, count, closest = 0.0, 0, 0, 0, float("inf")
        with Ours(alti, folder) as ours:
            for prompt in prompts_of(first, words.bos_token_id):
                with torch.no_grad():
                    # The mask said: what is padding would otherwise be guessed from the tokens.
                    tokens = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)).long(),
                                            max_new_tokens=TOKENS, do_sample=False, pad_token_id=0, eos_token_id=None)[0]
                    scores = model(tokens[None]).logits[0].double().log_softmax(-1)[len(prompt) - 1:-1]
                written = tokens[len(prompt):]
                assert len(written) == TOKENS and written.max() < first, "a special token was written"
                values, likeliest = ours.score(tokens.tolist(), len(prompt))
                theirs = scores.gather(1, written[:, None])[:, 0]
                worst = max(worst, (torch.tensor(values, dtype=torch.float64) - theirs).abs().max().item())
                best = scores.topk(2).values
                closest = min(closest, (best[:, 0] - best[:, 1]).min().item())
                equal += sum(likeliest)
                count += TOKENS
                texts += ours.write(prompt, TOKENS) == words.decode(written, clean_up_tokenization_spaces=False)
        row = dict(model=name, beside="transformers f32", tokens=count, same_likeliest=equal, same_texts=texts,
                   texts=count // TOKENS, worst_logprob=worst, closest_choice=closest)
        row["fine"] = equal == count and texts == row["texts"] and worst <= TOLERANCE
        rows.append(row)
        print(f"{name:28} transformers f32  likeliest {equal}/{count}, texts {texts}/{row['texts']}, log-probabilities within "
              f"{worst:.1e} (the closest choice was {closest:.1e} apart)", flush=True)
    return rows


def beside_llama_cpp(arguments, alti, tokenizer, scratch):
    import numpy

    folder = arguments.model
    if folder is None:
        folder = scratch / "quantised"
        _, first = make_model(QUANTISED, tokenizer, folder, 99)
        bos = first
    else:
        config = json.loads((folder / "config.json").read_text())
        bos, first = config["bos_token_id"], config["vocab_size"] // 2
    whole = scratch / "model-f32.gguf"
    subprocess.run([alti, "convert", folder, whole, "--quantize", "f32"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    rows = []
    with Ours(alti, whole) as exact:
        for kind in arguments.kinds:
            file = whole
            if kind != "f32":
                file = scratch / f"{kind}.gguf"
                # Everything of the one kind, as in comparisons of kinds one wants it; K-quants mix by their own rule.
                subprocess.run([arguments.llama_cpp / "llama-quantize", whole, file, kind.upper()], check=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            theirs_command = [arguments.llama_cpp / "llama-server", "-m", file, "--port", "PORT", "-c", "1024", "-np", "1",
                              "-t", str(arguments.threads), "--no-webui", "-ctk", "f32", "-ctv", "f32", "-fa", "off"]
            ours_found, theirs_found, exact_found, same, texts, count = [], [], [], 0, 0, 0
            with Server(theirs_command, "/health") as theirs, Ours(alti, file) as ours:
                for prompt in prompts_of(first, bos):
                    answer = theirs.ask("/completion", prompt=prompt, n_predict=TOKENS, temperature=0, n_probs=1,
                                        ignore_eos=True, cache_prompt=False, return_tokens=True)
                    # Of real models: up to the first token that is a part of a character.
                    pairs = zip(answer["completion_probabilities"], answer["tokens"])
                    told = [entry for entry, _ in itertools.takewhile(lambda pair: pair[0]["id"] == pair[1], pairs)]
                    tokens = prompt + [entry["id"] for entry in told]
                    theirs_found += [entry["logprob"] for entry in told]
                    values, likeliest = ours.score(tokens, len(prompt))
                    ours_found += values
                    exact_found += exact.score(tokens, len(prompt))[0]
                    same += sum(likeliest)
                    count += len(told)
                    texts += ours.write(prompt, TOKENS) == answer["content"]
            ours_found, theirs_found, exact_found = map(numpy.array, (ours_found, theirs_found, exact_found))
            rms = lambda values: float(numpy.sqrt(numpy.mean(values**2)))
            apart, error = rms(ours_found - theirs_found), rms(theirs_found - exact_found)
            row = dict(model=str(arguments.model or "random"), beside="llama.cpp", kind=kind, tokens=count, same_likeliest=same,
                       same_texts=texts, apart=apart, worst=float(abs(ours_found - theirs_found).max()),
                       error_theirs=error, error_ours=rms(ours_found - exact_found))
            row["fine"] = row["worst"] <= 1e-3 and same == count if kind == "f32" else apart <= error
            rows.append(row)
            print(f"{kind:28} llama.cpp  likeliest {same}/{count}, texts {texts}/3, apart {apart:.1e} (at worst "
                  f"{row['worst']:.1e}); from f32 theirs {error:.1e}, ours {row['error_ours']:.1e}", flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alti", type=pathlib.Path, help="a binary instead of the release build of this folder")
    parser.add_argument("--llama-cpp", type=pathlib.Path, help="a folder with llama-server and llama-quantize")
    parser.add_argument("--model", type=pathlib.Path, help="a Hugging Face folder instead of random weights")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="what llama.cpp makes of the model")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    alti = arguments.alti or built()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        tokenizer = scratch / "tokenizer"
        subprocess.run([alti, "tokenizer", "train", ROOT / "README.md", ROOT / "CONTRIBUTING.md", "--vocab-size", "1024",
                        "--out", tokenizer], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if arguments.model is None:
            rows += beside_transformers(alti, tokenizer, scratch)
        if arguments.llama_cpp:
            rows += beside_llama_cpp(arguments, alti, tokenizer, scratch)
    versions = {}
    if arguments.model is None:
        import torch
        import transformers
        versions = dict(torch=torch.__version__, transformers=transformers.__version__)
    print(json.dumps(dict(versions=versions, rows=rows)))
    sys.exit(0 if all(row["fine"] for row in rows) else 1)


if __name__ == "__main__":
    main()
