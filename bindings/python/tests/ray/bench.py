"""What Ray costs: pictures by two workers of one core each, which a call starts or which are kept, and by the program with two threads, in turn;
then by the picture.

    ROUNDS=5 PICTURES=64 TOGETHER=8 python bench.py PROGRAM
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import afterimage
import afterimage.ray as many
import ray

PROGRAM = sys.argv[1]
ROUNDS, PICTURES, TOGETHER = (int(os.environ.get(name, silent)) for name, silent in (("ROUNDS", 5), ("PICTURES", 64), ("TOGETHER", 8)))
PROMPT = "a red circle above a blue square"
BEGIN = 6
"""Seconds that workers are given to begin."""


def pool():
    return many.Pool(device="cpu", workers=2, together=TOGETHER)


def called(folder, workers):
    """Seconds from the call to the manifest."""
    begun = time.monotonic()
    summary = many.generate_many([{"prompt": PROMPT}] * PICTURES, folder, pool=workers)
    assert summary.made == PICTURES
    return time.monotonic() - begun


def by_ray(folder):
    """Workers start, load their models, make everything, and end."""
    return called(folder, pool())


def by_workers_that_are_kept(folder):
    """Workers have had the time to load their models."""
    with pool() as kept:
        time.sleep(BEGIN)
        return called(folder, kept)


def by_program(folder):
    """Seconds of one process that makes as many in one batch, which costs it the least."""
    Path(folder).mkdir()
    asked = [PROGRAM, "generate", PROMPT, "--batch", str(PICTURES), "--seed", "0", "--device", "cpu", "--output", str(Path(folder, "picture.png"))]
    begun = time.monotonic()
    subprocess.run(asked, check=True, capture_output=True, env={**os.environ, "RAYON_NUM_THREADS": "2"})
    return time.monotonic() - begun


def small(pictures):
    """Seconds that one worker takes for pictures of one step."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        many.generate_many([{"prompt": PROMPT}] * pictures, folder, pool=many.Pool(device="cpu", workers=1), num_inference_steps=1)
        return time.monotonic() - begun


def here(pictures):
    """Seconds that the same take in this process, once the model is loaded."""
    os.environ["RAYON_NUM_THREADS"] = "1"
    pipe = afterimage.Pipeline.load(device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        for seed in range(pictures):
            pipe(PROMPT, seed=seed, num_inference_steps=1).save(Path(folder, f"{seed}.png"))
        return time.monotonic() - begun


ray.init(num_cpus=2, object_store_memory=100_000_000, log_to_driver=False, include_dashboard=False)
rounds = []
for number in range(ROUNDS):
    turns = [by_ray, by_program, by_workers_that_are_kept]
    turns = turns[number % 3 :] + turns[: number % 3]
    with tempfile.TemporaryDirectory() as place:
        rounds.append({make.__name__: make(Path(place, make.__name__)) for make in turns})
    print(json.dumps(rounds[-1]), flush=True)
for make in ("by_ray", "by_workers_that_are_kept"):
    shares = sorted(one[make] / one["by_program"] for one in rounds)
    print(f"{PICTURES} pictures {make}, over two threads: {shares[len(shares) // 2]:.3f} ({shares[0]:.3f} to {shares[-1]:.3f}, {ROUNDS} rounds)", flush=True)
few, more = small(16), small(16 + PICTURES)
task = (more - few - here(PICTURES)) / PICTURES
print(f"a picture costs {1000 * task:.1f} ms beside the engine's work; workers, their models and the end {few - 16 * (more - few) / PICTURES:.1f} s a call")
