"""Writes the DDPMPipeline folder (fp16) from a training state."""

import argparse
import json
import os
import tempfile

import torch
from diffusers import DDPMScheduler

import loop  # noqa: F401  (opens scenes/train)
from folder import publish
from train_ddpm import make_unet

INDEX = {"_class_name": "DDPMPipeline", "_diffusers_version": "0.42.1",
         "scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--state", required=True)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    temp = tempfile.mkdtemp(dir=a.out, prefix=".export-")
    s = torch.load(a.state, weights_only=False, map_location="cpu")
    net = make_unet()
    net.load_state_dict(s["average"])
    net.half().save_pretrained(temp + "/unet")
    DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear",
                  variance_type="fixed_small", clip_sample=True).save_pretrained(temp + "/scheduler")
    json.dump(INDEX, open(temp + "/model_index.json", "w"), indent=2)
    print(f"exported step {s['step']} (samples {s['seen']}): {publish(temp, a.out)} bytes")


if __name__ == "__main__":
    main()
