"""What matrix products reach in PyTorch on a device; prints TFLOP/s by data type as JSON.

usage: peak.py DEVICE SIDE
"""

import json
import sys
import time

import torch

REPEATS, ROUNDS = 10, 5


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def teraflops(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """The best of some rounds, on random numbers."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    fastest = float("inf")
    for _ in range(ROUNDS + 1):  # The first one warms up.
        start = now(device)
        for _ in range(REPEATS):
            left @ right
        fastest = min(fastest, (now(device) - start) / REPEATS)
    return 2 * side**3 / fastest * 1e-12


def main() -> None:
    device, side = torch.device(sys.argv[1]), int(sys.argv[2])
    found = {}
    for name, dtype in [("f16", torch.float16), ("bf16", torch.bfloat16), ("f32", torch.float32), ("tf32", torch.float32)]:
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        found[name] = teraflops(device, dtype, side)
    print(json.dumps(found))


main()
