"""The steps and runs of benches/steps.rs in diffusers, over the same sizes; prints the same JSON.

usage: steps.py [FILTER]      threads: RAYON_NUM_THREADS, as on the other side

A step that leaves cells out is what the DeepCache package computes between refreshes, or the transformer's last blocks alone.
"""

import functools
import json
import pathlib
from collections.abc import Callable
from types import SimpleNamespace

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DConditionModel
from harness import Run, report
from pipelines import open_pipeline

FOLDER = pathlib.Path(__file__).parent
MODELS = FOLDER.parents[1] / "models"
DECODER, TOKENS, POOLED = 18, 77, 1280
TIMES = torch.tensor([500, 400])


def deepcache(unet: UNet2DConditionModel, first: Callable[[torch.Tensor], object]) -> None:
    """From the second timestep on, everything that branch 0 leaves out is as at the first."""
    from DeepCache import DeepCacheSDHelper

    helper = DeepCacheSDHelper(SimpleNamespace(unet=unet, scheduler=SimpleNamespace(timesteps=TIMES)))
    helper.set_params(cache_interval=1_000_000, cache_branch_id=0)
    helper.enable()
    first(TIMES[0])


def unet_step(card: str, side: int, cells: str) -> Run:
    unet = UNet2DConditionModel.from_config(json.loads((MODELS / "cards" / card / "unet/config.json").read_text())).eval()
    sample = torch.randn(2, unet.config.in_channels, side, side)
    text = torch.randn(2, TOKENS, unet.config.cross_attention_dim)
    sizes = torch.tensor([[1024.0, 1024.0, 0.0, 0.0, 1024.0, 1024.0]] * 2)
    added = {"text_embeds": torch.randn(2, POOLED), "time_ids": sizes} if unet.config.addition_embed_type else None
    run = lambda time: unet(sample, time, encoder_hidden_states=text, added_cond_kwargs=added)
    if cells == "skip0":
        deepcache(unet, run)
    return lambda: run(TIMES[1])


def dit_step(card: str, side: int, cells: str) -> Run:
    config = json.loads((MODELS / "cards" / card / "transformer/config.json").read_text())
    dit = DiTTransformer2DModel.from_config(config).eval()
    if cells == "decoder":
        dit.transformer_blocks = dit.transformer_blocks[DECODER:]
    sample, labels = torch.randn(2, 4, side, side), torch.tensor([207, dit.config.num_embeds_ada_norm])
    return lambda: dit(sample, timestep=torch.tensor([500, 500]), class_labels=labels)


def step(card: str, side: int, cells: str = "full") -> Run:
    made = dit_step if (MODELS / "cards" / card / "transformer").is_dir() else unet_step
    return made(card, side, cells)


def decoding(autoencoder: str, side: int) -> Run:
    config = json.loads((MODELS / "cards" / autoencoder / "vae/config.json").read_text())
    vae = AutoencoderKL.from_config(config).eval()
    latents = torch.randn(1, vae.config.latent_channels, side, side)
    return lambda: vae.decode(latents)


def whole_run(model: str, **call: object) -> Run:
    return open_pipeline(str(MODELS / model), torch.device("cpu"), torch.float32).caller(call)


def ready(setting: dict) -> Run:
    if "autoencoder" in setting:
        return decoding(**setting)
    return whole_run(**setting) if "model" in setting else step(**setting)


settings = json.loads((FOLDER / "steps.json").read_text())
report({name: functools.partial(ready, setting) for name, setting in settings.items()})
