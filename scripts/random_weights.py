"""Makes a full-size Stable Diffusion model with random fp16 weights, for measuring speed and memory without a download.

    pip install numpy safetensors
    python scripts/random_weights.py sd15 DIR        (2.1 GB; needs the parameter lists of tests/fixtures/param-lists)

Weights are normal with a spread of 1/sqrt(inputs), norms are 1 and 0, so that activations stay finite.
"""

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).parent.parent
LISTS = ROOT / "tests/fixtures/param-lists/diffusers"
CARDS = {"sd15": "stable-diffusion-v1-5", "sd21": "stable-diffusion-2-1"}
PARTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


def values(rng, name, shape):
    if len(shape) == 1:
        norm = "norm" in name and name.endswith("weight")
        return np.full(shape, 1.0 if norm else 0.0, np.float16)
    spread = 1 / math.sqrt(np.prod(shape[1:]))
    return (rng.standard_normal(shape, dtype=np.float32) * np.float32(spread)).astype(np.float16)


def part(rng, listing, target):
    rows = (line.split("\t") for line in listing.read_text().splitlines())
    tensors = {name: values(rng, name, json.loads(shape)) for name, shape in rows if "position_ids" not in name}
    save_file(tensors, target)


def main(model, folder):
    rng = np.random.default_rng(0)
    card = ROOT / "models/cards" / CARDS[model]
    shutil.copytree(card, folder, dirs_exist_ok=True)
    tokenizer = ROOT / "models/cards/clip"
    shutil.copytree(tokenizer, folder / "tokenizer", dirs_exist_ok=True)
    for name, file in PARTS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        part(rng, LISTS / f"{model}.{name}.tsv", folder / name / file)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
