"""Fashion-MNIST as Debian's package dataset-fashion-mnist installs it."""

import gzip

import numpy as np
import torch

FOLDER = "/usr/share/datasets/fashion-mnist"
CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def read(part):
    """`part` is train or t10k; pictures u8 [n, 32, 32] (28 x 28 in a black frame), labels [n]."""
    with gzip.open(f"{FOLDER}/{part}-images-idx3-ubyte.gz") as f:
        pictures = np.frombuffer(f.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(f"{FOLDER}/{part}-labels-idx1-ubyte.gz") as f:
        labels = np.frombuffer(f.read(), np.uint8, offset=8)
    return torch.from_numpy(np.pad(pictures, ((0, 0), (2, 2), (2, 2)))), torch.from_numpy(labels.astype(np.int64))


def scaled(pictures):
    """u8 [n, 32, 32] to float [n, 1, 32, 32] in [-1, 1]."""
    return pictures[:, None].float() / 127.5 - 1
