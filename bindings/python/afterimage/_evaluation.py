"""Evaluations: what cache rules cost in quality, over many pictures."""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Sequence

from . import _afterimage
from ._pipeline import Path, Pipeline, _json, _listed, _put, _translate, _warn, VERSION


class Evaluation:
    """An evaluation on a model in memory: every sample is made by the plain run, by each rule, and by plain runs of as few steps as cost the same.

    Any number of processes may make parts of it, into one folder or several; `measure` joins them.
    """

    def __init__(
        self,
        pipe: Pipeline,
        *,
        cache: str | Sequence[str] = (),
        samples: int = 64,
        batch: int = 8,
        seed: int = 0,
        prompts: Sequence[str] | None = None,
        peers: Sequence[str] = (),
        converged: int | None = None,
        **options: Any,
    ) -> None:
        """Plans it; nothing is made yet. Sample `i` has the seed `seed + i` and goes round `prompts` (or the classes), `batch` are made together.

        `peers` are further samplers whose fewer steps are made, `converged` the steps of a run that stands for infinitely many. Options are
        those of `Pipeline.__call__` that describe a run: `num_inference_steps`, `guidance_scale`, `width` and `height`, `class_labels`, `sampler`.
        """
        recipe: dict[str, Any] = {"version": VERSION}
        _translate(recipe, options)
        _put(recipe, batch=batch)
        self._planned = _afterimage.Evaluation(
            pipe._engine,
            _json(recipe),
            _listed(cache),
            samples,
            seed,
            None if prompts is None else list(prompts),
            list(peers),
            converged,
        )

    @property
    def batches(self) -> int:
        """How many there are."""
        return self._planned.batches

    def fill(
        self,
        folder: Path,
        shard: str = "1/1",
        *,
        callback: Callable[[int, int, bool], bool | None] | None = None,
    ) -> tuple[int, int]:
        """Makes those batches of a shard (as in `2/4`) that `folder` does not have, and says how many it has then, and how many the shard has.

        A batch appears whole or not at all. `callback` is that of `Pipeline.__call__`.
        """
        return self._planned.fill(os.fspath(folder), shard, callback, _warn)


def measure(
    folders: Path | Sequence[Path],
    *,
    output: Path | None = None,
    device: str = "auto",
    lpips: Path | None = None,
    classifier: Path | None = None,
    data: Path | None = None,
    shapes: bool = False,
    clip: Path | None = None,
) -> dict[str, Any]:
    """Measures a complete evaluation, in one folder or in those of all its shards, and writes `results.json` into `output` (else the first folder).

    `lpips` is a file of weights, `classifier` and `clip` are folders of models, `data` pictures that the sets are compared with (a folder or
    `.npz`), and `shapes` looks for the coloured shapes that prompts name. The same pictures give the same numbers, however they were shared out.
    """
    several = [folders] if isinstance(folders, (str, os.PathLike)) else list(folders)
    places = [os.fspath(folder) for folder in several]
    where = places[0] if output is None else os.fspath(output)
    space = (_place(lpips), _place(classifier), _place(data))
    results: dict[str, Any] = json.loads(_afterimage.measured(places, where, device, *space, shapes, _place(clip)))
    return results


def _place(path: Path | None) -> str | None:
    return None if path is None else os.fspath(path)
