#!/usr/bin/env python3
"""Our engine beside llama.cpp's: the same GGUF files, the same machine, taking turns.

    python3 bench/engine/run.py --tokenizer tokenizer.model --llama-cpp DIR
    python3 bench/engine/run.py … --shapes 1b --kinds q8_0 --measure decode prefill --rounds 1

`--llama-cpp` is a folder with `llama-bench` and `llama-server`, built for this machine; bench/README.md says how they are
made from the PyPI package that carries their source. `--tokenizer` is a Llama 3 tokenizer.model (128,256 tokens). Random
models are made on the first run, in target/bench/engine. Prints a table of medians over the rounds and ends with one line
of JSON.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SCRATCH = ROOT / "target/bench/engine"
MEASURES = ["decode", "prefill", "serve", "prefix", "load"]
# Common English words of one token each: prompts of a known length that no cache has seen.
WORDS = """time year people way day man thing woman life child world school state family student group country problem
hand part place case week company system program question work government number night point home water room mother area
money story fact month lot right study book eye job word business issue side kind head house service friend father power
hour game line end member law car city community name president team minute idea body information back parent face
others level office door health person art war history party result change morning reason research girl guy moment air
teacher force education""".split()


def command(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    if done.returncode != 0:
        print(done.stdout[-2000:], done.stderr[-4000:], file=sys.stderr)
        raise SystemExit(f"{words[0]} ended with {done.returncode}")
    return done.stdout


def built():
    """Our program, built for release."""
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/alti"


def models(arguments, alti):
    """A GGUF file for each shape and kind; both programs read the same."""
    files = {}
    for shape in arguments.shapes:
        plain = SCRATCH / shape
        for kind in arguments.kinds:
            file = SCRATCH / f"{shape}-{kind}.gguf"
            if not file.exists():
                if not plain.exists():
                    print(f"making a random {shape} model", flush=True)
                    command(environment(), HERE / "random_model.py", shape, plain, "--tokenizer", arguments.tokenizer)
                command(alti, "convert", plain, file, "--quantize", kind)
            files[shape, kind] = file
    return files


def environment():
    """An interpreter with the packages of requirements.txt."""
    python = HERE / ".venv/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", HERE / ".venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"], check=True)
    return python


class Ours:
    name = "ours"

    def __init__(self, alti, threads):
        self.alti, self.threads = alti, threads

    def bench(self, file, prompts, generate):
        text = command(self.alti, "bench", "engine", file, "--prompt", *prompts, "--generate", generate, "--streams", 1, "--threads", self.threads,
                       "--json")
        found = json.loads(text)
        rates = {f"prefill {row['tokens']}": row["tokens_per_second"] for row in found["prefill"]}
        for row in found["decode"]:
            rates["decode"] = row["tokens_per_second"]
            rates["share of read bandwidth"] = row["share_of_bandwidth"]
        return rates

    def server(self, file, port, parallel):
        return [self.alti, "serve", file, "--listen", f"127.0.0.1:{port}", "--set", f"engine.max_sequences={parallel}"]


class LlamaCpp:
    name = "llama.cpp"

    def __init__(self, folder, threads):
        self.folder, self.threads = folder, threads

    def bench(self, file, prompts, generate):
        rows = json.loads(command(self.folder / "llama-bench", "-m", file, "-p", ",".join(map(str, prompts or [0])),
                                  "-n", generate, "-t", self.threads, "-r", 1, "-o", "json"))
        return {f"prefill {row['n_prompt']}" if row["n_prompt"] else "decode": row["avg_ts"] for row in rows}

    def server(self, file, port, parallel):
        return [self.folder / "llama-server", "-m", file, "--host", "127.0.0.1", "--port", port, "-t", self.threads,
                "-np", parallel, "-c", 512 * max(parallel, 5), "--no-webui"]


class Server:
    """A server from its start to its end; `started` says when the first answer was there."""

    def __init__(self, program, file, parallel):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # As `alti serve` calls it; theirs takes any name.
        self.model = file.stem
        begin = time.monotonic()
        self.log = open(SCRATCH / f"{program.name}.log", "w")
        words = [str(word) for word in program.server(file, self.port, parallel)]
        self.process = subprocess.Popen(words, stdout=self.log, stderr=self.log)
        while True:
            if self.process.poll() is not None:
                raise SystemExit(f"{words[0]} ended with {self.process.returncode}; see {self.log.name}")
            try:
                self.complete("Hello", 1)
                break
            except (OSError, http.client.HTTPException, Busy):
                time.sleep(0.01)
        self.started = time.monotonic() - begin

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def complete(self, text, tokens):
        """Tokens read and written by one chat."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        body = dict(model=self.model, messages=[dict(role="user", content=text)], max_tokens=tokens, temperature=0.0)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        found = json.loads(answer.read())
        connection.close()
        if answer.status == 503:
            raise Busy
        if answer.status != 200:
            raise SystemExit(f"the server says {answer.status}: {found}")
        return found["usage"]["prompt_tokens"], found["usage"]["completion_tokens"]


class Busy(Exception):
    """The model is still loading."""


def text(tokens, seed):
    """So many words, another text for each seed."""
    return " ".join(random.Random(seed).choices(WORDS, k=tokens))


def served(server, clients, requests, seed):
    """Tokens a second, read and written, of so many clients that each wait for their answer."""
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        begin = time.monotonic()
        # The template of a chat has about a dozen tokens of its own.
        usage = list(pool.map(lambda i: server.complete(text(240, seed + i), 128), range(requests)))
        seconds = time.monotonic() - begin
    return sum(written for _, written in usage) / seconds


def prefixed(server, seed):
    """Seconds to the first token: of a 2,000-token prompt, and of another that shares all but its end."""
    seconds = []
    shared = text(2000, seed)
    for end in ("What follows?", "Why is that so?"):
        begin = time.monotonic()
        server.complete(shared + " " + end, 1)
        seconds.append(time.monotonic() - begin)
    return seconds


def measure(arguments, programs, files):
    rows = {}

    def note(shape, kind, what, program, value):
        rows.setdefault((shape, kind, what), {}).setdefault(program.name, []).append(value)
        print(f"{shape} {kind:7} {what:24} {program.name:10} {value:10.2f}", flush=True)

    for round_number in range(arguments.rounds):
        for (shape, kind), file in files.items():
            # Every other round goes backwards, so that no program always follows the same one.
            for program in programs if round_number % 2 == 0 else reversed(programs):
                prompts = [512, 2048] if "prefill" in arguments.measure else []
                generate = 64 if "decode" in arguments.measure else 0
                if prompts or generate:
                    for what, value in program.bench(file, prompts, generate).items():
                        note(shape, kind, what, program, value)
                seed = 1000 * round_number
                if {"serve", "load"} & set(arguments.measure):
                    for clients in (8, 32) if "serve" in arguments.measure else (8,):
                        with Server(program, file, clients) as server:
                            if "load" in arguments.measure and clients == 8:
                                note(shape, kind, "load, s", program, server.started)
                            if "serve" in arguments.measure:
                                value = served(server, clients, max(clients, 16), seed)
                                note(shape, kind, f"served {clients}", program, value)
                if "prefix" in arguments.measure:
                    with Server(program, file, 1) as server:
                        first, second = prefixed(server, seed)
                        note(shape, kind, "prefix, first, s", program, first)
                        note(shape, kind, "prefix, second, s", program, second)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=pathlib.Path, help="a tokenizer.model of Llama 3, for the random models")
    parser.add_argument("--llama-cpp", type=pathlib.Path, help="a folder with llama-bench and llama-server")
    parser.add_argument("--alti", type=pathlib.Path, help="a binary instead of the release build of this folder")
    parser.add_argument("--shapes", nargs="+", choices=["1b", "3b"], default=["1b"])
    parser.add_argument("--kinds", nargs="+", default=["q8_0", "q4_0", "q4_k_m"])
    parser.add_argument("--measure", nargs="+", choices=MEASURES, default=MEASURES)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    alti = arguments.alti or built()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    files = models(arguments, alti)
    programs = [Ours(alti, arguments.threads)]
    if arguments.llama_cpp:
        programs.append(LlamaCpp(arguments.llama_cpp, arguments.threads))
    rows = measure(arguments, programs, files)

    figures = []
    print()
    for (shape, kind, what), values in rows.items():
        medians = {name: statistics.median(found) for name, found in values.items()}
        line = dict(shape=shape, kind=kind, what=what, **medians)
        if len(medians) == 2:
            ratio = medians["ours"] / medians["llama.cpp"]
            # Seconds are better when they are fewer.
            line["times llama.cpp"] = 1 / ratio if what.endswith(", s") else ratio
        shown = "  ".join(f"{name} {value:.2f}" for name, value in line.items() if isinstance(value, float))
        print(f"{shape} {kind:7} {what:24} {shown}")
        figures.append(line)
    print(json.dumps(dict(machine=platform.processor() or platform.machine(), threads=arguments.threads,
                          rounds=arguments.rounds, figures=figures)))


if __name__ == "__main__":
    main()
