"""Rows of `afterimage.ray.generate_many` as recipes, the files that these become, and which of them are one run."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path as File
from typing import Any, Callable, Iterable, Iterator, Mapping

from ._pipeline import Path, _put, _read, _translate

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

TAPERED = 4
"""Of so many full groups and more, the last is shared out."""


def rows_of(rows: Path | Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Those of a file, or as they are."""
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


def task_of(
    row: Mapping[str, Any], index: int, seed: int, options: Mapping[str, Any], model: tuple[Path, Mapping[str, Any]]
) -> dict[str, Any]:
    """A row as a recipe, and the file that it becomes by `model`, which is loaded so. What its columns say goes before its recipe, and that before
    the options."""
    given = {name: row[name] for name in COLUMNS if row.get(name) is not None}
    recipe = {**_recipe({**options}), **_read(given.pop("recipe", None))}
    recipe.update(_recipe(given))
    if recipe.get("seed") is None:
        recipe["seed"] = seed + index
    if len(recipe.get("prompts", ())) > 1 or len(recipe.get("classes", ())) > 1 or recipe.get("batch", 1) > 1:
        raise ValueError(f"row {index} asks for several pictures; a row is one")
    text = json.dumps(recipe, sort_keys=True)
    name, loading = model
    named = json.dumps([os.fspath(name), sorted((key, str(value)) for key, value in loading.items()), text])
    return {"row": index, "file": hashlib.sha256(named.encode()).hexdigest()[:24] + ".png", "recipe": text}


def groups_of(tasks: list[dict[str, Any]], most: int) -> list[list[tuple[str, str]]]:
    """Files and recipes, up to `most` that can be one run in each group, larger groups first. They hang on the rows, not on who makes them."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for task in tasks:
        kind = kind_of(json.loads(task["recipe"])) if most > 1 else None
        kinds.setdefault(kind or task["file"], []).append((task["file"], task["recipe"]))
    groups = [group for kind in kinds.values() for group in _shared_out(kind, most)]
    return sorted(groups, key=len, reverse=True)


def _shared_out(rows: list[tuple[str, str]], most: int) -> Iterator[list[tuple[str, str]]]:
    """Groups of `most` rows; of many the last becomes ever smaller ones, so that no worker is long at work when others have nothing left."""
    tapered = len(rows) >= TAPERED * most
    while rows:
        size = min(most, (len(rows) + 1) // 2) if tapered else most
        yield rows[:size]
        rows = rows[size:]


def kind_of(recipe: Mapping[str, Any]) -> str | None:
    """What recipes have in common that can be one run; nothing for one that is made alone: whose run starts from or follows a picture, is a
    film, has a rule that looks at what it makes, or says anything else that nobody has thought of here."""
    rule = str(recipe.get("cache", ""))
    looks = any(word in rule for word in ("auto", "verify", "forecast"))
    counts = [len(recipe.get(texts, ())) for texts in TEXTS]
    if looks or counts[0] != 1 or counts[1] > 1 or not TOGETHER.issuperset(recipe):
        return None
    return json.dumps([counts, {key: value for key, value in recipe.items() if key not in (*TEXTS, "seed")}], sort_keys=True)


def joined(recipes: list[dict[str, Any]]) -> dict[str, Any]:
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


def line_of(task: Mapping[str, Any], folder: File, told: tuple[Mapping[str, str], Mapping[str, str]]) -> dict[str, Any]:
    """A line of the manifest, by the errors and digests that workers told; what was there before is read."""
    recipe, file = json.loads(task["recipe"]), task["file"]
    errors, digests = told
    line = {"row": task["row"], "prompt": next(iter(recipe.get("prompts", ())), None), "seed": recipe["seed"]}
    if file in errors:
        return {**line, "error": errors[file]}
    return {**line, "file": file, "sha256": digests.get(file) or digest_of(folder / file)}


def digest_of(file: File) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_whole(path: File, text: str) -> None:
    """Whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", delete=False) as file:
        file.write(text)
    os.replace(file.name, path)
