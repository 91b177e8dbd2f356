#!/usr/bin/env python3
"""Writes tests/golden/corpus_indexed/: token shards as Megatron-LM writes them, made with numpy alone.

Follows `_IndexWriter` and `IndexedDatasetBuilder` of megatron/core/datasets/indexed_dataset.py at
NVIDIA/Megatron-LM d98e8a64ddf34856e74b24714e3bedb2f5a39553 (core 0.20.0). Made with numpy 2.4.6.

With `--check MEGATRON`, the path of a checkout of that repository, the files are also compared with those that
its own IndexedDatasetBuilder writes; this needs torch.
"""

import argparse
import pathlib
import struct
import sys
import tempfile

import numpy

HERE = pathlib.Path(__file__).resolve().parent / "corpus_indexed"
DOCUMENTS = [[0, 1, 2, 65499], [], [7], [i * 217 % 65500 for i in range(300)]]
CODES = {numpy.int32: 4, numpy.uint16: 8}


def write(prefix, documents, dtype):
    with open(f"{prefix}.bin", "wb") as tokens:
        for document in documents:
            tokens.write(numpy.array(document, dtype=dtype).tobytes(order="C"))
    lengths = [len(document) for document in documents]
    pointers = [sum(lengths[:i]) * numpy.dtype(dtype).itemsize for i in range(len(lengths))]
    with open(f"{prefix}.idx", "wb") as index:
        index.write(b"MMIDIDX\x00\x00")
        index.write(struct.pack("<Q", 1))
        index.write(struct.pack("<B", CODES[dtype]))
        index.write(struct.pack("<Q", len(lengths)))
        index.write(struct.pack("<Q", len(lengths) + 1))
        index.write(numpy.array(lengths, dtype=numpy.int32).tobytes(order="C"))
        index.write(numpy.array(pointers, dtype=numpy.int64).tobytes(order="C"))
        index.write(numpy.arange(len(lengths) + 1, dtype=numpy.int64).tobytes(order="C"))


def check(megatron):
    sys.path.insert(0, megatron)
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder

    for name, dtype in (("two_bytes", numpy.uint16), ("four_bytes", numpy.int32)):
        with tempfile.TemporaryDirectory() as folder:
            builder = IndexedDatasetBuilder(f"{folder}/x.bin", dtype=dtype)
            for document in DOCUMENTS:
                builder.add_document(torch.tensor(document, dtype=torch.int64), [len(document)])
            builder.finalize(f"{folder}/x.idx")
            for suffix in (".bin", ".idx"):
                theirs = pathlib.Path(f"{folder}/x{suffix}").read_bytes()
                assert theirs == (HERE / f"{name}{suffix}").read_bytes(), name + suffix
        dataset = IndexedDataset(str(HERE / name), multimodal=False, mmap=True)
        assert [dataset[i].tolist() for i in range(len(dataset))] == DOCUMENTS, name
    print("the same as Megatron-LM's")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", metavar="MEGATRON")
    arguments = parser.parse_args()
    HERE.mkdir(exist_ok=True)
    write(HERE / "two_bytes", DOCUMENTS, numpy.uint16)
    write(HERE / "four_bytes", DOCUMENTS, numpy.int32)
    if arguments.check:
        check(arguments.check)
