"""Writes the complete diffusers folder (fp16) from a training state, file by file atomically.

    python export_distilled.py --state run/net/state.pt --out ..
"""

import argparse
import json
import os
import shutil
import tempfile

import torch
from diffusers import UNet2DConditionModel

import scenes
from distil import TIMES
from folder import publish


def scheduler(path):
    """That of `scenes`, at the times that the student knows."""
    config = json.load(open(path))
    config |= {"set_alpha_to_one": True, "steps_offset": 0, "timestep_spacing": "trailing"}
    json.dump(config, open(path, "w"), indent=2, sort_keys=True)


def defaults(path):
    """What a program should do where it is not told: guidance is in the weights."""
    words = json.load(open(scenes.FOLDER + "/afterimage.json"))["words"]
    json.dump({"steps": len(TIMES), "guidance_scale": 1.0, "distilled": True, "words": words}, open(path, "w"), indent=2)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--state", required=True)
    p.add_argument("--out", default="..")
    a = p.parse_args()
    temp = tempfile.mkdtemp(dir=a.out, prefix=".export-")
    state = torch.load(a.state, weights_only=False, map_location="cpu")
    net = UNet2DConditionModel.from_pretrained(scenes.FOLDER + "/unet", torch_dtype=torch.float32)
    net.load_state_dict(state["average"])
    net.half().save_pretrained(temp + "/unet")
    for part in ("vae", "tokenizer", "text_encoder", "scheduler"):
        shutil.copytree(f"{scenes.FOLDER}/{part}", f"{temp}/{part}")
    shutil.copy(scenes.FOLDER + "/model_index.json", temp)
    scheduler(temp + "/scheduler/scheduler_config.json")
    defaults(temp + "/afterimage.json")
    total = publish(temp, a.out)
    print(f"exported step {state['step']} (pairs {state['seen']}): {total} bytes")


if __name__ == "__main__":
    main()
