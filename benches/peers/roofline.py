"""What square products and streams reach in PyTorch on the CPU; prints JSON: 10⁹ multiply-accumulates a second by type, 10⁹ bytes a second.

usage: roofline.py [SIDE]      threads: OMP_NUM_THREADS

Of the ways that PyTorch has to a product of a type the best: its BLAS, and oneDNN by a convolution of 1x1. Bytes are those of a triad of
three arrays that no cache holds, two read and one written.
"""

import json
import os
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

SECONDS = 2.0
STREAM = 1 << 26  # Values of an array.


def fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest repetition."""
    run()
    end, best = time.perf_counter() + SECONDS, float("inf")
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def pointwise(dtype: torch.dtype, side: int) -> Callable[[], object]:
    """A product as a convolution, channels last."""
    image = torch.randn(1, side, side // 32, 32).to(dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(side, side, 1, 1).to(dtype)
    return lambda: F.conv2d(image, weight)


def products(side: int) -> dict[str, float]:
    factors = lambda dtype: [torch.randn(side, side).to(dtype) for _ in range(2)]
    integers = [torch.randint(-127, 128, (side, side), dtype=torch.int8) for _ in range(2)]
    ways = {
        "f32": [lambda pair=factors(torch.float32): pair[0] @ pair[1], pointwise(torch.float32, side)],
        "bf16": [lambda pair=factors(torch.bfloat16): pair[0] @ pair[1], pointwise(torch.bfloat16, side)],
        "i8": [lambda: torch._int_mm(*integers), lambda: torch._int_mm(integers[0], integers[1].T)],
    }
    return {name: 1e-9 * side**3 / min(map(fastest, tried)) for name, tried in ways.items()}


def bandwidth() -> float:
    a, b, c = (torch.rand(STREAM) for _ in range(3))
    return 1e-9 * 3 * 4 * STREAM / fastest(lambda: torch.add(a, b, alpha=3.0, out=c))


def main() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
    with torch.inference_mode():
        print(json.dumps({"products": products(side), "bandwidth": bandwidth()}))


main()
