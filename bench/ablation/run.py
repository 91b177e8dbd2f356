#!/usr/bin/env python3
"""What curation is worth to a model: the same small model, tokenizer and token budget on four corpora made of one crawl.

    python3 bench/ablation/run.py                                # pages of Debian's documentation, fetched by apt
    python3 bench/ablation/run.py --source 'crawl/*.warc.gz' --good good.txt --held-out other.txt
    python3 bench/ablation/run.py --size tiny --tokens 4000000 --seeds 1 2 3 4 5
    python3 bench/ablation/run.py --arms raw deduplicated

The corpora, each made of the one before by switching more of the recipe's rules on:

raw             main texts of pages, and texts, as they were read
filtered        the heuristics of Gopher, C4 and FineWeb, words, languages (--language), personal data replaced
deduplicated    without documents of the same address, the same text and nearly the same text, and without frequent lines
ranked          of these, what a classifier scores best (--keep, by bytes), that was trained to tell --good from the rest

All models have one tokenizer, trained on the raw corpus, the same number of steps and the same batches' size; a corpus that is
too small for the budget is seen more than once, and the table says how often. What is measured of the base model:

bits per byte   on each file of --held-out, which no corpus is made of
right           questions made of these files: which of four sentences is the one that was written? In the others two words
                that stand side by side have changed places. Chosen is the likeliest after the sentences before it, over
                /v1/completions of `alti serve`; a guess is right in 25 %. (Which of four sentences of a file comes next
                cannot be asked of so small a model: trained on 2M tokens one was right in 21 to 24 %.)

Means over the seeds, with the standard deviation between them; each seed draws other weights and another order of the
documents. Without --source the crawl is the HTML of Debian's documentation packages (about 200 MB in many languages, some of it
many times: untranslated pages stand in every edition of the Debian Handbook), fetched with `apt-get download` and unpacked with
`dpkg-deb`; four English manuals, left out of it, give --good and --held-out, every second page each. A manual that has editions
in the crawl would not do: of the Handbook copies are there, and whatever removes them looks bad. Whatever is complete in --out
is not made again.
"""

import argparse
import concurrent.futures
import json
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request

import pyarrow.parquet

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARMS = ("raw", "filtered", "deduplicated", "ranked")
CRAWLED = """apache2-doc aptitude-doc-en debian-handbook gnome-user-docs installation-guide-amd64 maxima-doc octave-doc
    postgresql-doc-15 python3.11-doc r-doc-html sqlite3-doc""".split()
APART = "debian-faq debian-reference-en developers-reference maint-guide".split()
FILTERS = ("url", "gopher_quality", "gopher_repetition", "c4", "fineweb", "dirty_words", "nsfw", "code", "token_distribution")
DUPLICATES = ("url_dedup", "exact_dedup", "minhash", "line_dedup")
SCRUB = ("emails", "ip_addresses", "secrets", "phone_numbers", "credit_cards", "ibans", "national_ids")


def rules(arm, language):
    """Settings of `[curate]` that an arm differs by from the recipe's defaults."""
    off = lambda names: [f"curate.{name}.enabled=false" for name in names]
    if arm == "raw":
        return off(FILTERS + DUPLICATES) + [f"curate.scrub.{name}=false" for name in SCRUB]
    keep = [f"curate.language.keep=['{language}']", "curate.language.min_score=0.65"] if language else []
    return keep + (off(DUPLICATES) if arm == "filtered" else [])


def run(command, log):
    """Runs a command with its output in a file; ends with the end of that file where it fails."""
    with open(log, "a") as out:
        out.write("$ " + " ".join(map(str, command)) + "\n")
        out.flush()
        if subprocess.run([str(word) for word in command], stdout=out, stderr=subprocess.STDOUT).returncode:
            sys.exit(f"{command[0]} {command[1]} failed; see {log}:\n" + log.read_text()[-2000:])


def sets(settings):
    return [word for setting in settings for word in ("--set", setting)]


def debian(folder):
    """The HTML of Debian's documentation, and that of some manuals apart."""
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    places = []
    for place, names in (("crawl", CRAWLED), ("apart", APART)):
        places.append(folder / place)
        if places[-1].exists():
            continue
        staged = folder / f"{place}.partial"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        for name in names:
            if not list(packages.glob(f"{name}_*.deb")):
                done = subprocess.run(["apt-get", "download", "-q", name], cwd=packages, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"{name} could not be fetched ({done.stderr.strip()}): run `apt-get update`, or name --source, "
                             "--good and --held-out")
            package = sorted(packages.glob(f"{name}_*.deb"))[-1]
            subprocess.run(["dpkg-deb", "-x", package, staged / name], check=True)
        for path in list(staged.rglob("*")):
            # Links lead to other packages; `.html.de` and the like are pages by content.
            if path.is_symlink() or path.is_file() and not re.search(r"\.html?(\.|$)", path.name):
                path.unlink()
            elif path.is_file() and not path.name.endswith((".html", ".htm", ".gz")):
                path.rename(path.with_name(path.name.replace(".html", "") + ".html"))
        staged.rename(places[-1])
    return places


def columns(folder, names):
    """Columns of the documents to train on that curation wrote, as lists."""
    files = sorted(folder.glob("train-*.parquet"))
    tables = [pyarrow.parquet.read_table(file, columns=names) for file in files]
    return [[value for table in tables for value in table.column(name).to_pylist()] for name in names]


def plain(alti, folder, source):
    """The texts of clean pages, in the order of their files, once each."""
    out = folder / "apart.documents"
    if not (out / "funnel.json").exists():
        loose = rules("raw", None) + ["curate.exact_dedup.enabled=true", "curate.held_out.fraction=0"]
        run([alti, "curate", source, "--out", out, "--discard-work", *sets(loose)], folder / "curate.log")
    rows = zip(*columns(out, ["source", "text"]))
    return [text for _, text in sorted(rows) if len(text) >= 1000]


def curated(alti, folder, crawl, arms, options):
    """A folder of documents for each arm. The work folder is shared: pages are extracted once."""
    def curate(name, settings):
        out = folder / "documents" / name
        if not (out / "funnel.json").exists():
            print(f"curating: {name}", flush=True)
            command = [alti, "curate", *crawl, "--out", out, "--work", folder / "work", "--memory", options.memory]
            run([*command, *sets(settings + ["curate.held_out.fraction=0"])], folder / "curate.log")
        return out

    folders = {arm: curate(arm, rules(arm, options.language)) for arm in arms if arm != "ranked"}
    if "ranked" in arms:
        parent = folders.get("deduplicated") or curate("deduplicated", rules("deduplicated", options.language))
        classifier = folder / "classifier"
        if not (classifier / "classifier.json").exists():
            train = [alti, "curate", "classifier", "train", "--positive", *options.good, "--negative",
                     parent / "train-*.parquet", "--out", classifier, "--epochs", "25", "--learning-rate", "0.5"]
            run(train, folder / "curate.log")
        scores = rules("deduplicated", options.language)
        rule = f"path='{classifier}'"
        scored = curate("scored", scores + [f"curate.classifiers.good={{{rule}}}"])
        score, text = columns(scored, ["score_good", "text"])
        rows = sorted(((value or 0.0, len(one.encode())) for value, one in zip(score, text)), reverse=True)
        wanted, least = options.keep * sum(size for _, size in rows), 0.0
        for least, size in rows:
            wanted -= size
            if wanted <= 0:
                break
        folders["ranked"] = curate("ranked", scores + [f"curate.classifiers.good={{{rule}, min_score={least!r}}}"])
    return folders


def trained(alti, folder, documents, tokenizer, arm, seed, options):
    """A base model of an arm's documents, and how often it saw them."""
    out = folder / "runs" / f"{arm}-{seed}"
    settings = rules("raw", None) + [
        f"tokenizer.path='{tokenizer}'", f'train.tokens="{options.tokens} tokens"', "curate.decontaminate.enabled=false",
    ]
    command = [alti, "raise", "--out", out, "--size", options.size, "--seed", seed, "--until", "pretrain"]
    run([*command, "--source", documents / "train-*.parquet", *sets(settings + options.set)], folder / "train.log")
    stages = json.loads((out / "manifest.json").read_text())["stages"]
    summary = stages["pretrain"]["summary"]
    return out, summary["tokens"] / stages["pack"]["summary"]["packed"]["train"]["tokens"]


def orders(text, count, rng):
    """Questions from one text: what stands before, and four orders of a sentence's words, of which the first is the true one."""
    sentences = [s for s in re.split(r"(?<=[.!?])\s+", text) if s]
    questions = []
    starts = [i for i in range(2, len(sentences)) if re.fullmatch(r"[A-Z][A-Za-z ,;:'-]{40,200}[.!?]", sentences[i])]
    rng.shuffle(starts)
    for start in starts:
        words = sentences[start].split()
        # The first word has its capital and the last its stop, which would tell.
        places = [i for i in range(1, len(words) - 2) if words[i] != words[i + 1] and (words[i] + words[i + 1]).isalpha()]
        if len(places) >= 3:
            exchanged = [words[:i] + [words[i + 1], words[i]] + words[i + 2:] for i in rng.sample(places, 3)]
            context = " ".join(sentences[start - 2:start])[-400:]
            questions.append((context, [" ".join(order) for order in [words] + exchanged]))
        if len(questions) == count:
            break
    return questions


class Served:
    """`alti serve` with a model, as a context."""

    def __init__(self, alti, model, log):
        self.command = [alti, "serve", model, "--listen", "127.0.0.1:0", "--log-format", "none", "--name", "model"]
        self.log = log

    def __enter__(self):
        begin = self.log.stat().st_size if self.log.exists() else 0
        self.process = subprocess.Popen(list(map(str, self.command)), stdout=open(self.log, "a"), stderr=subprocess.STDOUT)
        for _ in range(600):
            found = re.search(r"http://[0-9.]+:\d+", self.log.read_text()[begin:])
            if found:
                self.address = found[0]
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        sys.exit(f"alti serve did not begin; see {self.log}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def log_likelihood(self, context, continuation):
        """Of a continuation after a context, in nats."""
        body = {"model": "model", "prompt": context + " " + continuation, "echo": True, "logprobs": 1, "max_tokens": 0}
        request = urllib.request.Request(
            self.address + "/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"})
        logprobs = json.loads(urllib.request.urlopen(request, timeout=300).read())["choices"][0]["logprobs"]
        pairs = zip(logprobs["text_offset"], logprobs["token_logprobs"])
        return sum(value for offset, value in pairs if offset >= len(context) and value is not None)


def right(alti, model, questions, log):
    """The share of questions whose true sentence is the likeliest."""
    with Served(alti, model, log) as served, concurrent.futures.ThreadPoolExecutor(16) as pool:
        def answer(question):
            context, continuations = question
            scores = [served.log_likelihood(context, continuation) for continuation in continuations]
            return scores[0] > max(scores[1:])
        return statistics.mean(pool.map(answer, questions))


def measured(alti, out, questions, options, log):
    """Bits a byte on each held-out file, and the share of right answers."""
    bits = {}
    for file in options.held_out:
        command = [alti, "eval", "perplexity", out, "--source", file, "--tokens", str(options.scored), "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"alti eval perplexity {out} failed:\n{done.stderr}")
        bits[file.name] = json.loads(done.stdout)["models"][0]["bits_per_byte"]["value"]
    return bits, {name: right(alti, out, some, log) for name, some in questions.items()}


def spread(values):
    return f"{statistics.mean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", nargs="+", help="what alti reads: files, folders, globs")
    parser.add_argument("--good", nargs="+", help="what the classifier takes for good; no part of it is in --held-out")
    parser.add_argument("--held-out", nargs="+", type=pathlib.Path, help="plain text that no corpus holds")
    parser.add_argument("--language", default="en", help="the language that stays after raw; '' for all")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--keep", type=float, default=0.5, help="share of the bytes that ranked keeps")
    parser.add_argument("--size", default="nano")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--questions", type=int, default=400, help="of each held-out file")
    parser.add_argument("--scored", type=int, default=100_000, help="tokens of each held-out file that are scored")
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--set", nargs="+", default=[], help="more settings of the recipe, for all models")
    parser.add_argument("--alti", type=pathlib.Path, default=ROOT / "target/release/alti")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target/bench/ablation")
    options = parser.parse_args()
    if options.source and not (options.good and options.held_out):
        parser.error("--source needs --good and --held-out")
    alti, folder = options.alti.resolve(), options.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not options.source:
        crawl, apart = debian(folder)
        pages = plain(alti, folder, apart)
        options.source = [crawl]
        for name, part in (("good", pages[::2]), ("held-out", pages[1::2])):
            (folder / f"{name}.txt").write_text("\n\n".join(part))
        options.good = options.good or [folder / "good.txt"]
        options.held_out = options.held_out or [folder / "held-out.txt"]

    documents = curated(alti, folder, options.source, options.arms, options)
    tokenizer = folder / "tokenizer"
    if not tokenizer.exists():
        source = documents.get("raw") or documents[options.arms[0]]
        run([alti, "tokenizer", "train", source, "--vocab", options.vocabulary, "--out", tokenizer], folder / "curate.log")
    questions = {file.name: orders(file.read_text(), options.questions, random.Random(7)) for file in options.held_out}

    rows = {}
    for seed in options.seeds:
        for arm in options.arms:
            path = folder / "runs" / f"{arm}-{seed}.json"
            out, epochs = trained(alti, folder, documents[arm], tokenizer, arm, seed, options)
            bits, share = measured(alti, out, questions, options, folder / "serve.log")
            row = dict(arm=arm, seed=seed, epochs=epochs, bits_per_byte=bits, right=share)
            path.write_text(json.dumps(row))
            rows.setdefault(arm, []).append(row)
            print(json.dumps(row), flush=True)

    print(f"\n{options.size}, {options.tokens:,} tokens, {len(options.seeds)} seeds")
    for file in options.held_out:
        print(f"\n{file.name} ({len(questions[file.name])} questions)\n"
              f"{'arm':14}{'documents':>10}{'MB':>8}{'epochs':>8}  {'bits per byte':20}  right")
        for arm, some in rows.items():
            sizes = [len(text.encode()) for text in columns(documents[arm], ["text"])[0]]
            print(f"{arm:14}{len(sizes):10,}{sum(sizes) / 1e6:8.1f}{some[0]['epochs']:8.2f}  "
                  f"{spread([row['bits_per_byte'][file.name] for row in some]):20}  "
                  f"{spread([row['right'][file.name] for row in some])}")
    print(json.dumps(dict(bench="ablation", size=options.size, tokens=options.tokens, rows=rows)))


if __name__ == "__main__":
    main()
