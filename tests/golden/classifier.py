#!/usr/bin/env python3
"""Writes tests/golden/classifier/: small models as fastText trains and saves them, and what fastText predicts with them.

Made with fasttext-wheel 0.9.2 and numpy 1.26.4. Its threads are one, so that the files are the same again on the same machine.
`predictions.jsonl` has, for each model and text, every label with its probability. fastText adds 1e-5 to a probability before it
takes its logarithm (`std_log` in src/loss.cc), once for a softmax and once a node of a tree; what is written is as it answers.

With `--check FOLDER`, a folder that `alti curate classifier train` wrote, fastText reads the model there, and its answers to the
texts below are printed.
"""

import argparse
import json
import pathlib
import tempfile

import fasttext

HERE = pathlib.Path(__file__).resolve().parent / "classifier"
LINES = {
    "en": ["the llama stands on the high plain and looks at the road", "nobody knows where the water comes from in the dry season", "she reads a book about mountains while the train is late"],
    "de": ["das Lama steht auf der Hochebene und schaut auf die Straße", "niemand weiß woher das Wasser in der trockenen Zeit kommt", "sie liest ein Buch über Berge während der Zug sich verspätet"],
    "code": ["fn main ( ) { let x = 1 ; println ! ( x ) ; }", "for i in range ( 10 ) : print ( i ) ; return None", "if ( a == b ) { return c ; } else { return d ; }"],
    "none": ["1234 5678 9012", "x y z", "a 1 b 2 c 3"],
}
TEXTS = [
    "the llama reads a book",
    "das Wasser kommt auf der Straße",
    "return x ; }",
    "völlig unbekannte Wörter und dazwischen the road",
    "12 z",
    "",
    "日本語 の テキスト",
    "the\tllama\nstands on the high plain",
    "naïve café façade",
]
MODELS = {
    "softmax": dict(loss="softmax", wordNgrams=2, bucket=50, minn=0, maxn=0),
    "characters": dict(loss="softmax", wordNgrams=3, bucket=80, minn=2, maxn=4),
    "words": dict(loss="softmax", wordNgrams=1, minn=0, maxn=0),
    "tree": dict(loss="hs", wordNgrams=2, bucket=50, minn=0, maxn=0),
    "independent": dict(loss="ova", wordNgrams=2, bucket=50, minn=0, maxn=0),
    "negative": dict(loss="ns", wordNgrams=1, minn=3, maxn=3, bucket=40),
}


def answer(model, text):
    labels, shares = model.predict(text.replace("\n", " "), k=-1)
    return {label.removeprefix("__label__"): float(share) for label, share in zip(labels, shares)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.check:
        model = fasttext.load_model(str(arguments.check / "model.bin"))
        for text in TEXTS:
            print(json.dumps({"text": text, "answer": answer(model, text)}, ensure_ascii=False))
        return
    HERE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, open(HERE / "predictions.jsonl", "w") as out:
        source = pathlib.Path(folder) / "train.txt"
        # Labels of different counts, so that the tree is not even.
        repeat = {"en": 4, "de": 3, "code": 2, "none": 1}
        lines = [f"__label__{label} {line}" for label, of in LINES.items() for line in of for _ in range(repeat[label])]
        source.write_text("\n".join(lines) + "\n")
        for name, options in MODELS.items():
            model = fasttext.train_supervised(str(source), dim=5, epoch=30, lr=0.5, thread=1, seed=1, verbose=0, **options)
            model.save_model(str(HERE / f"{name}.bin"))
            for text in TEXTS:
                out.write(json.dumps({"model": name, "text": text, "answer": answer(model, text)}, ensure_ascii=False) + "\n")
        # Both are refused by what they are.
        vectors = fasttext.train_unsupervised(str(source), dim=3, epoch=1, minCount=1, bucket=5, thread=1, verbose=0)
        vectors.save_model(str(HERE / "vectors.bin"))
        model = fasttext.train_supervised(str(source), dim=2, epoch=5, wordNgrams=2, bucket=200, thread=1, verbose=0)
        model.quantize(dsub=2)
        model.save_model(str(HERE / "quantised.ftz"))
    for path in sorted(HERE.iterdir()):
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
