"""Golden values of `ledger::seed`, by an independent ChaCha8 and the reference BLAKE3.

    python tests/golden/seed_streams.py            compare with the committed values
    python tests/golden/seed_streams.py --write    make them anew (only before the first release: the streams are frozen)

Made with blake3 1.0.11 (PyPI), Python 3.11. `normal` is Python's own inverse of the normal distribution.
"""

import json
import pathlib
import statistics
import struct
import sys

import blake3

GOLDEN = pathlib.Path(__file__).parents[2] / "crates/ledger/tests/data/seed_streams.json"
CONTEXT = "altiplano ledger seed stream v1"
MASK = 0xFFFFFFFF


def chacha8(key: bytes, block: int) -> bytes:
    """One block of ChaCha with 8 rounds, 64-bit counter `block` and nonce 0 (Bernstein 2008)."""
    state = list(struct.unpack("<4I", b"expand 32-byte k")) + list(struct.unpack("<8I", key))
    state += [block & MASK, block >> 32, 0, 0]
    x = list(state)

    def quarter(a, b, c, d):
        for first, second, third, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[first] = (x[first] + x[second]) & MASK
            v = x[third] ^ x[first]
            x[third] = (v << turn | v >> (32 - turn)) & MASK

    for _ in range(4):
        for column in range(4):
            quarter(column, column + 4, column + 8, column + 12)
        for column in range(4):
            quarter(column, (column + 1) % 4 + 4, (column + 2) % 4 + 8, (column + 3) % 4 + 12)
    return struct.pack("<16I", *((a + b) & MASK for a, b in zip(x, state)))


class Stream:
    def __init__(self, seed: int, name: str, index: int):
        material = struct.pack("<QQ", seed, index) + name.encode()
        self.key = blake3.blake3(material, derive_key_context=CONTEXT).digest()
        self.buffer, self.block = b"", 0

    def next_u64(self) -> int:
        if not self.buffer:
            self.buffer, self.block = chacha8(self.key, self.block), self.block + 1
        value, self.buffer = struct.unpack("<Q", self.buffer[:8])[0], self.buffer[8:]
        return value

    def below(self, n: int) -> int:
        while True:
            product = self.next_u64() * n
            if product % 2**64 >= 2**64 % n:
                return product >> 64

    def uniform(self) -> float:
        return (self.next_u64() >> 11) / 2**53

    def normal(self) -> float:
        value = statistics.NormalDist().inv_cdf(((self.next_u64() >> 12) + 0.5) / 2**52)
        return struct.unpack("f", struct.pack("f", value))[0]

    def shuffle(self, items: list) -> list:
        for last in range(len(items) - 1, 0, -1):
            chosen = self.below(last + 1)
            items[last], items[chosen] = items[chosen], items[last]
        return items


def golden() -> list:
    cases = []
    for seed, name, index in [(0, "", 0), (0, "weights", 0), (0, "weights", 1), (1, "weights", 0), (2**64 - 1, "Größe", 2**40)]:
        stream = lambda: Stream(seed, name, index)
        u64, below, huge, uniform, normal = stream(), stream(), stream(), stream(), stream()
        cases.append({
            "seed": seed, "name": name, "index": index,
            # More than one block of 64 bytes, and than the four blocks that are made at once.
            "next_u64": [u64.next_u64() for _ in range(40)],
            "below_1000": [below.below(1000) for _ in range(8)],
            # A bound at which about half of the draws are rejected.
            "below_2_63_plus_1": [huge.below(2**63 + 1) for _ in range(8)],
            "uniform": [uniform.uniform() for _ in range(4)],
            "normal": [normal.normal() for _ in range(40)],
            "shuffle_10": stream().shuffle(list(range(10))),
        })
    return cases


def main():
    # The stream under the key and nonce 0 of the ChaCha8 test vectors of draft-strombergson-chacha-test-vectors-01.
    if not chacha8(bytes(32), 0).hex().startswith("3e00ef2f895f40d67f5bb8e81f09a5a1"):
        sys.exit("this script's ChaCha8 is wrong")
    if "--write" in sys.argv:
        lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in golden())
        GOLDEN.write_text(f"[\n{lines}\n]\n")
    if json.loads(GOLDEN.read_text()) != golden():
        sys.exit(f"{GOLDEN.name} differs from the reference")
    print("seed_streams: ok")


if __name__ == "__main__":
    main()
