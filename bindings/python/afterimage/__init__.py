"""Diffusion inference on any GPU and the CPU, with training-free caching.

    import afterimage

    pipe = afterimage.Pipeline.load("bundled")
    result = pipe("a red circle", cache="deepcache:interval=3,branch=0", seed=7)
    result.images[0].save("circle.png")

Names are those of diffusers where diffusers has the thing. Whatever is not said is the model's default.
"""

from ._afterimage import (
    AfterimageError,
    Cancelled,
    DeviceError,
    FileError,
    ModelError,
    PlanError,
    RequestError,
    __version__,
    devices,
)
from ._evaluation import Evaluation, measure
from ._pipeline import Pipeline, plan
from ._result import Result

__all__ = [
    "AfterimageError",
    "Cancelled",
    "DeviceError",
    "Evaluation",
    "FileError",
    "ModelError",
    "Pipeline",
    "PlanError",
    "RequestError",
    "Result",
    "__version__",
    "devices",
    "measure",
    "plan",
]
