"""The operations of benches/ops.rs in PyTorch, over the same shapes; prints the same JSON.

usage: ops.py [FILTER]      threads: RAYON_NUM_THREADS, as on the other side
"""

import json
import os
import sys
import time

import torch
import torch.nn.functional as F

TIME, REPEATS = 0.4, 5
ATTENTIONS = [
    (2, 8, 4096, 4096, 40),
    (2, 8, 1024, 1024, 80),
    (2, 8, 256, 256, 160),
    (2, 8, 4096, 77, 40),
    (2, 10, 1024, 1024, 64),
    (2, 16, 256, 256, 72),
    (1, 1, 1024, 1024, 512),
]
GROUP_NORMS = [(2, 320, 64, 64), (2, 640, 32, 32), (2, 1280, 16, 16), (1, 128, 256, 256)]
LAYER_NORMS = [(2, 4096, 320), (2, 1024, 640), (2, 256, 1152)]


def attention(rows, heads, queries, keys, width):
    split = lambda tokens: torch.randn(rows, tokens, heads, width).transpose(1, 2)
    query, key, value = split(queries), split(keys), split(keys)
    return lambda: F.scaled_dot_product_attention(query, key, value)


def group_norm_silu(rows, channels, height, width):
    hidden = torch.randn(rows, channels, height, width)
    scale, shift = torch.ones(channels), torch.zeros(channels)
    return lambda: F.silu(F.group_norm(hidden, 32, scale, shift))


def layer_norm(rows, tokens, width):
    hidden = torch.randn(rows, tokens, width)
    scale, shift = torch.ones(width), torch.zeros(width)
    return lambda: F.layer_norm(hidden, (width,), scale, shift)


def measured(run):
    run()
    start, samples = time.perf_counter(), []
    while len(samples) < REPEATS or time.perf_counter() - start < TIME:
        clock, processor = time.perf_counter(), time.process_time()
        run()
        samples.append([time.perf_counter() - clock, time.process_time() - processor])
    return samples


def main():
    threads = int(os.environ.get("RAYON_NUM_THREADS", os.cpu_count()))
    torch.set_num_threads(threads)
    groups = [(attention, ATTENTIONS), (group_norm_silu, GROUP_NORMS), (layer_norm, LAYER_NORMS)]
    cases = {}
    with torch.inference_mode():
        for operation, shapes in groups:
            for shape in shapes:
                name = f"{operation.__name__}/{'x'.join(map(str, shape))}"
                if all(word in name for word in sys.argv[1:]):
                    cases[name] = measured(operation(*shape))
    print(json.dumps({"threads": threads, "cases": cases}))


main()
