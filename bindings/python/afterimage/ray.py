"""Many pictures, and evaluations, over a Ray cluster: `pip install "afterimage[ray]"`. Only those who import this module need Ray.

    import afterimage.ray

    pool = afterimage.ray.Pool("path/to/model", device="cuda", gpus=1)
    afterimage.ray.generate_many("prompts.jsonl", "pictures", pool=pool, num_inference_steps=30)

The cluster is the one that `ray.init` has found, or the machine itself. What is made is the same, to the byte, on any number of workers. Folders
and models must be reachable by the same path from every node.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

import ray
import ray.data

from . import PlanError, RequestError
from ._evaluation import Evaluation, measure
from ._pipeline import Path, Pipeline, _put, _read, _translate

MANIFEST = "manifest.jsonl"
"""What `generate_many` leaves beside the pictures: a line a row, in their order."""

MOST_TASKS = 10_000
"""Beyond so many, several rows share a task."""

COLUMNS = [
    *("prompt", "negative_prompt", "class_labels", "seed", "recipe", "cache"),
    *("num_inference_steps", "guidance_scale", "sampler", "width", "height"),
]
"""Columns of a row that are read; others are somebody else's."""

TEXTS = ("prompts", "negative_prompts")
"""Keys of a recipe that say something of one picture each."""

TOGETHER = {
    *TEXTS,
    *("version", "model", "seed", "cache", "steps", "size", "sampler", "eta", "guidance_scale", "guidance_rescale"),
    *("clip_skip", "loras", "embeddings", "dtype", "weights", "activations"),
}
"""Keys of recipes that can be one run with others."""


@dataclass(frozen=True)
class Pool:
    """Workers that hold one loaded model each.

    Ray places them by what each takes: `gpus=1` one a GPU, `cores=4` one for every four cores. `workers` is how many, or the fewest and the
    most; silent, there are as many as the cluster has room for, and nodes that join are used. In `device`, `{gpu}` becomes the number of
    the GPU that Ray has given to a worker, for backends that do not heed `CUDA_VISIBLE_DEVICES`: `device="vulkan:{gpu}"`.
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

    def _map(self, tasks: list[dict[str, Any]], worker: type[Any], **arguments: Any) -> Iterator[dict[str, Any]]:
        """What a worker answers to each task, in no order. A task whose worker is lost goes to another."""
        blocks = min(len(tasks), MOST_TASKS)
        fewest, most = self.workers if isinstance(self.workers, tuple) else (self.workers or 1, self.workers)
        answers = ray.data.from_items(tasks, override_num_blocks=blocks).map(
            worker,
            fn_constructor_kwargs={"pool": self, **arguments},
            compute=ray.data.ActorPoolStrategy(min_size=fewest, max_size=most),
            num_cpus=self.cores,
            num_gpus=self.gpus,
        )
        yield from answers.iter_rows()

    def _load(self) -> Pipeline:
        """The model, on what Ray has given to this worker."""
        os.environ["RAYON_NUM_THREADS"] = str(max(1, int(self.cores)))
        gpu = next(iter(ray.get_gpu_ids()), 0)
        return Pipeline.load(self.model, device=self.device.format(gpu=gpu), **self.loading)


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
    **options: Any,
) -> Summary:
    """Makes a picture (or, with `num_frames`, a film) of every row, into the folder `output`, and a manifest beside them.

    `rows` is a `.jsonl` or `.parquet` file, or mappings. Of a row `prompt`, `negative_prompt`, `seed`, `recipe` (a whole request, as
    mapping or JSON), `cache`, `num_inference_steps`, `guidance_scale`, `sampler`, `width`, `height` and `class_labels` are read; `options`
    (names as in `Pipeline.__call__`) go for rows that are silent. Row `i` without a seed has the seed `seed + i`.

    A picture is named by what it is made by, and written whole or not at all: run again after whatever stopped it, what is there is not made again.
    A row that the model refuses is written down with the reason; what else goes wrong ends the run once Ray has tried it elsewhere.
    """
    folder = File(output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [_task(row, index, seed, options, pool) for index, row in enumerate(_rows(rows))]
    wanted = {task["file"]: task for task in tasks}
    missing = [task for file, task in wanted.items() if not (folder / file).exists()]
    failed: dict[str, str] = {}
    groups = _groups(missing, pool.together)
    for answer in pool._map(groups, _Painter, folder=str(folder)) if groups else ():
        failed.update((file, error) for file, error in zip(answer["files"], answer["errors"]) if error)
    lines = [_line(task, folder, failed) for task in tasks]
    _write(folder / MANIFEST, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    refused = sum(task["file"] in failed for task in tasks)
    made = len(missing) - len(failed)
    return Summary(made, len(tasks) - made - refused, refused, str(folder / MANIFEST))


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
    shards = [{"shard": f"{number}/{batches}"} for number in range(1, batches + 1)]
    planned = {"cache": cache, "samples": samples, "batch": batch, **asked}
    for _ in pool._map(shards, _Evaluator, folder=str(folder), planned=planned):
        pass
    measuring = ray.remote(num_cpus=pool.cores, num_gpus=pool.gpus)(_measured)
    instruments = {"lpips": lpips, "classifier": classifier, "data": data, "shapes": shapes, "clip": clip}
    results: dict[str, Any] = ray.get(measuring.remote(pool, str(folder), instruments))
    return results


class _Painter:
    """A worker that makes pictures."""

    def __init__(self, pool: Pool, folder: str) -> None:
        self.pipe = pool._load()
        self.folder = File(folder)

    def __call__(self, group: dict[str, Any]) -> dict[str, Any]:
        """Makes the rows of a group; why one cannot be made is told in the place of nothing."""
        errors = dict.fromkeys(group["files"], "")
        # One may be there by a worker that was lost before it could say so.
        missing = [(file, recipe) for file, recipe in zip(group["files"], group["recipes"]) if not (self.folder / file).exists()]
        if not self._together(missing):
            for file, recipe in missing:
                try:
                    self.pipe(recipe=recipe).save(self.folder / file)
                except (RequestError, PlanError) as error:
                    errors[file] = str(error)
        return {"files": list(errors), "errors": list(errors.values())}

    def _together(self, rows: list[tuple[str, str]]) -> bool:
        """Makes rows in one run, if they are several and none is refused."""
        if len(rows) < 2:
            return False
        try:
            result = self.pipe(recipe=_joined([json.loads(recipe) for _, recipe in rows]))
        except (RequestError, PlanError):
            return False
        for index, (file, _) in enumerate(rows):
            result.save(self.folder / file, index, alone=True)
        return True


class _Evaluator:
    """A worker that makes batches of an evaluation."""

    def __init__(self, pool: Pool, folder: str, planned: Mapping[str, Any]) -> None:
        self.evaluation = Evaluation(pool._load(), **planned)
        self.folder = folder

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        self.evaluation.fill(self.folder, task["shard"])
        return task


def _measured(pool: Pool, folder: str, instruments: Mapping[str, Any]) -> dict[str, Any]:
    os.environ["RAYON_NUM_THREADS"] = str(max(1, int(pool.cores)))
    gpu = next(iter(ray.get_gpu_ids()), 0)
    return measure(folder, device=pool.device.format(gpu=gpu), **instruments)


def _rows(rows: Path | Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    if not isinstance(rows, (str, os.PathLike)):
        return rows
    read = READERS.get(File(rows).suffix)
    if read is None:
        raise ValueError(f"rows come from a .jsonl or .parquet file; this is `{os.fspath(rows)}`")
    return read(File(rows))


def _jsonl(path: File) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number} of `{path}` is no JSON: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number} of `{path}` is no object")
            yield row


def _parquet(path: File) -> Iterator[Mapping[str, Any]]:
    from pyarrow import parquet

    yield from parquet.read_table(path).to_pylist()


READERS: dict[str, Callable[[File], Iterator[Mapping[str, Any]]]] = {".jsonl": _jsonl, ".parquet": _parquet}


def _task(row: Mapping[str, Any], index: int, seed: int, options: Mapping[str, Any], pool: Pool) -> dict[str, Any]:
    """A row as a recipe, and the file that it becomes. What its columns say goes before its recipe, and that before the options."""
    given = {name: row[name] for name in COLUMNS if row.get(name) is not None}
    recipe = {**_recipe({**options}), **_read(given.pop("recipe", None))}
    recipe.update(_recipe(given))
    if recipe.get("seed") is None:
        recipe["seed"] = seed + index
    if len(recipe.get("prompts", ())) > 1 or len(recipe.get("classes", ())) > 1 or recipe.get("batch", 1) > 1:
        raise ValueError(f"row {index} asks for several pictures; a row is one")
    text = json.dumps(recipe, sort_keys=True)
    named = json.dumps([os.fspath(pool.model), sorted((key, str(value)) for key, value in pool.loading.items()), text])
    return {"row": index, "file": hashlib.sha256(named.encode()).hexdigest()[:24] + ".png", "recipe": text}


def _groups(tasks: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Tasks by files and recipes, up to so many that can be one run in each, in the order of their first ones."""
    groups: list[dict[str, Any]] = []
    opened: dict[str, dict[str, Any]] = {}
    for task in tasks:
        kind = _kind(json.loads(task["recipe"])) if most > 1 else None
        group = opened.get(kind) if kind else None
        if group is None or len(group["files"]) >= most:
            group = {"files": [], "recipes": []}
            groups.append(group)
            if kind:
                opened[kind] = group
        group["files"].append(task["file"])
        group["recipes"].append(task["recipe"])
    return groups


def _kind(recipe: Mapping[str, Any]) -> str | None:
    """What recipes have in common that can be one run; nothing for one that is made alone: whose run starts from or follows a picture, is a
    film, has a rule that looks at what it makes, or says anything else that nobody has thought of here."""
    rule = str(recipe.get("cache", ""))
    looks = any(word in rule for word in ("auto", "verify", "forecast"))
    counts = [len(recipe.get(texts, ())) for texts in TEXTS]
    if looks or counts[0] != 1 or counts[1] > 1 or not TOGETHER.issuperset(recipe):
        return None
    return json.dumps([counts, {key: value for key, value in recipe.items() if key not in (*TEXTS, "seed")}], sort_keys=True)


def _joined(recipes: list[dict[str, Any]]) -> dict[str, Any]:
    """The run of several recipes of one kind: a picture each, in their order."""
    texts = {key: [text for recipe in recipes for text in recipe[key]] for key in TEXTS if key in recipes[0]}
    return {**recipes[0], **texts, "seed": [recipe["seed"] for recipe in recipes]}


def _recipe(said: dict[str, Any]) -> dict[str, Any]:
    """Options, or columns, as keys of a recipe."""
    recipe: dict[str, Any] = {}
    prompt = said.pop("prompt", None)
    _put(recipe, cache=said.pop("cache", None), seed=said.pop("seed", None), prompts=None if prompt is None else [prompt])
    _translate(recipe, said)
    return recipe


def _line(task: Mapping[str, Any], folder: File, failed: Mapping[str, str]) -> dict[str, Any]:
    """A line of the manifest."""
    recipe = json.loads(task["recipe"])
    line = {"row": task["row"], "prompt": next(iter(recipe.get("prompts", ())), None), "seed": recipe["seed"]}
    if task["file"] in failed:
        return {**line, "error": failed[task["file"]]}
    digest = hashlib.sha256((folder / task["file"]).read_bytes()).hexdigest()
    return {**line, "file": task["file"], "sha256": digest}


def _write(path: File, text: str) -> None:
    """Whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", delete=False) as file:
        file.write(text)
    os.replace(file.name, path)
