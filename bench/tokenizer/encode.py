#!/usr/bin/env python3
"""Our encoder beside tiktoken and Hugging Face's tokenizers: the same vocabulary, the same texts, taking turns.

    python3 bench/tokenizer/encode.py --tokenizer tokenizer.model prose=a.txt code=b.rs languages=c.txt
    python3 bench/tokenizer/encode.py --tokenizer tokenizer.model --rounds 9 prose=a.txt

`--tokenizer` is Meta's tokenizer.model of Llama 3. Each NAME=FILE is a text in UTF-8. Texts that are made to be hard are
added: one letter a million times, the first text without its spaces, and nothing but spaces and newlines. One thread
each. Every text's tokens are compared with tiktoken's under the cuts that Meta's own code makes. Prints medians over the
rounds, and ends with one line of JSON; ends with 1 if any token differs.
"""

import argparse
import base64
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SCRATCH = ROOT / "target/bench/tokenizer"
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BLOCK, RUN = 400_000, 25_000


def environment(script=__file__, requirements="requirements.txt", name="venv"):
    """Starts the script again in an environment with the packages that it requires."""
    venv = SCRATCH / name
    if pathlib.Path(sys.prefix).resolve() == venv.resolve():
        return
    python = venv / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", HERE / requirements], check=True)
    variables = {**os.environ, "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.execve(python, [str(python), script, *sys.argv[1:]], variables)


def stretches(text):
    """What Meta's wrapper encodes at once: blocks, cut where a run of (non-)spaces grows too long."""
    for block in range(0, len(text), BLOCK):
        part = text[block : block + BLOCK]
        start, length, space = 0, 0, part[0].isspace()
        for index, character in enumerate(part):
            if character.isspace() == space:
                length += 1
                if length > RUN:
                    yield part[start:index]
                    start, length = index, 1
            else:
                length, space = 1, not space
        yield part[start:]


def peers(model):
    import tiktoken
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    lines = pathlib.Path(model).read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    encoding = tiktoken.Encoding("llama3", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})

    # As transformers converts it: every split of every token by rank is a merge.
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    letters = {byte: chr(byte) for byte in kept} | {byte: chr(256 + index) for index, byte in enumerate(others)}
    written = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = []
    for token in sorted(ranks, key=ranks.get):
        cuts = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [cut for cut in cuts if cut[0] in ranks and cut[1] in ranks]
        known.sort(key=lambda cut: (ranks[cut[0]], ranks[cut[1]]))
        merges.extend((written[left], written[right]) for left, right in known)
    vocab = {written[token]: rank for token, rank in ranks.items()}
    fast = Tokenizer(BPE(vocab=vocab, merges=merges, ignore_merges=True))
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    fast.decoder = decoders.ByteLevel()
    return encoding, fast


def timed(work, times):
    """Seconds of each of `times` calls."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--tokenizer", required=True, help="a tokenizer.model of Llama 3")
    parser.add_argument("--alti", default=ROOT / "target/release/alti", help="our program, built for release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=4, help="of each text, at most")
    arguments = parser.parse_args()
    environment()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    encoding, fast = peers(arguments.tokenizer)

    texts = {}
    for given in arguments.texts:
        name, _, file = given.partition("=")
        with open(file, newline="", encoding="utf-8") as opened:
            # Cut at a character's end.
            texts[name] = opened.read().encode()[: int(arguments.megabytes * 1e6)].decode(errors="ignore")
    first = next(iter(texts.values()))
    texts["one letter"] = "a" * 1_000_000
    texts["no spaces"] = "".join(first.split())[:1_000_000]
    texts["all spaces"] = (" " * 30_000 + "\n" * 10 + "\t" * 20_000 + " \n" * 5_000) * 16

    wrong, rows = [], []
    for name, text in texts.items():
        size = len(text.encode())
        file = SCRATCH / "text.txt"
        file.write_bytes(text.encode())
        shown = subprocess.run(
            [arguments.alti, "tokenizer", "encode", arguments.tokenizer, "--ids"],
            stdin=file.open("rb"), capture_output=True, check=True,
        )
        ours_ids = [int(word) for word in shown.stdout.split()]
        theirs = [token for part in stretches(text) for token in encoding.encode_ordinary(part)]
        if ours_ids != theirs:
            wrong.append(name)
        seconds = {"ours": [], "tiktoken": [], "tokenizers": []}
        for _ in range(arguments.rounds):
            command = [arguments.alti, "bench", "tokenizer", arguments.tokenizer, file, "--rounds", "3", "--threads", "1"]
            done = subprocess.run([*command, "--json"], capture_output=True, check=True, text=True)
            seconds["ours"] += json.loads(done.stdout)["texts"][0]["seconds"]
            # Meta's wrapper cuts the hard texts; whole, they are for tiktoken as they are for us.
            seconds["tiktoken"] += timed(lambda: encoding.encode_ordinary(text), 3)
            # An order of magnitude slower.
            seconds["tokenizers"] += timed(lambda: fast.encode(text, add_special_tokens=False), 1)
        rates = {who: size / 1e6 / statistics.median(found) for who, found in seconds.items()}
        rows.append({"text": name, "bytes": size, "tokens": len(ours_ids), "megabytes_per_second": rates})
        print(
            f"{name:12} {size / 1e6:7.2f} MB  ours {rates['ours']:7.2f}  tiktoken {rates['tiktoken']:6.2f}"
            f" ({rates['ours'] / rates['tiktoken']:.2f} times)  tokenizers {rates['tokenizers']:6.2f}"
            f" ({rates['ours'] / rates['tokenizers']:.1f} times)  MB/s"
            + ("" if name not in wrong else "  TOKENS DIFFER"),
            flush=True,
        )
    print(json.dumps({"bench": "encode", "processor": platform.processor(), "rounds": arguments.rounds, "rows": rows}))
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
