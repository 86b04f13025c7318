"""Makes a full-size model with random fp16 weights, for measuring speed and memory without a download.

    pip install numpy
    python scripts/random_weights.py sd15 DIR        (2.1 GB; needs the parameter lists of tests/fixtures/param-lists)
    python scripts/random_weights.py sdxl DIR        (6.9 GB), sd21 (2.6 GB), svd-xt (4.5 GB), t2v-ms (3.7 GB) likewise
    pip install diffusers torch
    python scripts/random_weights.py dit DIR         (1.6 GB), ddpm likewise (shapes from diffusers' classes)
    python scripts/random_weights.py control-sd15 DIR    (0.7 GB, a ControlNet for sd15) likewise
    python scripts/random_weights.py sd-turbo DIR    (2.4 GB, of SD Turbo's size with a tiny autoencoder) likewise
    python scripts/random_weights.py FOLDER DIR      the shapes of a model with weights, or of a part of one

Weights are normal with a spread of 1/sqrt(inputs), norms are 1 and 0, so that activations stay finite; all from one seed.
"""

import json
import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
LISTS = ROOT / "tests/fixtures/param-lists/diffusers"
UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"

# Card, folders of tokenizers, and the parameter list of every weight file.
MODELS = {
    "sd15": ("stable-diffusion-v1-5", ["tokenizer"], {UNET: "sd15.unet", VAE: "sd15.vae", TEXT: "sd15.text_encoder"}),
    "sd21": ("stable-diffusion-2-1", ["tokenizer"], {UNET: "sd21.unet", VAE: "sd15.vae", TEXT: "sd21.text_encoder"}),
    "sdxl": (
        "stable-diffusion-xl-base-1.0",
        ["tokenizer", "tokenizer_2"],
        {
            UNET: "sdxl-base.unet",
            VAE: "sdxl.vae",
            TEXT: "sd15.text_encoder",
            "text_encoder_2/model.safetensors": "sdxl.text_encoder_2",
        },
    ),
    "dit": ("DiT-XL-2-256", [], {VAE: "sd15.vae"}),
    "ddpm": ("ddpm-cifar10-32", [], {}),
    "svd-xt": (
        "stable-video-diffusion-img2vid-xt",
        [],
        {UNET: "svd-xt.unet", VAE: "svd-xt.vae", "image_encoder/model.safetensors": "svd.image_encoder"},
    ),
    "t2v-ms": ("text-to-video-ms-1.7b", ["tokenizer"], {UNET: "t2v-ms-1.7b.unet", VAE: "sd15.vae", TEXT: "sd21.text_encoder"}),
    "control-sd15": ("control_v11p_sd15_canny", [], {}),
    "sd-turbo": ("stable-diffusion-2-1", ["tokenizer"], {UNET: "sd21.unet", TEXT: "sd21.text_encoder"}),
}

# What another model's card says instead.
CHANGED = {
    "sd-turbo": {
        "vae/config.json": {"_class_name": "AutoencoderTiny", "latent_channels": 4},
        "scheduler/scheduler_config.json": {
            "_class_name": "EulerDiscreteScheduler",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000,
            "prediction_type": "epsilon",
            "timestep_spacing": "trailing",
        },
    },
}
# The parts that are of another class there.
CLASSES = {"vae": ["diffusers", "AutoencoderTiny"], "scheduler": ["diffusers", "EulerDiscreteScheduler"]}

# A DiT has one embedder of timestep and class, which diffusers repeats in every block.
REPEATED = r"transformer_blocks\.\d+\.(norm1\.emb\.)"

Shapes = dict[str, list[int]]


class Normals:
    """Normals from a bank that is read from a random place: no model needs a billion of them."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.bank = self.rng.standard_normal(1 << 24, dtype=np.float32)

    def draw(self, count):
        start = self.rng.integers(len(self.bank))
        return np.resize(np.roll(self.bank, -start), count)


def values(normals, name, shape):
    if len(shape) == 1:
        norm = "norm" in name and name.endswith("weight")
        return np.full(shape, 1.0 if norm else 0.0, np.float16)
    spread = 1 / math.sqrt(np.prod(shape[1:]))
    return (normals.draw(math.prod(shape)) * np.float32(spread)).astype(np.float16)


def listed(listing: str) -> Shapes:
    rows = (line.split("\t") for line in (LISTS / f"{listing}.tsv").read_text().splitlines())
    return {name: json.loads(shape) for name, shape in rows if "position_ids" not in name}


def stored(file: Path) -> Shapes:
    """The shapes in a safetensors file."""
    with file.open("rb") as bytes_:
        header = json.loads(bytes_.read(int.from_bytes(bytes_.read(8), "little")))
    return {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}


def built(part: Path) -> Shapes:
    """The shapes that diffusers' class of a part has, without its weights."""
    import diffusers
    import torch

    config = json.loads((part / "config.json").read_text())
    with torch.device("meta"):
        model = getattr(diffusers, config["_class_name"]).from_config(config)
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def parts(source: Path, lists: dict[str, str]) -> dict[str, Shapes]:
    """Weight files and their shapes: as listed, as diffusers builds them, else as stored."""
    found = {file: listed(listing) for file, listing in lists.items()}
    for config in [*source.glob("config.json"), *sorted(source.glob("*/config.json"))]:
        part = config.parent
        if any(file.startswith(f"{part.name}/") for file in found):
            continue
        if "_class_name" in json.loads(config.read_text()):
            found[str(part.relative_to(source) / Path(UNET).name)] = built(part)
        else:
            found |= {str(file.relative_to(source)): stored(file) for file in part.glob("*.safetensors")}
    return found


def write(normals: Normals, shapes: Shapes, target: Path) -> None:
    """One tensor in memory at a time, as a safetensors file."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(header).encode()
    with target.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        shared = {}
        for name, shape in shapes.items():
            one = re.sub(REPEATED, r"\1", name)
            tensor = shared[one] if one in shared else values(normals, name, shape)
            if one != name:
                shared[one] = tensor
            tensor.tofile(file)


def make(model: str, folder: Path) -> None:
    card, tokenizers, lists = MODELS.get(model, (model, [], {}))
    source = ROOT / "models/cards" / card if model in MODELS else Path(model)
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors", "classifier", "train"))
    changed = CHANGED.get(model, {})
    for file, config in changed.items():
        (folder / file).write_text(json.dumps(config, indent=2) + "\n")
    if changed:
        index = folder / "model_index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | CLASSES, indent=2) + "\n")
        source = folder
    for tokenizer in tokenizers:
        shutil.copytree(ROOT / "models/cards/clip", folder / tokenizer, dirs_exist_ok=True)
    normals = Normals()
    for file, shapes in parts(source, lists).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write(normals, shapes, folder / file)


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
