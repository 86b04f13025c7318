"""Writes the complete diffusers folder (fp16) from a training state, file by file atomically."""

import argparse
import json
import os
import shutil
import tempfile

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from transformers import CLIPTextModel

from folder import publish
from train_unet import make_unet

INDEX = {
    "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None], "image_encoder": [None, None], "requires_safety_checker": False,
    "safety_checker": [None, None], "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--state", required=True)
    p.add_argument("--vae", required=True)
    p.add_argument("--text", required=True)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    temp = tempfile.mkdtemp(dir=a.out, prefix=".export-")
    s = torch.load(a.state, weights_only=False, map_location="cpu")
    unet = make_unet()
    unet.load_state_dict(s["avg_unet"])
    text = CLIPTextModel.from_pretrained(a.text + "/text_encoder")
    unet.half().save_pretrained(temp + "/unet")
    text.half().save_pretrained(temp + "/text_encoder")
    AutoencoderKL.from_pretrained(a.vae).half().save_pretrained(temp + "/vae")
    shutil.copytree(a.text + "/tokenizer", temp + "/tokenizer")
    DDIMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                  steps_offset=1, set_alpha_to_one=False, clip_sample=False,
                  prediction_type="v_prediction").save_pretrained(temp + "/scheduler")
    json.dump(INDEX, open(temp + "/model_index.json", "w"), indent=2)
    # the text encoder's names as SD 1.x repositories have them
    total = publish(temp, a.out, lambda path: "text_model." if os.sep + "text_encoder" in path else "")
    print(f"exported step {s['step']} (samples {s['seen']}): {total} bytes")


if __name__ == "__main__":
    main()
