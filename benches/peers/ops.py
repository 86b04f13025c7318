"""The operations of benches/ops.rs in PyTorch, over the same shapes; prints the same JSON.

usage: ops.py [FILTER]      threads: RAYON_NUM_THREADS, as on the other side
"""

import functools
import json
import pathlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from harness import Run, report

SHAPES = pathlib.Path(__file__).with_name("shapes.json")


def attention(rows, heads, queries, keys, width):
    split = lambda tokens: torch.randn(rows, tokens, heads, width).transpose(1, 2)
    query, key, value = split(queries), split(keys), split(keys)
    return lambda: F.scaled_dot_product_attention(query, key, value)


def group_norm_silu(rows, channels, height, width):
    hidden = torch.randn(rows, channels, height, width)
    scale, shift = torch.ones(channels), torch.zeros(channels)
    return lambda: F.silu(F.group_norm(hidden, 32, scale, shift))


def convolution(rows, before, height, width, after, kernel, stride):
    hidden = torch.randn(rows, before, height, width)
    weight, bias = torch.randn(after, before, kernel, kernel), torch.randn(after)
    return lambda: F.conv2d(hidden, weight, bias, stride, (kernel - 1) // 2)


def linear(tokens, before, after):
    hidden, weight, bias = torch.randn(1, tokens, before), torch.randn(after, before), torch.randn(after)
    return lambda: F.linear(hidden, weight, bias)


def layer_norm(rows, tokens, width):
    hidden = torch.randn(rows, tokens, width)
    scale, shift = torch.ones(width), torch.zeros(width)
    return lambda: F.layer_norm(hidden, (width,), scale, shift)


def cases() -> dict[str, Callable[[], Run]]:
    shapes = json.loads(SHAPES.read_text()).items()
    each = [(operation, sizes) for operation, listed in shapes for sizes in listed]
    return {
        f"{operation}/{'x'.join(map(str, sizes))}": functools.partial(globals()[operation], *sizes)
        for operation, sizes in each
    }


report(cases())
