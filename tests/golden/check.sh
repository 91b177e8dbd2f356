#!/bin/sh
# Checks that transformers reads the folders that we write and computes the same logits (f32, within 1e-4), and that torch,
# gguf and transformers read what `alti convert` makes, and that `alti pull` shares its cache with huggingface_hub.
#
#     tests/golden/check.sh                      # the golden models, read and exported again by us
#     tests/golden/check.sh runs/NAME/base ...   # folders of a run
#
# Makes a virtual environment in tests/golden/.venv on its first run; PYTHON=path uses another interpreter that has
# the packages of model/requirements.txt. BUILT=path names a folder in which `alti` is built already, such as target/debug
# after `cargo test --workspace`: building it alone takes other features of its libraries, and so minutes.
set -eu
cd "$(dirname "$0")/../.."
if [ -z "${PYTHON:-}" ]; then
    PYTHON=tests/golden/.venv/bin/python
    if [ ! -x "$PYTHON" ]; then
        python3 -m venv tests/golden/.venv
        "$PYTHON" -m pip install --quiet -r tests/golden/model/requirements.txt
    fi
fi
cargo build --quiet --release -p model --example logits
program=${CARGO_TARGET_DIR:-target}/release/examples/logits
failed=0
if [ $# -gt 0 ]; then
    for folder in "$@"; do
        "$PYTHON" tests/golden/check_export.py "$program" "$folder" || failed=1
    done
else
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    for folder in crates/model/tests/golden/*/; do
        "$PYTHON" tests/golden/check_export.py "$program" "$folder" --export "$scratch/$(basename "$folder")" || failed=1
    done
    [ -n "${BUILT:-}" ] || cargo build --quiet -p cli
    alti=${BUILT:-${CARGO_TARGET_DIR:-target}/debug}/alti
    "$PYTHON" tests/golden/check_model_formats.py "$alti" || failed=1
    "$PYTHON" tests/golden/check_hub.py "$alti" || failed=1
fi
exit $failed
