"""Models, and what is asked of them."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from contextlib import ExitStack, contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Mapping, Sequence, Tuple, Union

import numpy as np

from . import _afterimage
from ._result import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

Path = Union[str, "PathLike[str]"]
"""A file or folder."""

Lora = Union[Path, Tuple[Path, float]]
"""A LoRA's file, and how much of it."""

VERSION = 1
"""Of the schema of recipes."""


class Pipeline:
    """A model in memory. Calls from several threads wait for each other, and release Python's lock while they compute."""

    def __init__(self, engine: _afterimage.Engine) -> None:
        self._engine = engine

    @classmethod
    def load(
        cls,
        model: Path = "bundled",
        *,
        device: str = "auto",
        dtype: str | None = None,
        weights: str | None = None,
        activations: str | None = None,
        loras: Sequence[Lora] = (),
        embeddings: Sequence[Path] = (),
        vae: Path | None = None,
        tiny_vae: Path | None = None,
        prediction: str | None = None,
    ) -> Pipeline:
        """Opens a model: a folder in diffusers' layout, a checkpoint file, `bundled`, or a Hub id in builds that fetch.

        `device` is `auto`, `cpu`, `wgpu`, `cuda`, … (see `afterimage.devices()`), `dtype` is `f32`, `f16` or `bf16`, `weights` is `file`, `q8` or `q4`,
        `activations` is `dtype` or, with weights in `q8`, `q8`.
        Whatever is wrong with the files is a `ModelError`, no such device a `DeviceError`.
        """
        recipe = _model(model, vae, tiny_vae, prediction)
        recipe.update(_adapters(loras, embeddings))
        _put(recipe, dtype=dtype, weights=weights, activations=activations)
        return cls(_afterimage.Engine(_json(recipe), device, _warn))

    @property
    def model(self) -> str:
        """The name that it was loaded by."""
        return self._engine.model

    @property
    def device(self) -> str:
        """Where it computes."""
        return self._engine.device

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        cache: str | None = None,
        seed: int | Sequence[int] | None = None,
        recipe: Mapping[str, Any] | str | None = None,
        image: Path | NDArray[np.uint8] | Any = None,
        mask_image: Path | NDArray[np.uint8] | Any = None,
        callback: Callable[[int, int, bool], bool | None] | None = None,
        preview: Callable[[int, NDArray[np.uint8]], None] | None = None,
        preview_every: int = 5,
        preview_decoded: bool = False,
        progress: bool = False,
        **options: Any,
    ) -> Result:
        """Makes pictures.

        Further options, with diffusers' names: `negative_prompt`, `num_inference_steps`, `guidance_scale`, `guidance_rescale`, `width` and
        `height`, `num_images_per_prompt`, `class_labels`, `strength`, `eta`, `clip_skip`, `num_frames`; `sampler`; `loras`, `embeddings` in place of
        the pipeline's own. `recipe` is a whole request (as `Result.recipe` has it, or JSON); what is given beside it takes its place.

        `image` and `mask_image` are files, PIL pictures or arrays `[height, width, 3]` (`[height, width]` for the mask) of bytes.
        `callback(done, total, computed)` is called after every model call, and ends the run (`Cancelled`) by returning False; Ctrl-C raises
        KeyboardInterrupt. `preview(item, array)` is shown what becomes of each picture, every `preview_every` calls: by a linear
        map of the latents at next to no cost, or decoded (`preview_decoded=True`), each for the time of a decoding. `progress=True` draws a bar with tqdm.
        """
        asked: dict[str, Any] = _read(recipe)
        _put(asked, cache=cache, seed=_seeds(seed))
        if prompt is not None:
            asked["prompts"] = _listed(prompt)
        _translate(asked, options)
        with ExitStack() as stack:
            for key, given in (("init_image", image), ("mask", mask_image)):
                if given is not None:
                    asked[key] = {"path": stack.enter_context(_file(given))}
            bar = stack.enter_context(_bar()) if progress else None
            finished = self._engine.run(
                _json(asked),
                _steps(callback, bar),
                _shown(preview),
                preview_every,
                preview_decoded,
                _warn,
            )
        return Result(finished)

    def calibrate(
        self,
        output: Path,
        *,
        cache: str | Sequence[str] = (),
        prompts: str | Sequence[str] = (),
        seeds: Sequence[int] = (0, 1, 2, 3),
        gap: int = 7,
        quick: bool = False,
        callback: Callable[[int, int, bool], bool | None] | None = None,
        progress: bool = False,
        **options: Any,
    ) -> dict[str, Any] | None:
        """Finds out, from runs of `seeds` that go round `prompts`, where the rules of `cache` best refresh, and writes that plan to `output`.

        A run then names it by its file, `cache="auto:speedup=2,plan=plan.json"`, and one that lies in the model's folder as
        `afterimage-plan.json` is found without being named (`cache="auto:psnr=32"`). Gives the plan: speed-ups, closeness in dB, refreshes. `gap` is
        the most model calls from one refresh to the next; `quick` measures less, for models that take long, and how close plans come on the first
        picture alone. Without a rule it is a router for Learning-to-Cache that is written
        (`cache="l2c:router=FILE,threshold=T"`), and nothing is given. Options are those of a call that decide the run; callbacks are, too.
        """
        asked: dict[str, Any] = {"version": VERSION}
        _translate(asked, options)
        with ExitStack() as stack:
            bar = stack.enter_context(_bar()) if progress else None
            plan = self._engine.calibrate(
                _json(asked), _listed(cache), _listed(prompts), _numbers(seeds), gap, quick, os.fspath(output), _steps(callback, bar), _warn
            )
        return None if plan is None else dict(json.loads(plan))


def plan(
    model: Path = "bundled",
    *,
    cache: str | None = None,
    recipe: Mapping[str, Any] | str | None = None,
    vae: Path | None = None,
    prediction: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What a call would do, without reading weights: cells and multiply-accumulates by evaluation, what the cache spares, memory.

    Options are those of `Pipeline.__call__` that decide it.
    """
    asked = {**_read(recipe), **_model(model, vae, None, prediction)}
    _put(asked, cache=cache)
    _translate(asked, options)
    planned: dict[str, Any] = json.loads(_afterimage.plan(_json(asked), _warn))
    return planned


NAMES = {
    "num_inference_steps": "steps",
    "num_images_per_prompt": "batch",
    "guidance_scale": "guidance_scale",
    "guidance_rescale": "guidance_rescale",
    "strength": "strength",
    "eta": "eta",
    "clip_skip": "clip_skip",
    "sampler": "sampler",
}
"""Options that are one key of a recipe."""


def _translate(recipe: dict[str, Any], options: dict[str, Any]) -> None:
    """Puts options by diffusers' names into a recipe."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, key in NAMES.items():
        _put(recipe, **{key: given.pop(name, None)})
    if "negative_prompt" in given:
        recipe["negative_prompts"] = _listed(given.pop("negative_prompt"))
    if "class_labels" in given:
        recipe["classes"] = [int(label) for label in np.atleast_1d(given.pop("class_labels"))]
    if "num_frames" in given:
        recipe["film"] = {**recipe.get("film", {}), "frames": given.pop("num_frames")}
    sides = given.pop("width", None), given.pop("height", None)
    if any(side is not None for side in sides):
        if None in sides:
            raise TypeError("`width` and `height` go together")
        recipe["size"] = sides
    recipe.update(_adapters(given.pop("loras", ()), given.pop("embeddings", ())))
    if given:
        raise TypeError(f"`{next(iter(given))}` is no option; a recipe takes what has no name here (`recipe=`)")


def _model(model: Path, vae: Path | None, tiny_vae: Path | None, prediction: str | None) -> dict[str, Any]:
    said: dict[str, Any] = {"name": os.fspath(model)}
    paths = {"vae": vae, "tiny_vae": tiny_vae}
    _put(said, **{key: os.fspath(path) for key, path in paths.items() if path is not None}, prediction=prediction)
    return {"version": VERSION, "model": said}


def _adapters(loras: Sequence[Lora], embeddings: Sequence[Path]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name, given in (("loras", loras), ("embeddings", embeddings)):
        if isinstance(given, (str, os.PathLike)):
            raise TypeError(f"`{name}` is a list of files; this is one file")
    if loras:
        scaled = [one if isinstance(one, tuple) else (one, 1.0) for one in loras]
        said["loras"] = [{"file": {"path": os.fspath(path)}, "scale": scale} for path, scale in scaled]
    if embeddings:
        said["embeddings"] = [{"file": {"path": os.fspath(path)}} for path in embeddings]
    return said


def _read(recipe: Mapping[str, Any] | str | None) -> dict[str, Any]:
    if recipe is None:
        return {"version": VERSION}
    read: Any = recipe
    if isinstance(recipe, str):
        try:
            read = json.loads(recipe)
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict):
            _afterimage.check(recipe)  # raises what is wrong with it
    if not isinstance(read, Mapping):
        raise TypeError(f"a recipe is a mapping or JSON; this is {type(recipe).__name__}")
    return dict(read)


def _json(recipe: Mapping[str, Any]) -> str:
    """Numbers of numpy are numbers, and paths are their names."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        raise TypeError(f"a recipe holds no {type(value).__name__}")

    try:
        return json.dumps(recipe, default=plain, allow_nan=False)
    except (ValueError, RecursionError) as error:  # what is no number, or lies in itself or too deep
        refused = _afterimage.RequestError(f"the recipe is no JSON: {error}")
        refused.message, refused.hint = str(refused), None
        raise refused from error


def _put(into: dict[str, Any], **values: Any) -> None:
    into.update({key: value for key, value in values.items() if value is not None})


def _listed(texts: str | Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    listed = list(texts) if isinstance(texts, Iterable) and not isinstance(texts, bytes) else [texts]
    for text in listed:
        if not isinstance(text, str):
            raise TypeError(f"a text is str, or a list of them; this is {type(text).__name__}")
    return listed


def _seeds(seed: int | Sequence[int] | None) -> int | list[int] | None:
    if seed is None or isinstance(seed, (int, np.integer)):
        return None if seed is None else int(seed)
    if not isinstance(seed, Iterable) or isinstance(seed, (str, bytes)):
        raise TypeError(f"a seed is a whole number, or a list of them; this is {type(seed).__name__}")
    return _numbers(seed)


def _numbers(given: Sequence[int]) -> list[int]:
    return [int(one) for one in given]


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


def _steps(
    callback: Callable[[int, int, bool], bool | None] | None, bar: Any
) -> Callable[[int, int, bool], bool | None] | None:
    if bar is None:
        return callback

    def step(done: int, total: int, computed: bool) -> bool | None:
        bar.total = total
        bar.update(done - bar.n)
        return callback(done, total, computed) if callback else None

    return step


def _shown(
    preview: Callable[[int, NDArray[np.uint8]], None] | None,
) -> Callable[[int, int, int, bytes], None] | None:
    if preview is None:
        return None
    show = preview
    return lambda item, width, height, pixels: show(item, np.frombuffer(pixels, np.uint8).reshape(height, width, 3))


def _bar(unit: str = "step", total: int | None = None) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("`progress=True` draws with tqdm: pip install tqdm") from None
    return tqdm(unit=unit, total=total)


@contextmanager
def _file(picture: Any) -> Iterator[str]:
    """A picture as a file: its own, or a temporary one of what is in memory."""
    if isinstance(picture, (str, os.PathLike)):
        yield os.fspath(picture)
        return
    with tempfile.TemporaryDirectory(prefix="afterimage-") as folder:
        if hasattr(picture, "save"):
            path = os.path.join(folder, "picture.png")
            picture.save(path)
        else:
            path = os.path.join(folder, "picture.ppm")
            _write_netpbm(path, np.asarray(picture))
        yield path


def _write_netpbm(path: str, array: NDArray[Any]) -> None:
    """Netpbm is a line and the bytes: no library is needed for arrays."""
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise TypeError(
            f"a picture is bytes, [height, width, 3] or [height, width]; this is {array.dtype}, {list(array.shape)}"
        )
    kind = b"P6" if array.ndim == 3 else b"P5"
    with open(path, "wb") as file:
        file.write(b"%b %d %d 255\n" % (kind, array.shape[1], array.shape[0]))
        file.write(np.ascontiguousarray(array).tobytes())
