"""What the borders cost: from nothing to a picture by the program, by C and by Python, in turn, and the share of Python's calls that is not the engine's.

    cc bindings/c/examples/picture.c … -o picture      # as scripts/bindings.sh does
    python benches/bindings.py PROGRAM C_PICTURE [ROUNDS]

Python is the one that runs this, with the wheel installed.
"""

import os
import subprocess
import sys
import tempfile
import time
from statistics import median

import afterimage

PROGRAM, C_PICTURE = sys.argv[1:3]
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 15
PROMPT, RULE, STEPS, SEED = "a red circle above a blue square", "deepcache:interval=3,branch=0", 12, 7  # those of the C example

IN_PYTHON = f"""
import time
begun = time.perf_counter()
import afterimage
pipe = afterimage.Pipeline.load("bundled", device="cpu")
result = pipe({PROMPT!r}, cache={RULE!r}, seed={SEED}, num_inference_steps={STEPS})
result.save("picture.png")
print(time.perf_counter() - begun)
"""


def process(*words):
    """Seconds of a whole process."""
    begun = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - begun


def python():
    """Seconds from the import to the file, in a process of its own."""
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", IN_PYTHON], check=True, capture_output=True, text=True)
    return float(out.stdout)


def program():
    options = ["--cache", RULE, "--steps", str(STEPS), "--seed", str(SEED), "--device", "cpu"]
    return process(PROGRAM, "generate", PROMPT, *options, "--output", "picture.png")


def c():
    return process(C_PICTURE, PROMPT, "picture.ppm")


def calls(rounds):
    """The share of a call that is neither text, denoising nor decoding."""
    pipe = afterimage.Pipeline.load("bundled", device="cpu")
    shares = []
    for seed in range(rounds):
        begun = time.perf_counter()
        result = pipe(PROMPT, seed=seed, num_inference_steps=30, callback=lambda *_: True)
        whole = time.perf_counter() - begun
        model = result.report["models"][0]
        own = model["text_seconds"] + model["denoising_seconds"] + model["decoding_seconds"]
        shares.append(((whole - own) / whole, whole - own))
    return shares


with tempfile.TemporaryDirectory() as place:
    os.chdir(place)
    for make in (program, c, python):
        make()  # the page cache is warm for all
    rounds = [{make.__name__: make() for make in (program, c, python)[turn % 3 :] + (program, c, python)[: turn % 3]} for turn in range(ROUNDS)]
for name in ("c", "python"):
    beyond = sorted(one[name] - one["program"] for one in rounds)
    print(f"{name}: {median(beyond):+.3f} s beyond the program's {median(one['program'] for one in rounds):.3f} s ({beyond[0]:+.3f} to {beyond[-1]:+.3f})")
shares = sorted(calls(ROUNDS))
share, seconds = shares[len(shares) // 2]
print(f"a call from Python, 30 steps with a callback: {100 * share:.2f} % ({1000 * seconds:.1f} ms) beside the engine's work, at most {100 * shares[-1][0]:.2f} %")
