"""MinHash deduplication beside datatrove's four stages (signatures, buckets, clusters, filter).

    python3 bench/curate/minhash.py TEXTS... --python VENV/bin/python [--documents 4000] [--rounds 3] [--binary alti]

TEXTS are files of plain text or JSONL (field text). From their sentences documents of 20 to 60 sentences are drawn, of which
every fifth is a near copy of one before, with one to ten of a hundred words replaced; written as JSONL. Both read it, sign
with 14 bands of 8 rows over 5-grams of words, join what shares a band (as FineWeb does, without asking how similar the two
are), and write what is left. Ours runs the whole of `alti curate` with its filters off, which tells languages, scrubs and
compares texts exactly on the way. They take turns; figures as in pipeline.py, which says how to make the environment.
"""

import argparse
import json
import random
import re
import sys
import tempfile
from pathlib import Path

from pipeline import binary, measure, report


def sentences(paths):
    for path in paths:
        for line in path.read_text(errors="replace").splitlines():
            if path.suffix == ".jsonl":
                line = json.loads(line).get("text", "")
            yield from (s.strip() for s in re.split(r"(?<=[.!?])\s+|\n", line) if len(s.split()) >= 6)


def write_documents(path, paths, count):
    rng = random.Random(1)
    pool = sorted(set(sentences(paths)))
    texts, size = [], 0
    with open(path, "w") as out:
        for number in range(count):
            if number % 5 == 4:
                words = rng.choice(texts).split(" ")
                for _ in range(max(1, len(words) * rng.randint(1, 10) // 100)):
                    words[rng.randrange(len(words))] = f"word{rng.randrange(10**6)}"
                text = " ".join(words)
            else:
                text = " ".join(rng.choice(pool) for _ in range(rng.randint(20, 60)))
            texts.append(text)
            size += len(text.encode())
            out.write(json.dumps({"text": text, "id": str(number)}) + "\n")
    return size


def peer(source, out):
    """In datatrove's environment: the four stages, once."""
    import logging

    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    logging.disable(logging.CRITICAL)
    config = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=14, hashes_per_bucket=8, n_grams=5)
    reader = lambda: JsonlReader(str(Path(source).parent), glob_pattern=Path(source).name)
    stages = [
        (1, [reader(), MinhashDedupSignature(output_folder=f"{out}/sig", config=config)]),
        (14, [MinhashDedupBuckets(input_folder=f"{out}/sig", output_folder=f"{out}/buckets", config=config)]),
        (1, [MinhashDedupCluster(input_folder=f"{out}/buckets", output_folder=f"{out}/remove", config=config)]),
        (1, [reader(), MinhashDedupFilter(input_folder=f"{out}/remove"), JsonlWriter(f"{out}/left", compression=None)]),
    ]
    for number, (tasks, steps) in enumerate(stages):
        LocalPipelineExecutor(pipeline=steps, tasks=tasks, workers=1, logging_dir=f"{out}/logs/{number}").run()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--python", help="an interpreter that has datatrove")
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--binary", help="alti; built where it is not given")
    arguments = parser.parse_args()
    program = binary(arguments.binary)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        source = folder / "documents.jsonl"
        bytes_in = write_documents(source, arguments.texts, arguments.documents)
        one = folder / "one.jsonl"
        one.write_text(source.read_text().split("\n", 1)[0] + "\n")
        off = ["gopher_quality", "gopher_repetition", "c4", "fineweb", "code"]
        sets = []
        for setting in [f"{rule}.enabled=false" for rule in off] + ["minhash.min_similarity=0.0"]:
            sets += ["--set", f"curate.{setting}"]
        out = str(folder / "ours")
        options = ["--out", out, "--threads", "1", "--discard-work", "--json", *sets]
        ours = lambda source: [program, "curate", str(source), *options]
        theirs = lambda source, out: [arguments.python, __file__, "--peer", str(source), str(out)]
        start = {"alti": measure(ours(one))["cpu"]}
        if arguments.python:
            start["datatrove"] = measure(theirs(one, folder / "start"))["cpu"]
        runs, left = {"alti": [], "datatrove": []}, {}
        for number in range(arguments.rounds):
            runs["alti"].append(measure(ours(source)))
            funnel = json.loads(runs["alti"][-1]["out"])
            left["alti"] = funnel["train"]["documents"] + funnel["held_out"]["documents"]
            if arguments.python:
                out = folder / f"theirs{number}"
                runs["datatrove"].append(measure(theirs(source, out)))
                left["datatrove"] = sum(f.read_text().count("\n") for f in (out / "left").glob("*.jsonl"))
        figures = {"documents": arguments.documents, "bytes": bytes_in, "left": left}
        for name, done in runs.items():
            if done:
                figures[name] = report(name, done, arguments.documents, bytes_in, start[name])
        if arguments.python:
            figures["ratio"] = figures["datatrove"]["cpu_seconds"] / figures["alti"]["cpu_seconds"]
            print(f"{figures['ratio']:.1f} times the documents a second a core; left {left}", file=sys.stderr)
        print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        peer(sys.argv[2], sys.argv[3])
    else:
        main()
