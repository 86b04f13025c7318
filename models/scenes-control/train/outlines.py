"""Outlines as `afterimage --control-canny` makes them: Canny's edges with thresholds 100 and 200, blurred first (sigma 1.4)."""

import math

import numpy as np
import torch
import torch.nn.functional as F

LOW, HIGH, SIGMA = 100.0, 200.0, 1.4
RADIUS = math.ceil(2 * SIGMA)
BLACK, WHITE = 7, 6                                  # of the colours of scenes
# The neighbour across the edge, for gradients to the right, right and down, down, and left and down.
ACROSS = [(0, 1), (1, 1), (1, 0), (1, -1)]


def sketch(rec):
    """The same shapes, each in the greatest contrast to what it lies on."""
    on = WHITE if rec["rel"] == 5 else BLACK
    return {**rec, "bg": WHITE, "c1": on, "c2": BLACK}


def grey(pictures):
    """uint8 [B, H, W, 3] -> float32 [B, 1, H, W] of whole numbers."""
    weights = torch.tensor([19595, 38470, 7471])
    sums = (torch.from_numpy(pictures).long() * weights).sum(-1)
    return ((sums + (1 << 15)) >> 16).float()[:, None]


def blurred(x):
    taps = torch.exp(-torch.arange(-RADIUS, RADIUS + 1).float() ** 2 / (2 * SIGMA ** 2))
    taps = taps / taps.sum()
    for kernel, pad in ((taps.view(1, 1, 1, -1), (RADIUS, RADIUS, 0, 0)), (taps.view(1, 1, -1, 1), (0, 0, RADIUS, RADIUS))):
        x = F.conv2d(F.pad(x, pad, mode="replicate"), kernel).floor()
    return x


def thinned(x):
    """Lengths of the gradient [B, H, W], 0 where a neighbour across the edge has a longer one, and on the frame."""
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    both = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), torch.stack([sobel, sobel.T])[:, None])
    gx, gy = both[:, 0], both[:, 1]
    length = torch.hypot(gx, gy)
    sector = torch.remainder(torch.round(torch.atan2(gy, gx) / (math.pi / 4)), 4)
    keep = torch.zeros_like(length, dtype=torch.bool)
    for number, (dy, dx) in enumerate(ACROSS):
        least = torch.maximum(length.roll((-dy, -dx), (1, 2)), length.roll((dy, dx), (1, 2)))
        keep |= (sector == number) & (length >= least)
    inner = torch.zeros_like(keep)
    inner[:, 1:-1, 1:-1] = True
    return torch.where(keep & inner, length, 0.0)


def canny(pictures):
    """uint8 [B, H, W, 3] -> float32 [B, 1, H, W], 1 on edges."""
    length = thinned(blurred(grey(pictures)))[:, None]
    weak, edge = length >= LOW, length >= HIGH
    while True:
        more = (F.max_pool2d(edge.float(), 3, 1, 1) > 0) & weak
        if torch.equal(more | edge, edge):
            return edge.float()
        edge |= more


def hint(pictures):
    """What a ControlNet sees: [B, 3, H, W] from 0 to 1."""
    return canny(pictures).expand(-1, 3, -1, -1)


def to_picture(edges):
    """[H, W] of 0 and 1 -> uint8 [H, W, 3]."""
    return np.repeat((edges.numpy() * 255).astype(np.uint8)[..., None], 3, -1)
