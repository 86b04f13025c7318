"""Writes test pictures of Fashion-MNIST as the `.npz` file that `afterimage eval --data` reads.

    python real.py 2000 real.npz
"""

import sys

import numpy as np

import data


def main():
    count, path = int(sys.argv[1]), sys.argv[2]
    pictures = data.read("t10k")[0][:count].numpy()
    np.savez(path, pictures[..., None])


main()
