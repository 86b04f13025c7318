"""What the peers of our benchmarks share: repetitions, clocks and the JSON, as in benches/harness."""

import json
import math
import os
import sys
import time
from collections.abc import Callable

import torch

TIME, REPEATS, LEAST, LONG = 0.4, 5, 0.05, 2.0

Run = Callable[[], object]


def samples(run: Run) -> list[list[float]]:
    """Seconds by the clock and on the processor, of every repetition."""
    run()
    once = time.perf_counter()
    run()
    once = time.perf_counter() - once
    count, repeats = math.ceil(LEAST / once), 2 if once > LONG else REPEATS
    start, taken = time.perf_counter(), []
    while len(taken) < repeats or time.perf_counter() - start < TIME:
        clock, processor = time.perf_counter(), time.process_time()
        for _ in range(count):
            run()
        taken.append([(time.perf_counter() - clock) / count, (time.process_time() - processor) / count])
    return taken


def report(cases: dict[str, Callable[[], Run]]) -> None:
    """Times the cases whose names contain every word of the command line. Threads are RAYON_NUM_THREADS, as on the other side."""
    threads = int(os.environ.get("RAYON_NUM_THREADS", os.cpu_count() or 1))
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    with torch.inference_mode():
        wanted = {name: ready for name, ready in cases.items() if all(word in name for word in sys.argv[1:])}
        times = {name: samples(ready()) for name, ready in wanted.items()}
    print(json.dumps({"threads": threads, "cases": times}))
