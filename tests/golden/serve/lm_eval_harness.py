"""Runs lm-evaluation-harness against `alti serve`, and beside it on transformers with the same weights.

    python lm_eval_harness.py target/debug/alti

A random Llama and a tokenizer are made on the spot; multiple choice, rolling log-likelihoods and generation are tasks of
a few lines, so nothing is fetched. Every log-likelihood that comes through `local-completions`, with prompts sent as
tokens and as text, one by one, in batches and concurrently, must be that of the harness's own `hf` model within 1e-3, and
every `is_greedy` and every generated text the same. Needs lm_eval[api], torch, transformers and accelerate; prints a line
for each way of asking and ends with 1 when one differs.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OPENAI_API_KEY="none")

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Sums of some tens of scores of f32 arithmetic in another order.
TOLERANCE = 1e-3


def task(name, folder, **more):
    """A task's description, in the JSON that YAML is too."""
    return json.dumps(dict(
        task=f"tiny_{name}", dataset_path="json", dataset_kwargs=dict(data_files=dict(test=f"{folder}/{name}.json")),
        test_split="test", metadata=dict(version=1), **more,
    ))


def tasks(folder, stop):
    """One for each way in which the harness asks."""
    metrics = lambda *names: [dict(metric=name) for name in names]
    return dict(
        choice=task("choice", folder, output_type="multiple_choice", doc_to_text="{{question}}", doc_to_choice="{{choices}}",
                    doc_to_target="answer", target_delimiter="", metric_list=metrics("acc", "acc_norm")),
        rolling=task("rolling", folder, output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="{{page}}",
                     metric_list=metrics("word_perplexity", "bits_per_byte")),
        generate=task("generate", folder, output_type="generate_until", doc_to_text="{{question}}", doc_to_target="{{answer}}",
                      generation_kwargs=dict(until=[stop], max_gen_toks=24, do_sample=False),
                      metric_list=metrics("exact_match")),
    )


def make_model(alti, folder):
    """A random Llama with a tokenizer of its own, as a Hugging Face folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    texts = [str(ROOT / name) for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")]
    tokenizer = folder / "tokenizer"
    subprocess.run([alti, "tokenizer", "train", *texts, "--vocab-size", "1024", "--out", tokenizer], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    special = json.loads((tokenizer / "tokenizer_config.json").read_text())
    added = {entry["content"]: int(token) for token, entry in special["added_tokens_decoder"].items()}
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=max(added.values()) + 1, hidden_size=96, intermediate_size=160, num_hidden_layers=3,
        num_attention_heads=6, num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
                             high_freq_factor=4.0, original_max_position_embeddings=128),
        bos_token_id=added["<|begin_of_text|>"], eos_token_id=added["<|end_of_text|>"], initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).to(torch.float32)
    with torch.no_grad():
        # What the model would say of itself is text, not names of special tokens: those end an answer.
        model.model.embed_tokens.weight[min(added.values()):] *= 0.1
    out = folder / "model"
    model.save_pretrained(out)
    for file in tokenizer.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    return out


def make_tasks(folder, model, stop):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    llama, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)

    def likeliest(question):
        """What the model itself would say, so that some choices are greedy."""
        tokens = tokenizer(question, return_tensors="pt")
        with torch.no_grad():
            answer = llama.generate(**tokens, max_new_tokens=3, do_sample=False, pad_token_id=0)
        return tokenizer.decode(answer[0, tokens["input_ids"].shape[1]:])

    words = (ROOT / "docs/guide/1-documents.md").read_text().split()
    stretch = lambda at, count: " ".join(words[at:at + count])
    questions = [stretch(31 * i, 3 + 4 * i) for i in range(6)]
    choice = [
        dict(question=question, choices=[" " + stretch(200 + 7 * i + j, 1 + j) for j in range(4)] + [likeliest(question)],
             answer=i % 4)
        for i, question in enumerate(questions)
    ]
    rolling = [dict(page=stretch(17 * i, size)) for i, size in enumerate((1, 25, 320))]
    generate = [dict(question=stretch(23 * i, 5 + i), answer="x") for i in range(6)]
    for name, documents in dict(choice=choice, rolling=rolling, generate=generate).items():
        (folder / f"{name}.json").write_text("\n".join(map(json.dumps, documents)))
    for name, text in tasks(folder, stop).items():
        (folder / f"{name}.yaml").write_text(text)


class Server:
    def __init__(self, alti, model, *more):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen([alti, "serve", model, "--name", "tiny", "--listen", f"127.0.0.1:{self.port}", *more],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.url}/readyz").read()
                return
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None:
                    sys.exit(f"alti serve ended with {self.process.returncode}")
                time.sleep(0.1)
        sys.exit("alti serve is not ready after a minute")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)


def evaluate(model, model_args, tasks, folder, batch_size):
    """Of each document of each task the harness's answers: (log-likelihood, is_greedy), a sum, or a text."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    results = lm_eval.simple_evaluate(
        model=model, model_args=model_args, tasks=tasks, batch_size=batch_size, bootstrap_iters=0, log_samples=True,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False), verbosity="ERROR",
    )
    answers = {}
    for task, samples in results["samples"].items():
        for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
            answers[task, sample["doc_id"]] = [response[0] for response in sample["resps"]]
    return answers


def compare(found, wanted, name):
    """Prints how far the answers are from each other; whether they are the same."""
    worst, different = 0.0, []
    for place, ours in found.items():
        theirs = wanted[place]
        for mine, other in zip(ours, theirs, strict=True):
            if isinstance(other, str):
                if mine != other:
                    different.append((place, mine, other))
                continue
            mine, other = ([value] if isinstance(value, float) else value for value in (mine, other))
            worst = max(worst, abs(float(mine[0]) - float(other[0])))
            if [bool(flag) for flag in mine[1:]] != [bool(flag) for flag in other[1:]]:
                different.append((place, mine, other))
    fine = worst <= TOLERANCE and not different
    print(f"{name:55} log-likelihoods within {worst:.1e}, {'ok' if fine else 'DIFFERENT'}")
    for place, mine, other in different:
        print(f"  {place}: {mine!r} instead of {other!r}")
    return fine


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("alti", help="the program")
    arguments = parser.parse_args()
    alti = str(pathlib.Path(arguments.alti).resolve())
    import lm_eval
    import torch
    import transformers
    print(f"lm_eval {lm_eval.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
    fine = True
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        model = make_model(alti, scratch)
        # A piece of what it writes, so that answers do stop there.
        make_tasks(scratch, model, stop="e")
        short_tasks = ["tiny_choice", "tiny_generate"]
        all_tasks = [*short_tasks, "tiny_rolling"]
        with Server(alti, model) as server:
            ours = dict(model="tiny", base_url=f"{server.url}/v1/completions", max_length=256, max_gen_toks=24)
            for bos in (True, False):
                # Windows of a long page are two tokens shorter through the API, where one more token is generated.
                hf = dict(pretrained=str(model), dtype="float32", add_bos_token=bos, max_length=254, device="cpu",
                          attn_implementation="eager")
                wanted = evaluate("hf", hf, all_tasks, scratch, 1)
                if bos:
                    pairs = [pair for (task, _), answers in wanted.items() if task == "tiny_choice" for pair in answers]
                    greedy = sum(bool(pair[1]) for pair in pairs)
                    assert 0 < greedy < len(pairs), f"{greedy} of {len(pairs)} choices are greedy"
                    print(f"{len(pairs)} choices, {greedy} of them greedy")
                ways = [
                    ("tokens", dict(tokenized_requests=True), 1, all_tasks),
                    ("tokens, batches of 8", dict(tokenized_requests=True), 8, all_tasks),
                    ("tokens, 4 at once", dict(tokenized_requests=True, num_concurrent=4), 1, all_tasks),
                    # Later windows of a page begin in its midst, which text cannot say: the server begins a document.
                    ("text", dict(tokenized_requests=False), 1, short_tasks),
                    ("text, batches of 8", dict(tokenized_requests=False), 8, short_tasks),
                ]
                for name, more, batch_size, tasks in ways:
                    if not bos and not more["tokenized_requests"]:
                        continue
                    given = dict(ours, tokenizer=str(model), tokenizer_backend="huggingface", add_bos_token=bos, **more)
                    found = evaluate("local-completions", given, tasks, scratch, batch_size)
                    fine &= compare(found, wanted, f"{name}, add_bos_token={bos}")
                if not bos:
                    # Without a tokenizer here: the server's own is asked.
                    given = dict(ours, tokenizer_backend="auto")
                    found = evaluate("local-completions", given, all_tasks, scratch, 1)
                    fine &= compare(found, wanted, "tokens, by the server's tokenizer")
                else:
                    # Text without the token that the server adds is scored as text with it.
                    given = dict(ours, tokenizer=str(model), tokenizer_backend="huggingface", tokenized_requests=False)
                    found = evaluate("local-completions", given, short_tasks, scratch, 1)
                    fine &= compare(found, wanted, "text, add_bos_token=False, against True")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
