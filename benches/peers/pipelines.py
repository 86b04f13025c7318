"""Pipelines of diffusers, called alike whatever their family, with the denoising loop timed."""

import functools
import json
import pathlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import ControlNetModel, DDIMPipeline, DDIMScheduler, DiffusionPipeline, DiTPipeline, StableDiffusionControlNetPipeline
from PIL import Image

PROMPT = "a lighthouse"


def absent(folder: pathlib.Path) -> dict[str, None]:
    """Parts that the folder's index lists but that are not there, such as the safety checker."""
    index = json.loads((folder / "model_index.json").read_text())
    return {name: None for name, part in index.items() if isinstance(part, list) and not (folder / name).is_dir()}


@dataclass
class Loop:
    """Times a scheduler's loop: from `set_timesteps` to the end of the last step, the device waited for at both."""

    device: torch.device
    start: float = 0.0
    seconds: float = 0.0
    steps: int = field(default=0, init=False)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def watch(self, scheduler: Any) -> None:
        set_timesteps, step = scheduler.set_timesteps, scheduler.step

        @functools.wraps(set_timesteps)
        def started(*arguments: Any, **keywords: Any) -> None:
            self.steps, self.start = 0, self.now()
            set_timesteps(*arguments, **keywords)

        @functools.wraps(step)
        def stepped(*arguments: Any, **keywords: Any) -> Any:
            made = step(*arguments, **keywords)
            self.steps += 1
            if self.steps == len(scheduler.timesteps):
                self.seconds = self.now() - self.start
            return made

        scheduler.set_timesteps, scheduler.step = started, stepped


@dataclass
class Pipeline:
    """A pipeline with DDIM in place of its sampler."""

    pipe: Any
    loop: Loop

    def caller(self, call: dict[str, Any]) -> Callable[[], Any]:
        """`steps`, and as the family has it `prompt`, `class`, `guidance`, `size`, `batch`."""
        words = {"num_inference_steps": call["steps"]} | self.subject(call, call.get("batch", 1))
        words = {name: value for name, value in words.items() if value is not None}
        return lambda: self.pipe(**words, generator=torch.Generator().manual_seed(0))

    def subject(self, call: dict[str, Any], batch: int) -> dict[str, Any]:
        if isinstance(self.pipe, DDIMPipeline):
            return {"batch_size": batch}
        guidance = {"guidance_scale": call.get("guidance")}
        if isinstance(self.pipe, DiTPipeline):
            return guidance | {"class_labels": [call.get("class", 0)] * batch}
        size = {"height": call.get("size"), "width": call.get("size"), "num_images_per_prompt": batch}
        picture = {"image": Image.new("RGB", (call["size"], call["size"]), "white")} if hasattr(self.pipe, "controlnet") else {}
        return guidance | size | picture | {"prompt": call.get("prompt", PROMPT), "output_type": call.get("output", "pil")}

    def denoising(self, call: dict[str, Any]) -> float:
        """Seconds of the loop."""
        self.caller(call | {"output": "latent"})()
        return self.loop.seconds


def read(model: str, control: str | None, dtype: torch.dtype) -> Any:
    """The pipeline of a folder; with a ControlNet, the folder is a Stable Diffusion 1.x or 2.x, and a white picture is followed."""
    parts: dict[str, Any] = absent(pathlib.Path(model))
    if control is None:
        return DiffusionPipeline.from_pretrained(model, dtype=dtype, **parts)
    parts["controlnet"] = ControlNetModel.from_pretrained(control, dtype=dtype)
    return StableDiffusionControlNetPipeline.from_pretrained(model, dtype=dtype, **parts)


def open_pipeline(model: str, device: torch.device, dtype: torch.dtype, control: str | None = None) -> Pipeline:
    pipe = read(model, control, dtype).to(device)
    if hasattr(pipe, "vae") or hasattr(pipe, "text_encoder"):
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    else:
        pipe = DDIMPipeline(unet=pipe.unet, scheduler=pipe.scheduler).to(device)
    pipe.set_progress_bar_config(disable=True)
    loop = Loop(device)
    loop.watch(pipe.scheduler)
    return Pipeline(pipe, loop)


def deepcache(pipeline: Pipeline, interval: int) -> None:
    """The DeepCache package at branch 0."""
    from DeepCache import DeepCacheSDHelper

    helper = DeepCacheSDHelper(pipe=pipeline.pipe)
    helper.set_params(cache_interval=interval, cache_branch_id=0)
    helper.enable()


def compiled(pipeline: Pipeline) -> None:
    """`torch.compile` of the denoiser and of what steers it, in place."""
    for part in ("transformer", "unet", "controlnet"):
        if hasattr(pipeline.pipe, part):
            getattr(pipeline.pipe, part).compile()
