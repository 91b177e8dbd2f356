"""Trains and applies linear n-gram classifiers on the same texts with fastText and with ours: speed and accuracy.

    python3 bench/curate/classifier.py --data FOLDER [--rounds 3] [--dimension 100] [--threads 1]

Needs the packages `fasttext-wheel` and `numpy` below 2. FOLDER is this project's reference data; the texts are:

- `pages`: paragraphs of Wikipedia's articles and arXiv's papers against paragraphs of the web (C4), 60 words each;
- `languages`: the sentences of 44 languages (lingua's test data), a label a language, with n-grams of characters;
- `code`: Rust files of this machine's cargo registry in parts of 200 words, those with `unsafe` against those without, that word
  and whole comments taken out: large enough that time can be measured.

A tenth is held out by a hash. Every run is a process of its own, ours and fastText's by turns, with the same dimension, epochs, rate,
n-grams and buckets; medians. Time of training runs from the file to the model in memory. fastText shuffles nothing, so it gets
the texts in random order; with more than one thread its results vary.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def parts(text, size):
    words = text.split()
    for start in range(0, len(words), size):
        if len(words[start : start + size]) >= size // 2:
            yield " ".join(words[start : start + size])


def pages(data):
    opened = lambda name: gzip.open(data / name, "rt") if name.endswith(".gz") else open(data / name)
    wiki = opened("text/wiki_demo.txt").read()
    arxiv = [json.loads(line)["text"] for line in opened("text/arxiv.jsonl.gz")]
    web = [json.loads(line)["text"] for line in opened("text/c4_demo.jsonl")]
    for text in [wiki, *arxiv]:
        yield from (("good", part) for part in parts(text, 60))
    for text in web:
        yield from (("web", part) for part in parts(text, 60))


def languages(data):
    with tarfile.open(data / "multilingual/lingua_testdata_44langs.tar.gz") as archive:
        for member in archive.getmembers():
            if member.isfile() and "sentences" in member.name:
                label = Path(member.name).parts
                name = next(part for part in reversed(label[:-1]) if part not in ("testdata", "sentences"))
                for line in archive.extractfile(member).read().decode().splitlines():
                    if line.strip():
                        yield name, line.strip()


def code(most_bytes):
    registry = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "registry/src"
    read = 0
    for path in sorted(registry.rglob("*.rs")):
        text = path.read_text(errors="replace")
        label = "unsafe" if re.search(r"\bunsafe\b", text) else "safe"
        text = re.sub(r"//[^\n]*", "", text)
        text = re.sub(r"\bunsafe\w*", "", text).replace("__label__", "")
        for part in parts(text, 200):
            read += len(part)
            yield label, part
        if read > most_bytes:
            return


def write(samples, folder, name):
    samples = list(samples)
    random.Random(1).shuffle(samples)
    held = lambda text: int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 10 == 0
    for part, wanted in (("train", False), ("test", True)):
        lines = [f"__label__{label} {text}" for label, text in samples if held(text) == wanted]
        (folder / f"{name}.{part}").write_text("\n".join(lines) + "\n")
    sizes = [(folder / f"{name}.{part}").stat().st_size for part in ("train", "test")]
    print(f"{name}: {len(samples)} texts, {sizes[0] / 1e6:.1f} MB to train, {sizes[1] / 1e6:.1f} MB to test", flush=True)


PEER = """
import json, sys, time
import fasttext
train, test, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
begun = time.perf_counter()
model = fasttext.train_supervised(train, verbose=0, **options)
trained = time.perf_counter() - begun
lines = [line.rstrip("\\n").split(" ", 1) for line in open(test)]
begun = time.perf_counter()
right = sum(model.predict(text)[0][0] == label for label, text in lines)
print(json.dumps({"train": trained, "predict": time.perf_counter() - begun, "accuracy": right / len(lines)}))
"""


def peer(folder, name, options, threads):
    options = {
        "dim": options["dimension"],
        "epoch": options["epochs"],
        "lr": options["learning_rate"],
        "wordNgrams": options["word_ngrams"],
        "minn": options["min_chars"],
        "maxn": options["max_chars"],
        "bucket": options["buckets"],
        "thread": threads,
    }
    command = [sys.executable, "-c", PEER, folder / f"{name}.train", folder / f"{name}.test", json.dumps(options)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def ours(binary, folder, name, options, threads):
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
    run = lambda *words: json.loads(subprocess.run([binary, *words], capture_output=True, text=True, check=True, env=environment).stdout)
    trained = run("train", folder / f"{name}.train", folder / "model.bin", *(f"{key}={value}" for key, value in options.items()))
    applied = run("predict", folder / "model.bin", folder / f"{name}.test")
    return {"train": trained["seconds"], "predict": applied["seconds"][0], "accuracy": applied["accuracy"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dimension", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--megabytes", type=float, default=30, help="of code")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--binary", type=Path, help="the example `classify`, already built")
    arguments = parser.parse_args()
    binary = arguments.binary and arguments.binary.resolve()
    if binary is None:
        subprocess.run(["cargo", "build", "--release", "-q", "-p", "corpus", "--example", "classify"], cwd=ROOT, check=True)
        binary = ROOT / "target/release/examples/classify"
    common = {"dimension": arguments.dimension, "epochs": 5, "learning_rate": 0.1, "word_ngrams": 2, "min_chars": 0, "max_chars": 0, "buckets": 2_000_000}
    tasks = {
        "pages": (lambda: pages(arguments.data), common | {"epochs": 25, "learning_rate": 0.5}),
        "languages": (lambda: languages(arguments.data), common | {"word_ngrams": 1, "min_chars": 2, "max_chars": 4, "buckets": 200_000, "learning_rate": 0.5}),
        "code": (lambda: code(arguments.megabytes * 1e6), common),
    }
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, (samples, options) in tasks.items():
            if arguments.only and name not in arguments.only:
                continue
            write(samples(), folder, name)
            runs = {"fastText": [], "altiplano": []}
            for _ in range(arguments.rounds):
                runs["fastText"].append(peer(folder, name, options, arguments.threads))
                runs["altiplano"].append(ours(binary, folder, name, options, arguments.threads))
            report[name] = {who: {key: statistics.median(run[key] for run in found) for key in found[0]} for who, found in runs.items()}
            for who, found in report[name].items():
                print(f"  {who:10} train {found['train']:7.2f} s  predict {found['predict']:7.3f} s  accuracy {found['accuracy']:.4f}", flush=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
