"""One picture by stable-diffusion.cpp's program, with DDIM and guidance; prints JSON as diffusion.py does.

usage: sdcpp.py PROGRAM MODEL --steps N [--size N] [ITS OWN OPTIONS]      threads: OMP_NUM_THREADS
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile

# What the program says of its times.
SAID = {"denoising": r"sampling completed, taking ([\d.]+)s", "decoding": r"decode_first_stage completed, taking ([\d.]+)s"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--steps", required=True)
    parser.add_argument("--size", default="512")
    options, own = parser.parse_known_args()
    command = [options.program, "-m", options.model, "-p", "a lighthouse", "--cfg-scale", "7.5", "--sampling-method", "ddim_trailing", "-s", "0"]
    command += ["--steps", options.steps, "-W", options.size, "-H", options.size, "-t", os.environ.get("OMP_NUM_THREADS", "-1"), *own]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, "-o", f"{folder}/picture.png"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = {name: re.search(pattern, done.stdout) for name, pattern in SAID.items()}
    if done.returncode != 0 or not all(found.values()):
        sys.exit(done.stdout[-2000:])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(json.dumps({name: float(one[1]) for name, one in found.items()} | {"precision": "f16 weights", "peak_memory": peak}))


main()
