"""Makes a transformer under texts of full size that takes no disk: its weights are holes, read as zeros. For measuring memory.

    python scripts/hollow_models.py MODEL KIND LISTS T5_TOKENIZER DIR
    AFTERIMAGE generate "a red fox" --model DIR --steps 1 --size 512x512 --json      (peak_memory; forecast by `plan --json`)

MODEL is sd35-medium, sd35-large, sd3-medium, flux-schnell or flux-dev; KIND is F16 (safetensors), Q8_0 or Q4_K (GGUF, of the transformer;
T5 beside them is Q8_0, so that what is measured with Q4_K is the transformer). LISTS holds the parameter lists, a name and a shape in JSON
a line, parted by a tab; T5_TOKENIZER is a folder with the vocabulary of T5.
"""

import json
import math
import shutil
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CARDS = ROOT / "models/cards"
STABLE = {
    "text_encoder": "sd3.text_encoder",
    "text_encoder_2": "sdxl.text_encoder_2",
    "text_encoder_3": "t5-v1_1-xxl-encoder",
}
FLUX = {"text_encoder": "sd15.text_encoder", "text_encoder_2": "t5-v1_1-xxl-encoder"}
VAE = {"vae": "sd3-flux.vae16"}
# Card, and the parameter list of every part; that of T5's tokenizer last.
MODELS = {
    "sd3-medium": ("stable-diffusion-3-medium", {"transformer": "sd3-medium.transformer"} | STABLE | VAE, "tokenizer_3"),
    "sd35-medium": ("stable-diffusion-3.5-medium", {"transformer": "sd35-medium.transformer"} | STABLE | VAE, "tokenizer_3"),
    "sd35-large": ("stable-diffusion-3.5-large", {"transformer": "sd35-large.transformer"} | STABLE | VAE, "tokenizer_3"),
    "flux-schnell": ("FLUX.1-schnell", {"transformer": "flux1-schnell.transformer"} | FLUX | VAE, "tokenizer_2"),
    "flux-dev": ("FLUX.1-dev", {"transformer": "flux1-dev.transformer"} | FLUX | VAE, "tokenizer_2"),
}
# The number of a type in GGUF, values of a block, bytes of it.
KINDS = {"Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144), "F32": (0, 1, 4)}
# Tensors that have two names in T5, and of which files have one.
TWIN = "encoder.embed_tokens.weight"


def shapes(lists, name):
    for line in (lists / f"{name}.tsv").read_text().splitlines():
        tensor, shape = line.split("\t")
        if tensor != TWIN:
            yield tensor, json.loads(shape)


def holes(path, start, count):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(len(start) + count)


def safetensors(path, tensors):
    header, at = {}, 0
    for name, shape in tensors:
        end = at + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, end]}
        at = end
    header = json.dumps(header).encode()
    holes(path, struct.pack("<Q", len(header)) + header, at)


def text(words):
    return struct.pack("<Q", len(words)) + words.encode()


def gguf(path, tensors, kind, architecture):
    infos, at, count = b"", 0, 0
    for name, shape in tensors:
        packs = len(shape) == 2 and shape[1] % KINDS[kind][1] == 0
        number, values, size = KINDS[kind if packs else "F32"]
        infos += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], number, at)
        at += -(-math.prod(shape) // values * size // 32) * 32
        count += 1
    word = text("general.architecture") + struct.pack("<I", 8) + text(architecture)
    start = b"GGUF" + struct.pack("<IQQ", 3, count, 1) + word + infos
    holes(path, start + bytes(-len(start) % 32), at)


def main():
    model, kind, lists, tokenizer, out = sys.argv[1], sys.argv[2], *map(Path, sys.argv[3:6])
    card, parts, vocabulary = MODELS[model]
    shutil.copytree(CARDS / card, out)
    if model.startswith("sd3"):
        # Cards speak of the program's single files, whose first encoder does not project.
        index = json.loads((out / "model_index.json").read_text())
        index["text_encoder"] = index["text_encoder_2"]
        (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    for folder in out.glob("tokenizer*"):
        shutil.copytree(CARDS / "clip", folder, dirs_exist_ok=True)
    shutil.copytree(tokenizer, out / vocabulary, dirs_exist_ok=True)
    for part, name in parts.items():
        tensors = list(shapes(lists, name))
        if kind != "F16" and part == "transformer":
            gguf(out / part / "hollow.gguf", tensors, kind, "hollow")
        elif kind != "F16" and name.startswith("t5"):
            gguf(out / part / "hollow.gguf", tensors, "Q8_0", "hollow")
        else:
            weights = "model" if part.startswith("text") else "diffusion_pytorch_model"
            safetensors(out / part / f"{weights}.safetensors", tensors)


main()
