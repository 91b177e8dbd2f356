#!/usr/bin/env python3
"""Our training step beside PyTorch's: the same model, weights, tokens and machine, taking turns.

    python3 bench/train/run.py                     # both shapes, three rounds: about 40 minutes on two cores
    python3 bench/train/run.py --shapes small --rounds 1 --steps 6
    python3 bench/train/run.py --programs 'ours bf16' 'pytorch bf16 compiled'
    python3 bench/train/run.py --isa avx2          # both sides as on a processor without AVX-512
    python3 bench/train/run.py --python PATH       # an interpreter that has torch, instead of a new environment

Makes a virtual environment in bench/train/.venv on its first run, builds our release, and in each round runs every
program once, in another order each time. Prints a table of medians over the rounds and ends with one line of JSON.
Exits with 1 where the two programs do not compute the same losses.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEERS = [(dtype, compiled) for dtype in ("f32", "bf16", "autocast") for compiled in (False, True)]
# f32 programs differ by rounding alone over the first steps: before any update, after one and after two. From then on
# AdamW, which gives a gradient near zero as long a step as any other, makes differences of that rounding.
COMPARED_LOSSES = 3
# PyTorch's own kernels, oneDNN's and MKL's.
HELD_TO_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
LOSS_TOLERANCE = {"f32": 2e-5, "bf16": 2e-2, "autocast": 2e-2}


def environment():
    """An interpreter with the packages of requirements.txt."""
    python = HERE / ".venv/bin/python"
    if not python.exists():
        print("making bench/train/.venv; torch is large, this takes minutes", flush=True)
        subprocess.run([sys.executable, "-m", "venv", HERE / ".venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"], check=True)
    return python


def preload(scratch):
    """The library that makes MKL use AVX-512 on processors of other makers; None where there is no C compiler."""
    library = scratch / "mkl_avx512.so"
    source = HERE / "mkl_avx512.c"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"warning: MKL is left as it is ({error}); on AMD, PyTorch's f32 runs at half speed", flush=True)
        return None
    return library


def last_json(command, extra=None):
    done = subprocess.run(command, env=os.environ | (extra or {}), capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        raise SystemExit(f"{command} ended with {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def has_bf16():
    cpu = pathlib.Path("/proc/cpuinfo")
    return cpu.exists() and "avx512_bf16" in cpu.read_text()


def processor():
    cpu = pathlib.Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in (cpu.read_text() if cpu.exists() else "").splitlines()
             if line.startswith("model name")]
    return names[0] if names else platform.processor()


def measure(arguments):
    python = arguments.python or environment()
    scratch = ROOT / "target/bench"
    scratch.mkdir(parents=True, exist_ok=True)
    library = preload(scratch)
    subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "train", "--example", "step"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    ours = target / "release/examples/step"

    threads = str(arguments.threads)
    extra = {"OMP_NUM_THREADS": threads} | ({"LD_PRELOAD": str(library)} if library else {})
    if arguments.isa == "avx2":
        extra |= HELD_TO_AVX2
    runs = {}
    for shape in arguments.shapes:
        steps = ["--shape", shape, "--threads", threads, "--steps", str(arguments.steps or {"small": 12, "wide": 5}.get(shape, 6))]
        programs = [("ours", "f32", None)] + ([("ours", "bf16", None)] if has_bf16() or arguments.all else [])
        programs += [("pytorch", dtype, compiled) for dtype, compiled in PEERS]
        programs = [program for program in programs if label(program) in (arguments.programs or [label(program)])]
        for round_number in range(arguments.rounds):
            # Every other round goes backwards, so that no program always follows the same one.
            for program in programs if round_number % 2 == 0 else reversed(programs):
                name, dtype, compiled = program
                if name == "ours":
                    result = last_json([ours, "--precision", dtype, *steps, *(["--isa", arguments.isa] if arguments.isa else [])])
                else:
                    compile_option = ["--compile"] if compiled else []
                    result = last_json([python, HERE / "peer.py", "--dtype", dtype, *compile_option, *steps], extra)
                runs.setdefault((shape, *program), []).append(result)
                print(f"{shape:6} round {round_number + 1}: {label(program):24} "
                      f"{result['tokens_per_second']:9.0f} tokens/s {result['peak_rss_mib']:6.0f} MiB", flush=True)
    return runs


def label(program):
    name, dtype, compiled = program
    return f"{name} {dtype}" + {None: "", False: " eager", True: " compiled"}[compiled]


def compare(runs):
    """For each shape: medians of every program, the best of each side, the ratios, and whether the losses agree."""
    figures, sound = {}, True
    for shape in dict.fromkeys(key[0] for key in runs):
        rows = {}
        reference = (runs.get((shape, "ours", "f32", None)) or runs[(shape, "ours", "bf16", None)])[0]["losses"]
        for (_, *program), results in ((key, value) for key, value in runs.items() if key[0] == shape):
            losses = results[0]["losses"]
            difference = max(abs(a - b) for a, b in zip(losses[:COMPARED_LOSSES], reference))
            agrees = difference <= LOSS_TOLERANCE[program[1]]
            sound &= agrees
            rows[label(program)] = dict(
                tokens_per_second=round(statistics.median(r["tokens_per_second"] for r in results), 1),
                best=round(max(r["best_tokens_per_second"] for r in results), 1),
                peak_rss_mib=max(r["peak_rss_mib"] for r in results),
                loss_difference=float(f"{difference:.2g}"),
                losses_agree=agrees,
            )
        side = lambda name: max((v["tokens_per_second"], k) for k, v in rows.items() if k.startswith(name))
        (our_rate, our_best), (their_rate, their_best) = side("ours"), side("pytorch")
        figures[shape] = dict(
            ours=our_best, pytorch=their_best, speed_ratio=round(our_rate / their_rate, 3),
            memory_ratio=round(rows[our_best]["peak_rss_mib"] / rows[their_best]["peak_rss_mib"], 3), programs=rows,
        )
    return figures, sound


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", nargs="+", choices=["nano", "small", "big", "wide"], default=["small", "big"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="steps of each run; the first two are not counted")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--python", help="an interpreter that has torch")
    parser.add_argument("--programs", nargs="+", metavar="LABEL",
                        help="these alone, at least one of each side, as in: 'ours bf16' 'pytorch bf16 compiled'")
    parser.add_argument("--isa", choices=["avx2"], help="hold both sides to an older processor's instructions")
    parser.add_argument("--all", action="store_true", help="also our bf16 where the processor has no instruction for it")
    arguments = parser.parse_args()
    if arguments.steps is not None and arguments.steps < 5:
        parser.error("--steps must be at least 5")
    known = [f"ours {dtype}" for dtype in ("f32", "bf16")] + [label(("pytorch", *peer)) for peer in PEERS]
    chosen = arguments.programs or known
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"there is no program {unknown[0]!r}; there are {', '.join(known)}")
    if len({name.split()[0] for name in chosen}) < 2:
        parser.error("--programs needs at least one of ours and one of PyTorch's")

    runs = measure(arguments)
    figures, sound = compare(runs)
    for shape, figure in figures.items():
        print(f"\n{shape}: tokens/s (median), best step, peak memory, largest difference of the first losses to ours in f32")
        for name, row in sorted(figure["programs"].items(), key=lambda item: -item[1]["tokens_per_second"]):
            print(f"  {name:24} {row['tokens_per_second']:9.0f} {row['best']:9.0f} {row['peak_rss_mib']:6.0f} MiB"
                  f"  {row['loss_difference']:.1e}{'' if row['losses_agree'] else '  DIFFERS'}")
        print(f"  {figure['ours']} beside {figure['pytorch']}: {figure['speed_ratio']:.2f} times the speed, "
              f"{figure['memory_ratio']:.2f} of the memory")
    versions = sorted({result["version"] for key, results in runs.items() if key[1] == "pytorch" for result in results})
    print(json.dumps(dict(
        bench="train", processor=processor(), threads=arguments.threads, rounds=arguments.rounds, isa=arguments.isa,
        pytorch=versions, losses_agree=sound, shapes=figures,
    )))
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
