#!/usr/bin/env bash
# Compares the committed golden files of formats and random streams with what the programs that made them say today.
# Needs the packages of requirements.txt. (The models have a check of their own: check.sh.)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python tests/golden/seed_streams.py
python tests/golden/tensorboard_events.py

# These scripts write their files; what they write is what is committed.
rewrites() {
    local script=$1 before
    shift
    before=$(cksum "$@")
    python "tests/golden/$script" >/dev/null
    [ "$(cksum "$@")" = "$before" ] || { echo "error: $script no longer writes what is committed" >&2; exit 1; }
    echo "${script%.py}: ok"
}
rewrites tokenizer_unicode.py crates/tokenizer/src/unicode_tables.rs
rewrites corpus_indexed.py tests/golden/corpus_indexed/*
rewrites gguf_blocks.py crates/kernels/src/quant/golden/*
rewrites gguf_parts.py crates/model/tests/formats/gguf_parts/*
