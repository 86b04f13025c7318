"""Runs our operations, burn's and PyTorch's, or our denoisers' steps and diffusers', in turn and prints the ratios.

usage: compare.py BENCH_BINARY TORCH_PYTHON [--peer ops|steps] [--rounds N] [--threads N] [FILTER]
       BENCH_BINARY: what `cargo bench --bench ops --no-run` names, or `--bench steps`

Every round runs the sides one after the other. A round's time of a case is its fastest repetition, which other programs on the
machine disturb least: by the clock, or with one thread by the processor's time, which they hardly disturb at all. Printed are the
median of the rounds' ratios and their extremes.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess

FOLDER = pathlib.Path(__file__).parent

# What the bench binary is asked for, by the peer that it is compared with.
SIDES = {"ops": {"ours": ["ours"], "burn": ["burn"]}, "steps": {"ours": []}}


def fastest(command, threads):
    column = 1 if threads == 1 else 0
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return {name: min(sample[column] for sample in samples) for name, samples in json.loads(output)["cases"].items()}


def ratio(ours, theirs):
    ratios = [a / b for a, b in zip(ours, theirs)]
    return f"{statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("python")
    parser.add_argument("--peer", choices=SIDES, default="ops")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("filter", nargs="*")
    options = parser.parse_intermixed_args()
    sides = SIDES[options.peer].items()
    commands = {side: [options.bench, *words, *options.filter] for side, words in sides}
    commands["PyTorch"] = [options.python, str(FOLDER / f"{options.peer}.py"), *options.filter]
    rounds = [
        {side: fastest(command, options.threads) for side, command in commands.items()}
        for _ in range(options.rounds)
    ]
    others = [side for side in commands if side != "ours"]
    print(f"threads: {options.threads}, rounds: {options.rounds}")
    print(f"{'case':38} {'ours, ms':>9}   " + " ".join(f"{'ours / ' + other:24}" for other in others))
    for name in rounds[0]["ours"]:
        times = {side: [one[side][name] for one in rounds] for side in commands}
        ours = statistics.median(times["ours"]) * 1e3
        print(f"{name:38} {ours:9.2f}   " + " ".join(f"{ratio(times['ours'], times[other]):24}" for other in others))


main()
