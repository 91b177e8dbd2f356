#!/usr/bin/env python3
"""Our trainer beside Hugging Face's: the same documents, split pattern and vocabulary, taking turns.

    python3 bench/tokenizer/train.py corpus.jsonl
    python3 bench/tokenizer/train.py corpus.jsonl --vocabulary 32000 --rounds 3

The file is JSONL with a field `text`. Each side is a process of its own that reads the file and writes a tokenizer.json:
`alti tokenizer train`, and `tokenizers`' BpeTrainer, which is given the documents by a generator and all threads. The
vocabulary is that of ordinary tokens: 256 bytes and the merges. Prints each run, then medians of seconds and of peak
resident memory and how many tokens the two have in common, and ends with one line of JSON.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SCRATCH = ROOT / "target/bench/tokenizer"
SPECIALS = 256
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def environment():
    """Starts this script again in an environment with the packages of requirements.txt."""
    venv = SCRATCH / "venv"
    if pathlib.Path(sys.prefix) == venv:
        return
    python = venv / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"], check=True)
    os.execv(python, [str(python), __file__, *sys.argv[1:]])


def peer(corpus, vocabulary, out):
    """Trains with Hugging Face's tokenizers, in this process."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    def documents():
        batch = []
        with open(corpus, encoding="utf-8") as lines:
            for line in lines:
                batch.append(json.loads(line)["text"])
                if len(batch) == 1000:
                    yield batch
                    batch = []
        yield batch

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(documents(), trainer)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))


def measured(command):
    """Seconds and peak resident MiB of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    # Read to its end, so that a full pipe stops nobody.
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        raise SystemExit(f"{command[0]} failed:\n{said.decode(errors='replace')}")
    return seconds, usage.ru_maxrss / 1024


def tokens(folder):
    return set(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="JSONL with a field text")
    parser.add_argument("--alti", default=ROOT / "target/release/alti", help="our program, built for release")
    parser.add_argument("--vocabulary", type=int, default=128_000, help="ordinary tokens")
    parser.add_argument("--memory", default="4GB", help="what ours is told to keep to")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    environment()
    if arguments.peer:
        return peer(arguments.corpus, arguments.vocabulary, pathlib.Path(arguments.peer))

    folders = {"ours": SCRATCH / "trained-ours", "tokenizers": SCRATCH / "trained-tokenizers"}
    commands = {
        "ours": [
            arguments.alti, "tokenizer", "train", arguments.corpus, "--out", folders["ours"],
            "--vocab-size", str(arguments.vocabulary + SPECIALS), "--memory", arguments.memory,
        ],
        "tokenizers": [
            sys.executable, __file__, arguments.corpus, "--vocabulary", str(arguments.vocabulary),
            "--peer", folders["tokenizers"],
        ],
    }
    runs = {who: [] for who in commands}
    for number in range(arguments.rounds):
        # Who goes first changes, so that neither always finds the file in memory.
        for who in list(commands) if number % 2 == 0 else reversed(list(commands)):
            for left in (folders[who], folders[who].with_name(folders[who].name + ".work")):
                shutil.rmtree(left, ignore_errors=True)
            seconds, peak = measured([str(word) for word in commands[who]])
            runs[who].append({"seconds": seconds, "peak_mib": peak})
            print(f"round {number + 1}  {who:10} {seconds:7.1f} s  {peak:7.0f} MiB", flush=True)

    median = lambda who, key: statistics.median(run[key] for run in runs[who])
    medians = {who: {key: median(who, key) for key in ("seconds", "peak_mib")} for who in runs}
    found = {who: tokens(folder) for who, folder in folders.items()}
    common = len(found["ours"] & found["tokenizers"])
    faster = medians["tokenizers"]["seconds"] / medians["ours"]["seconds"]
    memory = medians["ours"]["peak_mib"] / medians["tokenizers"]["peak_mib"]
    print(
        f"medians: {faster:.1f} times as fast, {memory:.2f} of the memory; {common:,} of {arguments.vocabulary:,} tokens"
        " are in both"
    )
    print(
        json.dumps(
            {
                "bench": "train_tokenizer",
                "processor": platform.processor(),
                "threads": os.cpu_count(),
                "corpus_bytes": os.path.getsize(arguments.corpus),
                "vocabulary": arguments.vocabulary,
                "runs": runs,
                "medians": medians,
                "common_tokens": common,
            }
        )
    )


if __name__ == "__main__":
    main()
