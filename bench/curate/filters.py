"""Compares the filters, rule by rule, with datatrove's, which owns FineWeb's recipe, and measures their speed.

    python3 bench/curate/filters.py judge FOLDER [--examples N]
    python3 bench/curate/filters.py speed FILE [--rounds N] [--peer]

FOLDER is searched for texts: `.jsonl[.gz]` with a `text`, `.txt`, lingua's test data (`lingua_testdata*.tar.gz`: sentences of
many languages) and `ground-truth.json` of the article-extraction-benchmark. To real texts come altered ones, so that each
rule has something to remove. Every rule is asked alone, on both sides, over the same documents, twice: once with datatrove's
own words (spaCy's tokenizer of the language) and once with words between spaces on both sides, which leaves the rules
themselves. FILE is JSONL, one thread takes it through all steps; `--peer` has datatrove's four filters do the same.

Needs datatrove, spacy, nltk and numpy (pip install datatrove spacy nltk numpy). `--binary` names a built example `filters`.
"""

import argparse
import collections
import gzip
import io
import json
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPACED = "ca cs da de el en es et fi fr hr hu id is it lb lt lv nb nl pl pt ro ru sk sl sq sr sv sw tr uk".split()


def documents(folder):
    """(origin, language, text) of what the folder holds."""
    for path in sorted(folder.rglob("*")):
        name = path.name
        if name.startswith("lingua_testdata"):
            with tarfile.open(path) as archive:
                for member in archive:
                    parts = Path(member.name).parts
                    if member.isfile() and parts[-1].startswith("sentences"):
                        lines = io.TextIOWrapper(archive.extractfile(member), encoding="utf-8").read().splitlines()
                        for at in range(0, min(len(lines), 400), 10):
                            yield "sentences", language_of(parts), "\n".join(lines[at : at + 10])
        elif name == "ground-truth.json":
            for page in json.loads(path.read_text()).values():
                yield "pages", "en", page["articleBody"]
        elif name.endswith((".jsonl", ".jsonl.gz")) and "eval" not in path.parts and "prefs" not in path.parts:
            stream = gzip.open(path, "rt") if name.endswith(".gz") else open(path)
            with stream:
                for line in stream:
                    try:
                        found = json.loads(line)
                    except ValueError:
                        continue  # not a file of a JSON object a line
                    text = found.get("text") or found.get("content") if isinstance(found, dict) else None
                    if isinstance(text, str):
                        yield name.split(".")[0], "en", text[:100_000]
        elif name.startswith("HumanEval.jsonl"):
            for line in gzip.open(path, "rt"):
                found = json.loads(line)
                yield "code", "en", found["prompt"] + found["canonical_solution"] + found["test"]
        elif name.endswith(".txt") and path.stat().st_size > 100_000:
            text = path.read_text(errors="replace")
            for at in range(0, min(len(text), 400_000), 8_000):
                yield name.split(".")[0], "en", text[at : at + 8_000]


def language_of(parts):
    return next(part for part in reversed(parts[:-1]) if len(part) == 2)


def altered(texts, rng):
    """Documents near the thresholds: of each text one of the ways in which pages go wrong, at a random strength."""
    for origin, language, text in texts:
        lines = [line for line in text.splitlines() if line.strip()] or [text]
        words, share = text.split() or ["x"], rng.random()
        some = lambda items: [item for item in items if rng.random() < share]
        kind = rng.randrange(10)
        if kind == 0:
            text = " ".join(words[: rng.randrange(20, 80)])
        elif kind == 1:
            text = "\n".join(line for line in lines for _ in range(1 + (rng.random() < share / 2)))
        elif kind == 2:
            text = "\n\n".join(lines + some(lines))
        elif kind == 3:
            phrase = words[: rng.randrange(2, 14)]
            text = " ".join(word for at, word in enumerate(words) for word in ([word] if rng.random() > share / 8 else [*phrase, word]))
        elif kind == 4:
            text = " ".join(word + ("..." if rng.random() < share / 4 else "") for word in words)
        elif kind == 5:
            text = "\n".join(("- " if rng.random() < 0.8 + share / 4 else "") + line + ("…" if rng.random() < share / 2 else "") for line in lines)
        elif kind == 6:
            text = " ".join(("# " if rng.random() < share / 5 else "") + word for word in words)
        elif kind == 7:
            text = " ".join(str(rng.randrange(9999)) if rng.random() < share / 2 else word for word in words)
        elif kind == 8:
            step = rng.randrange(2, 9)
            text = "\n".join(" ".join(words[at : at + step]) for at in range(0, len(words), step))
        else:
            junk = ["Enable JavaScript to go on with this page.", "We use cookies, see our privacy policy.", "Lorem ipsum dolor sit amet.", "if (x) { return y; }", "Home"]
            text = "\n".join(lines[: rng.randrange(2, 8)] + some(junk))
        yield origin + " altered", language, text


def peers():
    """For each of our rules the peer's filter with that rule alone: (step, rule, filter, whether the peer's reason counts)."""
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.filters.c4_filters import C4QualityFilter

    none = dict.fromkeys(
        "min_doc_words max_doc_words min_avg_word_length max_avg_word_length max_symbol_word_ratio max_bullet_lines_ratio max_ellipsis_lines_ratio max_non_alpha_words_ratio min_stop_words".split()
    )
    quality = lambda **rule: lambda language: GopherQualityFilter(**{**none, **rule}, language=language)
    off = dict(dup_line_frac=None, dup_para_frac=None, dup_line_char_frac=None, dup_para_char_frac=None, top_n_grams=(), dup_n_grams=())
    repetition = lambda **rule: lambda language: GopherRepetitionFilter(**{**off, **rule}, language=language)
    lax = dict(line_punct_thr=-1, short_line_thr=2, char_duplicates_ratio=2, new_line_ratio=1e9)
    fineweb = lambda **rule: lambda language: FineWebQualityFilter(**{**lax, **rule}, language=language)
    c4 = lambda language: C4QualityFilter(filter_no_terminal_punct=False, remove_citations=False, language=language)
    rules = [
        ("gopher_quality", "too_few_words", quality(min_doc_words=50), None),
        ("gopher_quality", "too_many_words", quality(max_doc_words=100_000), None),
        ("gopher_quality", "words_too_short", quality(min_avg_word_length=3), None),
        ("gopher_quality", "words_too_long", quality(max_avg_word_length=10), None),
        ("gopher_quality", "too_many_hash_signs", quality(max_symbol_word_ratio=0.1), "gopher_too_many_hashes"),
        ("gopher_quality", "too_many_ellipses", quality(max_symbol_word_ratio=0.1), "gopher_too_many_ellipsis"),
        ("gopher_quality", "too_many_bullet_lines", quality(max_bullet_lines_ratio=0.9), None),
        ("gopher_quality", "too_many_ellipsis_lines", quality(max_ellipsis_lines_ratio=0.3), None),
        ("gopher_quality", "too_few_alphabetic_words", quality(max_non_alpha_words_ratio=0.8), None),
        ("gopher_quality", "too_few_stop_words", quality(min_stop_words=2), None),
        ("gopher_repetition", "duplicate_paragraphs", repetition(dup_para_frac=0.3), None),
        ("gopher_repetition", "duplicate_paragraph_characters", repetition(dup_para_char_frac=0.2), None),
        ("gopher_repetition", "duplicate_lines", repetition(dup_line_frac=0.3), None),
        ("gopher_repetition", "duplicate_line_characters", repetition(dup_line_char_frac=0.2), None),
    ]
    for n, share in ((2, 0.2), (3, 0.18), (4, 0.16)):
        rules.append(("gopher_repetition", f"top_{n}gram", repetition(top_n_grams=((n, share),)), None))
    for n, share in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)):
        rules.append(("gopher_repetition", f"duplicate_{n}grams", repetition(dup_n_grams=((n, share),)), None))
    rules += [
        ("fineweb", "too_few_punctuated_lines", fineweb(line_punct_thr=0.12), None),
        ("fineweb", "too_many_short_lines", fineweb(short_line_thr=0.67), None),
        ("fineweb", "duplicate_line_characters", fineweb(char_duplicates_ratio=0.1), None),
        ("fineweb", "too_many_line_breaks", fineweb(new_line_ratio=0.3), None),
    ]
    return rules, c4


def judge(arguments):
    import datatrove.pipeline.filters.fineweb_quality_filter as fineweb_filter
    import datatrove.pipeline.filters.gopher_quality_filter as quality_filter
    import datatrove.pipeline.filters.gopher_repetition_filter as repetition_filter
    import datatrove.utils.text as text_utils
    from datatrove.data import Document

    real = list(documents(arguments.folder))
    rng = random.Random(6)
    everything = [d for d in real + list(altered(real, rng)) if d[2].strip()]
    counts = collections.Counter((origin, "en" if language == "en" else "others") for origin, language, _ in everything)
    print(f"{len(everything)} documents in {len({d[1] for d in everything})} languages:", ", ".join(f"{o} ({l}) {n}" for (o, l), n in sorted(counts.items())))
    lines = "".join(json.dumps({"text": text, "kind": "web-text", "lang": language}) + "\n" for _, language, text in everything)
    ours = [json.loads(line) for line in run(arguments, "judge", lines).splitlines()]
    rules, c4 = peers()
    own_words = text_utils.split_into_words
    code = {language: language for language in SPACED}
    report = {}
    for words in ("datatrove's words", "words between spaces"):
        known = {}

        def split(text, language):
            if (text, language) not in known:
                known[text, language] = own_words(text, language) if words.startswith("datatrove") else text.split()
            return known[text, language]

        for module in (fineweb_filter, quality_filter, repetition_filter):
            module.split_into_words = split
        print(f"\nWith {words}:\n{'rule':52} {'judged':>7} {'alike':>8} {'both rm':>8} {'we alone':>9} {'they alone':>11}")
        filters = {}
        for step, rule, make, reason in rules:
            if not f"{step}/{rule}".startswith(arguments.only):
                continue
            tally, examples = collections.Counter(), []
            for (origin, language, text), measures in zip(everything, ours):
                if language not in code or rule not in measures[step]:
                    continue
                value, passes = measures[step][rule]
                key = (step, rule, language)
                if key not in filters:
                    filters[key] = make(code[language])
                try:
                    verdict = filters[key].filter(Document(text=text, id="0"))
                except ImportError:
                    code.pop(language)  # a tokenizer that is not installed
                    continue
                removed = isinstance(verdict, tuple) and (reason is None or verdict[1] == reason)
                tally[(not passes, removed)] += 1
                if removed == passes:
                    examples.append((origin, language, value, text))
            report_rule(report, words, f"{step}/{rule}", tally, examples, arguments.examples)
        if words.startswith("words") and "c4/".startswith(arguments.only[:3]):
            compare_c4(everything, ours, c4, code, report, words, arguments.examples)
    left_out = sorted({d[1] for d in everything} - set(code))
    print(f"\nlanguages without a tokenizer here, or written without spaces, compared by none: {' '.join(left_out)}")
    print(json.dumps(report))


def compare_c4(everything, ours, make, code, report, words, shown):
    from datatrove.data import Document
    import datatrove.pipeline.filters.c4_filters as c4_filters

    tally = {rule: collections.Counter() for rule in ("lorem_ipsum", "curly_bracket", "too_few_sentences", "kept lines")}
    examples = collections.defaultdict(list)
    filters = {}
    for (origin, language, text), judged in zip(everything, ours):
        if language not in code:
            continue
        document = Document(text=text, id="0")
        verdict = filters.setdefault(language, make(code[language])).filter(document)
        theirs = verdict[1] if isinstance(verdict, tuple) else None
        for rule in tally:
            if rule == "kept lines":
                if theirs or judged["c4"]["refused"]:
                    continue
                mine = [line.strip() for line in judged["c4"]["text"].splitlines() if line.strip()]
                mine, removed = False, mine != [line for line in document.text.splitlines() if line.strip()]
            else:
                mine, removed = judged["c4"]["refused"] == rule, theirs == rule
            tally[rule][(mine, removed)] += 1
            if mine != removed:
                examples[rule].append((origin, language, judged["c4"], text))
    for rule, counts in tally.items():
        report_rule(report, words, f"c4/{rule}", counts, examples[rule], shown)


def report_rule(report, words, rule, tally, examples, shown):
    total = sum(tally.values())
    alike = tally[(True, True)] + tally[(False, False)]
    report.setdefault(rule, {})[words] = {"judged": total, "alike": alike, "both": tally[(True, True)], "we": tally[(True, False)], "they": tally[(False, True)]}
    print(f"{rule:52} {total:7} {alike / max(total, 1):8.2%} {tally[(True, True)]:8} {tally[(True, False)]:9} {tally[(False, True)]:11}")
    for origin, language, value, text in examples[:shown]:
        print(f"    {origin} {language} {str(value)[:200]}: {text[:300]!r}")


def run(arguments, mode, lines, *more):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write(lines)
        file.flush()
        command = [arguments.binary] if arguments.binary else "cargo run --release -q -p corpus --example filters --".split()
        done = subprocess.run([*command, mode, file.name, *more], cwd=None if arguments.binary else ROOT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return done.stdout


FILTERS_NOT = ("extract", "language", "sign")


def speed(arguments):
    stream = gzip.open(arguments.file, "rt") if arguments.file.suffix == ".gz" else open(arguments.file)
    with stream:
        found = [json.loads(line) for line in stream]
    texts = [d.get("text") or d.get("content") for d in found]
    lines = "".join(json.dumps({"text": t, "kind": d.get("kind", "web-text"), "url": d.get("url")}) + "\n" for t, d in zip(texts, found))
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as settings:
        # So few documents would not be judged by their tokens.
        settings.write("[token_distribution]\nmin_language_tokens = 1000\n")
        settings.flush()
        found_steps = run(arguments, "speed", lines, str(arguments.rounds), settings.name)
    steps = [json.loads(line) for line in found_steps.splitlines()]
    total, seconds = sum(len(text.encode()) for text in texts), 0.0
    for step in steps:
        seconds += 0.0 if step["step"] in FILTERS_NOT else step["seconds"]
        note = "" if step["step"] not in FILTERS_NOT else "  (no filter)"
        print(f"{step['step']:30} {step['documents']:7} -> {step['kept']:7} documents {step['megabytes_a_second']:9.1f} MB/s a core{note}")
    report = {"bytes": total, "megabytes_a_second": total / 1e6 / seconds, "documents_a_second": len(texts) / seconds, "steps": steps}
    print(f"all filters together {report['megabytes_a_second']:.1f} MB/s a core, {report['documents_a_second']:.0f} documents/s")
    if arguments.peer:
        from datatrove.data import Document
        from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
        from datatrove.pipeline.filters.c4_filters import C4QualityFilter
        from datatrove.pipeline.formatters import PIIFormatter

        chain = [GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(filter_no_terminal_punct=False), FineWebQualityFilter(char_duplicates_ratio=0.1)]
        scrub = PIIFormatter()
        spent = []
        for _ in range(min(arguments.rounds, 3)):
            begun = time.perf_counter()
            for text in texts:
                document = Document(text=text, id="0")
                if all(step.filter(document) is True for step in chain):
                    scrub.format(document.text)
            spent.append(time.perf_counter() - begun)
        report["datatrove_megabytes_a_second"] = total / 1e6 / statistics.median(spent)
        print(f"datatrove, four filters and its scrub of mail and IP addresses: {report['datatrove_megabytes_a_second']:.2f} MB/s a core")
    print(json.dumps(report))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the built example, in place of cargo")
    modes = parser.add_subparsers(dest="mode", required=True)
    one = modes.add_parser("judge")
    one.add_argument("folder", type=Path)
    one.add_argument("--examples", type=int, default=0, help="show so many documents of each rule that are judged differently")
    one.add_argument("--only", default="", help="compare the rules whose names begin so, such as c4/ or gopher_quality/too")
    two = modes.add_parser("speed")
    two.add_argument("file", type=Path)
    two.add_argument("--rounds", type=int, default=9)
    two.add_argument("--peer", action="store_true")
    arguments = parser.parse_args()
    (judge if arguments.mode == "judge" else speed)(arguments)


if __name__ == "__main__":
    main()
