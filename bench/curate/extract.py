"""Scores the extraction of main text by the method of scrapinghub's article-extraction-benchmark.

    python3 bench/curate/extract.py FOLDER [--peer NAME ...] [--worst N]

FOLDER holds that benchmark's `ground-truth.json` and its pages, as `html/` or as `html.tar.gz`. The method is that of its
`evaluate.py`: shingles of four words (`\\w+`, in order, with their counts); of each page the shares of true positives,
false positives and false negatives; precision and recall averaged over pages; F1 of the two averages. Beside the figure
over all pages stand those of two halves, by the parity of the page's name: constants were chosen on `even`, and `odd` was
only ever scored. Peers are Python packages that are installed: `trafilatura`, `readability`.
"""

import argparse
import gzip
import json
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

WORD = re.compile(r"\w+")
ROOT = Path(__file__).resolve().parents[2]


def shingles(text, words=4):
    tokens = WORD.findall(text or "")
    runs = (tuple(tokens[i : i + words]) for i in range(max(1, len(tokens) - words + 1)))
    return Counter(run for run in runs if run)


def compare(true, predicted):
    true, predicted = shingles(true), shingles(predicted)
    both = sum((true & predicted).values())
    counts = (both, sum(predicted.values()) - both, sum(true.values()) - both)
    total = sum(counts)
    return tuple(count / total for count in counts) if total else (0.0, 0.0, 0.0)


def score(pages):
    precision = statistics.mean(tp / (tp + fp) for tp, fp, _ in pages if tp + fp > 0)
    recall = statistics.mean(tp / (tp + fn) for tp, _, fn in pages if tp + fn > 0)
    return {"f1": 2 * precision * recall / (precision + recall), "precision": precision, "recall": recall}


def ours(folder, rounds):
    command = ["cargo", "run", "--release", "-q", "-p", "corpus", "--example", "extract", "--", str(folder), str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    texts = {page["name"]: page["text"] for page in map(json.loads, done.stdout.splitlines())}
    return texts, json.loads(done.stderr.strip().splitlines()[-1])


def peer(name, folder):
    if name == "trafilatura":
        import trafilatura

        extract = lambda html: trafilatura.extract(html, include_comments=False) or ""
    elif name == "readability":
        import lxml.html
        import readability

        extract = lambda html: lxml.html.fromstring(readability.Document(html).summary()).text_content()
    else:
        sys.exit(f"the peer {name!r} is not known: trafilatura or readability")
    texts, spent = {}, 0.0
    for path in sorted(folder.iterdir()):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        html = data.decode("utf-8", "replace")
        begun = time.perf_counter()
        try:
            text = extract(html)
        except Exception as error:  # a page that a peer fails on is an empty answer
            text = ""
            print(f"{name}: {path.name}: {error}", file=sys.stderr)
        spent += time.perf_counter() - begun
        texts[path.name.split(".")[0]] = text
    return texts, {"pages": len(texts), "pages_a_second": len(texts) / spent}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worst", type=int, default=0, help="name so many pages of the half `even` with the lowest share")
    arguments = parser.parse_args()
    truth = json.loads((arguments.folder / "ground-truth.json").read_text())
    with tempfile.TemporaryDirectory() as unpacked:
        folder = arguments.folder / "html"
        if not folder.is_dir():
            with tarfile.open(arguments.folder / "html.tar.gz") as archive:
                archive.extractall(unpacked, filter="data")
            folder = Path(unpacked) / "html"
        runs = {"altiplano": ours(folder, arguments.rounds)}
        runs.update({name: peer(name, folder) for name in arguments.peer})
    report = {}
    for name, (texts, speed) in runs.items():
        pages = {key: compare(truth[key]["articleBody"], texts.get(key, "")) for key in sorted(truth)}
        halves = {"all": pages.values()}
        for half, parity in (("even", 0), ("odd", 1)):
            halves[half] = [page for key, page in pages.items() if int(key[:8], 16) % 2 == parity]
        report[name] = {half: score(list(part)) for half, part in halves.items()} | speed
        for half, part in halves.items():
            figures = report[name][half]
            print(f"{name:12} {half:4} {len(part):4} pages  F1 {figures['f1']:.4f}  precision {figures['precision']:.4f}  recall {figures['recall']:.4f}")
        print(f"{name:12} {speed['pages_a_second']:.0f} pages a second on one core")
        if name == "altiplano":
            even = sorted((page[0], key) for key, page in pages.items() if int(key[:8], 16) % 2 == 0)
            for share, key in even[: arguments.worst]:
                print(f"  {share:.2f} {key[:12]} {truth[key]['url'][:100]}")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
