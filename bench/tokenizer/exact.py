#!/usr/bin/env python3
"""Are the tokens the same? `alti tokenizer encode` and `decode` beside the programs that own the formats.

    python3 bench/tokenizer/exact.py --llama3 llama3/tokenizer.model --llama2 llama2/tokenizer.model \\
        --gpt2 gpt2/merges.txt --vectors tiktoken_vectors.jsonl texts/

| vocabulary | compared with |
|---|---|
| Llama 3, as ranks and as a tokenizer.json | tiktoken under the cuts of Meta's code, Hugging Face's tokenizers |
| GPT-2, as a tokenizer.json | the same two |
| of Qwen's form, trained here on the first of the texts | tokenizers |
| Llama 2 | sentencepiece |

Texts are all files of the given folders (`.gz` and `.tar.gz` opened, bytes that are no UTF-8 replaced), strings and bytes
made at random, and long runs at which Meta's code cuts. Special tokens are text, allowed, or refused. Tokens are decoded
too, those of texts and any others. `--part 1/3` takes every third file. Prints a line for each comparison and one of JSON,
and ends with 1 if anything differs.
"""

import argparse
import base64
import gzip
import json
import pathlib
import random
import subprocess
import tarfile

from encode import PATTERN, ROOT, SCRATCH, environment, stretches

QWEN = PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# Texts of files are cut here, so that no process has to hold one whole; a cut text is a text like any other.
CHARACTERS = 40_000
NAMED = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def llama3_specials():
    """Those of April 2024 by their index."""
    places = {0: NAMED[0], 1: NAMED[1], 6: NAMED[2], 7: NAMED[3], 9: NAMED[4]}
    reserved = iter(range(256))
    return [places.get(index) or f"<|reserved_special_token_{next(reserved)}|>" for index in range(256)]


def files(folders, part):
    """(name, text) of every file."""
    number, of = part
    paths = sorted(path for folder in folders for path in pathlib.Path(folder).rglob("*") if path.is_file())
    for path in paths[number - 1 :: of]:
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.isfile():
                        yield f"{path.name}/{member.name}", archive.extractfile(member).read()
        elif path.suffix == ".gz":
            try:
                yield path.name, gzip.decompress(path.read_bytes())
            except (OSError, EOFError):
                yield path.name, path.read_bytes()
        else:
            yield path.name, path.read_bytes()


def fuzzed(count, seed):
    """Strings in which the patterns' alternatives meet, any characters, and bytes that are mostly no text."""
    pick = random.Random(seed)
    parts = (
        "' s S \u017f t re RE vE m ll lL d 1 23 456 \u00b2 \u2167 \u0663 ! - a \u00e9 \u00df \u65e5 \U0001f469 words ABC @[`{ \u2581 "
        "\u0301 \u0345 \u20dd \u1100 \u1161 \u11a8 \u212b \u0938\u094d \u200d \ufeff \ufffd <|eot_id|> <|eot <|im_start|> <|endoftext|> "
        "<tool_call> <s> <0x41> |> \u0338"
    ).split() + [*" \t\n\r\v\f\x1c\x00\x85\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\u180e\u200b", "  ", "\r\n", " \n ", "   "]
    for index in range(count):
        length = pick.randrange(1, 40)
        kind = index % 4
        if kind == 0:
            text = "".join(chr(pick.choice([pick.randrange(0x80), pick.randrange(0x3000), pick.randrange(0x110000)])) for _ in range(length))
            yield text.encode(errors="replace").decode()
        elif kind == 1:
            yield bytes(pick.randrange(256) for _ in range(length)).decode(errors="replace")
        else:
            yield "".join(pick.choice(parts) for _ in range(length))


def characters():
    """Every code point, after a letter, before a mark, doubled."""
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000 and code not in range(0x40000, 0x10FF00)]
    for at in range(0, len(codes), 400):
        yield "".join(f"a{chr(code)}\u0301 {chr(code)}{chr(code)}" for code in codes[at : at + 400])


def runs():
    """Where Meta cuts: 25,000 of one kind, 400,000 in all."""
    for parts in [
        [("a", 25_000)], [("a", 25_001)], [(" ", 25_001), ("a", 1)], [("\n", 50_003)], [("\u001c", 25_001)],
        [("\u3000", 25_002)], [("\u65e5", 25_001), (" the", 2)], [("the ", 100_001)], [("th e", 99_999), (" the the", 3)],
        [("x<|eot_id|>", 2_274)], [("ab \n", 110_000)], [("a", 1_000_000)], [(" \t", 200_000), ("\u00e9", 60_000)],
    ]:
        yield "".join(part * times for part, times in parts)


class Ours:
    def __init__(self, alti, tokenizer):
        self.command = [str(alti), "tokenizer"], str(tokenizer)

    def ask(self, verb, values, more=()):
        (program, tokenizer) = self.command
        lines = "".join(json.dumps(value) + "\n" for value in values)
        command = [*program, verb, tokenizer, "--lines", *more]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, encoding="utf-8")
        # Other ends of lines than \n stand in texts as they are.
        return [json.loads(line) for line in done.stdout.split("\n")[:-1]]

    def encode(self, texts, special="text"):
        return self.ask("encode", texts, ["--special", special])

    def decode(self, ids):
        return self.ask("decode", ids)


class Tally:
    def __init__(self):
        self.rows = []

    def compare(self, vocabulary, peer, what, given, ours, theirs):
        wrong = [index for index, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
        size = sum(len(value) if isinstance(value, list) else 1 for value in theirs)
        self.rows.append({
            "vocabulary": vocabulary, "peer": peer, "what": what, "texts": len(ours), "tokens": size, "different": len(wrong)
        })
        for index in wrong[:3]:
            print(f"  {vocabulary}, {peer}, {what}: {given[index]!r:.200}\n    ours {ours[index]!r:.200}\n    {peer} {theirs[index]!r:.200}")
        return wrong

    def show(self):
        sums = {}
        for row in self.rows:
            key = row["vocabulary"], row["peer"], row["what"]
            sum_ = sums.setdefault(key, [0, 0, 0])
            for place, name in enumerate(("texts", "tokens", "different")):
                sum_[place] += row[name]
        for (vocabulary, peer, what), (texts, tokens, different) in sums.items():
            print(f"{vocabulary:22} {peer:14} {what:34} {texts:8,} texts {tokens:11,} tokens  {different} different")
        return [dict(zip(("vocabulary", "peer", "what", "texts", "tokens", "different"), (*key, *value))) for key, value in sums.items()]


def byte_letters():
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    return {byte: chr(byte) for byte in kept} | {byte: chr(256 + index) for index, byte in enumerate(others)}


def split(pattern):
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def llama3(path):
    """tiktoken's encoding and the tokenizer of transformers' conversion: every split of every token is a merge."""
    import tiktoken
    from tokenizers import Tokenizer, decoders
    from tokenizers.models import BPE

    lines = pathlib.Path(path).read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    specials = {name: len(ranks) + index for index, name in enumerate(llama3_specials())}
    encoding = tiktoken.Encoding("llama3", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=specials)
    letters = byte_letters()
    written = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = []
    for token in sorted(ranks, key=ranks.get):
        cuts = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [cut for cut in cuts if cut[0] in ranks and cut[1] in ranks]
        known.sort(key=lambda cut: (ranks[cut[0]], ranks[cut[1]]))
        merges.extend((written[left], written[right]) for left, right in known)
    fast = Tokenizer(BPE(vocab={written[token]: rank for token, rank in ranks.items()}, merges=merges, ignore_merges=True))
    fast.pre_tokenizer = split(PATTERN)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(llama3_specials())
    return encoding, fast


def gpt2(path):
    import tiktoken
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    lines = pathlib.Path(path).read_text().splitlines()
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    letters = byte_letters()
    order = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order += [byte for byte in range(256) if byte not in order]
    texts = [letters[byte] for byte in order] + [left + right for left, right in merges]
    vocab = {text: id for id, text in enumerate(texts)}
    bytes_of = {letter: byte for byte, letter in letters.items()}
    ranks = {bytes(bytes_of[letter] for letter in text): id for text, id in vocab.items()}
    encoding = tiktoken.Encoding(
        "gpt2", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(ranks)}
    )
    fast = Tokenizer(BPE(vocab=vocab, merges=merges))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(["<|endoftext|>"])
    return encoding, fast


def qwen(texts):
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
    from tokenizers.models import BPE

    fast = Tokenizer(BPE())
    fast.normalizer = normalizers.NFC()
    fast.pre_tokenizer = split(QWEN)
    fast.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    fast.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=12_000, initial_alphabet=alphabet, show_progress=False))
    fast.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    fast.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False)])
    return fast


def by_tokenizers(fast, texts, allowed, cuts):
    fast.encode_special_tokens = not allowed
    found = []
    for text in texts:
        parts = list(stretches(text)) if cuts else [text]
        found.append([id for part in parts for id in fast.encode(part, add_special_tokens=False).ids])
    return found


def by_tiktoken(encoding, texts, what, cuts):
    found = []
    for text in texts:
        parts = list(stretches(text)) if cuts else [text]
        try:
            if what == "text":
                ids = [id for part in parts for id in encoding.encode(part, disallowed_special=())]
            elif what == "ids":
                ids = [id for part in parts for id in encoding.encode(part, allowed_special="all")]
            else:
                ids = [id for part in parts for id in encoding.encode(part)]
        except ValueError:
            ids = "refused"
        found.append(ids)
    return found


def values(file):
    """The JSON value of each line; what is none is said and left out."""
    found = []
    for number, line in enumerate(pathlib.Path(file).read_bytes().split(b"\n"), 1):
        try:
            found += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError:
            print(f"  {file}, line {number} is no JSON: {line[:60]!r}")
    return found


def refused(answers):
    return ["refused" if isinstance(answer, dict) else answer for answer in answers]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="whose files are texts")
    parser.add_argument("--llama3", help="a tokenizer.model of Llama 3")
    parser.add_argument("--llama2", help="a tokenizer.model of Llama 2")
    parser.add_argument("--gpt2", help="the merges.txt of GPT-2")
    parser.add_argument("--vectors", help="lines of JSON: text, allowed_special and ids of Llama 3")
    parser.add_argument("--alti", default=ROOT / "target/release/alti", help="our program, built for release")
    parser.add_argument("--fuzz", type=int, default=8_000, help="strings made at random")
    parser.add_argument("--seed", type=int, default=1, help="of these")
    parser.add_argument("--part", default="1/1", help="N/M: every M-th file, from the N-th on")
    parser.add_argument("--slow-every", type=int, default=1, help="tokenizers see every N-th text of the files only")
    arguments = parser.parse_args()
    environment(__file__, "requirements_exact.txt", "venv-exact")
    SCRATCH.mkdir(parents=True, exist_ok=True)
    part = tuple(map(int, arguments.part.split("/")))
    tally = Tally()
    texts = []
    for _, contents in files(arguments.folders, part):
        text = contents.decode(errors="replace")
        texts += [text[at : at + CHARACTERS] for at in range(0, len(text), CHARACTERS)]
    some = texts[:: arguments.slow_every]
    all_characters = list(characters())
    random_texts = list(fuzzed(arguments.fuzz, arguments.seed))
    sets = [
        ("files", texts, some),
        ("random", random_texts, random_texts),
        ("every character", all_characters, all_characters),
        ("long runs", list(runs()), None),
    ]
    print(f"{len(texts)} texts of files, {sum(map(len, texts)):,} characters; {len(random_texts)} made at random", flush=True)
    pick = random.Random(arguments.seed)

    def any_ids(size, count=2_000):
        return [[pick.randrange(size) for _ in range(pick.randrange(12))] for _ in range(count)]

    def encodings(vocabulary, ours, encoding, fast, cuts):
        for name, all_texts, slow_texts in sets:
            for what in ("text", "ids", "refuse"):
                if encoding is not None:
                    found = refused(ours.encode(all_texts, what))
                    tally.compare(vocabulary, "tiktoken", f"{name}, special: {what}", all_texts, found, by_tiktoken(encoding, all_texts, what, cuts))
                if slow_texts is not None and what != "refuse" and fast is not None and (what == "text" or name == "random"):
                    found = ours.encode(slow_texts, what)
                    tally.compare(vocabulary, "tokenizers", f"{name}, special: {what}", slow_texts, found, by_tokenizers(fast, slow_texts, what == "ids", cuts))

    if arguments.llama3:
        encoding, fast = llama3(arguments.llama3)
        json_file = SCRATCH / "llama3/tokenizer.json"
        json_file.parent.mkdir(exist_ok=True)
        fast.save(str(json_file))
        ours = Ours(arguments.alti, arguments.llama3)
        encodings("Llama 3, ranks", ours, encoding, fast, True)
        same = Ours(arguments.alti, json_file)
        for name, all_texts, _ in sets:
            tally.compare("Llama 3, tokenizer.json", "ours by ranks", name, all_texts, same.encode(all_texts), ours.encode(all_texts))
        ids = any_ids(encoding.n_vocab) + ours.encode(random_texts, "ids")
        tally.compare("Llama 3, ranks", "tiktoken", "decoded", ids, ours.decode(ids), [encoding.decode(found) for found in ids])
        if arguments.vectors:
            # Those of 3.1 have other special tokens; what is allowed is one of two things there.
            vectors = values(arguments.vectors)
            for allowed, special in (("none", "text"), ("all", "ids")):
                these = [vector for vector in vectors if vector["allowed_special"] == allowed]
                given = [vector["text"] for vector in these]
                tally.compare("Llama 3, ranks", "vectors", f"special: {special}", given, ours.encode(given, special), [vector["ids"] for vector in these])
    if arguments.gpt2:
        encoding, fast = gpt2(arguments.gpt2)
        json_file = SCRATCH / "gpt2/tokenizer.json"
        json_file.parent.mkdir(exist_ok=True)
        fast.save(str(json_file))
        ours = Ours(arguments.alti, json_file)
        encodings("GPT-2", ours, encoding, fast, False)
        ids = any_ids(encoding.n_vocab)
        tally.compare("GPT-2", "tiktoken", "decoded", ids, ours.decode(ids), [encoding.decode(found) for found in ids])
    fast = qwen((texts or random_texts)[:200])
    json_file = SCRATCH / "qwen/tokenizer.json"
    json_file.parent.mkdir(exist_ok=True)
    fast.save(str(json_file))
    ours = Ours(arguments.alti, json_file)
    encodings("of Qwen's form", ours, None, fast, False)
    ids = any_ids(fast.get_vocab_size())
    theirs = [fast.decode(found, skip_special_tokens=False) for found in ids]
    tally.compare("of Qwen's form", "tokenizers", "decoded", ids, ours.decode(ids), theirs)
    if arguments.llama2:
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor(model_file=arguments.llama2)
        ours = Ours(arguments.alti, arguments.llama2)
        for name, all_texts, _ in sets:
            theirs = [processor.encode(text) for text in all_texts]
            found = ours.encode(all_texts)
            tally.compare("Llama 2", "sentencepiece", name, all_texts, found, theirs)
            tally.compare("Llama 2", "sentencepiece", f"{name}, decoded", theirs, ours.decode(theirs), [processor.decode(ids) for ids in theirs])
        ids = any_ids(processor.vocab_size())
        tally.compare("Llama 2", "sentencepiece", "decoded", ids, ours.decode(ids), [processor.decode(found) for found in ids])
    rows = tally.show()
    print(json.dumps({"bench": "exact", "part": arguments.part, "seed": arguments.seed, "rows": rows}))
    raise SystemExit(1 if any(row["different"] for row in rows) else 0)


if __name__ == "__main__":
    main()
