"""Golden vectors for the tokenizer: what tiktoken and transformers make of files that it wrote.

Run in a Python with tiktoken 0.14.0, tokenizers 0.23.3, transformers 5.23.0, Jinja2 3.1.6:

    python tests/golden/tokenizer.py

It trains a small tokenizer (`cargo run -p tokenizer --example train_small`), loads the files with
both libraries, checks that they agree with each other, and writes tests/golden/tokenizer.json,
which crates/tokenizer/tests/it/golden.rs compares with the crate. Given a folder with another
tokenizer as its argument, it only checks that the libraries agree on it.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import tiktoken
import tokenizers
import transformers
from tiktoken.load import load_tiktoken_bpe

ROOT = pathlib.Path(__file__).parents[2]
TEXT = ROOT / "crates/tokenizer/tests/it/text.txt"
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Each text is a list of (part, times).
TEXTS = [[(text, 1)] for text in [
    "", " ", "  ", "\n", "\r\n\r\n", "\t\t", " \n \n", "a  b", "a \n b", "a\u00a0b", "\u3000a", "x\u2028\u2029 y",
    "hello world", "HELLO WORLD", "I'M YOU'RE WE'LL THEY'VE SHE'D IT'S DON'T", "'S '\u017f 'Ll 'RE's'", "l'eau",
    "1", "12", "123", "1234567", "3.14159", "\u00b2\u00b3\u00bd \u2167 \u0663\u0664\u0665\u0666", "1a2b3c",
    "!!!\n\n\n", "...?\r\n", " !", "  !", "#include <stdio.h>\n\nint main() {\n\treturn 0;\n}\n",
    "e\u0301 \u00e9 \u0345\u0301", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\ufeffbom", "\u0000\u0001\u001c\u001d\u001f\u007f\u0085",
    "\U00010400\U0001e4d0\U00011f50\U000e0041\U0010ffff", "\ufffd\ud7ff\ue000",
    "<|begin_of_text|>a<|eot_id|> <|eot_id|", "<|reserved_special_token_1|><|reserved_special_token_10|>",
]] + [[(line, 1)] for line in TEXT.read_text().splitlines()] + [[(TEXT.read_text(), 1)]]
# Meta's cuts: runs of 25,000 characters, blocks of 400,000. They change tokens.
LONG_TEXTS = [
    [("a", 25_000)], [("a", 25_001)], [(" ", 25_001), ("a", 1)], [("\n", 50_003)], [("\u001c", 25_001)],
    [("\u3000", 25_002)], [("\u65e5", 25_001), (" the", 2)], [("the ", 100_001)], [("th e", 99_999), (" the the", 3)],
    [("x<|eot_id|>", 2_274)], [("ab \n", 110_000)],
]
CHATS = [
    [("user", "What is 2 + 2?")],
    [("system", " Be brief.\n"), ("user", "\u00a0the fox\u001f"), ("assistant", "\n4 \n\n"), ("user", "It's\n\n  so"),
     ("tool", "{\"a\": 1}"), ("assistant", "")],
    [("user", "")],
    [],
]


def special_names(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    ids = sorted(config["added_tokens_decoder"].items(), key=lambda item: int(item[0]))
    return [token["content"] for _, token in ids]


def load_tiktoken(folder):
    ranks = load_tiktoken_bpe(str(folder / "tokenizer.model"))
    specials = {name: len(ranks) + index for index, name in enumerate(special_names(folder))}
    return tiktoken.Encoding("small", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=specials)


def cut_runs(text, longest):
    """Tokenizer._split_whitespaces_or_nonwhitespaces of Meta's llama3/tokenizer.py."""
    length, start = 0, 0
    is_space = text[0].isspace() if text else False
    for index, character in enumerate(text):
        if is_space != character.isspace():
            length, is_space = 1, character.isspace()
        else:
            length += 1
            if length > longest:
                yield text[start:index]
                start, length = index, 1
    yield text[start:]


def encode_as_meta(encoding, text, allowed):
    """Tokenizer.encode there, without begin and end of text."""
    ids = []
    for block in range(0, len(text), 400_000):
        for part in cut_runs(text[block:block + 400_000], 25_000):
            ids.extend(encoding.encode(part, allowed_special=allowed, disallowed_special=()))
    return ids


def join(parts):
    return "".join(part * times for part, times in parts)


def summary(ids):
    """How many, and a polynomial hash: the ids of long texts would fill megabytes."""
    total = 0
    for token in ids:
        total = (total * 1_000_003 + token + 1) % 2**64
    return {"count": len(ids), "hash": str(total)}


def check(folder):
    encoding = load_tiktoken(folder)
    fast = transformers.AutoTokenizer.from_pretrained(folder)
    assert fast.bos_token == "<|begin_of_text|>" and fast.eos_token == "<|end_of_text|>"
    assert fast.vocab_size + 256 == len(fast) == encoding.n_vocab, (fast.vocab_size, len(fast), encoding.n_vocab)
    vectors = []
    for parts in TEXTS + LONG_TEXTS:
        text = join(parts)
        entry = {"parts": parts}
        for name, allowed in (("text", set()), ("specials", "all")):
            ids = encode_as_meta(encoding, text, allowed)
            entry[name] = summary(ids) if parts in LONG_TEXTS else ids
        if parts not in LONG_TEXTS:
            ids = fast(text)["input_ids"]
            assert ids[0] == fast.bos_token_id
            assert ids[1:] == entry["specials"], (text, ids, entry)
            plain = fast(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            assert plain == entry["text"], (text, plain, entry)
            assert fast.decode(ids[1:], skip_special_tokens=False) == text, text
        vectors.append(entry)
    chats = []
    for messages in CHATS:
        chat = [{"role": role, "content": content} for role, content in messages]
        ids = fast.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) if chat else None
        text = fast.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) if chat else None
        if chat:
            assert ids == fast(text, add_special_tokens=False)["input_ids"]
            chats.append({"messages": chat, "prompt": ids})
    return vectors, chats


if len(sys.argv) > 1:
    vectors, chats = check(pathlib.Path(sys.argv[1]))
    print(f"tiktoken and transformers agree on {len(vectors)} texts and {len(chats)} conversations")
else:
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        command = ["cargo", "run", "--quiet", "-p", "tokenizer", "--example", "train_small", "--"]
        subprocess.run(command + [str(TEXT), "800", str(folder)], check=True, cwd=ROOT)
        vectors, chats = check(folder)
        versions = {library.__name__: library.__version__ for library in (tiktoken, tokenizers, transformers)}
        golden = {
            "versions": versions,
            "ranks": (folder / "tokenizer.model").read_text(),
            "vectors": vectors,
            "chats": chats,
        }
    out = ROOT / "tests/golden/tokenizer.json"
    out.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")
    print(f"wrote {out.name}: {len(vectors)} texts, {len(chats)} conversations, {out.stat().st_size} bytes")
