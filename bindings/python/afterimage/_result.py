"""What a run has made."""

from __future__ import annotations

import json
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _afterimage

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Result:
    """Pictures or films of one call.

    `recipe` is how they were made, with everything that was picked: `pipe(recipe=result.recipe)` makes the same again. `report` says what
    each model took (seconds, cells, which evaluations computed everything).
    """

    def __init__(self, finished: _afterimage.Finished) -> None:
        self._finished = finished
        self.recipe: dict[str, Any] = json.loads(finished.recipe)
        self.report: dict[str, Any] = json.loads(finished.report)

    def __len__(self) -> int:
        """Pictures or films."""
        return len(self._finished) // self._finished.frames

    @property
    def arrays(self) -> NDArray[np.uint8]:
        """Pixels, `[pictures, height, width, 3]` in 0 to 255; the frames of a film follow each other."""
        width, height = self._finished.size
        every = [np.frombuffer(self._finished.pixels(index), np.uint8) for index in range(len(self._finished))]
        return np.stack(every).reshape(-1, height, width, 3)

    @property
    def values(self) -> NDArray[np.float32]:
        """The same before it was rounded, `[pictures, height, width, 3]` in 0 to 1."""
        width, height = self._finished.size
        values = np.frombuffer(self._finished.values(), np.dtype("<f4")).reshape(-1, 3, height, width)
        return np.ascontiguousarray(values.transpose(0, 2, 3, 1), dtype=np.float32)

    @property
    def images(self) -> list[Any]:
        """Pictures, as `PIL.Image` where Pillow is there, else as arrays `[height, width, 3]`."""
        return [_image(array) for array in self.arrays]

    @property
    def frames(self) -> list[list[Any]]:
        """The frames of each film, as `images` has them."""
        images, frames = self.images, self._finished.frames
        return [images[first : first + frames] for first in range(0, len(images), frames)]

    def save(self, path: str | PathLike[str], index: int = 0, *, alone: bool = False) -> None:
        """Writes a picture (PNG, JPEG, WebP) or film (APNG, GIF, Y4M, a folder), whole or not at all: the file that the program writes, its recipe in it.

        Of several pictures each has the recipe of all; with `alone` it has that of itself, and the file is the one that a call for it alone
        would have made. Where it has no seed of its own, or what the cache did hangs on the others, that is a ValueError.
        """
        self._finished.save(index, path, alone)


def _image(array: NDArray[np.uint8]) -> Any:
    try:
        from PIL import Image
    except ImportError:
        return array
    return Image.fromarray(array)
