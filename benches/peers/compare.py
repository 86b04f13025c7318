"""Runs our operations, burn's and PyTorch's in turn and prints the ratios.

usage: compare.py BENCH_BINARY TORCH_PYTHON [--rounds N] [--threads N] [FILTER]
       BENCH_BINARY: what `cargo bench --bench ops --no-run` names

Every round runs the three one after the other. A round's time of a case is its fastest repetition, which other programs on the
machine disturb least: by the clock, or with one thread by the processor's time, which they hardly disturb at all. Printed are the
median of the rounds' ratios and their extremes.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess

PEER = pathlib.Path(__file__).with_name("ops.py")


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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("filter", nargs="*")
    options = parser.parse_intermixed_args()
    commands = {
        "ours": [options.bench, "ours", *options.filter],
        "burn": [options.bench, "burn", *options.filter],
        "torch": [options.python, str(PEER), *options.filter],
    }
    rounds = [
        {side: fastest(command, options.threads) for side, command in commands.items()}
        for _ in range(options.rounds)
    ]
    print(f"threads: {options.threads}, rounds: {options.rounds}")
    print(f"{'case':38} {'ours, ms':>9}   ours / burn              ours / PyTorch")
    for name in rounds[0]["ours"]:
        times = {side: [one[side][name] for one in rounds] for side in commands}
        ours = statistics.median(times["ours"]) * 1e3
        print(f"{name:38} {ours:9.2f}   {ratio(times['ours'], times['burn']):24} {ratio(times['ours'], times['torch'])}")


main()
