"""Runs our denoising loop and diffusers' (with the DeepCache package, and OpenVINO if it is installed) in turn and prints the ratios.

usage: runs.py AFTERIMAGE TORCH_PYTHON MODEL [--steps N] [--size N] [--interval N] [--rounds N] [--threads N] [--openvino]
       MODEL: a Stable Diffusion folder, for example of scripts/random_weights.py

Every process loads the model anew and runs the loop once; both load the same fp16 files and compute in f32. Printed are the medians
of the rounds' ratios and their extremes, and the most main memory that a process held.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

PEER = pathlib.Path(__file__).with_name("diffusion.py")


def ours(options, interval):
    command = [options.afterimage, "generate", "a lighthouse", "--model", options.model, "--device", "cpu", "--seed", "0"]
    command += ["--sampler", "ddim", "--steps", options.steps, "--size", f"{options.size}x{options.size}", "--guidance-scale", "7.5"]
    if interval:
        command += ["--cache", f"deepcache:interval={interval},branch=0"]
    with tempfile.TemporaryDirectory() as folder:
        document = report([*command, "--json", "--output", f"{folder}/picture.png"], options)
    return {"denoising": document["seconds"]["denoising"], "peak_memory": document["peak_memory"]}


def theirs(options, side, interval):
    command = [options.python, str(PEER), side, options.model, "--steps", options.steps, "--size", options.size]
    return report(command + (["--interval", str(interval)] if interval else []), options)


def report(command, options):
    threads = {"RAYON_NUM_THREADS": options.threads, "OMP_NUM_THREADS": options.threads}
    done = subprocess.run(command, env=os.environ | threads, check=True, capture_output=True, text=True)
    return json.loads(done.stdout[done.stdout.index("{"):])


def ratio(ours, theirs):
    ratios = [one["denoising"] / other["denoising"] for one, other in zip(ours, theirs)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main():
    parser = argparse.ArgumentParser()
    for name in ["afterimage", "python", "model"]:
        parser.add_argument(name)
    for name, default in [("steps", 3), ("size", 512), ("interval", 3), ("threads", os.cpu_count())]:
        parser.add_argument(f"--{name}", default=str(default))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--openvino", action="store_true")
    options = parser.parse_args()
    sides = {
        "ours": lambda: ours(options, None),
        "ours, cached": lambda: ours(options, options.interval),
        "diffusers": lambda: theirs(options, "diffusers", None),
        "diffusers, DeepCache": lambda: theirs(options, "diffusers", options.interval),
    }
    if options.openvino:
        sides["OpenVINO"] = lambda: theirs(options, "openvino", None)
    rounds = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side, run in sides.items():
            rounds[side].append(run())
            print(f"{side}: {rounds[side][-1]['denoising']:.1f} s", flush=True)
    print(f"\n{options.steps} steps, {options.size}x{options.size}, threads: {options.threads}, rounds: {options.rounds}")
    for a, b in [("ours", "diffusers"), ("ours, cached", "diffusers, DeepCache"), ("ours", "OpenVINO"), ("ours, cached", "ours")]:
        if b in rounds:
            print(f"{a} / {b}: {ratio(rounds[a], rounds[b])}")
    for side, runs in rounds.items():
        print(f"{side}: {max(run['peak_memory'] for run in runs) / 2**30:.2f} GiB at most")


main()
