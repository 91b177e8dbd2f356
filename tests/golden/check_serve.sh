#!/bin/sh
# Lets the programs that speak OpenAI's API judge ours: OpenAI's own Python client goes through a server whose answers are
# known, and through `alti serve` with adapters whose answers peft knows; lm-evaluation-harness asks `alti serve` for the
# log-likelihoods that transformers computes of the same weights.
#
# Makes a virtual environment in tests/golden/.venv-serve on its first run; PYTHON=path uses another interpreter that has
# the packages of serve/requirements.txt. BUILT=path names a folder in which `alti` and the examples are built already, such as
# target/debug after `cargo test --workspace`.
set -eu
cd "$(dirname "$0")/../.."
if [ -z "${PYTHON:-}" ]; then
    PYTHON=tests/golden/.venv-serve/bin/python
    if [ ! -x "$PYTHON" ]; then
        python3 -m venv tests/golden/.venv-serve
        "$PYTHON" -m pip install --quiet -r tests/golden/serve/requirements.txt
    fi
fi
if [ -z "${BUILT:-}" ]; then
    cargo build --quiet -p cli
    cargo build --quiet -p serve --example toy_server
fi
built=${BUILT:-${CARGO_TARGET_DIR:-target}/debug}
failed=0

said=$(mktemp)
"$built/examples/toy_server" 0 2 >"$said" &
server=$!
trap 'kill "$server" 2>/dev/null || true; rm -f "$said"' EXIT
while [ ! -s "$said" ]; do
    kill -0 "$server" || exit 1
    sleep 0.1
done
"$PYTHON" tests/golden/serve/openai_client.py "$(cat "$said")v1" --repeats || failed=1

"$PYTHON" tests/golden/serve/adapters.py "$built/alti" || failed=1

log=${CARGO_TARGET_DIR:-target}/lm_eval.log
"$PYTHON" tests/golden/serve/lm_eval_harness.py "$built/alti" 2>"$log" || { tail -n 20 "$log" >&2; failed=1; }
exit $failed
