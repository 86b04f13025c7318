"""Draws single shapes, class by class, as the `.npz` file that `afterimage eval --data` reads.

    python real.py 1024 real.npz
"""

import random
import sys

import numpy as np

import singles
import data


def main():
    count, path = int(sys.argv[1]), sys.argv[2]
    rng = random.Random(2025)
    pictures = [data.to_u8(data.render([singles.record(rng, k % singles.COUNT)])) for k in range(count)]
    np.savez(path, np.concatenate(pictures).astype(np.uint8))


main()
