"""Many pictures, and evaluations, over a Ray cluster: `pip install "afterimage[ray]"`. Only those who import this module need Ray.

    import afterimage.ray

    with afterimage.ray.Pool("path/to/model", device="cuda", gpus=1) as pool:
        afterimage.ray.generate_many("prompts.jsonl", "pictures", pool=pool, num_inference_steps=30)

The cluster is the one that `ray.init` has found, or the machine itself. What is made is the same, to the byte, on any number of workers. Folders
and models must be reachable by the same path from every node.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any, Iterable, Iterator, Mapping, Sequence

import ray

from ._pipeline import Path, _bar
from ._rows import groups_of, line_of, rows_of, task_of, write_whole
from ._workers import Workers

MANIFEST = "manifest.jsonl"
"""What `generate_many` leaves beside the pictures: a line a row, in their order."""


@dataclass(frozen=True)
class Pool:
    """Workers that hold one loaded model each.

    Ray places them by what each takes: `gpus=1` one a GPU, `cores=4` one for every four cores. `workers` is how many, or the fewest and the
    most; silent, there are as many as the cluster has room for, and nodes that join are used. In `device`, `{gpu}` becomes the number of
    the GPU that Ray has given to a worker, for backends that do not heed `CUDA_VISIBLE_DEVICES`: `device="vulkan:{gpu}"`.

    Workers begin with a call and end with it. In a `with` block they begin with the block, serve all calls in it, and end with it, or with the
    program, however that ends:

        with Pool(device="cuda", gpus=1) as pool:
            generate_many("first.jsonl", "first", pool=pool)
            generate_many("second.jsonl", "second", pool=pool)
    """

    model: Path = "bundled"
    device: str = "auto"
    workers: int | tuple[int, int] | None = None
    cores: float = 1
    gpus: float = 0
    loading: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `Pipeline.load`."""
    together: int = 1
    """Rows of `generate_many` that a worker makes in one run, at most, where they differ in text and seed alone: the same files, in less time, for as
    many times the memory of a picture."""
    _kept: list[Workers] = field(default_factory=list, init=False, repr=False, compare=False)

    def __enter__(self) -> Pool:
        self._kept.append(self._staff().__enter__())
        self._kept[-1].hire()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._kept.pop().__exit__()

    def _staff(self) -> Workers:
        """The workers that are kept, or new ones."""
        if self._kept:
            return self._kept[-1]
        if not ray.is_initialized():
            ray.init()
        number = self.workers if isinstance(self.workers, tuple) else (self.workers or 1, self.workers)
        return Workers((self.model, self.device, self.cores, dict(self.loading)), {"CPU": self.cores, "GPU": self.gpus}, number)


@dataclass(frozen=True)
class Summary:
    """What `generate_many` did."""

    made: int
    """Pictures that were made."""
    found: int
    """Rows whose picture was there already, from a run before or by a row of the same recipe."""
    failed: int
    """Rows that no picture can be made of; the manifest says why."""
    manifest: str
    """Its file."""


def generate_many(
    rows: Path | Iterable[Mapping[str, Any]],
    output: Path,
    *,
    pool: Pool = Pool(),
    seed: int = 0,
    progress: bool = False,
    **options: Any,
) -> Summary:
    """Makes a picture (or, with `num_frames`, a film) of every row, into the folder `output`, and a manifest beside them.

    `rows` is a `.jsonl` or `.parquet` file, or mappings. Of a row `prompt`, `negative_prompt`, `seed`, `recipe` (a whole request, as
    mapping or JSON), `cache`, `num_inference_steps`, `guidance_scale`, `sampler`, `width`, `height` and `class_labels` are read; `options`
    (names as in `Pipeline.__call__`) go for rows that are silent. Row `i` without a seed has the seed `seed + i`.

    A picture is named by what it is made by, and written whole or not at all: run again after whatever stopped it, what is there is not made again.
    A row that the model refuses is written down with the reason; what else goes wrong ends the run. What a lost worker was at goes to another, and
    ends the run if it takes three with it. `progress=True` draws a bar with tqdm.
    """
    folder = File(output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [task_of(row, index, seed, options, (pool.model, pool.loading)) for index, row in enumerate(rows_of(rows))]
    wanted = {task["file"]: task for task in tasks}
    missing = [task for file, task in wanted.items() if not (folder / file).exists()]
    errors: dict[str, str] = {}
    digests: dict[str, str] = {}
    for refused, made in _made(pool, str(folder), groups_of(missing, pool.together), len(missing) if progress else None):
        errors.update(refused)
        digests.update(made)
    lines = [line_of(task, folder, (errors, digests)) for task in tasks]
    write_whole(folder / MANIFEST, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    failed = sum(task["file"] in errors for task in tasks)
    return Summary(len(digests), len(tasks) - len(digests) - failed, failed, str(folder / MANIFEST))


def _made(
    pool: Pool, folder: str, groups: list[list[tuple[str, str]]], shown: int | None
) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """What workers answer of groups; a bar goes on to the number that is `shown`."""
    if not groups:
        return
    bar = None if shown is None else _bar("picture", shown)
    try:
        for errors, digests in pool._staff().map("pictures", [(folder, group) for group in groups]):
            if bar is not None:
                bar.update(len(errors) + len(digests))
            yield errors, digests
    finally:
        if bar is not None:
            bar.close()


def evaluate(
    output: Path,
    *,
    pool: Pool = Pool(),
    cache: str | Sequence[str] = (),
    samples: int = 64,
    batch: int = 8,
    lpips: Path | None = None,
    classifier: Path | None = None,
    data: Path | None = None,
    shapes: bool = False,
    clip: Path | None = None,
    **asked: Any,
) -> dict[str, Any]:
    """An evaluation (`afterimage.Evaluation` says what of, `afterimage.measure` with what) whose batches are made all over the cluster.

    They go into the folder `output`, where a batch that is there is not made again; one worker then measures them in their order. So results are
    those of one machine to the last digit, but for the times.
    """
    folder = File(output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    batches = -(-samples // max(1, min(batch, samples)))
    planned = {"cache": cache, "samples": samples, "batch": batch, **asked}
    instruments = {"lpips": lpips, "classifier": classifier, "data": data, "shapes": shapes, "clip": clip}
    with pool._staff() as workers:
        for _ in workers.map("shard", [(str(folder), planned, f"{number}/{batches}") for number in range(1, batches + 1)]):
            pass
        [results] = workers.map("measured", [(str(folder), instruments)])
    return dict(results)
