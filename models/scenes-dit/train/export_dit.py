"""Writes the DiTPipeline folder (fp16) from a training state and the autoencoder of models/scenes."""

import argparse
import json
import os
import tempfile

import torch
from diffusers import AutoencoderKL, DDIMScheduler

import singles
from folder import publish
from train_dit import make_dit, share_embedder

INDEX = {
    "_class_name": "DiTPipeline", "_diffusers_version": "0.42.1",
    "id2label": {str(k): singles.name(k) for k in range(singles.COUNT)},
    "scheduler": ["diffusers", "DDIMScheduler"], "transformer": ["diffusers", "DiTTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--state", required=True)
    p.add_argument("--vae", required=True)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    temp = tempfile.mkdtemp(dir=a.out, prefix=".export-")
    s = torch.load(a.state, weights_only=False, map_location="cpu")
    net = share_embedder(make_dit())
    missing, unknown = net.load_state_dict(s["average"], strict=False)
    assert not unknown and all(".norm1.emb." in k for k in missing), (missing, unknown)    # the shared copies
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    whole = make_dit()
    whole.load_state_dict(weights)
    whole.half().save_pretrained(temp + "/transformer")
    AutoencoderKL.from_pretrained(a.vae).half().save_pretrained(temp + "/vae")
    DDIMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                  steps_offset=1, set_alpha_to_one=False, clip_sample=False,
                  prediction_type="v_prediction").save_pretrained(temp + "/scheduler")
    json.dump(INDEX, open(temp + "/model_index.json", "w"), indent=2)
    print(f"exported step {s['step']} (samples {s['seen']}): {publish(temp, a.out)} bytes")


if __name__ == "__main__":
    main()
