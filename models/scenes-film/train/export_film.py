"""Writes the complete diffusers folder (fp16) from a training state, file by file atomically.

    python export_film.py --state run/net/state.pt --text run/text --out ..
"""

import argparse
import json
import os
import random
import re
import shutil
import tempfile

import torch
from transformers import CLIPTextModel

import film_net
import films
import loop
from folder import publish

INDEX = {
    "_class_name": "TextToVideoSDPipeline", "_diffusers_version": "0.42.1", "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet3DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
}


def noise_levels(path):
    """The scheduler of `scenes`, whose runs begin with pure noise: see train_film.py."""
    config = json.load(open(path))
    config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    json.dump(config, open(path, "w"), indent=2, sort_keys=True)


def defaults():
    """What a program should do where it is not told: `words` are all that captions are made of."""
    rng = random.Random(0)
    captions = (films.caption(rng, films.sample_record(rng)) for _ in range(20000))
    words = sorted({word for caption in captions for word in re.findall(r"\w+", caption)})
    return {"steps": 25, "guidance_scale": 4.0, "frames": films.FRAMES, "words": words}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--state", required=True)
    p.add_argument("--text", required=True)
    p.add_argument("--out", default="..")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    temp = tempfile.mkdtemp(dir=a.out, prefix=".export-")
    state = torch.load(a.state, weights_only=False, map_location="cpu")
    net = film_net.make_film()
    net.load_state_dict(state["average"])
    net.half().save_pretrained(temp + "/unet")
    CLIPTextModel.from_pretrained(a.text + "/text_encoder").half().save_pretrained(temp + "/text_encoder")
    for part in ("vae", "tokenizer", "scheduler"):
        shutil.copytree(f"{films.SCENES}/{part}", f"{temp}/{part}")
    noise_levels(temp + "/scheduler/scheduler_config.json")
    with open(temp + "/model_index.json", "w") as f:
        json.dump(INDEX, f, indent=2)
    with open(temp + "/afterimage.json", "w") as f:
        json.dump(defaults(), f, indent=2)
    total = publish(temp, a.out, lambda path: "text_model." if os.sep + "text_encoder" in path else "")
    print(f"exported step {state['step']} (films {state['seen']}): {total} bytes")


if __name__ == "__main__":
    main()
