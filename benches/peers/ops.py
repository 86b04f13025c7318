"""The operations of benches/ops.rs in PyTorch, over the same shapes; prints the same JSON.

usage: ops.py [FILTER]      threads: RAYON_NUM_THREADS, as on the other side
"""

import json
import math
import os
import pathlib
import sys
import time

import torch
import torch.nn.functional as F

TIME, REPEATS, LEAST = 0.4, 5, 0.05
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


def measured(run):
    run()
    once = time.perf_counter()
    run()
    count = math.ceil(LEAST / (time.perf_counter() - once))
    start, samples = time.perf_counter(), []
    while len(samples) < REPEATS or time.perf_counter() - start < TIME:
        clock, processor = time.perf_counter(), time.process_time()
        for _ in range(count):
            run()
        samples.append([(time.perf_counter() - clock) / count, (time.process_time() - processor) / count])
    return samples


def main():
    threads = int(os.environ.get("RAYON_NUM_THREADS", os.cpu_count()))
    torch.set_num_threads(threads)
    cases = {}
    with torch.inference_mode():
        for operation, shapes in json.loads(SHAPES.read_text()).items():
            for shape in shapes:
                name = f"{operation}/{'x'.join(map(str, shape))}"
                if all(word in name for word in sys.argv[1:]):
                    cases[name] = measured(globals()[operation](*shape))
    print(json.dumps({"threads": threads, "cases": cases}))


main()
