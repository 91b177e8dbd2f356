#!/usr/bin/env python3
"""What speculative decoding brings: the same answers without guesses, by look-up and with a draft model, taking turns.

    python3 bench/engine/guesses.py MODEL --text book.txt
    python3 bench/engine/guesses.py target.gguf --draft runs/nano/base --text book.txt --temperature 0.7 --streams 1 8 32

Answers of `--generate` tokens are written behind stretches of `--after` tokens of the texts, at each number of streams. The
model should be one that was trained: a random one repeats nothing and agrees with no draft. One of a few million parameters,
which `alti raise` trains in minutes, tells what real passes cost once `inflate.py` has given it the shape of a large one.
Prints a table of medians over the rounds and ends with one line of JSON.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess

from run import built, command


def measure(arguments, alti, guesses):
    """Tokens a second, guesses and right ones, by the number of streams."""
    settings = {"off": '"off"', "lookup": '"lookup"', "draft": f'{{ draft = "{arguments.draft}" }}'}[guesses]
    words = [alti, "bench", "engine", arguments.model, "--prompt", "--generate", arguments.generate, "--rounds", 1, "--json",
             "--after", arguments.after, "--temperature", arguments.temperature, "--threads", arguments.threads,
             "--streams", *arguments.streams, "--set", f"engine.speculative={settings}",
             "--set", f"engine.max_draft_tokens={arguments.most}"]
    for text in arguments.text:
        words += ["--text", text]
    found = json.loads(command(*words))
    return {row["streams"]: (row["tokens_per_second"], row["drafted_tokens"], row["accepted_tokens"]) for row in found["decode"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="what `alti bench engine` takes")
    parser.add_argument("--text", type=pathlib.Path, action="append", required=True, help="a text that answers follow; may be repeated")
    parser.add_argument("--draft", type=pathlib.Path, help="a smaller model of the same vocabulary")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--after", type=int, default=256)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--most", type=int, default=8, help="engine.max_draft_tokens")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--alti", type=pathlib.Path, help="a binary instead of the release build of this folder")
    arguments = parser.parse_args()
    if arguments.draft:
        arguments.draft = arguments.draft.resolve()
    alti = arguments.alti or built()
    ways = ["off", "lookup"] + (["draft"] if arguments.draft else [])
    rows = {}
    for round_number in range(arguments.rounds):
        # Every other round goes backwards, so that no way always follows the same one.
        for guesses in ways if round_number % 2 == 0 else reversed(ways):
            for streams, found in measure(arguments, alti, guesses).items():
                rows.setdefault((streams, guesses), []).append(found)
                rate, drafted, right = found
                print(f"{streams:3} streams  {guesses:7} {rate:8.2f} tokens/s  {right:5} of {drafted:5} guesses right", flush=True)
    figures = []
    print()
    for streams in arguments.streams:
        median = {guesses: statistics.median(rate for rate, *_ in rows[streams, guesses]) for guesses in ways}
        for guesses in ways:
            drafted, right = (sum(found[place] for found in rows[streams, guesses]) for place in (1, 2))
            ratio = median[guesses] / median["off"]
            figures.append(dict(streams=streams, guesses=guesses, tokens_per_second=median[guesses], times_off=ratio,
                                drafted=drafted, right=right))
            share = f"{right / drafted:4.0%} of {drafted} right" if drafted else ""
            print(f"{streams:3} streams  {guesses:7} {median[guesses]:8.2f} tokens/s  {ratio:5.2f} times  {share}")
    print(json.dumps(dict(model=str(arguments.model), temperature=arguments.temperature, most=arguments.most,
                          rounds=arguments.rounds, figures=figures)))


if __name__ == "__main__":
    main()
