"""Golden vectors for tokenizers of others' forms: what tokenizers and sentencepiece make of texts.

Run in a Python with tokenizers 0.23.3 and sentencepiece 0.2.3 (and protobuf, to change a model's pieces):

    python tests/golden/tokenizer_family.py

It trains small tokenizers in the forms of GPT-2, Qwen and Llama 2, and some that are odd on purpose, and writes
tests/golden/tokenizer_family.json with the files and the tokens of each text, which crates/tokenizer/tests/it/family.rs
compares with the crate.
"""
import base64
import io
import json
import pathlib
import random
import tempfile

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / "crates/tokenizer/tests/it/text.txt").read_text()
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
TEXTS = [
    "", " ", "  ", "\n", "\r\n\r\n", " \n \n", "a  b", "a\u00a0b", "\u3000a", "x\u2028\u2029 y", "hello world", " hello",
    "HELLO  WORLD ", "I'M YOU'RE WE'LL it's 'S '\u017f", "1234567 3.14159", "\u00b2\u00bd \u2167 \u0663\u0664", "!!!\n\n\n",
    "  !", "#include <stdio.h>\n\nint main() {\n\treturn 0;\n}\n", "e\u0301 \u00e9 \u0345\u0301 \u1100\u1161\u11a8 \u212b",
    "\u0928\u092e\u0938\u094d\u0924\u0947", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\ufeffbom",
    "\u0001\u001c\u001f\u007f\u0085", "\U00010400\U0001e4d0\U0010ffff", "\ufffd\ud7ff\ue000", "\u2581 \u2581\u2581a \u2581",
    "<|endoftext|>a<|im_start|> user<|im_end|>\n<|im_start|", "<tool_call>{}</tool_call><think> e\u0301<think>\u0338",
    "<|endoftext|><|endoftext|> a <|endoftext|>  ", "<s>a</s><unk><0x41>", "\uff21\uff22 \u2460 \ufb01 \u00bc", "aaaaaaaa" * 9,
    "the " * 30, "[X]the[X][X]fox", "  two  spaces  ",
] + TEXT.splitlines()[::4]


def trained(pre_tokenizer, normalizer=None, specials=(), size=560):
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    return tokenizer


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior, invert),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def shuffled(tokenizer, seed):
    """The same merges under ids in no order."""
    file = json.loads(tokenizer.to_str())
    ids = list(range(len(file["model"]["vocab"])))
    random.Random(seed).shuffle(ids)
    file["model"]["vocab"] = {text: ids[id] for text, id in file["model"]["vocab"].items()}
    return Tokenizer.from_str(json.dumps(file))


def with_odd_tokens(tokenizer, ignore_merges):
    """Tokens that no merge makes, and one that merging does not get to; whole pieces are looked up or not."""
    file = json.loads(tokenizer.to_str())
    vocab = file["model"]["vocab"]
    for text in ["hello", "\u0120world", "zq", "zqz"]:
        vocab.setdefault(text, len(vocab))
    file["model"]["merges"].append(["zq", "z"])
    file["model"]["ignore_merges"] = ignore_merges
    return Tokenizer.from_str(json.dumps(file))


def byte_level():
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    prefixed = pre_tokenizers.ByteLevel(add_prefix_space=True)
    qwen = trained(split(QWEN), normalizers.NFC())
    qwen.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    qwen.add_tokens([
        AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False),
        AddedToken("<think>", normalized=True),
    ])
    last = trained(gpt2)
    last.add_special_tokens(["<|endoftext|>"])
    yield "gpt2", last
    yield "gpt2 special tokens first", trained(gpt2, specials=["<|endoftext|>", "<s>"])
    yield "gpt2 with a space before", trained(prefixed, specials=["<|endoftext|>"])
    yield "qwen", qwen
    yield "llama, matches removed from what is removed", trained(split(LLAMA, "removed", True), specials=["<|endoftext|>"])
    yield "shuffled", shuffled(trained(split(LLAMA)), 1)
    yield "odd tokens", with_odd_tokens(trained(gpt2), False)
    yield "odd tokens, whole pieces", with_odd_tokens(trained(gpt2), True)


def pieces(**settings):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()), model_writer=model, model_type="bpe", minloglevel=2,
        character_coverage=1.0, **settings,
    )
    return model.getvalue()


def with_unused(model):
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    for piece in proto.pieces[262:320:2]:
        piece.type = sentencepiece_model_pb2.ModelProto.SentencePiece.UNUSED
    return proto.SerializeToString()


def sentence_pieces(folder):
    rules = folder / "rules.tsv"
    # Full-width A and B, a circled one, a ligature and a quarter; a letter and a mark; a character that vanishes.
    rules.write_text("FF21\t41\nFF22\t42\n2460\t31\nFB01\t66 69\nBC\t31 2044 34\n65 301\tE9\n3000\t20\nFEFF\t\n")
    llama = dict(
        vocab_size=640, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        split_digits=True, allow_whitespace_only_pieces=True,
    )
    yield "llama 2", pieces(**llama)
    yield "llama 2 with unused pieces", with_unused(pieces(**llama))
    yield "unknown pieces and rules", pieces(
        vocab_size=440, normalization_rule_tsv=str(rules), user_defined_symbols=["[X]", "the fox", "e\u0301"],
    )
    yield "words together", pieces(
        vocab_size=640, byte_fallback=True, normalization_rule_name="identity", split_by_whitespace=False,
        add_dummy_prefix=False,
    )


golden = {"versions": {library.__name__: library.__version__ for library in (tokenizers, sentencepiece)}, "texts": TEXTS}
golden["byte_level"] = []
for name, tokenizer in byte_level():
    entry = {"name": name, "file": tokenizer.to_str(), "text": [], "specials": []}
    for text in TEXTS:
        ids = []
        for tokenizer.encode_special_tokens in (True, False):
            ids.append(tokenizer.encode(text, add_special_tokens=False).ids)
        entry["text"].append(ids[0])
        # Only where special tokens make a difference.
        entry["specials"].append(ids[1] if ids[1] != ids[0] else None)
    golden["byte_level"].append(entry)
with tempfile.TemporaryDirectory() as folder:
    golden["sentencepiece"] = []
    for name, model in sentence_pieces(pathlib.Path(folder)):
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        ids = [processor.encode(text) for text in TEXTS]
        shuffle = random.Random(2)
        # Pieces in no order: bytes that are no characters, control pieces, spaces first.
        mixed = [[shuffle.randrange(processor.vocab_size()) for _ in range(12)] for _ in range(60)]
        mixed += [[shuffle.randrange(min(275, processor.vocab_size())) for _ in range(8)] for _ in range(60)]
        golden["sentencepiece"].append({
            "name": name, "file": base64.b64encode(model).decode(), "text": ids,
            # Only where the text does not come back.
            "decoded": [None if back == text else back for text, back in zip(TEXTS, map(processor.decode, ids))],
            "mixed": [[found, processor.decode(found)] for found in mixed],
        })
out = ROOT / "tests/golden/tokenizer_family.json"
out.write_text(json.dumps(golden, separators=(",", ":"), ensure_ascii=False) + "\n")
print(f"wrote {out.name}: {len(TEXTS)} texts, {out.stat().st_size} bytes")
